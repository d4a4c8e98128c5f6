"""What services ask single clients, and what these acknowledge."""

import json
import threading

import pytest
import socketio

from api import Api
from client import Client
from harness import token, wait_until
from socketio_client import Node


@pytest.fixture(scope="module")
def node():
    with Node() as node:
        yield node


@pytest.fixture
def come(site, node):
    """A client of socket.io-client at the first gateway."""
    clients = []

    def come(**options):
        options = {"auth": {"token": token("alice")}, "transports": ["websocket"]} | options
        clients.append(node.open(site.first, **options).connected())
        return clients[-1]

    yield come
    for client in clients:
        client.tell("disconnect")


def ask(gateway, id, event="confirm", **body):
    return Api(gateway).call("POST", f"/v1/connections/{id}/ask", {"event": event} | body)


def acknowledging(client, *arguments):
    """The client, once it acknowledges `confirm` with these."""
    client.tell("acknowledge", "confirm", *arguments)
    # What it is told, it does in this order.
    client.ask("unsubscribe", "room:none")
    return client


def asked(site, client, **body):
    """What is answered to who asks another gateway than the client's, once that knows the client."""
    return wait_until(lambda: (said := ask(site.last, client.id, **body)).status != 404 and said, "it is listed")


@pytest.mark.parametrize("transports", [["websocket"], ["polling"]], ids="".join)
def test_a_client_is_asked_and_its_answer_comes_back(site, come, transports):
    client = acknowledging(come(transports=transports), {"yes": "ü"})
    said = asked(site, client, data={"order": 7})
    assert (said.status, said.json) == (200, {"data": {"yes": "ü"}})
    assert client.next()[:3] == ["event", "confirm", {"order": 7}]


@pytest.mark.parametrize(
    ("acknowledged", "said"),
    [
        ([], {"data": []}),
        ([None], {"data": None}),
        ([1, "b"], {"data": [1, "b"]}),
        ([b"\0\xff"], {"data_base64": "AP8="}),
        (
            ["a", {"deep": b"\0\xff"}],
            {"data": ["a", {"deep": {"_placeholder": True, "num": 0}}], "attachments": ["AP8="]},
        ),
    ],
    ids=["nothing", "null", "several", "bytes", "bytes among others"],
)
@pytest.mark.parametrize("usesMsgpack", [False, True], ids=["", "msgpack"])
def test_any_answer_comes_back(site, come, acknowledged, said, usesMsgpack):
    client = acknowledging(come(usesMsgpack=usesMsgpack), *acknowledged)
    assert asked(site, client).json == said


def test_an_event_may_have_no_argument(site, come):
    client = acknowledging(come(), "yes")
    assert asked(site, client).json == {"data": "yes"}
    # The callback has no form in JSON.
    assert client.next() == ["event", "confirm", None]


def test_python_clients_answer(site):
    with socketio.SimpleClient() as client:
        client.connect(site.first.url, auth={"token": token("alice")}, wait_timeout=5)
        client.client.on("confirm", lambda data: {"got": data})
        connection = client.client.get_sid()
        said = wait_until(lambda: (it := ask(site.last, connection, data=[1])).status != 404 and it, "it is listed")
        assert said.json == {"data": {"got": [1]}}


def test_over_nats(cluster_site, nats, node):
    client = node.open(cluster_site.first, auth={"token": token("alice")}, transports=["websocket"]).connected()
    acknowledging(client, "yes")
    question = {"connection": client.id, "event": "confirm", "data": {}}
    answer = wait_until(
        lambda: "error" not in (it := json.loads(nats.request("fanfare.api.ask", json.dumps(question).encode()))) and it,
        "it is listed",
    )
    assert answer == {"data": "yes"}
    client.tell("disconnect")


def test_who_does_not_answer_is_waited_for_no_longer_than_asked(site, come):
    client = come()
    assert asked(site, client, timeout=50).problem == (504, "client_timeout")


def test_who_goes_away_is_not_waited_for(site, come):
    client = come()
    asked(site, client, timeout=1)
    outcomes = []
    asking = threading.Thread(target=lambda: outcomes.append(ask(site.last, client.id, "last", timeout=4000)))
    asking.start()
    while client.next()[:2] != ["event", "last"]:
        pass
    client.tell("disconnect")
    asking.join(3)
    assert not asking.is_alive()
    assert outcomes[0].problem == (504, "client_timeout")


def test_others_have_no_acknowledgements(site):
    with Client(site.first.websocket_url, token("alice")) as client:
        said = wait_until(lambda: (it := ask(site.last, client.connected["connection"])).status != 404 and it, "it is listed")
        assert said.problem == (422, "unanswerable")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"event": ""}, (400, "invalid_name")),
        ({"timeout": 0}, (400, "bad_request")),
        ({"connection": "0" * 32}, (400, "bad_request")),
        ({"data": 1, "data_base64": "AA=="}, (400, "bad_request")),
        ({"data": "x" * 2_000_000}, (413, "message_too_large")),
        ({}, (404, "not_found")),
    ],
    ids=["no event", "no time", "two connections", "two bodies", "too large", "nobody"],
)
def test_what_cannot_be_asked_is_told(site, body, problem):
    assert ask(site.last, "0" * 32, **body).problem == problem


def test_asking_is_for_operators(site):
    path = f"/v1/connections/{'0' * 32}/ask"
    assert Api(site.first, "test-publish-key").call("POST", path, {"event": "e", "data": 1}).problem == (403, "forbidden")

"""A client's request goes to a service on NATS, and the service's answer comes back."""

import json

import pytest

from harness import token


@pytest.fixture
def service(nats, unique):
    """service(answer): an address of which answer(request) gives body and headers."""

    def serve(answer):
        nats.serve(f"fanfare.rq.billing.{unique}", answer)
        return f"billing:{unique}"

    return serve


def test_a_service_answers(cluster_site, connect, service):
    asked = []

    def answer(request):
        asked.append(request)
        return b'{"total":12.50}', None

    client = connect(cluster_site.last, token("alice", role="staff"))
    reply = client.ask("request", service=service(answer), event="quote", data={"items": 3})
    reply.pop("id")
    assert reply == {"type": "reply", "data": {"total": 12.5}}
    assert json.loads(asked[0].data) == {"items": 3}
    assert asked[0].headers == {
        "Fanfare-Connection": client.connected["connection"],
        "Fanfare-User": "alice",
        "Fanfare-Roles": "staff",
        "Fanfare-Event": "quote",
    }


def test_bytes_go_both_ways(cluster_site, connect, service):
    address = service(lambda request: (request.data[::-1], {"Fanfare-Encoding": "binary"}))
    client = connect(cluster_site.first)
    client.send_binary(b"\x00\x01\xff", type="request", id=7, service=address)
    assert client.answer_to(7) == {"type": "reply", "id": 7, "data": b"\xff\x01\x00"}


def test_an_answer_that_is_no_json_comes_as_bytes(cluster_site, connect, service):
    address = service(lambda _: (b"\xff\x00", None))
    assert connect(cluster_site.first).ask("request", service=address, data=1)["data"] == b"\xff\x00"


def test_answers_come_as_they_are_ready(cluster_site, connect, service, nats, unique):
    slow = nats.listen(f"fanfare.rq.billing.slow-{unique}")
    address = service(lambda request: (request.data, None))
    client = connect(cluster_site.first)
    first = client.start("request", service=f"billing:slow-{unique}", data=1)
    assert client.ask("request", service=address, data=2)["data"] == 2
    nats.publish(slow[0].reply, b'"at last"')
    assert client.answer_to(first)["data"] == "at last"


def test_nobody_serves(site, connect, unique):
    assert connect(site.first).refused("request", service=f"billing:{unique}", data=1) == "no_service"


def test_a_service_that_does_not_answer(cluster_site, connect, service):
    address = service(lambda _: None)
    client = connect(cluster_site.first)
    error = client.answer_to(client.start("request", service=address, data=1, timeout=100))
    assert (error["code"], error["retry"]) == ("service_timeout", "unknown")


def test_a_service_that_refuses(cluster_site, connect, service):
    headers = {"Nats-Service-Error": "no such item", "Nats-Service-Error-Code": "404"}
    client = connect(cluster_site.first)
    address = service(lambda _: (b"", headers))
    error = client.answer_to(client.start("request", service=address, data=1))
    assert (error["code"], error["retry"], error["text"]) == ("service_refused", "no", "no such item")


def test_requests_need_their_rule(site, connect, chat):
    client = connect(site.first)
    assert client.refused("request", service=chat, data=1) == "forbidden"
    assert client.refused("request", service="nowhere:1", data=1) == "unknown_namespace"

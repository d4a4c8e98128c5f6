"""Socket.IO v5, packet by packet. The gateway sends events back as conformance suites want them."""

import base64
import contextlib
import itertools
import json
import time

import pytest

from conftest import processes_in
from harness import Gateway
from wire import Polling, websocket

SETTINGS = {"testing.echo": "true", "auth.anonymous": "true", "socketio.namespaces": '["/", "/custom"]'}
BRISK = SETTINGS | {
    "socketio.ping_interval": "300ms",
    "socketio.ping_timeout": "200ms",
    "socketio.connect_timeout": "300ms",
}


@pytest.fixture(scope="module")
def gateways(tmp_path_factory):
    with processes_in(tmp_path_factory.mktemp("socketio")) as start:
        yield [start(Gateway(start.directory, name, settings=it)) for name, it in (("calm", SETTINGS), ("brisk", BRISK))]


@pytest.fixture
def calm(gateways):
    return gateways[0]


@pytest.fixture
def brisk(gateways):
    return gateways[1]


@pytest.fixture
def dial():
    """dial(gateway): a session over WebSocket that is in no namespace."""
    with contextlib.ExitStack() as stack:

        def dial(gateway):
            client = websocket(gateway)
            stack.callback(client.close)
            return client

        yield dial


@pytest.fixture
def client(calm, dial):
    """Over WebSocket, in the main namespace."""
    return enter(dial(calm))


@pytest.fixture
def polling(calm):
    """The same over long polling."""
    session = enter(Polling(calm))
    yield session
    session.post("1")


@pytest.fixture(params=["client", "polling"])
def either(request):
    return request.getfixturevalue(request.param)


def enter(session, namespace="/", auth=None):
    """Connects to a namespace, and reads what comes of it; `sids` are the names that it is given."""
    prefix = "" if namespace == "/" else f"{namespace},"
    session.send(f"40{prefix}" + ("" if auth is None else json.dumps(auth)))
    answer = session.next()
    assert answer.startswith(f"40{prefix}{{"), answer
    reply = json.loads(answer.removeprefix(f"40{prefix}"))
    assert list(reply) == ["sid"]
    said = session.next()
    assert said.startswith(f'42{prefix}["auth",'), said
    assert json.loads(said.removeprefix(f"42{prefix}")) == ["auth", auth or {}]
    session.sids = {**getattr(session, "sids", {}), namespace: reply["sid"]}
    return session


def is_usable(session, namespace="/"):
    prefix = "" if namespace == "/" else f"{namespace},"
    session.send(f'42{prefix}7["message-with-ack","here"]')
    return session.next() == f'43{prefix}7["here"]'


# Connect


@pytest.mark.parametrize("auth", [None, {}, {"token": "123"}, {"ü": [1, {"a": None}]}])
@pytest.mark.parametrize("namespace", ["/", "/custom"])
def test_clients_come_to_namespaces_with_what_they_say_of_themselves(calm, dial, namespace, auth):
    enter(dial(calm), namespace, auth)


def test_a_namespaces_comma_may_be_missing(calm, dial):
    client = dial(calm)
    client.send("40/custom")
    assert client.next().startswith('40/custom,{"sid":')


def test_a_query_behind_a_namespace_is_part_of_its_name(calm, dial):
    """Clients put it into the address of the handshake."""
    client = dial(calm)
    client.send("40/custom?token=abc,")
    assert client.next().startswith("44/custom?token=abc,")


def test_each_namespace_has_a_public_name_that_is_not_the_secret_one(client):
    enter(client, "/custom")
    assert len({client.open["sid"], *client.sids.values()}) == 3


def test_unknown_namespaces_are_refused_and_nothing_else_changes(either):
    either.send("40/random,")
    assert either.next() == '44/random,{"message":"Invalid namespace"}'
    either.send('40/random,{"a":1}')
    assert either.next() == '44/random,{"message":"Invalid namespace"}'
    assert is_usable(either)


def test_who_comes_to_no_namespace_in_time_is_closed(brisk, dial):
    start = time.monotonic()
    assert dial(brisk).rest() in ([], ["2"])
    assert 0.28 < time.monotonic() - start < 3
    client = enter(dial(brisk))
    for _ in range(2):
        assert client.next() == "2"
        client.send("3")


# Disconnect


def test_who_leaves_a_namespace_may_come_again(either):
    either.send("41")
    enter(either)
    assert is_usable(either)


def test_who_leaves_a_namespace_may_come_again_in_the_same_breath(polling):
    polling.send("41", "40")
    assert polling.next().startswith('40{"sid":')


def test_who_has_left_the_last_namespace_is_still_pinged(brisk, dial):
    client = enter(dial(brisk))
    client.send("41")
    assert client.next() == "2"


def test_other_namespaces_stay(either):
    enter(either, "/custom")
    either.send("41/custom,")
    assert is_usable(either)
    enter(either, "/custom")
    either.send("41")
    assert is_usable(either, "/custom")


# Messages


@pytest.mark.parametrize(
    "arguments", ['1,"2",{"3":[true]}', '""', "null", "1e400,12345678901234567890", r'"\ud800"', '{"_placeholder":true,"num":0}']
)
def test_events_come_back_as_they_were(either, arguments):
    either.send(f'42["message",{arguments}]')
    assert either.next() == f'42["message-back",{arguments}]'


def test_events_need_no_arguments(either):
    either.send('42["message"]', '429["message-with-ack"]')
    assert [either.next(), either.next()] == ['42["message-back"]', "439[]"]


def test_acknowledgements_carry_the_number_of_the_event(either):
    for number in (456, 0, 2**53 - 1):
        either.send(f'42{number}["message-with-ack",1,"2",{{"3":[false]}}]')
        assert either.next() == f'43{number}[1,"2",{{"3":[false]}}]'


def test_acknowledgements_of_nothing_are_ignored(either):
    either.send("43999[1]", "430[]")
    assert is_usable(either)


PLACEHOLDERS = '{"_placeholder":true,"num":0},"and",[{"a":{"_placeholder":true,"num":1}}]'
ATTACHMENTS = [b"\x01\x02\x03", b"\x04\x05\x06"]


def test_attachments_come_back(client):
    client.send(f'452-["message",{PLACEHOLDERS}]', *ATTACHMENTS)
    assert [client.next() for _ in range(3)] == [f'452-["message-back",{PLACEHOLDERS}]', *ATTACHMENTS]
    client.send(f'452-789["message-with-ack",{PLACEHOLDERS}]', *ATTACHMENTS)
    assert [client.next() for _ in range(3)] == [f"462-789[{PLACEHOLDERS}]", *ATTACHMENTS]


def test_attachments_are_base64_in_polls(polling):
    polling.send(f'452-["message",{PLACEHOLDERS}]', "bAQID", "bBAUG")
    assert [polling.next() for _ in range(3)] == [f'452-["message-back",{PLACEHOLDERS}]', *ATTACHMENTS]
    polling.send(f'452-["message",{PLACEHOLDERS}]')
    polling.send("bAQID")
    polling.send("bBAUG")
    assert polling.next() == f'452-["message-back",{PLACEHOLDERS}]'


def with_attachments(count):
    return f"45{count}-" + json.dumps(["message", *({"_placeholder": True, "num": it} for it in range(count))])


def test_an_event_has_ten_attachments_at_most(client):
    client.send(with_attachments(10), *[b"x"] * 10)
    assert len([client.next() for _ in range(11)]) == 11
    client.send(with_attachments(11))
    assert client.rest() == []


# What closes the transport

OUT_OF_STEP = {
    "nothing": "4",
    "no packet": "4abc",
    "unknown type": "47",
    "a refusal": '44{"message":"no"}',
    "no array": "42{}",
    "no arguments at all": "42",
    "an empty array": "42[]",
    "broken JSON": '42["message",]',
    "text behind the type": '42abc["message"]',
    "no event name": "42[null]",
    "an object for a name": '42[{"a":1}]',
    **{
        f"the reserved event {name}": f'42["{name}"]'
        for name in ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
    },
    "a payload of leaving": '41{"a":1}',
    "connecting twice": "40",
    "an array as auth": "40/custom,[1]",
    "a string as auth": '40/custom,"abc"',
    "an event in a namespace that was not come to": '42/custom,["message"]',
    "an event in an unknown namespace": '42/random,["message"]',
    "leaving a namespace that was not come to": "41/custom,",
    "an acknowledgement without a number": "43[1]",
    "an acknowledgement that is no array": "431{}",
    "a binary event without attachments": '450-["message"]',
    "a binary event without a number of them": '45["message"]',
}


@pytest.mark.parametrize("packet", [pytest.param(it, id=name) for name, it in OUT_OF_STEP.items()])
def test_who_is_out_of_step_is_closed(client, packet):
    client.send(packet)
    assert client.rest() == []


@pytest.mark.parametrize("packet", ["4abc", "42{}", '42abc["message"]', "40"])
def test_who_is_out_of_step_over_polling_is_closed(polling, packet):
    polling.post(packet)
    answers = [polling.poll(), polling.poll()]
    assert answers[-1].status == 400
    assert answers[0].status == 400 or answers[0].body == b"1"


def test_who_speaks_before_the_answer_is_closed(calm, dial):
    client = dial(calm)
    client.send('42["message"]')
    assert client.rest() == []


@pytest.mark.parametrize(
    "packets",
    [
        ['451-["message",{"_placeholder":true,"num":0}]', '42["message"]'],
        ['451-["message",{"_placeholder":true,"num":0}]', "41"],
        ['451-["message",{"_placeholder":true,"num":1}]', b"x"],
        ['452-["message",{"_placeholder":true,"num":0}]', b"x", b"y"],
        ['451-["message"]', b"x"],
        [b"x"],
    ],
)
def test_attachments_that_do_not_fit_close_the_transport(client, packets):
    client.send(*packets)
    assert client.rest() == []


def test_pings_may_come_between_an_event_and_its_attachments(brisk, dial):
    client = enter(dial(brisk))
    client.send('451-["message",{"_placeholder":true,"num":0}]')
    assert client.next() == "2"
    client.send("3", b"x")
    assert [client.next(), client.next()] == ['451-["message-back",{"_placeholder":true,"num":0}]', b"x"]


def test_one_client_may_not_come_to_namespaces_without_bound(calm, dial):
    client = dial(calm)
    for number in range(1000):
        client.send(f"40/x{number},")
    client.send("40")
    refusals = list(itertools.takewhile(lambda it: it.startswith("44"), iter(client.next, None)))
    assert len(refusals) == 1000


# MessagePack: one map in one binary message. The client's first packet decides.

CONNECT = bytes.fromhex("82a474797065 00 a36e7370 a12f".replace(" ", ""))


def test_who_begins_with_messagepack_is_answered_in_it(calm, dial):
    client = dial(calm)
    client.send(CONNECT)
    answer, auth = client.next(), client.next()
    assert b"\xa4type\x00" in answer and b"\xa3sid" in answer and b"\xa3nsp\xa1/" in answer
    assert b"\xa4type\x02" in auth and b"\xa4auth\x80" in auth
    client.send(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x93\xa7message\xc4\x02\x01\x02\xd4\x00\x00")
    back = client.next()
    assert b"\xacmessage-back\xc4\x02\x01\x02" in back


def test_messagepack_goes_over_polling_too(calm):
    session = Polling(calm)
    session.send("b" + base64.b64encode(CONNECT).decode())
    assert b"\xa3sid" in session.next()
    session.post("1")


@pytest.mark.parametrize("packet", ["40", '42["message"]', b"\xc1", b"", b"\x80", CONNECT + b"\x00", CONNECT])
def test_who_does_not_go_on_in_it_is_closed(calm, dial, packet):
    client = dial(calm)
    client.send(CONNECT)
    assert b"\xa3sid" in client.next()
    client.send(packet)
    assert all(b"auth" in it for it in client.rest())


@pytest.mark.parametrize("deep", [b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"])
def test_what_claims_to_be_huge_costs_nothing(calm, dial, deep):
    client = dial(calm)
    client.send(CONNECT)
    assert [b"sid" in client.next(), b"auth" in client.next()] == [True, True]
    client.send(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data" + deep)
    assert client.rest() == []
    assert is_usable(enter(dial(calm)))

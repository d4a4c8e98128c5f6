"""Engine.IO v4 below Socket.IO, byte by byte. The gateways send back each message as it is."""

import concurrent.futures
import contextlib
import socket
import time

import pytest
from websockets.exceptions import InvalidStatus

from api import http
from client import Client, open_socket
from conftest import processes_in
from harness import Gateway, token, wait_until
from wire import Polling, address, websocket

PATH = "/engine.io/"
ORIGIN = "https://app.example"
SETTINGS = {"testing.echo": "true", "auth.anonymous": "true", "http.allowed_origins": f'["{ORIGIN}"]'}
BRISK = SETTINGS | {
    "socketio.ping_interval": "300ms",
    "socketio.ping_timeout": "200ms",
    "socketio.upgrade_timeout": "200ms",
}
MAX_PAYLOAD = 1_000_000


@pytest.fixture(scope="module")
def gateways(tmp_path_factory):
    with processes_in(tmp_path_factory.mktemp("engineio")) as start:
        yield [start(Gateway(start.directory, name, settings=it)) for name, it in (("calm", SETTINGS), ("brisk", BRISK))]


@pytest.fixture
def calm(gateways):
    """Pings so seldom that no test sees it."""
    return gateways[0]


@pytest.fixture
def brisk(gateways):
    return gateways[1]


@pytest.fixture
def poll(calm):
    """poll(): a session over long polling."""
    with contextlib.ExitStack() as stack:

        def poll(gateway=calm, **parameters):
            session = Polling(gateway, **({"path": PATH} | parameters))
            stack.callback(session.post, "1")
            return session

        yield poll


@pytest.fixture
def dial(calm):
    """dial(): a session over WebSocket; dial(polling): a WebSocket to upgrade it to."""
    with contextlib.ExitStack() as stack:

        def dial(where=None, **parameters):
            polls = isinstance(where, Polling)
            opened = where.upgrade() if polls else websocket(where or calm, **({"path": PATH} | parameters))
            stack.callback(opened.close)
            return opened

        yield dial


@pytest.fixture
def later():
    """later(do, …): does it meanwhile; `.result()` is what came of it."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        yield pool.submit


def request(gateway, method="GET", body=None, path=PATH, **parameters):
    return http(method, address(gateway.url, path, **parameters), body)


def tcp(gateway):
    host, port = gateway.public.split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def begin_post(session, length):
    """A POST of so many bytes, of which none is sent yet."""
    connection, target = tcp(session.gateway), session.url.removeprefix(session.gateway.url)
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    connection.sendall(head.encode())
    # Asked for when the server begins to read the body.
    assert b" 100 " in connection.recv(4096)
    return connection


# Handshake


def test_who_begins_is_told_this_and_nothing_else(poll, dial, brisk):
    for session, upgrades in ((poll(), ["websocket"]), (dial(), [])):
        assert len(session.open.pop("sid")) == 20
        assert session.open == {
            "upgrades": upgrades,
            "pingInterval": 25_000,
            "pingTimeout": 20_000,
            "maxPayload": MAX_PAYLOAD,
        }
    assert (poll(brisk).open["pingInterval"], poll(brisk).open["pingTimeout"]) == (300, 200)


def test_an_answer_is_text_that_is_not_kept(poll):
    session = poll()
    session.send("4hello")
    answer = session.poll()
    assert answer.headers["content-type"] == "text/plain; charset=UTF-8"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("code", "method", "parameters"),
    [
        (0, "GET", {"transport": None}),
        (0, "GET", {"transport": "abc"}),
        (1, "GET", {"sid": "abc"}),
        (1, "GET", {"sid": "A" * 20}),
        (1, "POST", {"sid": "A" * 20}),
        (1, "GET", {"sid": ""}),
        (2, "POST", {}),
        (2, "PUT", {}),
        (3, "GET", {"transport": "websocket"}),
        (5, "GET", {"EIO": None}),
        (5, "GET", {"EIO": "abc"}),
        (5, "GET", {"EIO": 3}),
    ],
)
def test_refusals_have_the_reference_servers_numbers(calm, code, method, parameters):
    answer = request(calm, method, b"" if method != "GET" else None, **parameters)
    assert (answer.status, answer.json["code"]) == (400, code)
    assert answer.json["message"] and len(answer.json) == 2


@pytest.mark.parametrize(
    "parameters", [{"EIO": None}, {"EIO": "abc"}, {"EIO": 3}, {"transport": "abc"}, {"transport": None}, {"sid": "abc"}]
)
def test_upgrades_that_are_no_good_are_refused(dial, parameters):
    with pytest.raises(InvalidStatus) as refused:
        dial(**parameters)
    assert refused.value.response.status_code == 400


def test_paths_have_a_slash_at_the_end_or_none(calm, poll, dial):
    for path in ("/engine.io", "/engine.io/", "/socket.io", "/socket.io/"):
        assert poll(path=path).is_open()
        assert dial(path=path).open["sid"]
    assert request(calm, path="/engine.io/x").status == 404


def test_clients_may_write_more_into_the_query(poll, dial):
    more = {"t": "Pabc", "b64": 1, "token": ["a", "b"], "x y": "ü&=\x1e"}
    for session in (poll(**more), dial(**more)):
        session.send("4hello")
        assert session.next() == "4hello"


def test_a_websocket_that_is_no_engineio_speaks_the_native_protocol(calm):
    for path in ("/socket.io", "/socket.io/"):
        with Client(calm.websocket_url.removesuffix("/ws") + path, token("alice")) as client:
            client.ask("ping")


# Messages


@pytest.mark.parametrize("packets", [["4hello"], ["4a", "4b", "4c"], ["4hello", "bAQIDBA=="], ["4"], ["4ünï😀"], ["b"]])
def test_what_is_posted_comes_with_one_poll(poll, packets):
    session = poll()
    session.send(*packets)
    assert session.poll().body.decode().split("\x1e") == packets


def test_websockets_carry_text_and_bytes(dial):
    client = dial()
    for packet in ("4hello", "4", "4ünï😀", b"\x01\x02\x03\x04", b"", "4" + "x" * 200_000, bytes(range(256)) * 800):
        client.send(packet)
        assert client.next() == packet


def test_a_poll_has_sixteen_packets_at_most(poll):
    session, packets = poll(), [f"4{number}" for number in range(40)]
    session.send(*packets)
    bodies = []
    while sum(map(len, bodies)) < len(packets):
        bodies.append(session.poll().body.decode().split("\x1e"))
    assert max(map(len, bodies)) <= 16
    assert sum(bodies, []) == packets


@pytest.mark.parametrize("body", ["abc", "", "4a\x1e", "4a\x1eabc", "bAQIDBA", "7", "2", "0{}", "5"])
def test_what_cannot_be_read_ends_the_session(poll, body):
    session = poll()
    assert session.post(body).status == 400
    assert session.poll().status == 400


@pytest.mark.parametrize("packet", ["abc", "", "7", "2", "2probe", "0{}", "bAQIDBA=="])
def test_what_cannot_be_read_closes_the_websocket(dial, packet):
    client = dial()
    client.send(packet)
    assert client.rest() == []


def test_packets_that_say_nothing_change_nothing(poll, dial):
    for session in (poll(), dial()):
        session.send("6", "3", "4hello")
        assert session.next() == "4hello"


def test_other_methods_leave_the_session_as_it_is(poll):
    session = poll()
    answer = http("PUT", session.url, b"4hello")
    assert (answer.status, answer.json["code"]) == (400, 3)
    session.send("4hello")
    assert session.next() == "4hello"


def test_a_post_may_be_as_large_as_it_was_said_and_no_larger(poll):
    session = poll()
    session.send("4" + "x" * (MAX_PAYLOAD - 1))
    assert len(session.next()) == MAX_PAYLOAD
    assert session.post("4" + "x" * MAX_PAYLOAD).status == 413
    session.send("4hello")
    assert session.next() == "4hello"


def test_a_websocket_message_may_be_as_large_and_no_larger(dial):
    client = dial()
    client.send("4" + "x" * (MAX_PAYLOAD - 1))
    assert len(client.next()) == MAX_PAYLOAD
    client.send(b"x" * (MAX_PAYLOAD + 1))
    assert (client.rest(), client.code) == ([], 1009)


# Pages


def test_pages_of_allowed_origins_read_answers(calm, poll):
    session = poll()
    answers = [
        http("POST", session.url, b"4hello", origin=ORIGIN),
        http("GET", session.url, origin=ORIGIN),
        http("GET", session.url + "x", origin=ORIGIN),
        http("OPTIONS", session.url, origin=ORIGIN, access_control_request_method="POST"),
    ]
    assert [it.status for it in answers] == [200, 200, 400, 204]
    assert [it.headers["access-control-allow-origin"] for it in answers] == [ORIGIN] * 4


def test_pages_of_other_origins_are_turned_away(calm, poll, dial):
    evil = "https://evil.example"
    session = poll()
    for answer in (
        http("GET", address(calm.url, PATH), origin=evil),
        http("POST", session.url, b"4hello", origin=evil),
        http("OPTIONS", session.url, origin=evil, access_control_request_method="POST"),
    ):
        assert answer.problem == (403, "forbidden_origin")
        assert "access-control-allow-origin" not in answer.headers
    for parameters in ({}, {"sid": session.open["sid"]}):
        url = address(f"ws://{calm.public}", PATH, "websocket", **parameters)
        with pytest.raises(InvalidStatus) as refused:
            open_socket(url, origin=evil)
        assert refused.value.response.status_code == 403
    assert session.is_open()


# One request at a time


def test_two_polls_at_once_end_the_session(poll, later):
    session = poll()
    answers = [it.result() for it in [later(session.poll), later(session.poll)]]
    assert sorted(it.status for it in answers) == [200, 400]
    assert [it.body for it in answers if it.status == 200] == [b"1"]
    assert session.poll().status == 400


def test_two_posts_at_once_end_the_session(poll):
    session = poll()
    with begin_post(session, 6):
        assert session.post("4hello").status == 400
        assert not session.is_open()


def test_a_poll_that_is_broken_off_ends_the_session(poll):
    session = poll()
    session.send("4hello")
    with tcp(session.gateway) as connection:
        target = session.url.removeprefix(session.gateway.url)
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 2)
        # Who has answered the first request has the second.
        assert connection.recv(4096).endswith(b"4hello")
    wait_until(lambda: not session.is_open(), "the session has ended")


def test_a_post_that_is_broken_off_ends_the_session(poll):
    session = poll()
    begin_post(session, 6).close()
    wait_until(lambda: not session.is_open(), "the session has ended")


# Heartbeat


def test_pings_come_at_their_pace_and_not_before(poll, dial, brisk):
    for begin in (poll, dial):
        start = time.monotonic()
        session = begin(brisk)
        for round in range(1, 4):
            assert session.next() == "2"
            assert time.monotonic() - start > 0.3 * round - 0.02
            session.send("3")


def test_who_is_silent_is_given_up(poll, dial, brisk):
    polling, client = poll(brisk), dial(brisk)
    start = time.monotonic()
    assert client.rest() == ["2"]
    assert 0.45 < time.monotonic() - start < 3
    assert polling.poll().status == 400


def test_a_poll_does_not_stand_for_an_answer(poll, brisk):
    session = poll(brisk)
    assert session.next() == "2"
    assert session.poll().body == b"1"
    assert session.poll().status == 400


# Leaving


def test_who_leaves_has_his_poll_ended(poll, later):
    def leave():
        session = poll()
        pending = later(session.poll)
        session.send("1")
        assert session.poll().status == 400
        answer = pending.result()
        # The poll may have come last.
        assert answer.status == 400 or answer.body == b"6", answer
        return answer.status == 200

    wait_until(leave, "a poll came first")


def test_who_leaves_has_his_websocket_closed(dial):
    client = dial()
    client.send("1")
    assert client.rest() == []


# Upgrade


def probe(client):
    client.send("2probe")
    assert client.next() == "3probe"


def test_an_upgraded_session_goes_on_over_its_websocket(poll, dial):
    session = poll()
    client = dial(session)
    probe(client)
    session.send("4over HTTP still")
    assert session.next() == "4over HTTP still"
    client.send("5", "4hello", b"\x01\x02")
    assert [client.next(), client.next()] == ["4hello", b"\x01\x02"]
    assert (session.poll().status, session.post("4hello").status) == (400, 400)
    client.send("4still here")
    assert client.next() == "4still here"


def test_what_was_not_polled_comes_over_the_websocket(poll, dial):
    session = poll()
    packets = [f"4{number}" for number in range(40)]
    session.send(*packets)
    client = dial(session)
    probe(client)
    client.send("5", "4last")
    assert [client.next() for _ in range(41)] == [*packets, "4last"]


def test_polls_end_while_a_websocket_is_tried(poll, dial, later):
    session = poll()
    before = later(session.poll)
    client = dial(session)
    probe(client)
    assert before.result().body == b"6"
    assert session.poll().body == b"6"
    client.send("5", "4hello")
    assert client.next() == "4hello"


def test_a_websocket_is_not_shared(poll, dial):
    session = poll()
    first = dial(session)
    probe(first)
    second = dial(session)
    second.send("2probe")
    assert second.rest() == []
    first.send("5")
    third = dial(session)
    third.send("2probe")
    assert third.rest() == []
    first.send("4hello")
    assert first.next() == "4hello"


def test_there_is_one_websocket_at_a_time(poll, dial):
    session = poll()
    first, second = dial(session), dial(session)
    assert second.rest() == [], "closed at once, and not because of anything it said"
    probe(first)
    first.send("5", "4hello")
    assert first.next() == "4hello"


def test_a_poll_under_way_does_not_hold_up_an_upgrade(poll, dial, later):
    for _ in range(5):
        session = poll()
        client = dial(session)
        probe(client)
        pending = later(session.poll)
        client.send("5", "4hello")
        assert client.next() == "4hello"
        assert pending.result().status == 400 or pending.result().body == b"6"


@pytest.mark.parametrize("packets", [["5"], ["4hello"], ["2"], ["2probe", "4hello"], [b"2probe"]])
def test_an_upgrade_that_goes_wrong_leaves_the_session_polling(poll, dial, packets):
    session = poll()
    client = dial(session)
    client.send(*packets)
    assert [it for it in client.rest() if it != "3probe"] == []
    session.send("4hello")
    assert session.next() == "4hello"


def test_an_upgrade_that_is_not_finished_in_time_leaves_the_session_polling(poll, dial, brisk):
    session = poll(brisk)
    client = dial(session)
    probe(client)
    assert client.rest() == []
    session.send("4hello")
    while (packet := session.next()) in ("2", "6"):
        session.send("3")
    assert packet == "4hello"
    again = dial(session)
    probe(again)
    again.send("5", "4hello")
    while (packet := again.next()) == "2":
        again.send("3")
    assert packet == "4hello"


def test_a_websocket_that_breaks_leaves_the_session_polling(poll, dial):
    session = poll()
    client = dial(session)
    probe(client)
    client.close()
    session.send("4hello")
    while (packet := session.next()) == "6":
        pass
    assert packet == "4hello"

"""Connection state recovery of Socket.IO: who comes back goes on where it was, or begins anew."""

import contextlib
import itertools
import json
import random
import threading
import time

import pytest

from api import Api
from harness import token, wait_until
from proxy import Proxy
from socketio_client import Node
from wire import websocket

SETTINGS = {"socketio.recovery": "true"}
# Long enough for what is said meanwhile to be missed.
RETURNS = {"reconnectionDelay": 300, "reconnectionDelayMax": 500}


@pytest.fixture(scope="module")
def node():
    with Node() as node:
        yield node


@pytest.fixture
def gateway(start_gateway):
    return start_gateway(settings=SETTINGS)


@pytest.fixture(params=["embedded", "cluster"])
def recovering(request):
    """Gateways that recover clients: one, then two over NATS and Redis."""
    if request.param == "embedded":
        return [request.getfixturevalue("start_gateway")(settings=SETTINGS)]
    return request.getfixturevalue("start_cluster")(2, SETTINGS).gateways


@pytest.fixture
def room(unique):
    return f"room:{unique}"


def come(node, gateway, user="alice", **options):
    options = {"auth": {"token": token(user)}, "transports": ["websocket"], **RETURNS} | options
    return node.open(gateway, **options).connected()


def cut(client):
    client.tell("breakOff")
    client.expect("disconnect", "transport close", True)


def heard(client, *texts):
    for text in texts:
        [mark] = client.expect("event", "message", text)
        assert mark.startswith("ff~")


def say(gateway, channel, *texts):
    for text in texts:
        Api(gateway).publish(channel=channel, data=text)


def port(gateway):
    return int(gateway.public.split(":")[1])


# With the unmodified client


def test_a_brief_cut_costs_nothing(recovering, node, room):
    client = come(node, recovering[0]).subscribe(room)
    before = client.id
    assert not client.recovered
    say(recovering[0], room, "a")
    heard(client, "a")
    cut(client)
    say(recovering[-1], room, "b", "c")
    heard(client, "b", "c")
    client.connected()
    assert client.recovered and client.id == before
    say(recovering[-1], room, "d")
    heard(client, "d")
    client.done("unsubscribe", room)


def test_a_client_is_recovered_again_and_again(gateway, node, room):
    client = come(node, gateway).subscribe(room)
    for number in range(3):
        cut(client)
        say(gateway, room, number)
        heard(client, number)
        assert client.connected().recovered
    cut(client)
    assert client.connected().recovered


def test_who_got_no_event_is_recovered(recovering, node, room):
    client = come(node, recovering[0]).subscribe(room)
    cut(client)
    say(recovering[0], room, "a")
    heard(client, "a")
    assert client.connected().recovered


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_another_gateway_goes_on(start_cluster, node, room, end):
    site = start_cluster(2, SETTINGS | {"drain.delay": "0s", "drain.reconnect_within": "0s"})
    way = Proxy(port(site.first), "http")
    rooms = [f"{room}:{number}" for number in range(3)]
    client, silent = (come(node, way, user).subscribe(*rooms) for user in ("alice", "bob"))
    before = client.id
    for name in rooms[:2]:
        say(site.first, name, f"first {name}")
    for each in (client, silent):
        heard(each, *(f"first {name}" for name in rooms[:2]))
    way.target = port(site.last)
    getattr(site.first, end)()
    for each in (client, silent):
        each.expect("disconnect")
    for name in rooms:
        say(site.last, name, f"then {name}")
    for each in (client, silent):
        while (happened := each.next())[0] == "connect_error":
            pass
        # What is said once they are back, they hear behind `connect`.
        got = [happened, *(each.next() for _ in rooms)]
        assert sorted(event[2] for event in got if event[0] == "event") == [f"then {name}" for name in rooms]
        assert [recovered for what, *_, recovered in got if what == "connect"] == [True]
    assert client.id == before
    say(site.last, rooms[2], "live")
    heard(client, "live")


@pytest.mark.parametrize("offset", ["mine", "ff~", 7])
def test_who_brings_something_else_begins_anew(gateway, node, room, offset):
    client = come(node, gateway, auth={"token": token("alice"), "offset": offset}).subscribe(room)
    before = client.id
    cut(client)
    client.connected()
    assert not client.recovered and client.id != before
    client.subscribe(room)


def test_a_text_at_the_end_of_an_event_is_not_taken_for_a_mark(start_gateway, node, room):
    gateway = start_gateway(settings=SETTINGS)
    client = come(node, gateway).subscribe(room, "venue:1")
    say(gateway, "venue:1", "text")
    assert client.expect("event", "message", "text") == [None]
    client.done("unsubscribe", "venue:1")
    cut(client)
    say(gateway, room, "a")
    heard(client, "a")
    assert client.connected().recovered


def test_where_messages_may_have_been_missed_one_begins_anew(gateway, node, room):
    client = come(node, gateway).subscribe(room, "venue:1")
    cut(client)
    assert not client.connected().recovered
    client.subscribe(room)
    cut(client)
    # More than the channel's history.
    say(gateway, room, *range(30))
    assert not client.connected().recovered
    client.subscribe(room)


def test_binary_messages_have_marks(gateway, node, room):
    client, other = come(node, gateway).subscribe(room), come(node, gateway, "bob")
    other.done("publish", {"channel": room}, b"\0\1")
    mark = client.expect("event", "message", b"\0\1")
    assert mark[0].startswith("ff~")
    cut(client)
    other.done("publish", {"channel": room}, b"\2")
    client.expect("event", "message", b"\2")
    assert client.connected().recovered


def test_messages_to_a_user_come_once(recovering, node, unique):
    client = come(node, recovering[0], unique)
    own = f"user:{unique}"
    say(recovering[0], own, "a")
    heard(client, "a")
    cut(client)
    say(recovering[-1], own, "b")
    heard(client, "b")
    assert client.connected().recovered
    say(recovering[0], own, "c")
    heard(client, "c")


def test_who_is_another_user_now_begins_anew(gateway, node, room):
    client = come(node, gateway).subscribe(room)
    client.tell("auth", {"token": token("bob")})
    cut(client)
    assert not client.connected().recovered


# Packet by packet


@pytest.fixture
def dial():
    """dial(gateway, auth): a session over WebSocket, and what it is told in the main namespace."""
    with contextlib.ExitStack() as stack:

        def dial(gateway, **auth):
            session = websocket(gateway)
            stack.callback(session.close)
            return enter(session, **auth)

        yield dial


def enter(session, **auth):
    session.send("40" + json.dumps({"token": token("alice")} | auth))
    session.before = []
    while not (packet := session.next()).startswith("40"):
        session.before.append(event(packet))
    session.told = json.loads(packet[2:])
    return session


def event(packet):
    assert packet.startswith("42["), packet
    return json.loads(packet[2:])


def ask(session, *what):
    session.send("421" + json.dumps(what))
    assert (answer := session.next()).startswith('431[{"ok":true'), answer


def test_what_was_missed_comes_before_the_answer(gateway, dial, room):
    first = dial(gateway)
    ask(first, "subscribe", room)
    say(gateway, room, "a")
    mark = event(first.next())[-1]
    first.socket.socket.close()
    say(gateway, room, "b", "c")
    second = dial(gateway, pid=first.told["pid"], offset=mark)
    assert [it[1] for it in second.before] == ["b", "c"] and second.told == first.told
    # The first of them did not arrive.
    third = dial(gateway, pid=first.told["pid"], offset=second.before[0][-1])
    assert [it[1] for it in third.before] == ["c"] and third.told == first.told


def test_the_connection_before_is_ended_and_harms_nothing(recovering, dial, room):
    first = dial(recovering[0])
    ask(first, "subscribe", room)
    second = dial(recovering[-1], pid=first.told["pid"])
    assert second.told == first.told
    assert first.next() == "41"
    first.close()
    say(recovering[0], room, "a")
    mark = event(second.next())[-1]
    second.close()
    say(recovering[0], room, "b")
    third = dial(recovering[0], pid=first.told["pid"], offset=mark)
    assert [it[1] for it in third.before] == ["b"] and third.told == first.told


def test_who_left_is_not_recovered(gateway, dial, room):
    session = dial(gateway)
    ask(session, "subscribe", room)
    before = session.told
    session.send("41")
    enter(session, pid=before["pid"])
    assert session.told["sid"] != before["sid"] and session.told["pid"] != before["pid"]
    session.send("41")
    # Another connection may be quicker than what was sent on this one.
    wait_until(lambda: not Api(gateway).get("/v1/connections?user=alice")["connections"], "it has ended")
    other = dial(gateway, pid=session.told["pid"])
    assert other.told["sid"] != session.told["sid"]


def test_who_was_sent_away_is_not_recovered(gateway, dial, room):
    session = dial(gateway)
    [listed] = Api(gateway).get("/v1/connections?user=alice")["connections"]
    assert Api(gateway).call("DELETE", f"/v1/connections/{listed['id']}").status == 200
    assert session.next() == "41"
    assert dial(gateway, pid=session.told["pid"]).told["sid"] != session.told["sid"]


def test_a_session_lasts_for_its_window(start_cluster, dial, room):
    [gateway] = start_cluster(1, SETTINGS | {"session.window": "1s"}).gateways
    first = dial(gateway)
    ask(first, "subscribe", room)
    first.close()
    end = time.monotonic() + 2
    wait_until(lambda: time.monotonic() > end, "the window is over")
    second = dial(gateway, pid=first.told["pid"])
    assert second.told["sid"] != first.told["sid"] and second.told["pid"] != first.told["pid"]


def test_without_recovery_nothing_is_said_of_it(embedded_site, dial, room):
    session = dial(embedded_site.first, pid="x", offset="y")
    assert list(session.told) == ["sid"]
    ask(session, "subscribe", room)
    say(embedded_site.first, room, "a")
    assert event(session.next()) == ["message", "a"]


def test_whatever_happens_everything_comes_once_and_in_order(recovering, dial, room):
    rooms = [f"{room}:{number}" for number in range(3)]
    chance, done = random.Random(7), threading.Event()
    said = {name: itertools.count(1) for name in rooms}

    def publish():
        dice = random.Random(8)
        while not done.wait(0.01):
            name = dice.choice(rooms)
            say(dice.choice(recovering), name, [name, next(said[name])])

    session = dial(recovering[0])
    for name in rooms:
        ask(session, "subscribe", name)
    publisher = threading.Thread(target=publish)
    publisher.start()
    expected, mark = dict.fromkeys(rooms, 1), {}

    def take(got):
        name, number = got[1]
        assert number == expected[name], got
        expected[name] += 1
        mark["offset"] = got[-1]

    try:
        for _ in range(30):
            for _ in range(chance.randrange(12)):
                take(event(session.next()))
            if chance.random() < 0.5:
                session.close()
            before, session = session.told, dial(chance.choice(recovering), pid=session.told["pid"], **mark)
            assert session.told == before
            for got in session.before:
                take(got)
    finally:
        done.set()
        publisher.join()
    assert sum(expected.values()) > 100

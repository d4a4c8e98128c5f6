"""Unmodified clients of Socket.IO: its own JavaScript, and python-socketio."""

import contextlib
import signal
import time

import pytest
import socketio

from api import Api
from harness import token, wait_until
from proxy import Proxy
from socketio_client import Node

# Messages of 50 kB: more than sockets and queues take in.
COUNT = 300

TRANSPORTS = [["polling"], ["websocket"], ["polling", "websocket"]]
SETTINGS = {"socketio.ping_interval": "300ms", "socketio.ping_timeout": "300ms"}
LISTED_AS = {"polling": "socketio_polling", "websocket": "socketio"}
RETURNS = {"reconnectionDelay": 50, "reconnectionDelayMax": 200}


@pytest.fixture(scope="module")
def node():
    with Node() as node:
        yield node


@pytest.fixture
def come(node):
    """come(gateway, jwt): a client of socket.io-client that is connected."""
    clients = []

    def come(gateway, jwt=None, **options):
        options = {"auth": {"token": jwt or token("alice")}, "transports": ["websocket"]} | options
        clients.append(node.open(gateway, **options))
        return clients[-1].connected()

    yield come
    for client in clients:
        client.tell("disconnect")


@pytest.fixture
def stopped():
    """with stopped(node): its clients neither read nor say anything."""

    @contextlib.contextmanager
    def stopped(node):
        node.child.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            node.child.send_signal(signal.SIGCONT)

    return stopped


@pytest.fixture
def come_by_python():
    """come_by_python(gateway, jwt): a client of python-socketio that is connected."""
    with contextlib.ExitStack() as stack:

        def come(gateway, jwt=None, **options):
            client = stack.enter_context(socketio.SimpleClient())
            client.connect(gateway.url, auth={"token": jwt or token("alice")}, wait_timeout=5, **options)
            return client

        yield come


# Connecting


@pytest.mark.parametrize("transports", TRANSPORTS, ids="+".join)
def test_a_token_in_auth_lets_in(site, node, unique, transports):
    client = node.open(site.first, auth={"token": token(unique)}, transports=transports)
    client.connected()
    assert client.transport in transports
    assert len(transports) == 1 or client.upgraded.wait(5)
    path = f"/v1/connections?user={unique}"
    [listed] = wait_until(lambda: site.api.get(path)["connections"], "it is listed")
    assert (listed["id"], listed["transport"]) == (client.id, LISTED_AS[transports[0]])
    client.tell("disconnect")
    client.expect("disconnect", "io client disconnect")


@pytest.mark.parametrize("transports", TRANSPORTS, ids="+".join)
@pytest.mark.parametrize(
    ("auth", "code"),
    [({"token": "x"}, "unauthorized"), ({"token": token("alice", exp=1)}, "token_expired"), (None, "unauthorized")],
)
def test_who_is_refused_is_told_why_and_stays_away(embedded_site, node, transports, auth, code):
    client = node.open(embedded_site.first, auth=auth, transports=transports, reconnectionDelay=10)
    message, data, active = client.expect("connect_error")
    assert message and (data["code"], active) == (code, False)


def test_a_better_token_lets_in_whom_the_last_one_did_not(embedded_site, node):
    client = node.open(embedded_site.first, auth={"token": "x"})
    assert client.expect("connect_error")
    client.tell("auth", {"token": token("alice")})
    client.tell("connect")
    assert client.connected().done("subscribe", "venue:1")


def test_a_token_in_a_header_will_do(embedded_site, node):
    headers = {"authorization": f"Bearer {token('alice')}"}
    client = node.open(embedded_site.first, extraHeaders=headers).connected()
    client.tell("disconnect")


def test_unknown_namespaces_are_refused(embedded_site, node):
    client = node.open(embedded_site.first, "/nothing", auth={"token": token("alice")})
    assert client.expect("connect_error") == ["Invalid namespace", None, False]


def test_paths_need_no_slash_at_the_end(embedded_site, come):
    come(embedded_site.first, addTrailingSlash=False, transports=["polling", "websocket"])


def test_namespaces_of_one_connection_have_identities_of_their_own(site, come, unique):
    names = [f"{unique}-{one}" for one in "ab"]
    main = come(site.first, token(names[0])).subscribe("venue:1")
    shop = main.join("/shop", auth={"token": token(names[1])}).connected()
    assert main.id != shop.id
    for client, name, other in ((main, *names), (shop, *reversed(names))):
        site.api.publish(users=[name], data=f"for {name}")
        client.expect("event", "message", f"for {name}")
        assert client.ask("subscribe", f"user:{other}")["code"] == "forbidden"
    main.tell("disconnect")
    main.expect("disconnect", "io client disconnect")
    site.api.publish(users=[names[1]], data="still here")
    shop.expect("event", "message", "still here")


# Messages


def test_all_clients_hear_each_other(site, come, come_by_python, connect, chat):
    javascript, packed = come(site.first), come(site.last, usesMsgpack=True)
    polling, native = come(site.last, transports=["polling"]), connect(site.first)
    python = [come_by_python(site.first), come_by_python(site.last, transports=["polling"])]
    for client in (javascript, packed, polling, native):
        client.subscribe(chat)
    for client in python:
        assert client.call("subscribe", chat, timeout=5) == {"ok": True}

    def all_hear(event, data):
        for client in (javascript, packed, polling):
            client.expect("event", event, data)
        for client in python:
            assert client.receive(timeout=5) == [event, data]
        frame = native.expect("message", channel=chat, data=data)
        assert frame.get("event", "message") == event

    javascript.emit("publish", {"channel": chat, "data": {"from": "JavaScript", "n": [1, None, "ü😀"]}})
    all_hear("message", {"from": "JavaScript", "n": [1, None, "ü😀"]})
    assert packed.done("publish", {"channel": chat, "event": "packed", "data": [1.5, -1, True]})["id"]
    all_hear("packed", [1.5, -1, True])
    assert python[0].call("publish", {"channel": chat, "event": "news", "data": "Python"}, timeout=5)["ok"]
    all_hear("news", "Python")
    native.ask("publish", channel=chat, event="native", data=7)
    all_hear("native", 7)
    site.api.publish(channel=chat, event="api", data="HTTP")
    all_hear("api", "HTTP")
    native.send_binary(b"\x00\xff", type="publish", channel=chat, id=99)
    native.answer_to(99)
    all_hear("message", b"\x00\xff")
    polling.emit("publish", {"channel": chat}, b"\x01" * 1000)
    all_hear("message", b"\x01" * 1000)


def test_who_has_left_a_channel_hears_nothing_of_it(site, come, chat):
    client = come(site.first).subscribe(chat)
    client.done("unsubscribe", {"channel": chat})
    site.api.publish(channel=chat, data="lost")
    client.subscribe(chat)
    site.api.publish(channel=chat, data="heard")
    client.expect("event", "message", "heard")


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (["subscribe", "user:bob"], "forbidden"),
        (["subscribe", "nothing:1"], "unknown_namespace"),
        (["subscribe", "a::b"], "invalid_name"),
        (["subscribe"], "bad_request"),
        (["subscribe", 7], "bad_request"),
        (["subscribe", b"chat:1"], "bad_request"),
        (["publish", {"channel": "venue:1", "data": 1}], "forbidden"),
        (["publish", {"channel": "chat:1"}], "bad_request"),
        (["publish"], "bad_request"),
    ],
)
def test_what_cannot_be_done_is_answered_with_why(embedded_site, come, event, code):
    answer = come(embedded_site.first).ask(*event)
    assert answer["code"] == code and answer["error"]


def test_without_acknowledgement_only_what_fails_is_told(embedded_site, come):
    client = come(embedded_site.first)
    for event in (["subscribe", "venue:1"], ["subscribe", "a::b"], ["publish", {}]):
        client.emit(*event)
    client.done("subscribe", "venue:2")
    assert [(name, error["code"]) for _, name, error in client.aside] == [
        ("fanfare:error", "invalid_name"),
        ("fanfare:error", "bad_request"),
    ]


def test_an_answer_that_comes_too_late_is_no_answer(start_gateway, come):
    gateway = start_gateway()
    client = come(gateway)
    gateway.pause()
    try:
        assert str(client.ask("subscribe", "venue:1", timeout=50)) == "operation has timed out"
    finally:
        gateway.resume()
    client.done("subscribe", "venue:2")


def test_clients_that_try_again_are_content_with_one_answer(embedded_site, come, chat):
    client = come(embedded_site.first, retries=3, ackTimeout=2000)
    client.emit("subscribe", chat)
    for number in range(20):
        client.emit("publish", {"channel": chat, "data": number})
    client.emit("publish", {"channel": "a::b", "data": 0})
    client.emit("publish", {"channel": chat, "data": "last"})
    assert [client.expect("event", "message") for _ in range(21)] == [[it] for it in [*range(20), "last"]]


def test_volatile_events_are_events(embedded_site, come, chat):
    client = come(embedded_site.first).subscribe(chat)
    client.tell("volatile", "publish", {"channel": chat, "data": "now"})
    client.expect("event", "message", "now")


def test_what_was_said_before_the_connection_is_said_then(embedded_site, node, chat):
    client = node.open(embedded_site.first, auth={"token": token("alice")})
    client.emit("subscribe", chat)
    for number in range(50):
        client.emit("publish", {"channel": chat, "data": number})
    client.connected()
    assert [client.expect("event", "message") for _ in range(50)] == [[it] for it in range(50)]
    client.tell("disconnect")


@pytest.mark.parametrize("transports", TRANSPORTS, ids="+".join)
def test_many_messages_at_once_come_in_order(site, come, come_by_python, transports, venue):
    client = come(site.last, transports=transports).subscribe(venue)
    python = come_by_python(site.last, transports=transports)
    python.call("subscribe", venue, timeout=5)
    messages = [{"channel": venue, "data": [number, "x" * 100]} for number in range(200)]
    site.api.publish(messages=messages)
    assert [client.expect("event", "message")[0][0] for _ in messages] == list(range(200))
    # This client gives each message to a thread of its own.
    assert sorted(python.receive(timeout=5)[1][0] for _ in messages) == list(range(200))


@pytest.mark.parametrize("transports", [["polling"], ["websocket"]], ids="+".join)
def test_large_messages_are_carried(embedded_site, come, transports, chat):
    client = come(embedded_site.first, transports=transports).subscribe(chat)
    for data in ("x" * 60_000, b"\x00" * 60_000):
        client.done("publish", {"channel": chat}, data)
        client.expect("event", "message", data)


def test_what_is_too_large_is_refused(start_gateway, come):
    """By status over polling, and by the close code: clients are to come back."""
    gateway = start_gateway(settings={"socketio.max_payload": "10KiB"})
    for transports in (["polling"], ["websocket"]):
        client = come(gateway, transports=transports, **RETURNS)
        client.emit("publish", {"channel": "chat:1", "data": "x" * 20_000})
        client.expect("disconnect", "transport error" if transports == ["polling"] else "transport close", True)
        client.connected()


# Users


def test_messages_wait_for_users_who_are_away(site, come, unique):
    for number in range(3):
        site.api.publish(users=[unique], data=number)
    queue = f"/v1/users/{unique}/queue"
    wait_until(lambda: len(site.api.get(queue)["pending"]) == 3, "three wait")
    client = come(site.last, token(unique), transports=["polling", "websocket"])
    assert [client.expect("event", "message") for _ in range(3)] == [[0], [1], [2]]
    wait_until(lambda: not site.api.get(queue)["pending"], "they are acknowledged", 15)


def test_presence_is_told(start_gateway, come):
    gateway = start_gateway(settings={"presence.grace": "1s"})
    watcher = come(gateway, token("watcher")).subscribe("presence:room:1")
    guest = come(gateway, token("guest")).subscribe("room:1")
    assert watcher.expect("event", "join")[0]["user"] == "guest"
    guest.tell("disconnect")
    assert watcher.expect("event", "leave")[0]["user"] == "guest"


# How it ends


def test_who_is_sent_away_by_the_api_stays_away(site, come):
    client = come(site.last, **RETURNS)
    assert site.api.call("DELETE", f"/v1/connections/{client.id}").status == 200
    client.expect("disconnect", "io server disconnect", False)
    client.tell("connect")
    client.connected()


def test_who_is_sent_away_by_one_namespace_stays_in_the_other(site, come):
    main = come(site.last)
    shop = main.join("/shop", auth={"token": token("bob")}).connected()
    assert site.api.call("DELETE", f"/v1/connections/{shop.id}?reason=closing%20time").status == 200
    assert shop.expect("event", "fanfare:disconnect") == [{"reason": "closing time"}]
    shop.expect("disconnect", "io server disconnect", False)
    main.subscribe("venue:1")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_clients_go_on_at_another_gateway(start_cluster, come, chat, end):
    settings = {"drain.delay": "0s", "drain.reconnect_within": "0s"}
    site = start_cluster(2, settings)
    way = Proxy(int(site.first.public.split(":")[1]), "http")
    clients = [come(way, transports=transports, **RETURNS).subscribe(chat) for transports in TRANSPORTS]
    assert clients[-1].upgraded.wait(5)
    way.target = int(site.last.public.split(":")[1])
    getattr(site.first, end)()
    for client, transports in zip(clients, TRANSPORTS, strict=True):
        reason, active = client.expect("disconnect")
        assert active and (reason == "transport close" or (end, transports) == ("kill", ["polling"]))
        while (happened := client.next())[0] != "connect":
            assert happened[0] == "connect_error"
        client.subscribe(chat)
    Api(site.last).publish(channel=chat, data="here")
    for client in clients:
        client.expect("event", "message", "here")


def test_who_does_not_answer_is_left(start_gateway, stopped):
    gateway = start_gateway(settings=SETTINGS)
    api = Api(gateway)

    def listed():
        return api.get("/v1/connections?user=frozen")["connections"]

    with Node() as node:
        clients = [node.open(gateway, auth={"token": token("frozen")}, transports=it, **RETURNS) for it in TRANSPORTS]
        for client in clients:
            client.connected()
        with stopped(node):
            wait_until(lambda: not listed(), "they are given up")
        for client in clients:
            assert client.expect("disconnect")[1] is True
            client.connected()


@pytest.mark.parametrize("transports", [["polling"], ["websocket"]], ids="+".join)
def test_who_reads_too_slowly_is_closed_and_comes_again(start_gateway, come, stopped, venue, transports):
    gateway = start_gateway(settings={"limits.queue_bytes": "256KiB"})
    healthy = come(gateway).subscribe(venue)
    with Node() as node:
        slow = node.open(gateway, auth={"token": token("slow")}, transports=transports, **RETURNS).connected()
        slow.subscribe(venue)
        with stopped(node):
            for number in range(COUNT):
                Api(gateway).publish(channel=venue, data=[number, "x" * 50_000])
                assert healthy.expect("event", "message")[0][0] == number
        read = 0
        while (happened := slow.next())[0] == "event":
            assert happened[2][0] == read
            read += 1
        assert happened == ["disconnect", "transport close", True] and read < COUNT
        slow.connected().subscribe(venue)
        Api(gateway).publish(channel=venue, data="again")
        slow.expect("event", "message", "again")


def test_a_connection_that_breaks_is_made_anew(embedded_site, come):
    client = come(embedded_site.first, **RETURNS)
    before = client.id
    client.tell("breakOff")
    client.expect("disconnect", "transport close", True)
    assert client.connected().id != before


def test_a_gateway_that_does_nothing_is_left(start_gateway, come):
    gateway = start_gateway(settings=SETTINGS)
    client = come(gateway, **RETURNS)
    gateway.pause()
    client.expect("disconnect", "ping timeout", True)
    gateway.resume()
    client.connected()


def test_clients_answer_pings(start_gateway, come, come_by_python):
    gateway = start_gateway(settings=SETTINGS)
    clients = [come(gateway, transports=it) for it in TRANSPORTS]
    python = [come_by_python(gateway, transports=it) for it in TRANSPORTS]
    end = time.monotonic() + 1.5
    wait_until(lambda: time.monotonic() > end, "several pings")
    for client in clients:
        client.done("subscribe", "venue:1")
    for client in python:
        assert client.call("subscribe", "venue:1", timeout=5) == {"ok": True}

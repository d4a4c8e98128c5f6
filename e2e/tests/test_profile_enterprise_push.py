"""profiles/enterprise-push.toml, by the frames that the clients of its application read and write."""

import contextlib
import socket
import time

import pytest

from api import ADMIN_KEY, PUBLISH_KEY, http
from application import ProfileGateway, jwt_of
from client import Client, Envelopes, now_ms
from harness import wait_until

PROFILE = "enterprise-push"
BROADCAST = {"title": "System Update", "body": "System will be updated at 2:00 AM"}


@pytest.fixture
def come():
    """come(gateway, userId=…): a client of the application's, with its token in the URL."""
    with contextlib.ExitStack() as stack:

        def come(gateway, path="/ws", **claims):
            return stack.enter_context(Envelopes(f"{websocket(gateway)}{path}?token={jwt_of(**claims)}"))

        yield come


@pytest.fixture
def knock():
    """knock(url, …): a client that has not said who it is."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Envelopes(*arguments, **options))


def websocket(gateway):
    return f"ws://{gateway.public}"


def settle(client):
    """It is connected, and what it said before was carried out."""
    client.send("heartbeat", {"clientTime": 1})
    client.expect("heartbeat")
    return client


def ask(gateway, method, path, body=None, key=PUBLISH_KEY, status=200):
    answer = http(method, gateway.url + path, body, authorization=key and f"Bearer {key}")
    assert answer.status == status, answer
    return answer.json


def done(answer):
    """What requests to push are answered with."""
    assert answer.keys() == {"message", "timestamp"} and answer["message"]
    assert abs(answer["timestamp"] - now_ms()) < 60_000


def push(gateway, user, widget, data=1):
    done(ask(gateway, "POST", "/api/ws/push/dashboard", {"userId": user, "widgetId": widget, "data": data}))


def widgets(client, count):
    return [client.expect("notification")["widgetId"] for _ in range(count)]


def queue_of(served, user):
    return ask(served.last, "GET", f"/v1/users/{user}/queue", key=ADMIN_KEY)["pending"]


@pytest.mark.parametrize("path", ["/ws", "/", "", "/ws?dialect=envelope"])
def test_s3_1_s3_3_paths(served, knock, path):
    """The application's client writes no path; the dialect is chosen by none, by query and by name."""
    client = knock(websocket(served.first) + path, additional_headers={"Authorization": f"Bearer {jwt_of(userId='a')}"})
    settle(client)


def test_s3_3_dialects_share_a_path(served, come, unique):
    """Who names the native protocol speaks it, at the same path and with the same messages."""
    token = jwt_of(userId=unique)
    named = come(served.first, userId=unique)
    with Client(f"{websocket(served.first)}/ws?dialect=native", token) as by_query:
        with Client(f"{websocket(served.first)}/ws", token, subprotocols=["fanfare.v1"]) as by_name:
            assert by_name.socket.subprotocol == "fanfare.v1"
            push(served.last, unique, "w")
            message = by_name.expect("message", event="notification")
            assert by_query.expect("message")["data"] == message["data"]
            assert named.expect("notification") == message["data"]


def test_s3_3_sub_protocol(served, knock):
    offers = ["fanfare.envelope.v1", f"fanfare.token.{jwt_of(userId='alice')}"]
    client = knock(f"{websocket(served.first)}/ws", subprotocols=offers)
    assert client.socket.subprotocol == "fanfare.envelope.v1"
    settle(client)


def test_s3_1_first_envelope_says_who_it_is(served, knock, unique):
    client = knock(websocket(served.first))
    asked = client.send("heartbeat", {"clientTime": 1})
    refused = client.expect("error")
    assert refused.pop("error") and refused == {"code": "not_connected", "inReplyTo": asked}
    asked = client.send("auth", {"token": jwt_of(userId=unique)})
    client.send("heartbeat", {"clientTime": 7})
    welcome = client.expect("ack")
    assert welcome["connection"] and welcome["user"] == unique and welcome["inReplyTo"] == asked
    assert client.expect("heartbeat")["clientTime"] == 7
    push(served.last, unique, "w")
    assert widgets(client, 1) == ["w"]


@pytest.mark.parametrize("way", ["in the URL", "in the first envelope"])
def test_s3_22_who_is_not_let_in(served, knock, way):
    forged = jwt_of(userId="alice")[:-4] + "AAAA"
    in_url = way == "in the URL"
    client = knock(f"{websocket(served.first)}/ws?token={forged}" if in_url else websocket(served.first))
    if not in_url:
        client.send("auth", {"token": forged})
    refused = client.expect("error")
    assert refused["code"] == "unauthorized" and refused["error"]
    assert ("inReplyTo" in refused) is not in_url
    assert client.close_code() == 4500


def test_s3_4_s3_11_s3_15_broadcast(served, come, unique):
    """To all but those who are named, on all gateways."""
    clients = {user: come(gateway, userId=f"{user}-{unique}") for user, gateway in
               [("ann", served.first), ("bob", served.last), ("eve", served.last)]}
    for client in clients.values():
        settle(client)
    done(ask(served.first, "POST", "/api/ws/broadcast", BROADCAST | {"excludeUserIds": [f"eve-{unique}"]}))
    done(ask(served.first, "POST", "/api/ws/broadcast", {"title": "2", "body": "B"}))
    for user in ("ann", "bob"):
        assert clients[user].expect("notification") == BROADCAST
        assert clients[user].expect("notification") == {"title": "2", "body": "B"}
    assert clients["eve"].expect("notification")["title"] == "2"


def test_s3_4_a_service_publishes(served, come, unique):
    """What PushService did, over NATS where there is a bus; the id is the message's."""
    client = settle(come(served.last, userId=unique))
    note = {"title": "T", "body": "B", "icon": "i", "url": "u", "data": {"n": 1.5}}
    served.publish(f"user:{unique}", note, "notification")
    served.publish("broadcast:all", note)
    told = [client.next() for _ in range(2)]
    assert [(one["type"], one["payload"]) for one in told] == [("notification", note)] * 2
    assert told[0]["id"] != told[1]["id"]


def test_s3_5_s3_6_s3_10_s3_13_s3_14_pushes(served, come, unique):
    """To all tabs of the user, with the same id, and to nobody else."""
    tabs = [settle(come(gateway, userId=unique)) for gateway in (served.first, served.first, served.last)]
    other = settle(come(served.last, userId="other"))
    push(served.first, unique, "widget1", {"value": 100, "big": 12345678901234567890})
    change = {"tableId": "table1", "rowId": "row1", "action": "update", "data": {"name": "Updated"}}
    done(ask(served.last, "POST", "/api/ws/push/data-change", change | {"userId": unique}))
    ids = set()
    for tab in tabs:
        first, second = tab.next(), tab.next()
        assert (first["type"], second["type"]) == ("notification", "notification")
        assert abs(first["payload"].pop("timestamp") - now_ms()) < 60_000
        assert first["payload"] == {"widgetId": "widget1", "data": {"value": 100, "big": 12345678901234567890}}
        assert second["payload"].pop("timestamp")
        assert second["payload"] == change
        ids.add((first["id"], second["id"]))
    assert len(ids) == 1
    ask(served.first, "POST", "/api/ws/broadcast", BROADCAST)
    assert other.expect("notification") == BROADCAST, "and nothing before"


def test_s3_7_heartbeat(served, come):
    client = come(served.first, userId="alice")
    client.send("heartbeat", {"clientTime": 1785000000123})
    beat = client.expect("heartbeat")
    assert abs(beat.pop("serverTime") - now_ms()) < 60_000
    assert beat == {"clientTime": 1785000000123}


def test_s3_8_audit(served, come):
    """For those who may see it, without asking for it."""
    auditor = settle(come(served.last, userId="ida", role="auditor"))
    other = settle(come(served.last, userId="alice", role="user"))
    entry = {"actor": "root", "action": "delete", "target": "user:7", "at": 1785000000123, "data": {"why": "x"}}
    served.publish("audit:log", entry)
    assert auditor.expect("notification") == entry | {"kind": "audit"}
    ask(served.first, "POST", "/api/ws/broadcast", BROADCAST)
    assert other.expect("notification") == BROADCAST


def test_s3_9_offline_queue(served, come, unique):
    """In order, once, with word of what was dropped; answers to pings acknowledge."""
    for number in range(103):
        push(served.first, unique, number)
    wait_until(lambda: len(queue_of(served, unique)) == 100, "the oldest have left")
    client = come(served.last, userId=unique)
    assert client.expect("fanfare:evicted") == {"evicted": 3, "expired": 0}
    assert widgets(client, 100) == list(range(3, 103))
    push(served.first, unique, "live")
    assert widgets(client, 1) == ["live"]
    wait_until(lambda: not queue_of(served, unique), "all is acknowledged", deadline=20)
    client.socket.close()
    push(served.first, unique, "later")
    assert widgets(come(served.first, userId=unique), 1) == ["later"]


def test_s3_12_a_ticket_is_good_for_one_connection(served, knock, unique):
    """Made at one gateway and used at another; by the URL, and by the first envelope."""

    def ticket():
        answer = ask(served.first, "POST", "/api/ws/connect", {"userId": unique}, key=ADMIN_KEY)
        assert answer.keys() == {"wsUrl", "userId", "timestamp"} and answer["userId"] == unique
        assert answer["wsUrl"].startswith(f"{websocket(served.first)}/ws?ticket=fft_")
        return answer["wsUrl"].partition("?ticket=")[2]

    used = ticket()
    by_url = settle(knock(f"{websocket(served.last)}/ws?ticket={used}"))
    by_envelope = knock(f"{websocket(served.last)}/ws")
    by_envelope.send("auth", {"ticket": ticket()})
    assert by_envelope.next()["type"] != "error"
    push(served.first, unique, "w-1")
    assert widgets(by_url, 1) == ["w-1"]
    late = knock(f"{websocket(served.first)}/ws?ticket={used}")
    late.expect("error")
    assert late.close_code() == 4003


def test_s3_16_stats(served, come):
    settle(come(served.first, userId="alice"))
    stats = wait_until(
        lambda: (it := ask(served.last, "GET", "/api/ws/stats", key=ADMIN_KEY))["uniqueUsers"] and it, "counted"
    )
    assert stats["totalConnections"] >= stats["uniqueUsers"]
    assert stats["queueStats"].keys() == {"pendingMessages", "deliveredMessages", "expiredMessages"}
    assert abs(stats["timestamp"] - now_ms()) < 60_000


def test_s3_17_s3_18_connections_are_listed_and_ended(served, come, unique):
    tabs = [settle(come(gateway, userId=unique)) for gateway in (served.first, served.last, served.last)]
    path = f"/api/ws/connections/{unique}"

    def listed():
        answer = ask(served.first, "GET", path, key=ADMIN_KEY)
        assert answer.keys() == {"userId", "connections", "timestamp"} and answer["userId"] == unique
        return answer["connections"]

    wait_until(lambda: len(listed()) == 3, "all are in the directory")
    for one in listed():
        assert {"id", "connectedAt", "lastActivity", "transport", "node"} <= one.keys()
        assert one["transport"] == "envelope"
    done(ask(served.first, "POST", f"/api/ws/disconnect/{unique}", {"reason": "left"}, key=ADMIN_KEY))
    assert [tab.close_code() for tab in tabs] == [4501] * 3
    wait_until(lambda: listed() == [], "they are gone")


def test_s3_20_figures(served, unique):
    began = time.monotonic()
    with Envelopes(f"{websocket(served.first)}/ws?token={jwt_of(userId=unique)}") as client:
        settle(client)
        connected = time.monotonic()
        push(served.last, unique, "w")
        widgets(client, 1)
        assert time.monotonic() - connected < 1
    assert connected - began < 1, "a tenth on a machine that does nothing else"


def test_s3_22_requests_take_a_key(served):
    push = {"userId": "a", "widgetId": "w", "data": 1}
    for key in (None, "wrong", jwt_of(userId="root", role="admin")):
        ask(served.first, "POST", "/api/ws/push/dashboard", push, key=key, status=401)
    for path in ("/api/ws/stats", "/api/ws/connections/a"):
        ask(served.first, "GET", path, key=PUBLISH_KEY, status=403)
    ask(served.first, "POST", "/api/ws/push/dashboard", {"widgetId": "w"}, status=400)


FRAMES = ["", "nonsense", "[]", "5", '["1","heartbeat",{}]', '{"id":"1"', '{"type":7}', '{"id":5,"type":"heartbeat"}', b"\0"]


def test_s3_22_what_is_no_envelope_is_answered(served, come):
    """With a stable code, and the connection stays."""
    client = come(served.first, userId="alice")
    for frame in FRAMES:
        client.socket.send(frame)
        refused = client.expect("error")
        assert refused.keys() == {"error", "code"} and refused["code"] == "bad_request", frame
    asked = client.send("transfer", {"amount": 1})
    refused = client.expect("error")
    assert (refused["code"], refused["inReplyTo"]) == ("unknown_command", asked)
    client.socket.send('{"type":"transfer"}')
    assert client.expect("error").keys() == {"error", "code"}
    settle(client)


def test_s3_22_what_is_too_large_ends_the_connection(served, come):
    client = settle(come(served.first, userId="alice"))
    client.send("heartbeat", {"clientTime": "x" * (1 << 20)})
    assert client.close_code() == 1009


def test_verbs_have_rates(served, come):
    client = come(served.first, userId="alice")
    for _ in range(12):
        client.send("heartbeat", {"clientTime": 1})
    told = [client.next() for _ in range(12)]
    refused = [one["payload"]["code"] for one in told if one["type"] == "error"]
    assert "overloaded" in refused and refused.count("overloaded") <= 2


def test_a_drain_sends_clients_elsewhere(processes):
    gateway = processes(ProfileGateway(PROFILE, processes.directory))
    with Envelopes(f"{websocket(gateway)}/?token={jwt_of(userId='alice')}") as client:
        settle(client)
        gateway.terminate()
        assert client.close_code(10) == 1012
    assert gateway.wait() == 0


def test_s3_1_s3_7_silence(processes):
    """Who does not say in time who it is, and who answers no ping, is closed."""
    times = {"limits.connect_timeout": "500ms", "heartbeat.interval": "500ms", "heartbeat.timeout": "500ms"}
    gateway = processes(ProfileGateway(PROFILE, processes.directory, settings=times))
    with Envelopes(websocket(gateway)) as client:
        assert client.close_code() == 4002
    path = f"/?token={jwt_of(userId='alice')}"
    with Envelopes(websocket(gateway) + path) as alive, upgraded_by_hand(gateway, path) as dead:
        received = b"".join(iter(lambda: dead.recv(4096), b""))
        assert b"\x89\x00" in received, "a ping"
        assert (4001).to_bytes(2) + b"no answer to ping" in received
        settle(alive)


def upgraded_by_hand(gateway, path):
    """A client that answers no ping."""
    connection = socket.create_connection(gateway.public.split(":"), timeout=5)
    head = [f"GET {path} HTTP/1.1", f"Host: {gateway.public}", "Upgrade: websocket", "Connection: Upgrade"]
    head += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "\r\n"]
    connection.sendall("\r\n".join(head).encode())
    return connection

"""Clients without WebSocket: server-sent events with POST, and long polling."""

import base64
import json
import threading
import time

import pytest

from api import Api, http
from client import Client
from fallback import Events, Poller
from harness import node, token, wait_until

JWT = token("alice")


@pytest.fixture
def listen():
    """listen(gateway, channel…): an event stream, closed at the end."""
    streams = []

    def listen(gateway, *channels, **options):
        streams.append(Events(gateway, *channels, **({"token": JWT} | options)))
        return streams[-1]

    yield listen
    for stream in streams:
        stream.close()


def subscribed(events, *channels):
    """Answers to several subscriptions come in any order."""
    assert {events.expect("subscribed")["channel"] for _ in channels} == set(channels)
    return events


# Server-sent events


def test_events_tell_what_a_websocket_would(site, listen, unique, chat, venue):
    events = subscribed(listen(site.last, chat, venue, token=token(unique)), chat, venue)
    assert events.connected["user"] == unique
    assert events.connected["channels"] == [f"user:{unique}"]
    assert events.header("content-type") == "text/event-stream"
    assert events.header("cache-control") == "no-store"
    assert events.header("x-accel-buffering") == "no"
    assert 500 <= events.retry < 3000
    site.api.publish(channel=venue, event="opened", data={"open": True}, id="m-1")
    message = events.expect("message", channel=venue, event="opened", message="m-1", data={"open": True})
    assert message["time"] > 0
    site.api.publish(users=[unique], data="hello")
    events.expect("message", channel=f"user:{unique}", data="hello")


def test_data_cannot_forge_an_event(site, listen, venue):
    events = subscribed(listen(site.last, venue), venue)
    forged = b'{"channel":"%s","data":{"a":\r\n\r\n"\\r\\nevent: gap\\n\\n"\n}}' % venue.encode()
    assert site.api.call("POST", "/v1/publish", forged).status == 200
    events.expect("message", data={"a": "\r\nevent: gap\n\n"})
    site.api.publish(channel=venue, data=1)
    events.expect("message", data=1)


def test_commands_are_posted_to_any_gateway(site, listen, chat):
    events = listen(site.last)
    for gateway in site.gateways:
        events.send({"type": "subscribe", "id": 1, "channel": chat}, gateway=gateway)
        events.expect("subscribed", id=1, channel=chat)
        publish = {"type": "publish", "id": 2, "channel": chat, "message": "m-1", "data": "hi", "echo": False}
        events.send(publish, {"type": "unsubscribe", "id": 3, "channel": chat}, gateway=gateway)
        answers = [events.next()[1], events.next()[1]]
        assert {answer["id"]: answer["type"] for answer in answers} == {2: "published", 3: "unsubscribed"}
    events.send({"type": "subscirbe", "id": 4})
    events.expect("error", id=4, code="unknown_command")
    assert events.post(b"no json").status == 202
    events.expect("error", code="bad_request")


def test_binary_data_goes_both_ways_as_text(site, listen, connect, chat):
    events, peer = subscribed(listen(site.first, chat), chat), connect(site.last).subscribe(chat)
    peer.send_binary(b"\x00\x01\xff", type="publish", channel=chat, echo=False)
    peer.expect("published")
    assert base64.b64decode(events.expect("message")["data_base64"]) == b"\x00\x01\xff"
    data = base64.b64encode(bytes(range(256))).decode()
    events.send({"type": "publish", "id": 1, "channel": chat, "echo": False, "data_base64": data})
    events.expect("published", id=1)
    assert peer.expect("message")["data"] == bytes(range(256))


def test_only_who_has_the_secret_speaks_for_a_connection(site, listen, chat):
    events, other = listen(site.last), listen(site.last, token=token("bob"))
    ping = {"type": "ping", "id": 1}
    for gateway in site.gateways:
        not_found = events.post(ping, gateway, secret=other.connected["secret"])
        assert not_found.problem == (404, "not_found")
        assert events.post(ping, gateway, connection="0" * 32).problem == (404, "not_found")
        nowhere = "0" * 16 + "." + "0" * 32
        assert events.post(ping, gateway, secret=nowhere).problem == (404, "not_found")
        for bad in ("", "x", JWT):
            refused = events.post(ping, gateway, secret=bad)
            assert refused.problem == (401, "unauthorized")
            assert refused.headers["www-authenticate"]
        assert events.post(ping, gateway, connection="x").problem == (400, "invalid_name")
        assert events.post(b"x" * 200_000, gateway).problem == (413, "message_too_large")
        assert events.post(b"\xff", gateway).problem == (400, "bad_request")
    events.close()
    wait_until(lambda: events.post(ping).status == 404, "the connection is gone")
    other.send(ping)
    other.expect("pong", id=1)


def test_who_may_not_connect_is_told_so_by_status(site, listen, chat):
    gateway = site.first
    for jwt, code in (("x", "unauthorized"), (token("alice", exp=1), "token_expired"), (None, "unauthorized")):
        refused = listen(gateway, chat, token=jwt)
        assert (refused.status, refused.header("www-authenticate")) == (401, 'Bearer realm="fanfare"')
        assert http("POST", f"{gateway.url}/v1/poll", {"token": jwt}).problem == (401, code)
    assert listen(gateway, "a::b").status == 400
    assert listen(gateway, query=[("chanel", "a")]).status == 400
    events = listen(gateway, "venue:1", "nothing:1")
    answers = {events.next()[1]["type"] for _ in range(2)}
    assert answers == {"subscribed", "error"}
    # Tokens in URLs are not allowed here.
    assert listen(gateway, token=None, query=[("token", JWT)]).status == 401


def test_a_token_in_the_url_is_allowed_where_the_operator_says_so(start_gateway):
    gateway = start_gateway(settings={"http.query_token": "true"})
    with Events(gateway, "chat:1", query=[("token", JWT), ("_", "7")]) as events:
        assert events.connected["user"] == "alice"
        subscribed(events, "chat:1")


def test_pages_of_allowed_origins_read_answers(start_gateway):
    origin = "https://app.example"
    gateway = start_gateway(settings={"http.allowed_origins": f'["{origin}"]'})
    with Events(gateway, "chat:1", token=JWT, origin=origin) as events:
        assert events.header("access-control-allow-origin") == origin
        assert events.header("vary") == "origin"
    for path in ("/v1/sse", "/v1/poll", "/v1/connections/1/commands"):
        asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization"}
        allowed = http("OPTIONS", gateway.url + path, origin=origin, **asked)
        assert allowed.status == 204
        assert allowed.headers["access-control-allow-origin"] == origin
        assert "POST" in allowed.headers["access-control-allow-methods"]
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        refused = http("OPTIONS", gateway.url + path, origin="https://evil.example", **asked)
        assert refused.problem == (403, "forbidden_origin")
        assert "access-control-allow-origin" not in refused.headers
    # The page must be able to read why it was refused.
    refused = http("POST", f"{gateway.url}/v1/poll", {}, origin=origin)
    assert refused.problem == (401, "unauthorized")
    assert refused.headers["access-control-allow-origin"] == origin
    assert refused.headers["access-control-expose-headers"] == "retry-after"


def test_pages_of_allowed_origins_read_messages(start_gateway, room):
    origin = "https://app.example"
    gateway = start_gateway(settings={"http.allowed_origins": f'["{origin}"]'})
    url = f"{gateway.url}/v1/channels/{room}/messages"
    allowed = http("OPTIONS", url, origin=origin, access_control_request_method="GET")
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (204, origin)
    answer = http("GET", url, origin=origin, authorization=f"Bearer {JWT}")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)
    assert http("GET", url, origin="https://evil.example").problem == (403, "forbidden_origin")
    # The rest of the API is for servers.
    assert http("OPTIONS", f"{gateway.url}/v1/stats", origin=origin).status == 405


def test_silence_is_broken_by_heartbeats(start_gateway):
    gateway = start_gateway(settings={"heartbeat.interval": "200ms", "heartbeat.timeout": "1s"})
    with Events(gateway, "chat:1", token=JWT) as events:
        subscribed(events, "chat:1")
        for expected in range(1, 4):
            while events.comments < expected:
                assert events.response.readline() in (b": \n", b"\n")
                events.comments += 0.5
        Api(gateway).publish(channel="chat:1", data=1)
        events.expect("message", data=1)


def test_a_stream_that_is_not_read_is_closed_as_slow(start_gateway):
    gateway = start_gateway(settings={"limits.queue_bytes": "64KiB"})
    with (
        Events(gateway, "chat:1", token=JWT) as slow,
        Client(gateway.websocket_url, JWT) as publisher,
    ):
        subscribed(slow, "chat:1")
        publisher.subscribe("chat:1")
        data = "x" * 50_000
        count = 0

        def is_closed():
            nonlocal count
            publisher.ask("publish", channel="chat:1", data=data)
            count += 1
            return metric(gateway, "fanfare_slow_client_disconnects_total") == 1

        wait_until(is_closed, "the slow stream is closed", deadline=60)
        received = 0
        while True:
            event, object = slow.next()
            if event == "close":
                break
            received += event == "message"
        assert object == {"type": "close", "code": 4000, "reason": "slow consumer"}
        assert slow.next() is None
        assert 0 < received < count
        assert publisher.expect_data(count) == [data] * count


def test_a_gateway_that_goes_away_sends_streams_and_polls_elsewhere(start_gateway):
    gateway = start_gateway(settings={"drain.delay": "1s"})
    with Events(gateway, "chat:1", token=JWT) as events:
        subscribed(events, "chat:1")
        answers = []
        polling = threading.Thread(target=lambda: answers.append(Poller(JWT, "chat:1").poll(gateway, 20_000)))
        polling.start()
        wait_until(lambda: metric(gateway, "fanfare_connections") == 2, "the poll waits")
        gateway.terminate()
        after = events.expect("reconnect")["after"]
        assert events.retry == after <= 2000
        events.expect("close", code=1012)
        assert events.next() is None
        polling.join()
        assert [it["type"] for it in answers[0]] == ["reconnect", "close"]
    assert gateway.wait() == 0


def test_connections_are_listed_counted_and_closed_as_all_others(start_cluster):
    site = start_cluster(2, {"http.max_connections": "1"})
    with Events(site.first, token=JWT) as events:
        id = events.connected["connection"]
        listed = wait_until(lambda: Api(site.last).get("/v1/connections")["connections"], "it is listed")
        assert [(it["id"], it["user"], it["transport"]) for it in listed] == [(id, "alice", "sse")]
        assert metric(site.first, 'fanfare_connections_opened_total{transport="sse"}') == 1
        refused = http("GET", f"{site.first.url}/v1/sse")
        assert refused.problem == (503, "overloaded")
        assert refused.headers["retry-after"] == "5"
        assert Api(site.last).call("DELETE", f"/v1/connections/{id}").status == 200
        events.expect("close", code=4501)
        assert events.next() is None


# Long polling


def test_a_poll_waits_for_the_first_message(site, venue):
    answers = []
    poller = Poller(JWT, venue)
    polling = threading.Thread(target=lambda: answers.append(poller.poll(site.last, 20_000)))
    polling.start()
    subscribers = lambda: Api(site.first).get(f"/v1/channels?prefix={venue}")["channels"]
    wait_until(subscribers, "the poll is subscribed")
    site.api.publish(channel=venue, data={"n": 1})
    polling.join()
    [message] = answers[0]
    assert (message["type"], message["channel"], message["data"]) == ("message", venue, {"n": 1})


def test_a_poll_without_news_ends_in_time(site, venue):
    assert Poller(JWT, venue).poll(site.first, 50) == []
    answer = Poller(JWT, venue).try_poll(site.first)
    assert [it["type"] for it in answer.json["objects"]] == ["connected", "subscribed"]
    assert answer.json["objects"][0]["user"] == "alice"
    assert "secret" not in answer.json["objects"][0]
    assert answer.headers["cache-control"] == "no-store"


def test_commands_of_a_poll_are_answered_by_it(site, connect, chat):
    peer = connect(site.first).subscribe(chat)
    poller = Poller(JWT)
    for n, gateway in enumerate(site.gateways):
        publish = {"type": "publish", "id": 5, "channel": chat, "data": n}
        binary = {"type": "publish", "id": 6, "channel": chat, "data_base64": "AAH/"}
        answers = poller.poll(gateway, 0, publish, binary, {"type": "nothing", "id": 7})
        by_id = {answer["id"]: answer["type"] for answer in answers}
        assert by_id == {5: "published", 6: "published", 7: "error"}
        assert peer.expect_data(2) == [n, b"\x00\x01\xff"]


def test_polls_of_a_wrong_form_are_refused(site):
    poller = Poller(JWT)
    for members in (
        {"wait": -1},
        {"subscribe": [{}]},
        {"subscribe": [{"channel": "a", "pattern": "a:*"}]},
        {"commands": {"type": "ping", "id": 1}},
        {"commands": [{"type": "ping"}]},
        {"commands": [{"type": "ping", "id": "1"}]},
        {"commands": [{"type": "ping", "id": 1}] * 129},
        {"wiat": 1},
    ):
        assert poller.try_poll(site.first, **({"wait": 0} | members)).problem == (400, "bad_request"), members
    bad_name = poller.try_poll(site.first, subscribe=[{"channel": "a::b"}])
    assert bad_name.problem == (400, "invalid_name")
    refused = poller.try_poll(site.first, subscribe=[{"channel": "nothing:1"}], wait=20_000)
    assert [it["type"] for it in refused.json["objects"]] == ["connected", "error"]


def test_polls_are_connections_and_leave_nothing_behind(start_gateway):
    gateway = start_gateway()
    for _ in range(3):
        Poller(JWT, "chat:1").poll(gateway)
    wait_until(lambda: metric(gateway, "fanfare_connections") == 0, "all are gone")
    assert metric(gateway, 'fanfare_connections_opened_total{transport="poll"}') == 3
    assert metric(gateway, 'fanfare_connections_closed_total{code="1000",initiator="client"}') == 3
    assert metric(gateway, "fanfare_subscriptions") == 0


# Coming back, in a namespace with history

@pytest.fixture
def kept(site):
    """Gateways that keep 20 messages of each channel of `room:`."""
    return site.gateways


@pytest.fixture
def room(unique):
    return f"room:{unique}"


def test_a_stream_goes_on_where_it_broke(kept, listen, room, venue):
    other = f"{room}:2"
    events = subscribed(listen(kept[0], room, venue, other), room, venue, other)
    for n in range(3):
        Api(kept[0]).publish(channel=room, data=n)
        Api(kept[0]).publish(channel=venue, data=n)
    data = [events.next()[1]["data"] for _ in range(6)]
    assert sorted(data) == [0, 0, 1, 1, 2, 2]
    events.close()
    for n in range(3, 6):
        Api(kept[0]).publish(channel=room, data=n)
    Api(kept[0]).publish(channel=other, data="first")
    again = listen(kept[-1], room, venue, other, last_event_id=events.last_event_id)
    got = [again.next()[1] for _ in range(7)]
    recovered = {it["channel"]: it.get("recovered") for it in got if it["type"] == "subscribed"}
    assert recovered == {room: True, venue: None, other: True}
    assert [it["data"] for it in got if it.get("channel") == room and "data" in it] == [3, 4, 5]
    assert [it["data"] for it in got if it.get("channel") == other and "data" in it] == ["first"]


def test_a_stream_that_was_silent_goes_on_as_well(kept, listen, room):
    events = subscribed(listen(kept[0], room), room)
    events.close()
    Api(kept[0]).publish(channel=room, data=1)
    again = listen(kept[-1], room, last_event_id=events.last_event_id)
    again.expect("subscribed", recovered=True, replayed=1)
    again.expect("message", data=1)


def test_a_stream_that_comes_back_too_late_is_told(kept, listen, room):
    events = subscribed(listen(kept[0], room), room)
    events.close()
    for n in range(60):
        Api(kept[0]).publish(channel=room, data=n)
    subscribe = {"channel": room, "recovered": False, "replayed": 0}
    listen(kept[-1], room, last_event_id=events.last_event_id).expect("subscribed", **subscribe)
    nonsense = listen(kept[-1], room, last_event_id="nonsense")
    assert "recovered" not in nonsense.expect("subscribed")


def test_the_eventsource_of_a_javascript_runtime_goes_on_by_itself(start_gateway, room):
    gateway = start_gateway(settings={"http.query_token": "true"})
    api = Api(gateway)
    url = f"{gateway.url}/v1/sse?channel={room}&token={JWT}"
    told = []
    options = ["--experimental-eventsource", "--no-warnings"]
    runtime = threading.Thread(target=lambda: told.append(node("eventsource.mjs", url, "3", options=options)))
    runtime.start()
    wait_until(lambda: api.get(f"/v1/channels?prefix={room}")["channels"], "it is subscribed")
    api.publish(channel=room, data="before")
    wait_until(lambda: api.call("DELETE", "/v1/users/alice/connections?reconnect=true").json["closed"], "it is cut off")
    wait_until(lambda: metric(gateway, "fanfare_connections") == 0, "it is away")
    api.publish(channel=room, data="while away")
    wait_until(lambda: metric(gateway, "fanfare_connections") == 1, "it is back")
    api.publish(channel=room, data="after")
    runtime.join()
    assert json.loads(told[0]) == {"data": ["before", "while away", "after"], "opened": 2}


def test_polls_miss_nothing_in_between(kept, room):
    poller = Poller(JWT, room)
    assert poller.poll(kept[0]) == []
    for n in range(20):
        Api(kept[0]).publish(channel=room, data=2 * n)
        Api(kept[0]).publish(channel=room, data=2 * n + 1)
        messages = poller.poll(kept[n % len(kept)])
        assert [it["data"] for it in messages] == [2 * n, 2 * n + 1]
    # With the cursor of an older poll, the same once more.
    assert poller.poll(kept[-1]) == []
    poller.cursor = ""
    assert poller.poll(kept[-1]) == []


def test_polls_hear_once_of_what_was_lost_and_do_not_end_of_it(site, unique):
    user = f"u-{unique}"
    queue = f"/v1/users/{user}/queue"
    poller, other = Poller(token(user)), Poller(token(user))
    site.api.publish(users=[user], data="lost")
    wait_until(lambda: site.api.get(queue)["pending"], "it waits")
    assert site.api.call("DELETE", queue).json == {"purged": 1}
    started = time.monotonic()
    told = poller.poll(site.first, wait=1000)
    assert [(it["type"], it["evicted"]) for it in told] == [("evicted", 1)]
    assert time.monotonic() - started >= 1
    assert poller.poll(site.last) == []
    wait_until(lambda: other.poll(site.last) == [], "it is acknowledged for all")


def test_both_ways_rewind(kept, listen, room):
    for n in range(3):
        Api(kept[0]).publish(channel=room, data=n)
    events = listen(kept[0], room, query=[("rewind", "2"), ("pattern", "venue:*")], token=token("ann", roles=["staff"]))
    told = [events.next()[1] for _ in range(4)]
    assert [it["data"] for it in told if it["type"] == "message"] == [1, 2]
    again = listen(kept[-1], room, query=[("rewind_time", "60000"), ("cursor", events.last_event_id)])
    again.expect("subscribed", recovered=True, replayed=0)
    poller = Poller(JWT)
    first = poller.try_poll(kept[0], subscribe=[{"channel": room, "rewind_time": 60_000}]).json
    assert [it["data"] for it in first["objects"] if it["type"] == "message"] == [0, 1, 2]
    position = first["objects"][2]["position"]
    later = poller.try_poll(kept[0], subscribe=[{"channel": room, "position": position}]).json
    assert [it["data"] for it in later["objects"] if it["type"] == "message"] == [1, 2]
    for bad in ({"rewind": 0}, {"rewind": 1, "rewind_time": 1}, {"position": "x"}):
        refused = poller.try_poll(kept[0], subscribe=[{"channel": room} | bad])
        assert refused.problem == (400, "bad_request"), bad
        if "position" not in bad:
            assert listen(kept[0], room, query=list(bad.items())).status == 400


def test_what_does_not_fit_into_a_poll_comes_with_the_next(start_gateway, room):
    gateway = start_gateway(settings={"limits.queue_bytes": "64KiB"})
    poller = Poller(JWT, room)
    poller.poll(gateway)
    count, data = 20, "x" * 20_000
    for n in range(count):
        Api(gateway).publish(channel=room, data={"n": n, "data": data})
    got = []
    while len(got) < count:
        messages = [it for it in poller.poll(gateway) if it["type"] == "message"]
        assert messages
        got += [it["data"]["n"] for it in messages]
    assert got == list(range(count))


def metric(gateway, series):
    text = http("GET", f"{gateway.admin_url}/metrics").body.decode()
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{series} ")]
    return float(values[0]) if values else 0

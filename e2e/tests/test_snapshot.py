"""Retained namespaces: beginning with the last message of every channel, and going on from there."""

import itertools
import json
import threading
import urllib.parse

import pytest

from api import ADMIN_KEY, Api, http
from client import Client
from fallback import Events
from harness import token, wait_until

STAFF = token("alice", role="staff")


@pytest.fixture
def screens(unique):
    """A pattern over channels of this test alone."""
    return f"screen:{unique}:*"


@pytest.fixture
def publish(site, screens):
    """publish(lobby="a", hall="b"): each is stored when this returns."""
    return lambda **data: put(site.first, screens, **data)


def put(gateway, screens, **data):
    for name, one in data.items():
        Api(gateway).publish(channel=screens.replace("*", name), data=one)


def snapshot(client, pattern):
    """What the subscription begins with: data by the last segment of the channel."""
    answer = client.ask("subscribe", pattern=pattern, snapshot=True)
    assert set(answer) == {"type", "id", "pattern", "replayed"}, answer
    messages = [client.expect("message") for _ in range(answer["replayed"])]
    found = {message["channel"].rsplit(":", 1)[1]: message["data"] for message in messages}
    assert len(found) == len(messages)
    return found


def ask(gateway, pattern, key=ADMIN_KEY, **query):
    url = f"{gateway.url}/v1/snapshot?{urllib.parse.urlencode({'pattern': pattern} | query)}"
    return http("GET", url, authorization=f"Bearer {key}")


def page(gateway, pattern, **query):
    answer = ask(gateway, pattern, **query)
    assert answer.status == 200, answer
    return answer.json


def test_a_subscription_begins_with_the_last_of_every_channel(site, connect, screens, publish):
    publish(lobby=1, hall=1)
    publish(lobby=2, bar=1)
    for gateway in site.gateways:
        client = connect(gateway, STAFF)
        wait_until(lambda: len(page(gateway, screens)["messages"]) == 3, "the gateway has them")
        assert snapshot(client, screens) == {"bar": 1, "hall": 1, "lobby": 2}
        publish(hall="live")
        assert client.expect("message")["data"] == "live"
        publish(hall=1)
    assert snapshot(connect(site.last, STAFF), screens.replace("*", "none:*")) == {}


def test_a_channel_begins_with_its_last(site, connect, screens, publish):
    publish(lobby=1)
    publish(lobby=2)
    lobby = screens.replace("*", "lobby")
    for gateway in site.gateways:
        client = connect(gateway)
        answer = client.ask("subscribe", channel=lobby, snapshot=True)
        assert (answer["replayed"], client.expect("message")["data"]) == (1, 2)
        assert "position" in answer


def test_what_may_not_be_asked_for(site, connect, screens):
    client = connect(site.first, token("bob"))
    assert client.refused("subscribe", pattern=screens, snapshot=True) == "forbidden"
    staff = connect(site.first, STAFF)
    assert staff.refused("subscribe", pattern="room:*", snapshot=True) == "no_history"
    assert staff.refused("subscribe", channel="room:1", snapshot=True) == "no_history"
    assert staff.refused("subscribe", pattern=screens, rewind=1) == "no_history"
    assert staff.refused("subscribe", pattern=screens, rewind=1, snapshot=True) == "bad_request"
    assert staff.refused("subscribe", pattern=screens, snapshot="yes") == "bad_request"


def test_expired_and_excluded_messages_are_left_out(site, connect, screens, publish):
    publish(hall="kept", lobby="old")
    lobby, bar = screens.replace("*", "lobby"), screens.replace("*", "bar")
    site.api.publish(channel=lobby, data="brief", expires_in=300)
    site.api.publish(channel=bar, data="not for alice", exclude={"users": ["alice"]})
    assert snapshot(connect(site.first, token("eve", role="staff")), screens)["bar"] == "not for alice"
    for gateway in site.gateways:
        wait_until(lambda: len(page(gateway, screens)["messages"]) == 2, "the brief one is gone")
        assert snapshot(connect(gateway, STAFF), screens) == {"hall": "kept"}
        assert [it["data"] for it in page(gateway, screens, key=STAFF)["messages"]] == ["kept"]


class Writer:
    """Publishes 0, 1, 2, … to each of some channels, from a thread of its own, until told to stop."""

    def __init__(self, gateway, channels):
        self.channels, self.last, self.stop = channels, dict.fromkeys(channels, -1), threading.Event()
        self.client = Client(gateway.websocket_url, token("bob"))
        self.thread = threading.Thread(target=self.run)

    def run(self):
        for number in itertools.count():
            ids = [self.client.start("publish", channel=channel, data=number) for channel in self.channels]
            for channel, id in zip(self.channels, ids, strict=True):
                assert self.client.answer_to(id)["type"] == "published"
                self.last[channel] = number
            if self.stop.is_set():
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.client.socket.close()


def follow(client, last):
    """Reads until everything up to `last` has come; in each channel each message once, and none left out."""
    seen = {}
    while any(seen.get(channel) != number for channel, number in last.items()):
        message = client.expect("message")
        channel, number = message["channel"], message["data"]
        assert number == seen.get(channel, number - 1) + 1, (channel, seen.get(channel), number)
        seen[channel] = number


def test_snapshot_and_live_messages_meet_without_seam(site, screens):
    channels = [screens.replace("*", f"c{n}") for n in range(5)]
    clients = []
    with Writer(site.first, channels) as writer:
        for gateway in site.gateways:
            wait_until(lambda: len(page(gateway, screens)["messages"]) == len(channels), "all have begun")
        for gateway in itertools.islice(itertools.cycle(site.gateways), 24):
            before = dict(writer.last)
            client = Client(gateway.websocket_url, STAFF)
            assert client.ask("subscribe", pattern=screens, snapshot=True)["replayed"] == len(channels)
            begins = [client.expect("message") for _ in channels]
            assert sorted(message["channel"] for message in begins) == channels
            if len(site.gateways) == 1:
                assert all(message["data"] >= before[message["channel"]] for message in begins)
            client.aside.extend(begins)
            clients.append(client)
    for client in clients:
        follow(client, writer.last)
        client.socket.close()


def test_a_snapshot_is_read_page_by_page(site, screens, publish):
    publish(**{f"s{n:02}": n for n in range(25)})
    for gateway in site.gateways:
        wait_until(lambda: len(page(gateway, screens)["messages"]) == 25, "the gateway has them")
        found, cursor = [], {}
        while cursor is not None:
            part = page(gateway, screens, limit=10, **cursor)
            found += part["messages"]
            cursor = {"cursor": part["next"]} if "next" in part else None
        assert [message["data"] for message in found] == list(range(25))
        assert all(message["position"] and message["channel"].startswith("screen:") for message in found)
    assert page(site.last, screens, limit=25).keys() == {"messages"}


def test_who_may_subscribe_to_a_pattern_may_read_its_snapshot(site, screens, publish):
    publish(lobby=1)
    wait_until(lambda: has(site.first, screens, {"lobby": 1}), "the gateway has it")
    assert [it["data"] for it in page(site.first, screens, key=STAFF)["messages"]] == [1]
    assert ask(site.first, screens, key=token("bob")).problem == (403, "forbidden")
    assert ask(site.first, screens, key="nobody").status == 401
    assert ask(site.first, "room:*", key=ADMIN_KEY).problem == (422, "no_history")
    assert ask(site.first, "void:*", key=ADMIN_KEY).problem == (422, "unknown_namespace")
    assert ask(site.first, "screen:1", key=ADMIN_KEY).problem == (400, "invalid_name")
    assert ask(site.first, screens, limit=0).problem == (400, "bad_request")
    assert http("GET", f"{site.first.url}/v1/snapshot", x_api_key=ADMIN_KEY).problem == (400, "bad_request")


def test_services_use_it_over_nats(nats, cluster_site, screens):
    nats.publish(f"fanfare.ch.{screens.replace(':', '.').replace('*', 'raw')}", b'{"plain":true}')

    def read():
        return json.loads(nats.request("fanfare.api.snapshot", json.dumps({"pattern": screens}).encode()))

    wait_until(lambda: [it["data"] for it in read()["messages"]] == [{"plain": True}], "it is there")
    client = Client(cluster_site.first.websocket_url, STAFF)
    assert snapshot(client, screens) == {"raw": {"plain": True}}
    client.socket.close()


def test_event_streams_begin_with_a_snapshot(site, screens, publish):
    publish(lobby=1, hall=2)
    wait_until(lambda: has(site.first, screens, {"hall": 2, "lobby": 1}), "the gateway has them")
    query = [("pattern", screens), ("snapshot", "true")]
    with Events(site.first, token=STAFF, query=query) as events:
        assert events.expect("subscribed")["replayed"] == 2
        assert sorted(events.expect("message")["data"] for _ in range(2)) == [1, 2]


def test_it_is_there_after_gateways_and_nats_were_restarted(start_cluster, screens):
    site = start_cluster(2)
    put(site.first, screens, lobby=1, hall=1)
    wait_until(lambda: has(site.last, screens, {"hall": 1, "lobby": 1}), "the other gateway has them")
    witness = Client(site.last.websocket_url, STAFF)
    assert snapshot(witness, screens) == {"hall": 1, "lobby": 1}
    site.first.stop()
    site.first.start()
    assert snapshot(Client(site.first.websocket_url, STAFF), screens) == {"hall": 1, "lobby": 1}
    site.nats.stop()
    site.nats.start()
    wait_until(lambda: try_put(site.first, screens, bar=2), "publishing works again")
    put(site.first, screens, lobby=2)
    expected = {"bar": 2, "hall": 1, "lobby": 2}
    for gateway in site.gateways:
        wait_until(lambda: has(gateway, screens, expected), "the gateway has them")
        assert snapshot(Client(gateway.websocket_url, STAFF), screens) == expected
    # Who was there all the time was told that something may be missing, and has the last of each.
    seen = {}
    while seen.get("lobby") != 2 or seen.get("bar") != 2:
        frame = witness.next()
        if frame["type"] == "message":
            seen[frame["channel"].rsplit(":", 1)[1]] = frame["data"]
    assert "hall" not in seen


def test_what_was_published_while_a_gateway_was_cut_off_comes(start_cluster, screens):
    """The bus brings nothing of it: the gateway finds it in the log."""
    site = start_cluster(2)
    put(site.first, screens, lobby=1)
    wait_until(lambda: has(site.last, screens, {"lobby": 1}), "the other gateway has it")
    client = Client(site.last.websocket_url, STAFF)
    assert snapshot(client, screens) == {"lobby": 1}
    site.nats.kill()
    site.last.pause()
    site.nats.start()
    wait_until(lambda: try_put(site.first, screens, lobby=2), "publishing works again")
    put(site.first, screens, lobby=3, hall=1)
    site.last.resume()
    wait_until(lambda: has(site.last, screens, {"hall": 1, "lobby": 3}), "the gateway has them", deadline=20)
    found, gaps = {}, 0
    while found.get("lobby") != 3 or found.get("hall") != 1:
        frame = client.next(deadline=10)
        gaps += frame["type"] == "gap"
        if frame["type"] == "message":
            found[frame["channel"].rsplit(":", 1)[1]] = frame["data"]
    assert gaps


def try_put(gateway, screens, **data):
    messages = [{"channel": screens.replace("*", name), "data": one} for name, one in data.items()]
    return all(Api(gateway).try_publish(message).status == 200 for message in messages)


def has(gateway, screens, expected):
    answer = ask(gateway, screens)
    if answer.status != 200:
        return False
    return {it["channel"].rsplit(":", 1)[1]: it["data"] for it in answer.json["messages"]} == expected


def test_more_than_a_gateway_keeps_is_refused_as_a_whole(start_gateway, connect, screens):
    gateway = start_gateway(settings={"history.retained_channels": 3})
    put(gateway, screens, a=1, b=1, c=1)
    client = connect(gateway, STAFF)
    assert snapshot(client, screens) == {"a": 1, "b": 1, "c": 1}
    put(gateway, screens, d=1)
    assert client.expect("message")["data"] == 1
    assert ask(gateway, screens).problem == (422, "snapshot_too_large")
    other = connect(gateway, STAFF)
    assert other.refused("subscribe", pattern=screens, snapshot=True) == "snapshot_too_large"
    other.ask("subscribe", pattern=screens)
    put(gateway, screens, e=2)
    assert [it.expect("message")["data"] for it in (client, other)] == [2, 2]
    assert 'snapshots_refused_total{reason="bounds"} 2' in metrics(gateway)
    assert 'retained_channels{channel_namespace="screen"} 0' in metrics(gateway)


def metrics(gateway):
    return http("GET", f"{gateway.admin_url}/metrics").body.decode()


def test_more_than_a_connection_takes_is_refused_as_a_whole(start_gateway, connect, screens):
    gateway = start_gateway(settings={"limits.queue_bytes": "64KiB"})
    put(gateway, screens, **{f"s{n}": "x" * 10_000 for n in range(10)})
    client = connect(gateway, STAFF)
    id = client.start("subscribe", pattern=screens, snapshot=True)
    error = client.answer_to(id)
    assert (error["code"], error["retry"]) == ("snapshot_too_large", "no")
    assert "/v1/snapshot" in error["text"]
    client.ask("subscribe", pattern=screens)
    put(gateway, screens, s0="live")
    assert client.expect("message")["data"] == "live"
    assert len(page(gateway, screens)["messages"]) == 10


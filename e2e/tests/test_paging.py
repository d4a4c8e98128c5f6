"""What was published before, over HTTP: looking back, and following a channel without a connection."""

import json
import time
import urllib.parse

import pytest

from api import ADMIN_KEY, PUBLISH_KEY, http
from harness import token, wait_until


@pytest.fixture
def room(unique):
    """A channel with history: the latest 20 messages."""
    return f"room:{unique}"


@pytest.fixture
def publish(site, room):
    """publish(1, 2, 3): each is stored when this returns. Returns the positions."""
    return lambda *data, **more: [
        site.api.publish(channel=room, data=one, **more)["stored"][0]["position"] for one in data
    ]


def ask(gateway, channel, key=None, **query):
    """The answer to a reader, alice unless told otherwise."""
    url = f"{gateway.url}/v1/channels/{channel}/messages?{urllib.parse.urlencode(query)}"
    return http("GET", url, authorization=f"Bearer {key or token('alice')}")


def read(gateway, channel, **query):
    answer = ask(gateway, channel, **query)
    assert answer.status == 200, answer
    return answer.json


def data(page):
    return [message["data"] for message in page["messages"]]


def test_one_looks_back_from_any_gateway(site, connect, room, publish):
    connect(site.first, token("bob")).ask("publish", channel=room, event="said", data={"n": 0}, message="m-0")
    positions = publish(1, 2, 3)
    for gateway in site.gateways:
        page = read(gateway, room)
        assert data(page) == [3, 2, 1, {"n": 0}]
        assert [message["position"] for message in page["messages"]][:3] == positions[::-1]
        assert (page["more"], page["position"]) == (False, positions[-1])
        assert "next" not in page and "recovered" not in page
    first = page["messages"][-1]
    assert (first["message"], first["channel"], first["event"]) == ("m-0", room, "said")
    assert abs(first["time"] - time.time() * 1000) < 60_000
    latest = read(site.last, room, limit=3)
    assert (data(latest), latest["more"]) == ([3, 2, 1], True)
    assert data(read(site.first, room, limit=3, before=latest["next"])) == [{"n": 0}]


def test_following_gets_each_message_once(site, room, publish):
    publish("before")
    page = read(site.first, room)
    page = read(site.last, room, since=page["position"])
    assert (data(page), page["recovered"]) == ([], True)
    got = []
    for number in range(1, 16):
        publish(number)
        if number % 4 == 3:
            while True:
                page = read(site.gateways[number % len(site.gateways)], room, since=page["next"], limit=2)
                assert page["recovered"] is True
                got += data(page)
                if not page["more"]:
                    break
    assert got == list(range(1, 16))


def test_what_is_lost_is_said(site, room, publish):
    first, *_ = publish(*range(30))
    page = read(site.last, room, since=first)
    assert page["recovered"] is False
    assert data(page)[-20:] == list(range(10, 30))
    assert read(site.last, room, since=page["next"])["recovered"] is True
    other = read(site.last, room, since="1.1.00000000", limit=1)
    assert (other["recovered"], len(other["messages"]), other["more"]) == (False, 1, True)


def test_an_empty_channel_can_be_followed(site, room, publish):
    page = read(site.first, room, order="asc")
    assert (data(page), page["more"]) == ([], False)
    publish("first")
    page = read(site.last, room, since=page["next"])
    assert (data(page), page["recovered"]) == (["first"], True)


def test_a_time_may_be_given(site, room, publish):
    publish("old")
    [message] = read(site.first, room)["messages"]
    later = message["time"] + 1
    wait_until(lambda: time.time() * 1000 > later, "the clock goes on")
    publish("new")
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(later // 1000)) + f".{later % 1000:03}Z"
    for since in [later, moment]:
        assert data(read(site.last, room, since=since)) == ["new"], since
    assert data(read(site.last, room, since=0)) == ["old", "new"]


def test_a_position_is_good_on_both_ways(site, connect, room, publish):
    """From a connection to polling, and back."""
    client = connect(site.first)
    client.ask("subscribe", channel=room)
    publish("live")
    last = client.expect("message", data="live")["position"]
    client.socket.close()
    publish("polled")
    page = read(site.last, room, since=last)
    assert (data(page), page["recovered"]) == (["polled"], True)
    publish("missed")
    answer = connect(site.last).ask("subscribe", channel=room, position=page["position"])
    assert (answer["recovered"], answer["replayed"]) == (True, 1)


def test_what_is_not_for_the_reader_is_left_out(site, room, publish):
    publish("for others", exclude={"users": ["alice"]})
    publish("for all")
    assert data(read(site.last, room)) == ["for all"]
    assert data(ask(site.last, room, token("bob")).json) == ["for all", "for others"]
    assert data(ask(site.last, room, ADMIN_KEY).json) == ["for all", "for others"]


def test_who_may_not_read(site, room, chat, venue):
    for key, channel, status, code in [
        ("nonsense", room, 401, "unauthorized"),
        (token("alice", exp=1), room, 401, "token_expired"),
        (PUBLISH_KEY, room, 403, "forbidden"),
        (token("alice"), "user:bob", 403, "forbidden"),
        (token("alice"), "org:acme", 403, "forbidden"),
        (token("alice"), "nowhere:1", 422, "unknown_namespace"),
        (token("alice"), chat, 422, "no_history"),
        (ADMIN_KEY, venue, 422, "no_history"),
        (ADMIN_KEY, "nowhere:1", 422, "unknown_namespace"),
    ]:
        assert ask(site.first, channel, key).problem == (status, code), (channel, code)
    assert http("GET", f"{site.first.url}/v1/channels/{room}/messages").problem == (401, "unauthorized")


def test_services_ask_over_nats(cluster_site, nats, room, unique):
    site = cluster_site
    site.api.publish(channel=room, data=unique)
    asked = json.dumps({"channel": room, "limit": 5}).encode()
    assert data(json.loads(nats.request("fanfare.api.messages", asked))) == [unique]

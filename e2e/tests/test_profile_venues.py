"""profiles/venues.toml: channels over the native protocol, and the HTTP requests of its application."""

import contextlib
import time

import pytest

from api import ADMIN_KEY, PUBLISH_KEY, http
from application import jwt_of
from client import Client
from harness import wait_until

PROFILE = "venues"


@pytest.fixture
def come():
    """come(gateway, user): a client at /ws."""
    with contextlib.ExitStack() as stack:
        yield lambda gateway, user="alice": stack.enter_context(Client(gateway.websocket_url, jwt_of(sub=user)))


def ask(gateway, method, path, body=None, key=PUBLISH_KEY, status=200):
    answer = http(method, gateway.url + path, body, authorization=key and f"Bearer {key}")
    assert answer.status == status, answer
    return answer.json


def poll(gateway, path, since=None, user="alice"):
    query = "" if since is None else f"?since={since}"
    return ask(gateway, "GET", path + query, key=jwt_of(sub=user))


def data(page):
    return [message["data"] for message in page["messages"]]


def channel_and_path(kind, venue):
    return {
        "all venues": ("venue_updates", "/api/venues/updates"),
        "a venue": (f"venue:{venue}", f"/api/venues/{venue}/updates"),
        "vibe checks": (f"vibe_checks:{venue}", f"/api/venues/{venue}/vibe-checks"),
        "promotions": (f"promotions:{venue}", f"/api/venues/{venue}/promotions"),
    }[kind]


KINDS = ["all venues", "a venue", "vibe checks", "promotions"]


@pytest.mark.parametrize("kind", KINDS)
def test_s2_1_s2_3_channels(served, come, unique, kind):
    channel, _ = channel_and_path(kind, unique)
    clients = [come(gateway).subscribe(channel) for gateway in (served.first, served.last)]
    other = come(served.last).subscribe(f"venue:{unique}-other")
    update = {"id": unique, "name": "V", "description": "", "status": "active", "updatedAt": 1.50, "updatedBy": "x"}
    served.publish(channel, update)
    served.publish(f"venue:{unique}-other", "mark")
    for client in clients:
        assert client.expect("message", channel=channel)["data"] == update
    other.expect("message", data="mark")


@pytest.mark.parametrize("kind", KINDS)
def test_s2_4_s2_6_polling_goes_on_where_the_socket_stopped(served, come, unique, kind):
    """By the position of the last message, then by `next`, on another gateway: nothing twice, nothing missing."""
    channel, path = channel_and_path(kind, unique)
    with come(served.first).subscribe(channel) as client:
        served.publish(channel, [unique, 1])
        last = client.expect("message", data=[unique, 1])
    for number in (2, 3):
        served.publish(channel, [unique, number])
    page = wait_until(lambda: len(data(it := poll(served.last, path, last["position"]))) == 2 and it, "both are there")
    assert data(page) == [[unique, 2], [unique, 3]] and page["recovered"] is True
    assert data(poll(served.first, path, page["next"])) == []
    served.publish(channel, [unique, 4])
    page = wait_until(lambda: data(it := poll(served.last, path, page["next"])) and it, "the fourth is there")
    assert data(page) == [[unique, 4]]
    again = come(served.last)
    served.publish(channel, [unique, 5])
    position = page["messages"][-1]["position"]
    assert again.ask("subscribe", channel=channel, position=position)["recovered"] is True
    again.expect("message", data=[unique, 5])


def test_s2_4_since_a_time(served, unique):
    """Milliseconds or text; what came before does not come again."""
    channel, path = f"venue:{unique}", f"/api/venues/{unique}/updates"
    served.publish(channel, 1)
    wait_until(lambda: data(poll(served.last, path)) == [1], "it is stored")
    [first] = poll(served.last, path)["messages"]
    assert data(poll(served.last, path, first["time"])) == [1], "then or later"
    assert data(poll(served.last, path, first["time"] + 1)) == []
    assert data(poll(served.last, path, "2020-01-01T00:00:00Z")) == [1]
    assert data(poll(served.last, path, int(time.time() * 1000) + 60_000)) == []
    ask(served.first, "GET", f"{path}?since=yesterday", key=jwt_of(sub="alice"), status=400)


def test_s2_2_s2_5_notifications(served, come, unique):
    """To a user, without a subscription, on all connections; and polled by nobody else."""
    clients = [come(gateway, unique) for gateway in (served.first, served.last)]
    note = {"id": "n-1", "type": "venue_update", "title": "T", "message": "M", "data": {}, "createdAt": 1}
    done = ask(served.first, "POST", "/api/websocket", {"action": "notify", "userId": unique, "data": note})
    assert done.keys() == {"success", "timestamp"} and done["success"] is True
    for client in clients:
        message = client.expect("message", channel=f"user:{unique}", event="notification")
        assert message["data"] == note
    page = poll(served.last, "/api/notifications", user=unique)
    assert data(page) == [note]
    assert data(poll(served.last, "/api/notifications", page["position"], user=unique)) == []
    assert data(poll(served.last, "/api/notifications", user=f"{unique}-other")) == []


def test_s2_2_notifications_wait_for_who_is_away(served, come, unique):
    for number in range(3):
        served.publish(f"user:{unique}", number, "notification")
    path = f"/v1/users/{unique}/queue"
    wait_until(lambda: len(ask(served.last, "GET", path, key=ADMIN_KEY)["pending"]) == 3, "all wait")
    assert come(served.last, unique).expect_data(3) == [0, 1, 2]


def test_s2_5_broadcast(served, come, unique):
    client = come(served.last).subscribe(f"venue:{unique}")
    body = {"action": "broadcast", "channel": f"venue:{unique}", "data": {"open": True}}
    done = ask(served.first, "POST", "/api/websocket", body)
    assert done.keys() == {"success", "timestamp"} and done["success"] is True
    client.expect("message", channel=f"venue:{unique}", data={"open": True})
    for key in (None, "wrong", jwt_of(sub="alice")):
        ask(served.first, "POST", "/api/websocket", body, key=key, status=401)


def test_s2_5_status(served, come):
    come(served.first)
    path = "/api/websocket"
    status = wait_until(
        lambda: (it := ask(served.last, "GET", path, key=ADMIN_KEY))["connections"] and it, "the connection is counted"
    )
    assert status.keys() == {"status", "connections", "channels", "timestamp"} and status["status"] == "running"


def test_s2_13_s2_14_subscriptions_are_authorised_and_given_back(served, come, unique):
    client = come(served.first).subscribe(f"venue:{unique}")
    assert client.refused("subscribe", channel="orders:1") == "unknown_namespace"
    assert client.refused("publish", channel=f"venue:{unique}", data=1) == "forbidden"
    assert client.refused("subscribe", channel=f"user:{unique}") == "forbidden"
    ask(served.first, "GET", "/api/venues/updates", key=None, status=401)
    client.ask("unsubscribe", channel=f"venue:{unique}")
    served.publish(f"venue:{unique}", 1)
    client.subscribe(f"venue:{unique}-mark")
    served.publish(f"venue:{unique}-mark", "mark")
    client.expect("message", data="mark")

"""Messages to users who are away: they wait, in order, until a connection of the user acknowledges them."""

import contextlib
import json
import subprocess

import pytest

from bus import Nats
from client import Client
from harness import FANFARE, ENVIRONMENT, token, wait_until

ADMIN_KEY = "test-admin-key"


@pytest.fixture
def user(unique):
    return f"u-{unique}"


@pytest.fixture
def come(user):
    """come(gateway): a connection of the user that acknowledges by itself."""
    with contextlib.ExitStack() as stack:

        def come(gateway, acks="client"):
            client = stack.enter_context(Client(gateway.websocket_url))
            client.connected = client.ask("connect", token=token(user), acks=acks)
            return client

        yield come


@pytest.fixture
def say(site, user):
    """say("a", "b"): a service publishes to the user; stored when it returns."""

    def say(*data):
        for one in data:
            site.api.publish(users=[user], data=one)

    return say


def pending(site, user):
    return [message["data"] for message in site.api.get(f"/v1/users/{user}/queue")["pending"]]


def test_messages_wait_for_who_is_away(site, user, come, say):
    say("first", "second")
    wait_until(lambda: pending(site, user) == ["first", "second"], "both wait")
    client = come(site.last)
    messages = [client.expect("message", channel=f"user:{user}") for _ in range(2)]
    assert [message["data"] for message in messages] == ["first", "second"]
    client.ask("ack", position=messages[-1]["position"])
    wait_until(lambda: pending(site, user) == [], "nothing waits any more")
    again = come(site.first)
    say("third")
    assert again.expect_data(1) == ["third"]


def test_what_is_not_acknowledged_comes_again(site, user, come, say):
    say("a", "b", "c")
    first = come(site.first)
    messages = [first.expect("message") for _ in range(3)]
    first.ask("ack", position=messages[0]["position"])
    first.socket.close()
    wait_until(lambda: pending(site, user) == ["b", "c"], "two are left")
    assert come(site.last).expect_data(2) == ["b", "c"]


def test_all_tabs_get_it_and_one_acknowledgement_will_do(site, user, come, say):
    tabs = [come(gateway) for gateway in (site.first, site.first, site.last)]
    say("news")
    messages = [tab.expect("message", data="news") for tab in tabs]
    tabs[1].send({"type": "ack", "position": messages[1]["position"]})
    wait_until(lambda: pending(site, user) == [], "it is acknowledged")


def test_the_transport_acknowledges_for_clients_that_do_not(site, user, come, say):
    client = come(site.first, acks=None)
    say("seen")
    client.expect("message", data="seen")
    wait_until(lambda: pending(site, user) == [], "the answer to a ping counts", 15)


def test_the_oldest_are_dropped_and_the_user_is_told(site, user, come, say):
    say(*range(105))
    wait_until(lambda: pending(site, user) == list(range(5, 105)), "100 wait")
    client = come(site.last)
    assert client.expect("evicted")["evicted"] == 5
    assert client.expect_data(100) == list(range(5, 105))


def test_an_acknowledgement_of_nothing_is_refused(site, come):
    client = come(site.first)
    assert client.refused("ack", position="1.1.00000000") == "bad_request"
    assert client.refused("ack", position="yesterday") == "bad_request"


def test_users_publish_to_users(site, user, come):
    """By the rule of [namespaces.user]."""
    with Client(site.first.websocket_url, token("friend")) as friend:
        answer = friend.ask("publish", channel=f"user:{user}", data="hello", message="m1")
        again = friend.ask("publish", channel=f"user:{user}", data="hello", message="m1")
    assert (again["position"], again["duplicate"]) == (answer["position"], True)
    assert come(site.last).expect("message", data="hello")["position"] == answer["position"]


def test_services_publish_on_nats(cluster_site, user):
    with Nats(cluster_site.nats.url) as nats:
        nats.publish(f"fanfare.ch.user.{user}", b'"by nats"')
    wait_until(lambda: pending(cluster_site, user) == ["by nats"], "it waits")


def test_figures_and_purge(site, user, come, say):
    before = site.api.get("/v1/queue")
    say("a", "b", "c")
    wait_until(lambda: pending(site, user) == ["a", "b", "c"], "three wait")
    client = come(site.first)
    first = client.expect("message")
    client.ask("ack", position=first["position"])
    wait_until(lambda: pending(site, user) == ["b", "c"], "one is acknowledged")
    assert site.api.call("DELETE", f"/v1/users/{user}/queue").json == {"purged": 2}
    after = site.api.get("/v1/queue")
    changed = {name: after[name] - before[name] for name in after}
    assert changed == {"pending": 0, "delivered": 1, "evicted": 2, "expired": 0}


def test_the_command_line(site, user, say):
    say("a")
    wait_until(lambda: pending(site, user) == ["a"], "it waits")

    def queue(*arguments):
        command = [FANFARE, "queue", *arguments, "--api", site.first.admin_url]
        environment = ENVIRONMENT | {"FANFARE_API_KEY": ADMIN_KEY}
        return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True, timeout=10).stdout)

    assert queue("stats")["pending"] >= 1
    assert [message["data"] for message in queue("peek", user)["pending"]] == ["a"]
    assert queue("purge", user) == {"purged": 1}

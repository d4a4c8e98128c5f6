"""profiles/activities.toml, by the socket service of its application, and with the service of examples/."""

import json
import uuid

import pytest

from api import PUBLISH_KEY, Api
from application import Service, jwt_of
from harness import TOP, wait_until

PROFILE = "activities"
SETTINGS = {"presence.grace": "1s"}

ACTIVITY = {"id": "42", "title": "Climbing", "likeCount": 3, "participantCount": 2}
COUNTED = {"activityId": "42", "userId": "bob"}
EVENTS = {
    "activity:created": ACTIVITY,
    "activity:updated": ACTIVITY,
    "activity:deleted": {"activityId": "42"},
    "activity:user_joined": COUNTED | {"participantCount": 3},
    "activity:user_left": COUNTED | {"participantCount": 2},
    "activity:like_added": COUNTED | {"likeCount": 4},
    "activity:like_removed": COUNTED | {"likeCount": 3},
    "message:read": {"messageId": "m-1", "userId": "bob"},
}


@pytest.fixture(scope="module")
def cluster_profile(cluster_profile, profile_processes):
    """With the application's service."""
    rooms = profile_processes.directory / "rooms.json"
    rooms.write_text((TOP / "examples" / PROFILE / "rooms.json").read_text())
    profile_processes(Service(profile_processes.directory, PROFILE, cluster_profile.nats, "--rooms", rooms))
    return cluster_profile


@pytest.fixture
def come(application):
    """come(gateway, user): the application's client, connected."""

    def come(gateway, user):
        client = application("activities_client.mjs", gateway.url, jwt_of(userId=user))
        client.await_("connect")
        mark = f"mark:{uuid.uuid4().hex}"

        def hears():
            Api(gateway, PUBLISH_KEY).publish(channel="activities:all", event=mark, data={})
            return client.await_("event", mark, deadline=0.5)

        wait_until(hears, "it hears what is for all")
        return client

    return come


@pytest.fixture
def two(cluster_profile, come):
    """Alice and Bob on two gateways, both in the room of an activity that is theirs."""
    alice, bob = come(cluster_profile.first, "alice"), come(cluster_profile.last, "bob")
    for client in (alice, bob):
        assert client.ask("joinRoom", "activity_42") == {"success": True}
    return alice, bob


def test_s4_2_s4_3_who_connects(served, application):
    client = application("activities_client.mjs", served.first.url, "x")
    message, data = client.await_("connect_error")
    assert data["code"] == "unauthorized" and message


def test_s4_5_activity_events(served, come):
    clients = [come(gateway, "alice") for gateway in served.gateways]
    for event, data in EVENTS.items():
        served.publish("activities:all", data, event)
    for client in clients:
        assert {event: client.event(event) for event in EVENTS} == EVENTS


def test_s4_4_join(cluster_profile, two):
    cluster_profile.publish("room:activity_42", ACTIVITY, "activity:updated")
    assert [client.event("activity:updated") for client in two] == [ACTIVITY] * 2


def test_s4_4_join_is_refused(cluster_profile, come):
    client = come(cluster_profile.first, "alice")
    assert client.ask("joinRoom", "activity_43") == {"error": "Unauthorized"}
    assert client.ask("joinRoom", "no_such_room") == {"error": "Unauthorized"}


def test_s4_4_join_is_refused_without_ack(cluster_profile, come):
    client = come(cluster_profile.first, "alice")
    client.emit("room:join", {"roomId": "activity_43"})
    assert client.ask("joinRoom", "activity_43") == {"error": "Unauthorized"}
    assert client.heard("fanfare:error")


def test_s4_4_who_was_refused_hears_nothing(cluster_profile, come):
    inside, outside = come(cluster_profile.first, "carol"), come(cluster_profile.last, "alice")
    assert inside.ask("joinRoom", "activity_43") == {"success": True}
    assert outside.ask("joinRoom", "activity_43") == {"error": "Unauthorized"}
    cluster_profile.publish("room:activity_43", ACTIVITY, "activity:updated")
    assert inside.event("activity:updated") == ACTIVITY
    assert_heard_nothing(outside, cluster_profile, "activity:updated")


def assert_heard_nothing(client, served, event):
    served.publish("activities:all", {}, "mark")
    client.event("mark")
    assert not client.heard(event)


def test_s4_4_leave(cluster_profile, two):
    alice, bob = two
    assert alice.ask("leaveRoom", "activity_42") == {"success": True}
    cluster_profile.publish("room:activity_42", ACTIVITY, "activity:updated")
    bob.event("activity:updated")
    assert_heard_nothing(alice, cluster_profile, "activity:updated")


def test_s4_4_join_again(cluster_profile, two):
    """As `socket.join` of Socket.IO, it is no mistake."""
    alice, _ = two
    assert alice.ask("joinRoom", "activity_42") == {"success": True}
    cluster_profile.publish("room:activity_42", ACTIVITY, "activity:updated")
    assert alice.event("activity:updated") == ACTIVITY
    assert_heard_nothing(alice, cluster_profile, "activity:updated")


def test_s4_4_nobody_says_who_may(embedded_profile, come):
    """Without a bus there is no service: nobody is let in, and it is not called unauthorized."""
    answer = come(embedded_profile.first, "alice").ask("joinRoom", "activity_42")
    assert answer.keys() == {"error"} and answer["error"] not in ("", "Unauthorized")


def test_s4_6_typing(two):
    alice, bob = two
    alice.emit("typing:start", {"chatId": "activity_42"})
    assert bob.event("typing:start") == {"chatId": "activity_42", "userId": "alice"}
    bob.emit("typing:start", {"chatId": "activity_42"})
    alice.event("typing:start")
    assert not bob.heard("typing:start"), "the own one does not come back"


def test_s4_6_message_to_all(cluster_profile, come):
    alice, bob = come(cluster_profile.first, "alice"), come(cluster_profile.last, "bob")
    answer = alice.ask("emitWithAck", "message:send", {"text": "Hello"})
    message = bob.event("message:new")
    assert answer == {"success": True, "messageId": message["id"]}
    assert message == {"id": message["id"], "chatId": None, "userId": "alice", "text": "Hello"}


def test_s4_6_message_to_a_room(cluster_profile, come, two):
    alice, bob = two
    outside = come(cluster_profile.last, "bob")
    assert alice.ask("emitWithAck", "message:send", {"text": "Hi", "chatId": "activity_42"})["success"]
    assert bob.event("message:new")["text"] == "Hi"
    assert_heard_nothing(outside, cluster_profile, "message:new")


def test_s4_6_message_is_refused(cluster_profile, come):
    client = come(cluster_profile.first, "alice")
    assert client.ask("emitWithAck", "message:send", {"text": ""}) == {"error": "a message needs a text"}
    message = {"text": "Hi", "chatId": "activity_43"}
    assert client.ask("emitWithAck", "message:send", message) == {"error": "Unauthorized"}


def test_s4_6_online_and_offline(served, come, unique):
    watcher, tab, other_tab = come(served.first, "alice"), come(served.last, unique), come(served.first, unique)
    assert watcher.await_("event", "user:online", {"userId": unique}) == []
    tab.tell("disconnect")
    tab.await_("disconnect")
    other_tab.tell("disconnect")
    assert watcher.await_("event", "user:offline", {"userId": unique}) == []
    assert json.dumps(list(watcher.passed)).count(unique) == 0, "each is told once"


def test_the_service_decides_for_other_protocols_too(cluster_profile, connect):
    client = connect(cluster_profile.first, jwt_of(userId="alice"))
    for room in ("room:activity_42", "room:activity_43"):
        assert client.refused("subscribe", channel=room) == "forbidden"

"""Who is in a channel, who joins and leaves, and who is online."""

import contextlib
import json
import time

import pytest

from client import Client
from harness import token, wait_until

# The defaults are 15 s, 5 s and 5 s: here all of it goes five times as fast.
FAST = {"presence.lease": "3s", "presence.renew": "1s", "presence.grace": "1s"}
LEASE, TIDIED_WITHIN = 3, 2


@pytest.fixture
def room(unique):
    return f"room:{unique}"


@pytest.fixture
def people():
    """people(gateway, *names): a connection for each, which lives until the end of the test."""
    with contextlib.ExitStack() as stack:

        def connect(gateway, *names):
            return [stack.enter_context(Client(gateway.websocket_url, token(name))) for name in names]

        yield connect


def members(client, channel, **query):
    """Users with their connections, and how many connections there are of nobody."""
    answer = client.ask("presence", channel=channel, **query)
    assert answer["type"] == "present" and answer["channel"] == channel, answer
    users = {it["user"]: it["connections"] for it in answer["members"] if "user" in it}
    return users, sum("connection" in it for it in answer["members"])


def counts(client, channel):
    answer = client.ask("presence", channel=channel, limit=0)
    assert "members" not in answer, answer
    return answer["users"], answer["connections"]


def watch(client, channel):
    return client.subscribe(f"presence:{channel}")


def expect_told(client, channel, deadline=5, known=(), **users):
    """The next frames tell of these users, in any order: name=event. Who is known may be told to join once more."""
    told = {}
    while told != users:
        frame = client.expect("message", deadline, channel=f"presence:{channel}")
        if frame["event"] == "join" and frame["data"]["user"] in known:
            continue
        told[frame["data"]["user"]] = frame["event"]
        assert told.items() <= users.items(), frame


def expect_silence(client, channel, known=()):
    """Nothing more was told until now, but that who is known joins."""
    client.ask("ping")
    frames = [frame for frame in client.aside if frame.get("channel") == f"presence:{channel}"]
    assert [it for it in frames if it["event"] != "join" or it["data"]["user"] not in known] == []


def test_members_are_listed_counted_and_told(site, connect, people, room):
    watcher = watch(connect(site.last, token("watcher")), room)
    ann, = people(site.first, "ann")
    tab, bob = people(site.last, "ann", "bob")
    ann.subscribe(room)
    expect_told(watcher, room, ann="join")
    tab.subscribe(room)
    bob.subscribe(room)
    expect_told(watcher, room, bob="join")
    with Client(site.first.websocket_url, token("cat")) as cat:
        cat.subscribe(room)
        expect_told(watcher, room, cat="join")
        wait_until(lambda: counts(watcher, room) == (3, 4), "all are counted")
        assert members(watcher, room) == ({"ann": 2, "bob": 1, "cat": 1}, 0)
    tab.ask("unsubscribe", channel=room)
    ann.ask("unsubscribe", channel=room)
    expect_told(watcher, room, 10, ann="leave", cat="leave")
    assert members(watcher, room) == ({"bob": 1}, 0)


def test_the_api_says_the_same(site, connect, people, unique, room):
    for client in people(site.last, *[f"{unique}-{n}" for n in range(5)]):
        client.subscribe(room)
    path = f"/v1/channels/{room}"
    wait_until(lambda: site.api.get(path)["users"] == 5, "all are counted")
    assert site.api.get(path) == {"channel": room, "users": 5, "connections": 5}
    listed, answer = set(), site.api.get(f"{path}/members?limit=2")
    while True:
        assert answer["users"] == 5
        listed |= {it["user"] for it in answer["members"]}
        if "next" not in answer:
            break
        answer = site.api.get(f"{path}/members?limit=2&cursor={answer['next']}")
    assert listed == {f"{unique}-{n}" for n in range(5)}
    assert site.api.call("GET", "/v1/channels/venue:1/members").problem == (404, "not_found")
    assert site.api.call("GET", f"{path}/members?cursor=x").problem == (400, "bad_request")
    assert site.api.call("GET", f"{path}/members?limit=0").problem == (400, "bad_request")


def test_the_api_over_nats(cluster_site, nats, people, unique, room):
    def ask(operation, **body):
        return json.loads(nats.request(f"fanfare.api.{operation}", json.dumps(body).encode()))

    people(cluster_site.first, unique)[0].subscribe(room)
    wait_until(lambda: ask("channel", channel=room)["users"] == 1, "it is counted")
    assert [it["user"] for it in ask("members", channel=room, limit=10)["members"]] == [unique]
    wait_until(lambda: ask("user", user=unique)["online"], "it is online")
    assert ask("members", channel="venue:1")["error"]["code"] == "not_found"


def test_only_those_who_may_see(site, connect, unique):
    club = f"club:{unique}"
    staff = connect(site.first, token("boss", roles=["staff"]))
    ann = connect(site.last, token("ann")).subscribe(club)
    assert ann.refused("presence", channel=club) == "forbidden"
    assert ann.refused("subscribe", channel=f"presence:{club}") == "forbidden"
    assert ann.refused("presence", channel="venue:1") == "forbidden"
    assert ann.refused("subscribe", channel="presence:venue:1") == "forbidden"
    assert ann.refused("subscribe", pattern="presence:**") == "forbidden"
    assert ann.refused("subscribe", pattern="presence:room:*") == "forbidden"
    for channel in (f"presence:{club}", "presence:room:1"):
        assert ann.refused("publish", channel=channel, data=1) == "forbidden"
        assert site.api.try_publish({"channel": channel, "data": 1}).problem == (422, "unknown_namespace")
    watch(staff, club)
    staff.ask("subscribe", pattern="presence:room:*")
    wait_until(lambda: members(staff, club) == ({"ann": 1}, 0), "ann is there")


def test_who_is_online(site, connect, unique):
    watcher, user = connect(site.last, token("watcher")), f"user:{unique}"
    watch(watcher, user)
    assert site.api.get(f"/v1/users/{unique}") == {"user": unique, "online": False, "connections": 0}
    with Client(site.first.websocket_url, token(unique)), Client(site.last.websocket_url, token(unique)):
        expect_told(watcher, user, **{unique: "user:online"})
        online = {"user": unique, "online": True, "connections": 2}
        wait_until(lambda: site.api.get(f"/v1/users/{unique}") == online, "both connections are counted")
    assert site.api.get(f"/v1/users/{unique}")["online"], "within the grace"
    frame = watcher.expect("message", 10, event="user:offline")
    assert frame["data"].keys() == {"user", "last_seen"}
    gone = site.api.get(f"/v1/users/{unique}")
    assert gone == {"user": unique, "online": False, "connections": 0, "last_seen": frame["data"]["last_seen"]}
    assert abs(gone["last_seen"] - time.time() * 1000) < 10_000


def test_a_killed_gateway_leaves_no_ghosts(start_cluster, people, room):
    site = start_cluster(3, FAST)
    one, two, victim = site.gateways
    watcher, = people(two, "watcher")
    watch(watcher, room)
    for client in people(victim, "ann", "bob", "cat") + people(one, "dan"):
        client.subscribe(room)
    expect_told(watcher, room, ann="join", bob="join", cat="join", dan="join")
    victim.kill()
    killed = time.monotonic()
    back, = people(one, "cat")
    back.subscribe(room)
    wait_until(lambda: members(watcher, room)[0] == {"cat": 1, "dan": 1}, "no ghost is listed", LEASE + 1)
    expect_told(watcher, room, ann="leave", bob="leave")
    assert counts(watcher, room) == (2, 2)
    assert time.monotonic() - killed < LEASE + TIDIED_WITHIN + 1
    expect_silence(watcher, room)


def test_a_rolling_restart_goes_unnoticed(start_cluster, people, room):
    site = start_cluster(3, FAST | {"presence.grace": "4s", "drain.delay": "100ms"})
    watcher, = people(site.first, "watcher")
    watch(watcher, room)
    clients = people(site.gateways[1], "ann", "bob")
    for client in clients:
        client.subscribe(room)
    expect_told(watcher, room, ann="join", bob="join")
    for going, next_one in ((1, 2), (2, 1)):
        site.gateways[going].terminate()
        for client in clients:
            assert client.close_code() == 1012
        clients = people(site.gateways[next_one], "ann", "bob")
        for client in clients:
            client.subscribe(room)
        assert site.gateways[going].wait() == 0
        site.gateways[going].start()
    wait_until(lambda: members(watcher, room)[0] == {"ann": 1, "bob": 1}, "all are back")
    last, = people(site.gateways[2], "zoe")
    last.subscribe(room)
    # Longer than any grace that might still run.
    expect_told(watcher, room, zoe="join")
    last.ask("unsubscribe", channel=room)
    expect_told(watcher, room, 10, zoe="leave")
    expect_silence(watcher, room)


@pytest.mark.parametrize("kept", [True, False], ids=["with its data", "empty"])
def test_a_redis_restart_makes_nobody_leave(start_cluster, people, room, kept):
    site = start_cluster(2, FAST)
    watcher, = people(site.first, "watcher")
    watch(watcher, room)
    ann, bob = people(site.first, "ann") + people(site.last, "bob")
    for client in (ann, bob):
        client.subscribe(room)
    expect_told(watcher, room, ann="join", bob="join")
    site.redis.stop()
    if not kept:
        for file in site.redis.directory.rglob("appendonly*/*"):
            file.unlink()
    # Until the leases are over.
    down_until = time.monotonic() + LEASE + 1
    came, = people(site.last, "cat")
    came.subscribe(room)
    wait_until(lambda: time.monotonic() > down_until, "Redis is down for longer than a lease")
    site.redis.start()
    # After calls whose outcome nobody knows, joins are told again.
    known = ("ann", "bob")
    expect_told(watcher, room, 15, known, cat="join")
    wait_until(lambda: members(watcher, room)[0] == {"ann": 1, "bob": 1, "cat": 1}, "all are listed", 15)
    wait_until(lambda: counts(watcher, room) == (3, 3), "all are counted", 15)
    # Once more than the pause in which nobody is taken for dead.
    came.socket.close()
    expect_told(watcher, room, 15, (*known, "cat"), cat="leave")
    expect_silence(watcher, room, known)

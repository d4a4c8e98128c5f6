"""profiles/config-push.toml, by the client of its application over socket.io-client."""

import json
import re

import pytest

from api import CLIENT_KEY, PUBLISH_KEY, Api, http
from application import ProfileGateway, jwt_of
from harness import wait_until

PROFILE = "config-push"
AUTH = {"title": "Welcome"}
EXPIRED = jwt_of(userId="alice", exp=1)


@pytest.fixture
def come(application):
    """come(gateway, userId=…): the application's client, welcomed and told all configurations."""

    def come(gateway, **claims):
        return welcomed(start(application, gateway, {"token": jwt_of(**claims)}))

    return come


def start(application, gateway, auth, **options):
    return application("config_push_client.mjs", gateway.url, json.dumps(auth), json.dumps(options))


def welcomed(client):
    client.id = client.await_("connect")[0]
    client.welcome = client.event("connection_established")
    client.sync = client.event("full_config_sync")
    client.pong = client.event("pong")
    return client


def settle(client):
    """What it said before was carried out."""
    client.emit("ping")
    client.event("pong")


def timestamp_of(told):
    timestamp = told.pop("timestamp")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", timestamp), timestamp
    return timestamp


def test_s0_1_s0_4_s0_18_welcome(served, application):
    """Over the path of the client's URL and over its namespace, and by both transports."""
    for options in [{}, {"path": "/config-socket"}, {"path": "/config-socket/", "transports": ["polling"]}]:
        client = welcomed(start(application, served.first, {"token": jwt_of(userId="alice")}, **options))
        timestamp_of(client.welcome)
        assert client.welcome == {"clientId": client.id, "serverVersion": "2.0.0"}
        timestamp_of(client.sync)


def test_s0_5_more_configurations_than_are_queued_for_a_client(processes, application):
    settings = {"limits.queue_bytes": 65_536}
    gateway = processes(ProfileGateway(PROFILE, processes.directory, settings=settings))
    for number in range(3):
        Api(gateway, PUBLISH_KEY).publish(channel=f"screen:{number}", data={"text": "x" * 25_000})
    client = start(application, gateway, {"token": JWT})
    told = client.event("config_error")
    timestamp_of(told)
    assert told == {"message": "Failed to load configuration"}
    settle(client)
    metrics = http("GET", f"{gateway.admin_url}/metrics").body.decode()
    assert 'fanfare_snapshots_refused_total{reason="queue"} 1' in metrics
    assert 'fanfare_errors_total{code="snapshot_too_large"} 1' in metrics


JWT = jwt_of(userId="alice", role="user")
WAYS_IN = [
    pytest.param({"token": JWT}, {}, id="auth.token"),
    pytest.param({}, {"query": {"token": JWT}}, id="query.token"),
    pytest.param({"apiKey": CLIENT_KEY}, {}, id="auth.apiKey"),
    pytest.param({}, {"query": {"apiKey": CLIENT_KEY}}, id="query.apiKey"),
]


@pytest.mark.parametrize("auth, options", WAYS_IN)
def test_s0_2_ways_in(served, application, auth, options):
    client = start(application, served.first, auth, **options)
    assert client.await_("event")[0] == "connection_established"


def test_s0_2_s0_13_who_is_connected(served, application, unique):
    """What `clientDetails` of getConnectionStats() had: the HTTP API lists it, wherever the client is."""
    browser = {"extraHeaders": {"User-Agent": "config-app/1.0"}}
    client = welcomed(start(application, served.first, {"token": jwt_of(userId=unique)}, **browser))
    path = f"/v1/connections?user={unique}"
    [listed] = wait_until(lambda: Api(served.last).get(path)["connections"], "it is listed")
    assert (listed["id"], listed["user"], listed["user_agent"]) == (client.welcome["clientId"], unique, "config-app/1.0")


def test_s0_2_a_key_has_its_roles_and_no_user(served, application, unique):
    """Of each gateway, the client with the key; a token counts before the key."""
    keyed = [welcomed(start(application, gateway, {"apiKey": CLIENT_KEY})) for gateway in served.gateways]
    both = welcomed(start(application, served.first, {"token": jwt_of(userId=unique), "apiKey": CLIENT_KEY}))
    for channel in f"user:{unique}", "role:kiosk":
        served.publish(channel, {"screen": "Auth", "config": AUTH}, "config_update")
    assert [client.event("config_update")["type"] for client in [*keyed, both]] == ["role_update"] * len(keyed) + [
        "targeted_update"
    ]


NOT_LET_IN = {
    "no token": {},
    "no jwt": {"token": "x"},
    "expired": {"token": EXPIRED},
    "no key": {"apiKey": "x"},
    "key not for clients": {"apiKey": PUBLISH_KEY},
    "no ticket": {"ticket": "x"},
}


@pytest.mark.parametrize("auth", NOT_LET_IN.values(), ids=NOT_LET_IN)
def test_s0_3_auth_error_then_disconnect(served, application, auth):
    client = start(application, served.first, auth)
    client.await_("connect")
    client.await_("disconnect", "io server disconnect")
    told = [happened for happened in client.passed if happened[0] != "app"]
    assert told == [["event", "auth_error", {"message": "Authentication failed"}]]
    client.await_("app", "AUTH_ERROR")


def test_s0_5_state_on_connect(served, come, unique):
    config = {"title": unique, "version": "3.1.0"}
    served.publish(f"screen:{unique}", config)
    wait_until(lambda: unique in come(served.last, userId="alice").sync["configs"], "the configuration is kept")
    client = come(served.first, userId="alice")
    timestamp_of(client.sync)
    assert client.sync.pop("configs")[unique] == config
    assert client.sync == {"type": "full_sync", "version": "2.0.0"}


def test_s0_6_ping(served, come):
    """The client says it as soon as it is connected."""
    client = come(served.first, userId="alice")
    timestamp_of(client.pong)
    assert client.pong == {}


def test_s0_7_rooms(served, come, unique):
    client = come(served.first, userId="alice")
    client.emit("subscribe_to_screen", {"screenName": unique})
    client.emit("unsubscribe_from_screen", {"screenName": unique})
    settle(client)
    assert not client.heard("fanfare:error")
    served.publish(f"screen:{unique}", {})
    assert client.event("config_update")["screen"] == unique


def test_s0_8_config_update_comes_once(served, come, unique):
    """To who is in the room and who is not; a second copy would come before the mark."""
    inside, outside = come(served.first, userId="alice"), come(served.last, userId="bob")
    inside.emit("subscribe_to_screen", {"screenName": unique})
    settle(inside)
    served.publish(f"screen:{unique}", {"title": 1.50})
    served.publish(f"screen:{unique}", {"title": 2, "version": "4.0.0"})
    for client in (inside, outside):
        update = client.event("config_update")
        timestamp_of(update)
        expected = {"type": "config_update", "screen": unique, "config": {"title": 1.5}, "version": "1.0.0"}
        assert update == expected
        assert client.event("config_update")["version"] == "4.0.0"
        client.await_("app", "CONFIG_UPDATE", {"screen": unique, "config": {"title": 1.5}})


def test_s0_9_full_sync_for_all(served, come):
    clients = [come(gateway, userId="alice") for gateway in served.gateways]
    served.publish("broadcast:all", {"Auth": AUTH}, "full_config_sync")
    for client in clients:
        sync = client.event("full_config_sync")
        timestamp_of(sync)
        assert sync == {"type": "full_sync", "configs": {"Auth": AUTH}, "reason": "manual_sync"}


def test_s0_10_to_users(served, come, unique):
    tabs = [come(gateway, userId=unique) for gateway in (served.first, served.last)]
    other = come(served.first, userId="bob")
    served.publish(f"user:{unique}", {"screen": "Auth", "config": AUTH}, "config_update")
    expected = {"type": "targeted_update", "screen": "Auth", "config": AUTH, "targetUser": unique}
    assert [tab.event("config_update") for tab in tabs] == [expected, expected]
    assert_heard_nothing(other, served)


def test_s0_11_to_a_role(served, come, unique):
    clients = [come(gateway, userId="alice", role=unique) for gateway in (served.first, served.last)]
    other = come(served.first, userId="bob", role="user")
    served.publish(f"role:{unique}", {"screen": "Auth", "config": AUTH}, "config_update")
    expected = {"type": "role_update", "screen": "Auth", "config": AUTH, "targetRole": unique}
    assert [client.event("config_update") for client in clients] == [expected, expected]
    assert_heard_nothing(other, served)


def assert_heard_nothing(client, served):
    served.publish("broadcast:all", {}, "full_config_sync")
    client.event("full_config_sync")
    assert not client.heard("config_update")


def test_s0_12_ab_test(served, come, unique):
    variants = {"a": {"color": "red"}, "b": {"color": "blue"}}
    users = [f"{unique}-{n}" for n in range(8)]
    clients = {user: [come(gateway, userId=user) for gateway in (served.first, served.last)] for user in users[:2]}
    clients |= {user: [come(served.first, userId=user)] for user in users[2:]}
    served.publish("broadcast:all", {"testId": unique, "screen": "Home", "variants": variants}, "ab_test")
    for connections in clients.values():
        updates = [client.event("config_update") for client in connections]
        variant = updates[0]["variant"]
        expected = {"type": "ab_test_update", "screen": "Home", "testId": unique, "variant": variant}
        assert updates == [expected | {"config": variants[variant]}] * len(updates)


def test_s0_13_s0_14_figures(served, come):
    """The rest of getConnectionStats() and what the monitor exported: the API and the metrics have it."""
    come(served.first, userId="alice")
    wait_until(lambda: Api(served.last).get("/v1/stats")["connections"] >= 1, "it is counted")
    metrics = http("GET", f"{served.first.admin_url}/metrics").body.decode()
    for name in ("connections", "connections_opened_total", "connections_closed_total", "delivery_latency_seconds"):
        assert f"# TYPE fanfare_{name} " in metrics


def test_s0_19_connection_loss(processes, application):
    """The client comes back by itself, and is welcomed and told all configurations anew."""
    gateway = processes(ProfileGateway(PROFILE, processes.directory))
    client = welcomed(start(application, gateway, {"token": jwt_of(userId="alice")}, reconnectionDelay=50))
    gateway.kill()
    assert client.await_("disconnect") == ["transport close"]
    client.await_("app", "CONNECTION_STATUS", {"status": "disconnected"})
    gateway.start()
    welcomed(client)


def test_what_no_verb_takes_is_refused(served, come):
    client = come(served.first, userId="alice")
    client.emit("config_update", {"screen": "Auth"})
    settle(client)
    assert client.heard("fanfare:error")


def test_publishing_takes_a_key(served):
    body = {"channel": "screen:Auth", "data": AUTH}
    assert Api(served.first, "wrong").try_publish(body).problem[0] == 401
    assert Api(served.first, PUBLISH_KEY).try_publish(body).status == 200

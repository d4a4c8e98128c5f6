"""HTTP requests that profiles answer, at paths and in forms of the application's own."""

import time

import pytest

from api import ADMIN_KEY, PUBLISH_KEY, Api, http
from client import Client
from conftest import processes_in
from harness import TOP, Gateway, token, wait_until


class Profiled(Gateway):
    """A gateway that serves one of the profiles, which are in profiles/."""

    config = TOP / "e2e" / "bare.toml"

    def __init__(self, directory, profile, settings=None):
        super().__init__(directory, profile, settings=settings)
        self.flags = ["--profile", TOP / "profiles" / f"{profile}.toml"]

    def ask(self, method, path, body=None, key=ADMIN_KEY, **headers):
        return http(method, self.url + path, body, authorization=key and f"Bearer {key}", **headers)

    def answer(self, *arguments, **options):
        answer = self.ask(*arguments, **options)
        assert answer.status == 200, answer
        assert answer.headers["content-type"] == "application/json", answer
        return answer.json

    def problem(self, *arguments, **options):
        return self.ask(*arguments, **options).problem


# Clients that name nothing are those of the application, where one is served.
NATIVE = {"subprotocols": ["fanfare.v1"]}


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    with processes_in(tmp_path_factory.mktemp("profiles")) as start:
        yield lambda profile: start(Profiled(start.directory, profile))


@pytest.fixture(scope="module")
def venues(started):
    return started("venues")


@pytest.fixture(scope="module")
def enterprise(started):
    return started("enterprise-push")


@pytest.fixture(scope="module")
def config_push(started):
    return started("config-push")


def data(page):
    return [message["data"] for message in page["messages"]]


def is_now(milliseconds):
    return abs(milliseconds - time.time() * 1000) < 60_000


@pytest.mark.parametrize(
    ("channel", "path"),
    [
        ("venue_updates", "/api/venues/updates"),
        ("venue:{}", "/api/venues/{}/updates"),
        ("vibe_checks:{}", "/api/venues/{}/vibe-checks"),
        ("promotions:{}", "/api/venues/{}/promotions"),
    ],
)
def test_venues_are_polled(venues, unique, channel, path):
    channel, path = channel.format(unique), path.format(unique)
    alice = token("alice")
    Api(venues).publish(channel=channel, data=1)
    page = venues.answer("GET", path, key=alice)
    assert data(page) == [1] and page["messages"][0]["channel"] == channel
    page = venues.answer("GET", f"{path}?since=0", key=alice)
    assert data(page) == [1]
    for number in 2, 3:
        Api(venues).publish(channel=channel, data=number)
        page = venues.answer("GET", f"{path}?since={page['next']}", key=alice)
        assert data(page) == [number], "nothing twice"
    assert data(venues.answer("GET", f"{path}?since={2**42}", key=alice)) == []
    assert data(venues.answer("GET", f"{path}?since=2020-01-01T00:00:00Z")) == [1, 2, 3], "an operator may read"
    assert venues.problem("GET", f"{path}?since=yesterday", key=alice) == (400, "bad_request")
    assert venues.problem("GET", path, key=None) == (401, "unauthorized")
    assert venues.problem("GET", path, key=PUBLISH_KEY) == (403, "forbidden")


def test_the_control_of_venues_broadcasts_and_notifies(venues, connect, unique):
    alice, bob = token(f"alice-{unique}"), token(f"bob-{unique}")
    follower = connect(venues, bob).subscribe(f"venue:{unique}")
    update = {"action": "broadcast", "channel": f"venue:{unique}", "data": {"open": True}}
    done = venues.answer("POST", "/api/websocket", update, key=PUBLISH_KEY)
    assert done.keys() == {"success", "timestamp"} and done["success"] is True
    follower.expect("message", channel=f"venue:{unique}", data=update["data"])
    note = {"id": "n-1", "type": "venue_update", "title": "T", "message": "M", "data": {}, "createdAt": 1}
    venues.answer("POST", "/api/websocket", {"action": "notify", "userId": f"alice-{unique}", "data": note})
    page = venues.answer("GET", "/api/notifications", key=alice)
    assert data(page) == [note] and page["messages"][0]["event"] == "notification"
    assert data(venues.answer("GET", "/api/notifications", key=bob)) == []


def test_pages_of_allowed_origins_may_ask_what_clients_may(processes):
    origin = "https://app.example"
    gateway = processes(Profiled(processes.directory, "venues", {"http.allowed_origins": f'["{origin}"]'}))
    path, alice = "/api/venues/updates", token("alice")
    asked = {"access_control_request_method": "GET", "access_control_request_headers": "authorization"}
    allowed = gateway.ask("OPTIONS", path, key=None, origin=origin, **asked)
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (204, origin)
    for key, status in (alice, 200), (None, 401):
        answer = gateway.ask("GET", path, key=key, origin=origin)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, origin)
    assert gateway.problem("GET", path, key=alice, origin="https://evil.example") == (403, "forbidden_origin")
    assert gateway.problem("DELETE", path, key=alice, origin=origin) == (405, "method_not_allowed")
    # What takes an API key is for servers.
    assert gateway.problem("OPTIONS", "/api/websocket", key=None, origin=origin) == (405, "method_not_allowed")


def test_the_control_of_venues_is_for_services(venues, unique):
    update = {"action": "broadcast", "channel": f"venue:{unique}", "data": 1}
    for method, body in ("POST", update), ("GET", None):
        assert venues.problem(method, "/api/websocket", body, key=None) == (401, "unauthorized")
        assert venues.problem(method, "/api/websocket", body, key=token("alice")) == (401, "unauthorized")
    assert venues.problem("GET", "/api/websocket", key=PUBLISH_KEY) == (403, "forbidden")


def test_the_status_of_venues(venues, connect):
    connect(venues)
    status = wait_until(
        lambda: (it := venues.answer("GET", "/api/websocket"))["connections"] and it, "the connection is counted"
    )
    assert status.keys() == {"status", "connections", "channels", "timestamp"}
    assert status["status"] == "running"


def test_what_is_wrong_with_a_request_is_said(venues):
    def post(body, **headers):
        return venues.problem("POST", "/api/websocket", body, **headers)

    broadcast = {"action": "broadcast", "channel": "nowhere:1", "data": 1}
    assert post(broadcast) == (422, "unknown_namespace")
    assert post(broadcast | {"channel": "venue:*"}) == (400, "invalid_name")
    assert post({"action": "broadcast", "data": 1})[0] == 400
    assert post(broadcast | {"channel": "venue:1", "data": "x" * (1 << 20)}) == (413, "message_too_large")
    assert post(b"{") == (400, "bad_request")
    assert post(b"[" * 101 + b"]" * 101) == (400, "bad_request")
    assert post(b"{}", content_type="text/plain") == (415, "unsupported_media_type")
    assert venues.problem("DELETE", "/api/websocket") == (405, "method_not_allowed")
    assert venues.problem("GET", "/api/nothing") == (404, "not_found")
    assert venues.ask("GET", "/api/venues/a%3Ab/updates").problem == (400, "invalid_name")


def test_the_admin_listener_answers_too(venues):
    answer = http("GET", f"{venues.admin_url}/api/websocket", x_api_key=ADMIN_KEY)
    assert answer.status == 200, answer
    assert http("GET", f"{venues.admin_url}/healthz").status == 200


def test_dashboards_and_changed_data_are_pushed(enterprise, connect, unique):
    client = connect(enterprise, token(unique), **NATIVE)
    widget = {"userId": unique, "widgetId": "w-1", "data": {"value": 12345678901234567890}}
    done = enterprise.answer("POST", "/api/ws/push/dashboard", widget, key=PUBLISH_KEY)
    assert done.keys() == {"message", "timestamp"} and is_now(done["timestamp"])
    told = client.expect("message", channel=f"user:{unique}", event="notification")["data"]
    assert is_now(told.pop("timestamp"))
    assert told == {"widgetId": "w-1", "data": {"value": 12345678901234567890}}
    change = {"tableId": "t", "rowId": "r", "action": "update", "data": {"a": None}}
    for body in change, {name: it for name, it in change.items() if name != "data"}:
        done = enterprise.answer("POST", "/api/ws/push/data-change", body | {"userId": unique}, key=PUBLISH_KEY)
        assert done.keys() == {"message", "timestamp"}
        told = client.expect("message", event="notification")["data"]
        assert is_now(told.pop("timestamp")) and told == body
    for path in "/api/ws/push/dashboard", "/api/ws/push/data-change":
        assert enterprise.problem("POST", path, {"widgetId": "w-1", "data": 1})[0] == 400


def test_a_broadcast_spares_who_is_excluded(enterprise, connect):
    ann, bob = (connect(enterprise, token(user), **NATIVE).subscribe("broadcast:all") for user in ("ann", "bob"))
    first, second = {"title": "1", "body": "B"}, {"title": "2", "body": "B"}
    done = enterprise.answer("POST", "/api/ws/broadcast", first | {"excludeUserIds": ["bob"]}, key=PUBLISH_KEY)
    assert done.keys() == {"message", "timestamp"}
    enterprise.answer("POST", "/api/ws/broadcast", second, key=PUBLISH_KEY)
    assert ann.expect_data(2) == [first, second]
    assert bob.expect_data(1) == [second]


def test_connections_are_listed_and_ended(enterprise, connect):
    clients = [connect(enterprise, token("eve"), **NATIVE) for _ in range(2)]

    def connections():
        answer = enterprise.answer("GET", "/api/ws/connections/eve")
        assert answer.keys() == {"userId", "connections", "timestamp"} and answer["userId"] == "eve"
        return answer["connections"]

    wait_until(lambda: len(connections()) == 2, "both are in the directory")
    for one in connections():
        assert {"id", "connectedAt", "lastActivity", "transport", "node"} <= one.keys()
        assert one["transport"] == "websocket" and is_now(one["connectedAt"])
    assert enterprise.problem("POST", "/api/ws/disconnect/eve", {}, key=PUBLISH_KEY) == (403, "forbidden")
    done = enterprise.answer("POST", "/api/ws/disconnect/eve", {"reason": "left the company"})
    assert done.keys() == {"message", "timestamp"}
    assert [client.close_code() for client in clients] == [4501, 4501]
    assert {client.socket.close_reason for client in clients} == {"left the company"}
    assert "left the company" in enterprise.log.read_text()
    enterprise.answer("POST", "/api/ws/disconnect/eve")
    wait_until(lambda: connections() == [], "they are gone from the directory")


def test_a_user_connects_by_the_url_that_a_service_got(enterprise):
    assert enterprise.problem("POST", "/api/ws/connect", {"userId": "ann"}, key=PUBLISH_KEY) == (403, "forbidden")
    assert enterprise.problem("POST", "/api/ws/connect", {})[0] == 400
    answer = enterprise.answer("POST", "/api/ws/connect", {"userId": "ann"})
    assert answer.keys() == {"wsUrl", "userId", "timestamp"}
    assert answer["userId"] == "ann" and is_now(answer["timestamp"])
    assert answer["wsUrl"].startswith(f"{enterprise.websocket_url}?ticket=fft_")
    with Client(answer["wsUrl"], **NATIVE) as client:
        client.expect("connected", user="ann")
    with Client(answer["wsUrl"], **NATIVE) as client:
        client.expect("error", code="token_expired")


def test_the_figures_of_the_application(enterprise, connect):
    for user in "ann", "ann", "bob":
        connect(enterprise, token(user), **NATIVE)

    def stats():
        return enterprise.answer("GET", "/api/ws/stats")

    wait_until(lambda: (stats()["totalConnections"], stats()["uniqueUsers"]) == (3, 2), "all are counted")
    stats = stats()
    assert stats.keys() == {"totalConnections", "uniqueUsers", "queueStats", "timestamp"}
    assert stats["queueStats"].keys() == {"pendingMessages", "deliveredMessages", "expiredMessages"}


def test_a_configuration_is_pushed_by_an_administrator_or_a_service(config_push, connect):
    client = connect(config_push).subscribe("screen:Auth")
    path, body = "/api/config/test-broadcast", {"message": "hi", "screen": "Auth"}
    for key in token("root", roles=["admin"]), PUBLISH_KEY:
        done = config_push.answer("POST", path, body, key=key)
        assert done.keys() == {"success", "timestamp"} and done["success"] is True
        client.expect("message", channel="screen:Auth", data={"message": "hi"})
    assert config_push.problem("POST", path, body, key=token("alice")) == (403, "forbidden")
    assert config_push.problem("POST", path, body, key=None) == (401, "unauthorized")
    stats = config_push.answer("GET", "/api/config/stats")
    assert stats.keys() == {"serverStatus", "connectedClients"}

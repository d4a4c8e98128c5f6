"""profiles/platform-admin.toml, by clients of both namespaces, and with the service of examples/."""

import json
import re

import pytest

from api import http
from application import Service, jwt_of
from harness import TOP

PROFILE = "platform-admin"
ADMIN, CLIENT = "/admin", "/client"
PLATFORM, FEATURE = {"name": "Web", "enabled": False}, {"key": "reports", "enabled": True}
PACKAGE = {"name": "Standard", "price": "9.50"}


@pytest.fixture(scope="module")
def cluster_profile(cluster_profile, profile_processes):
    """With the application's service."""
    packages = TOP / "examples" / PROFILE / "packages.json"
    profile_processes(Service(profile_processes.directory, PROFILE, cluster_profile.nats, "--packages", packages))
    return cluster_profile


@pytest.fixture
def come(application):
    """come(gateway, namespace, claim=…): a client of the namespace, connected."""

    def come(gateway, namespace, **claims):
        client = start(application, gateway, namespace, jwt_of(**claims))
        client.await_("connect")
        return client

    return come


@pytest.fixture
def admin(come):
    """admin(gateway): an administrator who was greeted."""

    def admin(gateway):
        client = come(gateway, ADMIN, userId="root", role="admin")
        client.greeting = client.event("admin_connected")
        return client

    return admin


@pytest.fixture
def customer(come):
    """customer(gateway, package): a client of a package, greeted, or told that no service greets it."""

    def customer(gateway, package="7", user="carl"):
        client = come(gateway, CLIENT, userId=user, package=package)
        assert client.await_("event")[0] in ("client_connected", "client_error")
        return client

    return customer


def start(application, gateway, namespace, jwt):
    return application("platform_admin_client.mjs", gateway.url, namespace, json.dumps({"token": jwt}))


def without_time(told):
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["timestamp"]), told
    return {name: value for name, value in told.items() if name != "timestamp"}


def test_s1_1_s1_3_admins(served, admin):
    for gateway in served.gateways:
        assert without_time(admin(gateway).greeting) == {"user": "root", "roles": ["admin"]}


@pytest.mark.parametrize("namespace", [ADMIN, CLIENT])
def test_s1_1_invalid_auth(served, application, namespace):
    assert start(application, served.first, namespace, "x").await_("connect_error")[1]["code"] == "unauthorized"


def test_s1_1_no_admin(served, application):
    client = start(application, served.first, ADMIN, jwt_of(userId="carl", role="client"))
    assert client.await_("connect_error")[1]["code"] == "forbidden"


def test_s1_2_admin_connect(served, admin):
    client = admin(served.first)
    client.emit("admin_connect")
    assert without_time(client.event("admin_connected")) == {"user": "root", "roles": ["admin"]}


def test_s1_2_questions_of_admins(cluster_profile, admin):
    client = admin(cluster_profile.last)
    cluster_profile.publish("platform:1", PLATFORM, "toggle")
    client.event("platform_update")
    client.emit("request_dashboard_update")
    assert client.event("dashboard_update")["packages"] == 2
    client.emit("request_activity_feed")
    newest = client.event("activity_feed")["activities"][0]
    assert (newest["channel"], newest["event"]) == ("platform:1", "toggle")
    client.emit("request_system_metrics")
    assert client.event("system_metrics")["uptime_seconds"] > 0


def test_s1_2_nobody_answers_admins(embedded_profile, admin):
    client = admin(embedded_profile.first)
    client.emit("request_dashboard_update")
    assert client.event("dashboard_error").keys() == {"message"}


def test_s1_2_entity_updates(served, admin, unique):
    """Administrators hear of all entities; of one that they subscribed to as well, once."""
    client = admin(served.first)
    assert client.ask("ask", "subscribe_entity_updates", {"entity_type": "platform", "entity_id": 1}) == {"ok": True}
    served.publish("platform:1", {"change": unique}, "update")
    served.publish("platform:1", {"change": "mark"}, "update")
    assert [client.event("platform_update")["data"]["change"] for _ in range(2)] == [unique, "mark"]


def test_s1_2_s1_11_announcement(served, admin, customer):
    speaker, other, client = admin(served.first), admin(served.last), customer(served.last)
    assert speaker.ask("ask", "broadcast_announcement", {"text": "Maintenance at noon"})["ok"]
    for hearer in (speaker, other, client):
        announcement = without_time(hearer.event("announcement"))
        assert announcement == {"announcement": {"text": "Maintenance at noon"}, "from": "root"}


def test_s1_11_clients_do_not_broadcast(served, admin, customer):
    client = customer(served.first)
    answer = client.ask("ask", "broadcast_announcement", {"text": "Hello"})
    assert answer.keys() == {"error", "code"}
    hearer = admin(served.last)
    served.publish("platform:1", PLATFORM)
    hearer.event("platform_update")
    assert not hearer.heard("announcement")


@pytest.mark.parametrize("type", ["update", "toggle"])
def test_s1_6_s1_10_platform_update(served, admin, customer, type):
    told = {admin(served.last): "platform_update", customer(served.last): "config_sync"}
    served.publish("platform:12", PLATFORM, type)
    for client, event in told.items():
        assert without_time(client.event(event)) == {"type": type, "platform_id": 12, "data": PLATFORM}


@pytest.mark.parametrize("type", ["update", "toggle"])
def test_s1_7_s1_10_feature_update(served, admin, customer, type):
    """One publish for administrators, and one for each package that has the feature."""
    hearers, stranger = [admin(served.last), customer(served.last, "7")], customer(served.first, "8")
    served.publish("feature:3", FEATURE, type)
    served.publish("package:7:feature:3", FEATURE, type)
    for client in hearers:
        assert without_time(client.event("feature_update")) == {"type": type, "feature_id": 3, "data": FEATURE}
    assert_heard_once(hearers, stranger, served, "feature_update")


def test_s1_10_s1_11_packages_of_others(served, connect):
    """By no protocol does a client hear of a package that its token does not name."""
    client = connect(served.first, jwt_of(userId="carl", package="7"))
    client.subscribe("package:7")
    assert client.refused("subscribe", channel="package:8") == "forbidden"
    for pattern in ("package:*", "package:8:feature:*", "package:*:feature:*", "package:**"):
        assert client.refused("subscribe", pattern=pattern) == "forbidden", pattern


def test_s1_8_s1_10_package_update(served, admin, customer):
    hearers, stranger = [admin(served.last), customer(served.last, "7")], customer(served.first, "8")
    served.publish("package:7", PACKAGE)
    for client in hearers:
        assert without_time(client.event("package_update")) == {"type": "update", "package_id": 7, "data": PACKAGE}
    assert_heard_once(hearers, stranger, served, "package_update")


def assert_heard_once(hearers, stranger, served, event):
    """No second one came, and none to the stranger."""
    served.publish("platform:status", {"mark": True})
    for client in (*hearers, stranger):
        client.event("system_status")
        assert not client.heard(event), list(client.passed)


def test_s1_5_s1_9_config_sync(served, admin, customer):
    """For the clients of a package, and for all; administrators have nothing to reload."""
    inside, other, administrator = customer(served.first, "7"), customer(served.last, "8"), admin(served.first)
    served.publish("package:7:clients", {"reason": "prices"}, "config_sync")
    served.publish("client:all", {"reason": "release"}, "config_sync")
    # By different channels, so in any order.
    assert {inside.event("config_sync")["reason"] for _ in range(2)} == {"prices", "release"}
    assert other.event("config_sync") == {"reason": "release"}
    assert_heard_once([other], administrator, served, "config_sync")


def test_s1_9_notifications(served, admin, customer):
    administrator, client, other = admin(served.last), customer(served.last), customer(served.first, user="else")
    served.publish("admin:announcements", {"text": "Disk is full"})
    assert administrator.event("admin_notification") == {"text": "Disk is full"}
    served.publish("user:carl", {"text": "Your invoice"}, "client_notification")
    assert client.event("client_notification") == {"text": "Your invoice"}
    assert_heard_once([administrator], other, served, "client_notification")


def test_s1_9_system_status(served, admin, customer):
    hearers = [admin(served.last), customer(served.first)]
    served.publish("platform:status", {"health": "good"})
    assert [client.event("system_status") for client in hearers] == [{"health": "good"}] * 2


def test_s1_5_features_of_the_package(cluster_profile, come):
    features = {"7": ["reports"], "8": ["reports", "export"]}
    for package, expected in features.items():
        client = come(cluster_profile.last, CLIENT, userId="carl", package=package)
        assert client.event("client_connected") == {"features": expected}
        client.emit("client_connect", {"package": "8"})
        assert client.event("client_connected") == {"features": expected}, "the token's package counts"


def test_s1_5_without_features(cluster_profile, embedded_profile, come):
    client = come(cluster_profile.first, CLIENT, userId="carl", package="99")
    assert client.event("client_error") == {"message": "no such package"}
    client = come(embedded_profile.first, CLIENT, userId="carl", package="7")
    assert client.event("client_error").keys() == {"message"}


def test_s1_4_questions_of_clients(cluster_profile, customer):
    client = customer(cluster_profile.first)
    client.emit("config_check")
    assert client.event("config_sync") == {"name": "Standard", "features": [{"id": 3, "key": "reports"}]}
    for feature, enabled in {"reports": True, "export": False}.items():
        client.emit("feature_check", {"feature": feature})
        assert client.event("feature_status") == {"feature": feature, "enabled": enabled}
    assert client.ask("ask", "report_metrics", {"screens": 3}) == {"ok": True}


def test_s1_4_heartbeat(served, come):
    client = come(served.first, CLIENT, userId="carl")
    client.emit("heartbeat")
    assert without_time(client.event("heartbeat_ack")) == {}


def test_s1_12_throttled(served, customer):
    """Two heartbeats a second: of many at once, some are refused."""
    client = customer(served.first)
    answers = [client.ask("ask", "heartbeat") for _ in range(5)]
    assert any(answer.get("code") == "overloaded" for answer in answers), answers


def test_s1_15_probe(served):
    """A request without Engine.IO's parameters is answered at once, as Socket.IO's server answers."""
    answer = http("GET", f"{served.first.url}/socket.io/")
    assert (answer.status, answer.json) == (400, {"code": 0, "message": "Transport unknown"})

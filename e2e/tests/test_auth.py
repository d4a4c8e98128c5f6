"""Who may connect, by which way the token may come, and how long it is good for."""

import time

import jwt
import pytest
from websockets.exceptions import InvalidStatus

from client import Client, open_socket
from harness import secret, token


def signed(claims, key=None, algorithm="HS256"):
    return jwt.encode(claims, key or secret(), algorithm=algorithm)


def soon():
    return int(time.time()) + 60


def bad_tokens():
    alice = {"sub": "alice", "exp": soon()}
    head, body, signature = token("alice").split(".")
    return {
        "forged": signed(alice, key="another secret of a good length, which nobody knows here"),
        "altered": ".".join([head, token("admin").split(".")[1], signature]),
        "unsigned": jwt.encode(alice, None, algorithm="none"),
        "stripped": f"{head}.{body}.",
        "wrong algorithm": signed(alice, algorithm="HS512"),
        "not yet valid": signed(alice | {"nbf": soon()}),
        "nbf as text": signed(alice | {"nbf": "1"}),
        "exp as text": signed(alice | {"exp": str(soon())}),
        "without exp": signed({"sub": "alice"}),
        "without user": signed({"exp": soon()}),
        "user is a list": signed(alice | {"sub": ["alice"]}),
        "user with a line break": signed(alice | {"sub": "al\nice"}),
        "no token": "nonsense",
        "empty": "",
    }


@pytest.mark.parametrize("kind", bad_tokens())
def test_a_bad_token_is_refused(embedded_site, kind):
    with Client(embedded_site.first.websocket_url) as client:
        assert client.refused("connect", token=bad_tokens()[kind]) == "unauthorized"
        assert client.close_code() == 4500


def test_an_expired_token_is_told_from_a_bad_one(embedded_site):
    with Client(embedded_site.first.websocket_url) as client:
        assert client.refused("connect", token=token("alice", exp=soon() - 120)) == "token_expired"
        assert client.close_code() == 4003


def test_without_token_nobody_connects(embedded_site):
    with Client(embedded_site.first.websocket_url) as client:
        assert client.refused("connect") == "unauthorized"
        assert client.close_code() == 4500


def test_anonymous_where_it_is_allowed(start_gateway):
    gateway = start_gateway(settings={"auth.anonymous": "true"})
    with Client(gateway.websocket_url, None) as client:
        assert "user" not in client.connected and client.connected["channels"] == []
        client.subscribe("venue:1")
        assert client.refused("subscribe", channel="chat:1") == "forbidden"


def test_what_connected_says(embedded_site, connect):
    expires = soon()
    connected = connect(embedded_site.first, token("alice", exp=expires, role="admin")).connected
    assert len(connected.pop("connection")) == 32
    connected.pop("id")
    assert connected == {
        "type": "connected",
        "user": "alice",
        "expires": expires * 1000,
        "channels": ["user:alice", "role:admin"],
        "ping": 25000,
        "max_message": 65536,
        "version": 1,
    }


def test_the_user_may_stand_in_userid(embedded_site, connect):
    jwt = signed({"userId": "carol", "exp": soon()})
    assert connect(embedded_site.first, jwt).connected["user"] == "carol"


def header(jwt):
    return {"additional_headers": {"Authorization": f"Bearer {jwt}"}}


def offer(jwt):
    return {"subprotocols": ["fanfare.v1", f"fanfare.token.{jwt}"]}


@pytest.mark.parametrize("way", [header, offer])
def test_a_token_of_the_upgrade_connects_at_once(embedded_site, way):
    with Client(embedded_site.first.websocket_url, **way(token("alice"))) as client:
        connected = client.expect("connected", user="alice")
        assert "id" not in connected
        assert client.socket.subprotocol == ("fanfare.v1" if way is offer else None)
        assert client.refused("connect", token=token("alice")) == "already_connected"
        client.ask("ping")


@pytest.mark.parametrize("way", [header, offer])
def test_a_bad_token_of_the_upgrade_is_refused(embedded_site, way):
    with Client(embedded_site.first.websocket_url, **way("nonsense")) as client:
        client.expect("error", code="unauthorized")
        assert client.close_code() == 4500


def test_the_header_counts_before_the_sub_protocol(embedded_site):
    options = header(token("alice")) | offer(token("bob"))
    with Client(embedded_site.first.websocket_url, **options) as client:
        client.expect("connected", user="alice")


def test_a_token_in_the_query_is_not_looked_at(embedded_site):
    with Client(f"{embedded_site.first.websocket_url}?token={token('alice')}") as client:
        assert client.refused("subscribe", channel="venue:1") == "not_connected"


def test_a_token_in_the_query_where_it_is_allowed(start_gateway):
    gateway = start_gateway(settings={"http.query_token": "true"})
    with Client(f"{gateway.websocket_url}?token={token('alice')}") as client:
        client.expect("connected", user="alice")


def test_who_does_not_connect_in_time_is_closed(start_gateway):
    gateway = start_gateway(settings={"limits.connect_timeout": "300ms"})
    start = time.monotonic()
    with Client(gateway.websocket_url) as idle, Client(gateway.websocket_url, token("alice")) as alice:
        assert idle.close_code() == 4002
        assert 0.25 < time.monotonic() - start < 3
        alice.ask("ping")


def test_a_token_expires_after_its_warning(start_gateway):
    gateway = start_gateway(settings={"auth.expiry_warning": "1500ms"})
    with Client(gateway.websocket_url, token("alice", exp=int(time.time()) + 3)) as client:
        assert 0 < client.expect("expiring")["in"] <= 1500
        client.expect("error", code="token_expired")
        assert client.close_code() == 4003
        assert client.connected["expires"] <= time.time() * 1000 < client.connected["expires"] + 1000


def test_a_fresh_token_keeps_the_connection(start_gateway):
    gateway = start_gateway(settings={"auth.expiry_warning": "1500ms"})
    with Client(gateway.websocket_url, token("alice", exp=int(time.time()) + 2)) as client:
        client.subscribe("venue:1")
        client.expect("expiring")
        expires = soon()
        assert client.ask("refresh", token=token("alice", exp=expires))["expires"] == expires * 1000
        with pytest.raises(TimeoutError):
            client.next(deadline=2.5)
        client.ask("ping")


def test_a_token_that_does_not_refresh_changes_nothing(embedded_site, connect):
    client = connect(embedded_site.first)
    assert client.refused("refresh", token=token("bob")) == "unauthorized"
    assert client.refused("refresh", token="nonsense") == "unauthorized"
    assert client.refused("refresh", token=token("alice", exp=soon() - 120)) == "token_expired"
    client.subscribe("venue:1")


def test_a_fresh_token_ends_what_it_does_not_allow(site, connect, unique):
    client = connect(site.first, token("alice", role="staff")).subscribe(f"chat:{unique}")
    client.ask("subscribe", pattern=f"chat:{unique}:*")
    client.ask("refresh", token=token("alice"))
    ended = [client.expect("unsubscribed") for _ in range(2)]
    assert {"type": "unsubscribed", "channel": "role:staff"} in ended
    assert {"type": "unsubscribed", "pattern": f"chat:{unique}:*"} in ended
    site.api.publish(channel=f"chat:{unique}:1", data=1)
    site.api.publish(channel=f"chat:{unique}", data=2)
    client.expect("message", data=2)


def test_pages_of_other_origins_may_not_connect(start_gateway):
    gateway = start_gateway(settings={"http.allowed_origins": "https://app.example"})
    with open_socket(gateway.websocket_url, origin="https://app.example"):
        pass
    for origin in ("https://evil.example", "https://app.example.evil.example", "null", gateway.url):
        with pytest.raises(InvalidStatus) as refused:
            open_socket(gateway.websocket_url, origin=origin)
        assert refused.value.response.status_code == 403


def test_by_default_only_pages_of_the_same_host_may_connect(embedded_site):
    gateway = embedded_site.first
    with open_socket(gateway.websocket_url, origin=gateway.url):
        pass
    with pytest.raises(InvalidStatus) as refused:
        open_socket(gateway.websocket_url, origin="https://app.example")
    assert refused.value.response.status_code == 403

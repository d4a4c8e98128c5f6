"""`connection:ID`: the room of one connection, `io.to(socket.id)` of Socket.IO."""

import pytest
import socketio

from api import Api
from harness import Gateway, NatsServer, RedisServer, token
from socketio_client import Node

PROFILE = """
[config.namespaces.connection]
publish = ["authenticated"]

[config.namespaces.all]

[[socketio]]
paths = ["/socket.io"]
namespaces = { "/" = "app" }

[faces.app]
on_connect = [{ join = "connection:{{ connection }}" }, { join = "all:mark" }, { emit = "ready" }]
auth = { token = ["auth.token"] }

[faces.app.verbs.whisper]
do = [{ publish = "connection:{{ data.to }}", event = "whispered", data = "{{ data.text }}" }]

[faces.app.verbs.listen]
do = [{ join = "connection:{{ data }}" }]
"""


@pytest.fixture(scope="module")
def node():
    with Node() as node:
        yield node


@pytest.fixture(scope="module")
def cluster(profile_processes):
    """Two gateways that serve PROFILE."""
    start, file = profile_processes, profile_processes.directory / "profile.toml"
    file.write_text(PROFILE)
    nats, redis = start(NatsServer(start.directory)), start(RedisServer(start.directory))
    gateways = [Gateway(start.directory, name, nats, redis) for name in ("gateway-1", "gateway-2")]
    for gateway in gateways:
        gateway.flags = ["--profile", file]
    return [start(gateway) for gateway in gateways]


def come(node, gateway, user):
    client = node.open(gateway, auth={"token": token(user)}, transports=["websocket"]).connected()
    client.expect("event", "ready")
    return client


def test_what_is_for_one_connection_reaches_it_alone(site, node, connect):
    """By the built-in profile a client subscribes itself; a tab of the same user hears nothing."""
    clients = []
    for gateway in (site.first, site.last):
        client = node.open(gateway, auth={"token": token("alice")}, transports=["websocket"]).connected()
        clients.append(client.subscribe(f"connection:{client.id}", "venue:1"))
    here, there = clients
    assert here.ask("subscribe", f"connection:{there.id}")["code"] == "forbidden"
    assert here.ask("subscribe", "connection:*")["code"] == "forbidden"
    assert here.ask("publish", {"channel": f"connection:{there.id}", "data": 1})["code"] == "unknown_namespace"
    site.api.publish(channel=f"connection:{there.id}", event="direct", data="for one")
    there.expect("event", "direct", "for one")
    native = connect(site.last, token("alice"))
    assert native.refused("subscribe", channel=f"connection:{there.id}") == "forbidden"
    site.api.publish(channel="venue:1", event="mark", data=1)
    for client in clients:
        client.expect("event", "mark", 1)
        client.tell("disconnect")


def test_a_profile_joins_it_on_connect(cluster, node):
    first, last = cluster
    alice, bob = come(node, first, "alice"), come(node, last, "bob")
    for client, gateway in ((alice, last), (bob, first)):
        Api(gateway).publish(channel=f"connection:{client.id}", event="direct", data=client.id)
        client.expect("event", "direct", client.id)
    assert alice.ask("whisper", {"to": bob.id, "text": "psst"})["ok"] is True
    bob.expect("event", "whispered", "psst")
    assert alice.ask("listen", bob.id)["code"] == "forbidden"
    Api(first).publish(channel="all:mark", event="mark", data=1)
    for client in (alice, bob):
        client.expect("event", "mark", 1)
        client.tell("disconnect")


def test_python_socketio_is_reached_as_well(cluster):
    first, last = cluster
    with socketio.SimpleClient() as client:
        client.connect(last.url, auth={"token": token("carol")}, wait_timeout=5)
        assert client.receive(timeout=5) == ["ready"]
        own = client.client.get_sid()
        Api(first).publish(channel=f"connection:{own}", event="direct", data={"n": 1})
        assert client.receive(timeout=5) == ["direct", {"n": 1}]

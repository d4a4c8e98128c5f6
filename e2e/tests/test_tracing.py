"""One trace for each message: from a service's publish through NATS and the gateways to the sockets."""

import dataclasses
import json
import secrets
import types

import pytest
import socketio

from bus import Nats
from client import Client
from collector import Collector
from conftest import cluster_of, processes_in
from harness import token

USER = "trace-user"
CHANNELS = {"venue": "venue:trace-channel", "history": "room:trace-channel"}


@dataclasses.dataclass
class Service:
    """A service's own span, whose trace context it sends along with a message."""

    trace: str = dataclasses.field(default_factory=lambda: secrets.token_hex(16))
    span: str = dataclasses.field(default_factory=lambda: secrets.token_hex(8))
    sampled: bool = True

    @property
    def traceparent(self):
        return f"00-{self.trace}-{self.span}-{self.sampled:02x}"


def on_the_bus(site, bus, service, channel):
    subject = "fanfare.ch." + channel.replace(":", ".")
    headers = {"Fanfare_Event": "news", "Nats_Msg_Id": service.span, "traceparent": service.traceparent}
    bus.publish(subject, b'"secret-body"', **headers)


def by_the_api_on_the_bus(site, bus, service, channel):
    command = {"channel": channel, "event": "news", "data": "secret-body"}
    answer = bus.request("fanfare.api.publish", json.dumps(command).encode(), traceparent=service.traceparent)
    assert json.loads(answer)["channels"] == [channel]


def over_http(site, bus, service, channel):
    command = {"channel": channel, "event": "news", "data": "secret-body"}
    assert site.api.try_publish(command, traceparent=service.traceparent).status == 200


WAYS = [on_the_bus, by_the_api_on_the_bus, over_http]


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """Two gateways, a native client on each, one of Socket.IO on the second, and messages on all ways: each was
    published by its service and has come to all clients. By way and channel, in `services`."""
    with processes_in(tmp_path_factory.mktemp("traced")) as start, Collector() as collector:
        site = cluster_of(2, start, {"telemetry.otlp_endpoint": collector.url})
        with (
            Nats(site.nats.url) as bus,
            Client(site.first.websocket_url, token(USER)) as one,
            Client(site.last.websocket_url, token(USER)) as two,
            socketio.SimpleClient() as three,
        ):
            three.connect(site.last.url, auth={"token": token(USER)}, transports=["websocket"])
            services = {}
            for kind, channel in CHANNELS.items():
                one.subscribe(channel)
                two.subscribe(channel)
                assert three.call("subscribe", channel, timeout=5)["ok"]
                for way in WAYS:
                    services[way, kind] = publish(way, site, bus, Service(), channel, (one, two, three))
            unsampled = publish(over_http, site, bus, Service(sampled=False), channel, (one, two, three))
            yield types.SimpleNamespace(collector=collector, services=services, unsampled=unsampled)


def publish(way, site, bus, service, channel, clients):
    way(site, bus, service, channel)
    *native, socket = clients
    for client in native:
        client.expect("message", channel=channel, event="news", data="secret-body")
    assert socket.receive(timeout=5) == ["news", "secret-body"]
    return service


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("way", WAYS)
def test_a_message_is_one_trace_from_its_service_to_the_sockets(traced, way, kind):
    service = traced.services[way, kind]
    has_publish = way is not on_the_bus
    spans = traced.collector.trace(service.trace, 2 + has_publish)
    publishes = [span for span in spans if span.kind == "producer"]
    deliveries = [span for span in spans if span.kind == "consumer"]
    assert (len(publishes), len(deliveries), len(spans)) == (has_publish, 2, 2 + has_publish)
    template = CHANNELS[kind].partition(":")[0] + ":{}"

    # What the service put on the bus by itself, a gateway sees first when it delivers.
    parent = service.span
    for publish in publishes:
        assert (publish.name, publish.parent, publish.links) == (f"publish {template}", service.span, [])
        assert publish.attributes["messaging.operation.type"] == "send"
        assert publish.attributes["messaging.message.body.size"] == len('"secret-body"')
        assert publish.attributes["fanfare.source"] == {over_http: "http", by_the_api_on_the_bus: "nats"}[way]
        parent = publish.id

    for deliver in deliveries:
        assert (deliver.name, deliver.parent) == (f"deliver {template}", parent)
        assert deliver.links == [(service.trace, parent)]
        assert deliver.attributes["messaging.operation.type"] == "process"
        assert 0 <= deliver.attributes["fanfare.message.age_ms"] < 10_000
        assert deliver.started < deliver.ended
        assert all(publish.started <= deliver.started for publish in publishes)
    assert sorted(span.attributes["fanfare.fanout"] for span in deliveries) == [1, 2]
    assert len({span.resource["service.instance.id"] for span in deliveries}) == 2, "one for each gateway"

    assert len({span.attributes["messaging.message.id"] for span in spans}) == 1
    for span in spans:
        assert span.resource["service.name"] == "fanfare"
        assert span.attributes["messaging.system"] == "nats"
        assert span.attributes["messaging.destination.template"] == template
        assert not span.failed


def test_what_is_not_to_be_sampled_is_not_exported(traced):
    # Exported before, in order: what came after it was published is here by now.
    for service in traced.services.values():
        traced.collector.trace(service.trace, 2)
    assert traced.unsampled.trace not in {span.trace for span in traced.collector.spans}


def test_no_span_names_a_channel_a_user_an_event_or_what_was_said(traced):
    texts = [text for span in traced.collector.spans for text in span.texts]
    assert texts
    foreign = ("trace-channel", USER, "news", "secret-body")
    assert [text for text in texts if any(it in text for it in foreign)] == []

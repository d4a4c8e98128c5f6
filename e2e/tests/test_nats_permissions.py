"""The permissions that docs/nats.md gives are enough for gateways, and services can do no more than it says."""

import asyncio
import contextlib
import re

import nats
import pytest

from client import Client
from harness import TOP, Gateway, NatsServer, RedisServer, token, wait_until


class GuardedNats(NatsServer):
    """As the documentation has it."""

    def command(self):
        text = (TOP / "docs" / "nats.md").read_text(encoding="utf-8")
        documented = re.search(r"```hocon\n(.*?)```", text, re.DOTALL)[1]
        configuration = self.directory / "nats.conf"
        configuration.write_text(documented.replace('"$GATEWAY_PASSWORD"', '"gate"').replace('"$SERVICE_PASSWORD"', '"serve"'))
        return [*super().command(), "-c", configuration]


@pytest.fixture
def guarded(processes, tmp_path):
    servers = processes(GuardedNats(tmp_path)), processes(RedisServer(tmp_path))
    settings = {"nats.user": "gateway", "nats.password": "gate"}
    names = ("gateway-1", "gateway-2")
    return servers[0], [processes(Gateway(tmp_path, name, *servers, settings)) for name in names]


def as_service(server, act):
    """Runs `act(client)`, and returns what NATS refused meanwhile."""
    refused = []

    async def run():
        async def note(error):
            refused.append(str(error))

        client = await nats.connect(server.url, user="service", password="serve", error_cb=note)
        with contextlib.suppress(nats.errors.TimeoutError, nats.errors.NoRespondersError):
            await act(client)
        await client.flush()
        await client.close()

    asyncio.run(run())
    return refused


def test_gateways_have_what_they_need(guarded, unique):
    server, (first, second) = guarded
    with Client(first.websocket_url) as alice, Client(second.websocket_url) as bob:
        alice.ask("connect", token=token("alice"))
        bob.ask("connect", token=token(f"bob-{unique}"), acks="client")
        # Without history, with it, with presence, and a user's queue.
        for channel in (f"venue:{unique}", f"room:{unique}"):
            bob.ask("subscribe", channel=channel)
            assert as_service(server, lambda it, name=channel: it.publish(f"fanfare.ch.{name.replace(':', '.')}", b'"hi"')) == []
            assert bob.expect("message", channel=channel)["data"] == "hi"
        message = f'{{"users":["bob-{unique}"],"data":1}}'.encode()
        assert as_service(server, lambda it: it.request("fanfare.api.publish", message, timeout=3)) == []
        queued = bob.expect("message", channel=f"user:bob-{unique}")
        bob.ask("ack", position=queued["position"])


def test_services_may_do_no_more(guarded):
    server, _ = guarded

    async def pry(client):
        await client.publish("fanfare.live.venue.1", b"1")
        await client.publish("$JS.API.STREAM.DELETE.fanfare=room", b"")
        await client.request("fanfare.api.stats", b"", timeout=0.5)

    refused = as_service(server, pry)
    for subject in ("fanfare.live.venue.1", "$JS.API.STREAM.DELETE.fanfare=room", "fanfare.api.stats"):
        wait_until(lambda name=subject: any(name.lower() in error.lower() for error in refused), f"{subject} is refused")

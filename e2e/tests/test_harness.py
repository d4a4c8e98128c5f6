"""The harness itself: each fixture starts, answers another's client, and survives what tests do to it."""

import asyncio
import threading

import nats
import pytest
from websockets.sync.server import serve

from harness import http_status, node, wait_until


def test_nats_server_keeps_its_streams_over_a_kill(nats_server):
    async def publish():
        client = await nats.connect(nats_server.url)
        await client.jetstream().add_stream(name="kept", subjects=["kept.*"])
        await client.jetstream().publish("kept.one", b"1")
        await client.close()

    async def count():
        client = await nats.connect(nats_server.url)
        info = await client.jetstream().stream_info("kept")
        await client.close()
        return info.state.messages

    asyncio.run(publish())
    nats_server.kill()
    nats_server.start()
    assert asyncio.run(count()) == 1


def test_nats_server_speaks_with_the_node_client(nats_server):
    assert node("nats_roundtrip.mjs", nats_server.url, "hello") == "hello\n"


def test_redis_server_keeps_its_data_over_a_restart(redis_server):
    assert redis_server.ask("SET kept 1") == "+OK"
    assert redis_server.stop() == 0
    redis_server.start()
    assert redis_server.ask("EXISTS kept") == ":1"


def test_node_ws_reaches_a_websocket(processes):
    with serve(lambda socket: socket.send(socket.recv()), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.socket.getsockname()[1]
        assert node("ws_roundtrip.mjs", f"ws://127.0.0.1:{port}/", "hello") == "hello\n"
        server.shutdown()


def test_wait_until_says_what_it_waited_for():
    with pytest.raises(AssertionError, match="the moon is blue"):
        wait_until(lambda: False, "the moon is blue", deadline=0.05)


def test_gateway_is_ready_and_ends_when_asked(gateway):
    assert http_status(f"{gateway.admin_url}/readyz") == 200
    assert gateway.stop() == 0


def test_cluster_is_ready(start_cluster):
    site = start_cluster(3)
    assert [http_status(f"{gateway.admin_url}/readyz") for gateway in site.gateways] == [200, 200, 200]

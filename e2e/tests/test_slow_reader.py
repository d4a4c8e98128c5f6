"""Who does not read is closed, and costs the others nothing."""

import pytest
from websockets.exceptions import ConnectionClosed

from client import Client
from harness import token

COUNT = 300
BODY = "x" * 50_000


@pytest.mark.parametrize("kind", ["embedded", "cluster"])
def test_a_slow_reader_is_closed_and_others_get_everything(kind, start_gateway, start_cluster):
    settings = {"limits.queue_bytes": "256KiB"}
    if kind == "embedded":
        first = last = start_gateway(settings=settings)
    else:
        first, last = start_cluster(2, settings).gateways
    jwt = token("alice")
    with (
        Client(last.websocket_url, jwt) as healthy,
        Client(last.websocket_url, jwt, max_queue=1) as slow,
        Client(first.websocket_url, jwt) as publisher,
    ):
        healthy.subscribe("chat:1")
        slow.subscribe("chat:1")
        for number in range(COUNT):
            publisher.ask("publish", channel="chat:1", data=[number, BODY])
            assert healthy.expect("message")["data"][0] == number
        read, code = read_to_the_end(slow)
        assert read == list(range(len(read))) and len(read) < COUNT
        assert code in (4000, None)
        healthy.ask("ping")


def read_to_the_end(client):
    numbers = []
    try:
        while True:
            numbers.append(client.expect("message")["data"][0])
    except ConnectionClosed as closed:
        return numbers, closed.rcvd.code if closed.rcvd else None

"""The link below the protocol: TLS, time limits, heartbeats, and how many may come."""

import contextlib
import socket
import ssl
import subprocess
import time

import pytest
from websockets.exceptions import InvalidStatus

from api import http
from client import Client, open_socket
from harness import Gateway, token

JWT = token("alice")
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def open_tcp(gateway):
    host, port = gateway.public.split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def read_to_the_end(connection):
    return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_tls(processes, tmp_path, compression):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*make, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    settings = {"http.tls_cert": certificate, "http.tls_key": key, "websocket.compression": "true"}
    gateway = processes(Gateway(tmp_path, settings=settings))
    trust = ssl.create_default_context(cafile=certificate)
    with Client(gateway.websocket_url.replace("ws:", "wss:"), JWT, ssl=trust, compression=compression) as client:
        assert bool(client.socket.protocol.extensions) == bool(compression)
        client.subscribe("chat:1")
        ids = [client.start("publish", channel="chat:1", data=[number, "x" * 20_000]) for number in range(100)]
        assert {client.answer_to(id)["type"] for id in ids} == {"published"}
        assert [number for number, _ in client.expect_data(100)] == list(range(100))


def test_who_answers_no_ping_is_closed(start_gateway):
    gateway = start_gateway(settings={"heartbeat.interval": "300ms", "heartbeat.timeout": "300ms"})
    with Client(gateway.websocket_url, JWT) as healthy, open_tcp(gateway) as dumb:
        dumb.sendall(UPGRADE)
        received = read_to_the_end(dumb)
        assert b"\x89\x00" in received, "a ping"
        assert (4001).to_bytes(2) + b"no answer to ping" in received
        with pytest.raises(TimeoutError):
            healthy.next(deadline=1)
        healthy.ask("ping")


def test_who_sends_no_headers_in_time_is_closed(start_gateway):
    gateway = start_gateway(settings={"http.header_timeout": "300ms"})
    with open_tcp(gateway) as silent, open_tcp(gateway) as slow:
        slow.sendall(b"GET /ws HTTP/1.1\r\nHost: lo")
        start = time.monotonic()
        for connection in (silent, slow):
            read_to_the_end(connection)
        assert time.monotonic() - start < 3


def test_headers_are_bounded(embedded_site):
    with open_tcp(embedded_site.first) as greedy:
        greedy.sendall(b"GET /ws HTTP/1.1\r\nX: " + b"x" * 20_000)
        with contextlib.suppress(ConnectionResetError):
            answer = read_to_the_end(greedy)
            # Where the end overtakes the answer, there is none.
            assert not answer or b" 431 " in answer.splitlines()[0]


def test_no_more_connections_than_configured(start_gateway):
    gateway = start_gateway(settings={"http.max_connections": 2})
    with Client(gateway.websocket_url, JWT) as first, Client(gateway.websocket_url, JWT):
        with pytest.raises(InvalidStatus) as refused:
            open_socket(gateway.websocket_url)
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["retry-after"]
        assert http("GET", f"{gateway.url}/v1/stats", x_api_key="test-admin-key").status == 200
        first.ask("ping")

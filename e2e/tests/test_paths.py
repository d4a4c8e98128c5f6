"""Where clients connect."""

import pytest

from client import Client
from harness import token
from socketio_client import Node


def test_socketio_and_the_native_protocol_at_one_path(start_gateway):
    gateway = start_gateway(settings={"http.paths": "/ws,/socket.io"})
    with Client(f"ws://{gateway.public}/socket.io", token("alice")) as native, Node() as node:
        client = node.open(gateway, auth={"token": token("bob")}).connected()
        native.subscribe("chat:1")
        client.done("publish", {"channel": "chat:1", "data": "Hello"})
        assert native.expect("message")["data"] == "Hello"


@pytest.mark.parametrize("path", ["/v1/sse", "/{name}"])
def test_a_path_that_cannot_be_is_a_mistake(start_gateway, tmp_path, path):
    with pytest.raises(AssertionError, match="78"):
        start_gateway(settings={"http.paths": path})
    log = (tmp_path / "gateway" / "log").read_text()
    assert path in log and "panic" not in log

"""Who is let in by a face, and what the others are told."""

import contextlib
import json

import pytest
import websocket

from api import Api
from harness import token

PROFILE = """
[config.namespaces.user]
queue = { size = 10, ttl = "1h" }

[[socketio]]
paths = ["/socket.io"]
namespaces = { "/" = "admins", "/worded" = "worded" }

[faces.admins]
on_connect = [{ emit = "hello", data = { room = "{{ handshake.query.room }}", from = "{{ handshake.auth.from }}" } }]

[faces.admins.auth]
token = ["auth.token"]
require = ["role:admin"]

[faces.worded.auth]
token = ["auth.token"]
require = ["role:nobody"]
refusal = { message = "not you", data = { why = "{{ error.code }}" } }
"""


@pytest.fixture
def gateway(start_gateway, tmp_path):
    file = tmp_path / "profile.toml"
    file.write_text(PROFILE)
    gateway = start_gateway()
    gateway.stop()
    gateway.flags = ["--profile", file]
    return gateway.start()


@contextlib.contextmanager
def socket(gateway):
    url = gateway.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket&room=7"
    with contextlib.closing(websocket.create_connection(url, timeout=5)) as socket:
        assert socket.recv().startswith("0{")
        yield socket


def test_who_is_not_let_in_gets_nothing_that_waits(gateway):
    for number in range(3):
        Api(gateway).publish(users=["bob"], data=number)
    with socket(gateway) as bob:
        bob.send("40" + json.dumps({"token": token("bob")}))
        kind, refusal = (refused := bob.recv())[:2], json.loads(refused[2:])
        assert (kind, refusal["data"]) == ("44", {"code": "forbidden"})
        # The next thing that is said answers this, and not what waited.
        bob.send("40/worded," + json.dumps({"token": token("bob")}))
        assert bob.recv() == '44/worded,{"message":"not you","data":{"why":"forbidden"}}'
    assert Api(gateway).get("/v1/users/bob/queue")["pending"]
    assert not Api(gateway).get("/v1/connections?user=bob")["connections"]


def test_who_is_let_in_gets_it_and_is_known_by_the_handshake(gateway):
    Api(gateway).publish(users=["ann"], data="waited")
    with socket(gateway) as ann:
        ann.send("40" + json.dumps({"token": token("ann", roles=["admin"]), "from": "here"}))
        assert ann.recv().startswith('40{"sid":')
        told = {ann.recv() for _ in range(2)}
        assert told == {'42["message","waited"]', '42["hello",{"room":"7","from":"here"}]'}

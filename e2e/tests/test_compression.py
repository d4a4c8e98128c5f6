"""permessage-deflate: the same messages in fewer bytes, compressed once, and inflated within bounds."""

import json
import os
import pathlib
import re
import socket
import threading
import zlib

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from client import Client
from harness import node, token
from test_metrics import scrape, value

LIMIT = 65536
LONG = {"items": [{"name": f"item {number}", "open": True} for number in range(100)]}
NO_CONTEXT = "server_no_context_takeover; client_no_context_takeover"


def compressed_so_far(gateway):
    families = scrape(gateway)
    names = ("compressed_messages", "compression_before_bytes", "compression_after_bytes")
    return [int(value(families, f"fanfare_{name}_total")) for name in names]


def test_who_compresses_and_who_does_not_get_the_same(compressing, connect, chat):
    clients = [connect(compressing, compression=it).subscribe(chat) for it in ("deflate", None, "deflate", "deflate")]
    negotiated = [bool(client.socket.protocol.extensions) for client in clients]
    assert negotiated == [True, False, True, True]
    messages, before, after = compressed_so_far(compressing)
    clients[0].ask("publish", channel=chat, data=LONG)
    clients[1].ask("publish", channel=chat, data=LONG | {"from": "another"})
    clients[2].ask("publish", channel=chat, data="short")
    expected = [LONG, LONG | {"from": "another"}, "short"]
    assert [client.expect_data(3) for client in clients] == [expected] * 4
    now = compressed_so_far(compressing)
    assert now[0] - messages == 2, "each long message once, for three subscribers"
    assert now[1] - before > 2 * len(json.dumps(LONG, separators=(",", ":")))
    assert (now[2] - after) * 4 < now[1] - before


def test_node_speaks_it_too(compressing, connect, chat):
    python = connect(compressing, compression="deflate").subscribe(chat)
    printed = node("ws_compressed.mjs", compressing.websocket_url, token("bob"), chat, json.dumps(LONG))
    answer = json.loads(printed)
    assert answer["extensions"] == "permessage-deflate"
    assert answer["frame"]["data"] == LONG
    assert python.expect("message")["data"] == LONG


def test_binary_data_and_fragments_with_pings_between_them(compressing, connect, chat):
    client = connect(compressing, compression="deflate").subscribe(chat)
    client.send_binary(bytes(10_000), type="publish", id=101, channel=chat)
    assert client.answer_to(101)["type"] == "published"
    assert client.expect("message")["data"] == bytes(10_000)
    text = json.dumps({"type": "publish", "id": 102, "channel": chat, "data": LONG})

    def pieces():
        for start in range(0, len(text), 500):
            yield text[start : start + 500]
            pongs.append(client.socket.ping())

    pongs = []
    client.socket.send(pieces())
    assert client.answer_to(102)["type"] == "published"
    assert client.expect("message")["data"] == LONG
    assert len(pongs) > 3 and all(pong.wait(5) for pong in pongs)


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", f"permessage-deflate; {NO_CONTEXT}"),
        ("permessage-deflate; client_max_window_bits", f"permessage-deflate; {NO_CONTEXT}"),
        ("permessage-deflate; server_max_window_bits=9", None),
        (
            "permessage-deflate; server_max_window_bits=9, permessage-deflate; server_max_window_bits=15",
            f"permessage-deflate; {NO_CONTEXT}; server_max_window_bits=15",
        ),
        ("x-webkit-deflate-frame", None),
        ("permessage-deflate; nonsense", None),
        (None, None),
    ],
)
def test_negotiation(compressing, offer, answer):
    raw, headers = open_raw(compressing, offer)
    raw.close()
    assert headers.get("sec-websocket-extensions") == answer


def test_bounds_on_the_windows_are_kept(compressing, chat):
    factory = ClientPerMessageDeflateFactory(server_max_window_bits=15, client_max_window_bits=9)
    with Client(compressing.websocket_url, token("alice"), extensions=[factory]) as client:
        client.subscribe(chat)
        client.ask("publish", channel=chat, data=LONG)
        assert client.expect("message")["data"] == LONG


def test_it_is_off_unless_configured(embedded_site, connect, chat):
    client = connect(embedded_site.first, compression="deflate").subscribe(chat)
    assert client.socket.protocol.extensions == []
    client.ask("publish", channel=chat, data=LONG)
    client.expect("message")
    assert compressed_so_far(embedded_site.first) == [0, 0, 0]
    raw, _ = open_raw(embedded_site.first, "permessage-deflate")
    with raw:
        raw.sendall(frame(deflated(b'{"type":"ping"}')))
        assert close_code(raw) == 1002


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\xff\xff\xff", 1002),
        (b"", 1002),
        (lambda: deflated(b'{"type":"ping"}')[:-3], 1002),
        (lambda: deflated(b'{"type":"\xff"}'), 1007),
        (lambda: deflated(b" " * (64 << 20)), 1009),
    ],
)
def test_what_cannot_be_inflated_ends_the_connection(compressing, connect, payload, code):
    other = connect(compressing, compression="deflate")
    raw, _ = open_raw(compressing, "permessage-deflate")
    with raw:
        raw.sendall(frame(payload() if callable(payload) else payload))
        assert close_code(raw) == code
    other.ask("ping")


def test_bombs_cost_bounded_memory(compressing, connect):
    bomb = " " * (64 << 20)
    assert len(deflated(bomb.encode())) < 2 * LIMIT, "its length alone does not give it away"
    clients = [connect(compressing, compression="deflate") for _ in range(8)]
    before = peak_memory(compressing)
    throwers = [threading.Thread(target=lambda it=client: it.send_text(bomb)) for client in clients]
    for thrower in throwers:
        thrower.start()
    for thrower in throwers:
        thrower.join()
    assert [client.close_code() for client in clients] == [1009] * 8
    assert peak_memory(compressing) - before < 8 << 20
    connect(compressing).ask("ping")


def peak_memory(gateway):
    status = pathlib.Path(f"/proc/{gateway.child.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


def open_raw(gateway, extensions):
    """A TCP connection after the handshake, and the headers of the answer."""
    host, port = gateway.public.split(":")
    raw = socket.create_connection((host, int(port)), timeout=5)
    offer = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
    raw.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {gateway.public}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{offer}"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = raw.recv(1)
        assert byte, head
        head += byte
    status, *lines = head.decode().splitlines()
    assert " 101 " in status
    pairs = (line.split(": ", 1) for line in lines if line)
    return raw, {name.lower(): text for name, text in pairs}


def deflated(payload):
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(b"\0\0\xff\xff")


def frame(payload):
    """A compressed text message, masked."""
    length = len(payload)
    if length < 126:
        head = bytes([0xC1, 0x80 | length])
    elif length < 65536:
        head = bytes([0xC1, 0xFE]) + length.to_bytes(2)
    else:
        head = bytes([0xC1, 0xFF]) + length.to_bytes(8)
    key = os.urandom(4)
    masked = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    return head + key + masked


def close_code(raw):
    """The code of the close frame that must be the next thing to come."""
    received = b"".join(iter(lambda: raw.recv(4096), b""))
    assert received[0] == 0x88, received
    return int.from_bytes(received[2:4])

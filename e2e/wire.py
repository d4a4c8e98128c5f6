"""Engine.IO without a library, for tests of what goes over the wire."""

import base64
import collections
import contextlib
import json
import urllib.parse

from websockets.exceptions import ConnectionClosed

from api import http
from client import DEADLINE, open_socket

PATH = "/socket.io/"
SEPARATOR = "\x1e"


def address(url, path=PATH, transport="polling", **parameters):
    """A parameter that is None is left out."""
    query = {"EIO": 4, "transport": transport} | parameters
    query = {name: value for name, value in query.items() if value is not None}
    return f"{url}{path}?{urllib.parse.urlencode(query, doseq=True)}"


class Polling:
    """A session over HTTP long polling. Packets are text; messages that are binary are bytes."""

    def __init__(self, gateway, path=PATH, **parameters):
        self.gateway, self.path = gateway, path
        answer = http("GET", address(gateway.url, path, **parameters))
        assert answer.status == 200, answer
        first, *others = answer.body.decode().split(SEPARATOR)
        assert first.startswith("0"), answer
        self.open, self.aside = json.loads(first[1:]), collections.deque(map(message, others))
        self.url = address(gateway.url, path, sid=self.open["sid"], **parameters)

    def poll(self):
        return http("GET", self.url)

    def post(self, *packets):
        return http("POST", self.url, SEPARATOR.join(packets).encode(), content_type="text/plain;charset=UTF-8")

    def send(self, *packets):
        answer = self.post(*packets)
        assert (answer.status, answer.body) == (200, b"ok"), answer

    def next(self):
        if not self.aside:
            answer = self.poll()
            assert answer.status == 200, answer
            self.aside.extend(map(message, answer.body.decode().split(SEPARATOR)))
        return self.aside.popleft()

    def is_open(self):
        """By an answer to a ping that nobody sent."""
        return self.post("3").status == 200

    def upgrade(self):
        """A WebSocket for this session, which the server does not know of yet."""
        url = self.url.replace("http:", "ws:").replace("=polling", "=websocket")
        return Socket(open_socket(url))


class Socket:
    """A WebSocket with packets as its messages."""

    def __init__(self, socket):
        self.socket = socket

    def send(self, *packets):
        """What cannot be sent since the server has closed shows when more is read."""
        with contextlib.suppress(ConnectionClosed):
            for packet in packets:
                self.socket.send(packet)

    def next(self, deadline=DEADLINE):
        return self.socket.recv(timeout=deadline)

    def rest(self, deadline=DEADLINE):
        """What comes until the server closes; `code` is then what it closed with."""
        packets = []
        try:
            while True:
                packets.append(self.next(deadline))
        except ConnectionClosed as closed:
            self.code = closed.rcvd and closed.rcvd.code
            return packets

    def close(self):
        self.socket.close()


def websocket(gateway, path=PATH, **parameters):
    """A session over WebSocket, whose open packet is `open`."""
    url = address(f"ws://{gateway.public}", path, **({"transport": "websocket"} | parameters))
    socket = Socket(open_socket(url))
    first = socket.next()
    assert first.startswith("0"), first
    socket.open = json.loads(first[1:])
    return socket


def message(packet):
    return base64.b64decode(packet[1:], validate=True) if packet.startswith("b") else packet

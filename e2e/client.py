"""Clients of a gateway, made of other people's libraries, for tests that read from top to bottom."""

import collections
import itertools
import json
import struct
import time

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

DEADLINE = 5


class Client:
    """A WebSocket that speaks `docs/protocol.md`. Frames are taken in the order in which they came.

    With a token (None: anonymous) it has said `connect`, and `connected` is the answer.
    """

    def __init__(self, url, token=..., **options):
        self.socket = open_socket(url, **options)
        self.ids = itertools.count(1)
        self.aside = collections.deque()
        if token is not ...:
            self.connected = self.ask("connect", token=token)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *commands):
        """One text frame: a command alone is an object, several are an array."""
        self.send_text(json.dumps(commands[0] if len(commands) == 1 else commands))

    def send_text(self, text):
        self.socket.send(text)

    def send_binary(self, data, **command):
        """One binary frame: the command, and data that is no JSON."""
        head = json.dumps(command).encode()
        self.socket.send(struct.pack(">I", len(head)) + head + data)

    def next(self, deadline=DEADLINE):
        """The next frame, whatever it is. The data of a binary frame is bytes."""
        if self.aside:
            return self.aside.popleft()
        return self.read(deadline)

    def read(self, deadline=DEADLINE):
        frame = self.socket.recv(timeout=deadline)
        if isinstance(frame, str):
            return json.loads(frame)
        end = 4 + struct.unpack_from(">I", frame)[0]
        return json.loads(frame[4:end]) | {"data": frame[end:]}

    def expect(self, type, deadline=DEADLINE, **members):
        """The next frame, which must be of this type and have these members."""
        frame = self.next(deadline)
        wanted = {"type": type} | members
        assert {name: frame.get(name) for name in wanted} == wanted, frame
        return frame

    def expect_data(self, count):
        """The data of the next frames, which must be messages."""
        return [self.expect("message")["data"] for _ in range(count)]

    def ask(self, type, **members):
        """Sends a command and returns its answer; what comes before it stays for `expect`."""
        answer = self.answer_to(self.start(type, **members))
        assert answer["type"] != "error", answer
        return answer

    def refused(self, type, **members):
        """Sends a command that must fail, and returns the error's code."""
        answer = self.answer_to(self.start(type, **members))
        assert answer["type"] == "error", answer
        assert answer["text"], answer
        return answer["code"]

    def start(self, type, **members):
        """Sends a command and returns its id."""
        id = next(self.ids)
        self.send({"type": type, "id": id} | {name: it for name, it in members.items() if it is not None})
        return id

    def answer_to(self, id, deadline=DEADLINE):
        """The answer to a command; what comes before it stays for `expect`."""
        for frame in self.aside:
            if frame.get("id") == id:
                self.aside.remove(frame)
                return frame
        while True:
            frame = self.read(deadline)
            if frame.get("id") == id:
                return frame
            self.aside.append(frame)

    def subscribe(self, *channels):
        for channel in channels:
            self.ask("subscribe", channel=channel)
        return self

    def close_code(self, deadline=DEADLINE):
        """Waits until the server has closed; what came before stays for `expect`."""
        try:
            while True:
                self.aside.append(self.read(deadline))
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


class Envelopes:
    """A WebSocket whose frames are `{id, type, payload, timestamp}`: `docs/envelope.md`."""

    def __init__(self, url, **options):
        self.socket = open_socket(url, **options)
        self.ids = itertools.count(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, type, payload=None, **members):
        """As the application's client makes them; what the envelope is called."""
        envelope = {"id": f"c-{next(self.ids)}", "type": type, "payload": payload or {}, "timestamp": now_ms()}
        envelope |= members
        self.socket.send(json.dumps(envelope))
        return envelope["id"]

    def next(self, deadline=DEADLINE):
        """The next envelope, which has all members and no others."""
        envelope = json.loads(self.socket.recv(timeout=deadline))
        assert list(envelope) == ["id", "type", "payload", "timestamp"], envelope
        assert isinstance(envelope["id"], str) and envelope["id"], envelope
        assert abs(envelope["timestamp"] - now_ms()) < 60_000, envelope
        return envelope

    def expect(self, type, deadline=DEADLINE):
        """The payload of the next envelope, which must be of this type."""
        envelope = self.next(deadline)
        assert envelope["type"] == type, envelope
        return envelope["payload"]

    def close_code(self, deadline=DEADLINE):
        """Of the server, which must have nothing more to say before."""
        try:
            raise AssertionError(self.next(deadline))
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


def now_ms():
    return int(time.time() * 1000)


def open_socket(url, max_queue=None, max_size=None, compression=None, **options):
    """A bare WebSocket, which takes in all that comes, also while nobody reads. It offers no compression unless told."""
    options |= {"max_queue": max_queue, "max_size": max_size, "compression": compression}
    return connect(url, proxy=None, ping_interval=None, legacy=True, **options)

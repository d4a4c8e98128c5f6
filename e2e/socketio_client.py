"""Clients of Socket.IO in its own JavaScript: all in one process of Node, told by lines what to do."""

import collections
import itertools
import json
import queue
import subprocess
import threading

from client import DEADLINE
from harness import TOP


class Node:
    """The process. Use as a context manager."""

    def __enter__(self):
        command = ["node", TOP / "e2e" / "node" / "socketio_client.mjs"]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.clients = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.wait(DEADLINE)
        self.reader.join()

    def read(self):
        for line in self.child.stdout:
            number, *what = json.loads(line, object_hook=bytes_of)
            client = self.clients[number]
            if what[0] == "upgrade":
                client.upgraded.set()
            else:
                client.inbox.put(what)

    def tell(self, *line):
        self.child.stdin.write(json.dumps(line, default=buffer_of) + "\n")
        self.child.stdin.flush()

    def open(self, gateway, namespace="/", **options):
        """A client that is connecting, with the options of socket.io-client."""
        client = SocketIo(self)
        client.tell("open", gateway.url + namespace, options)
        return client


class SocketIo:
    """A client in one namespace. What happens to it is taken in the order in which it happened."""

    def __init__(self, node):
        self.node, self.number, self.calls = node, len(node.clients), itertools.count(1)
        self.inbox, self.aside = queue.Queue(), collections.deque()
        self.upgraded = threading.Event()
        node.clients.append(self)

    def tell(self, action, *arguments):
        self.node.tell(self.number, action, *arguments)

    def join(self, namespace, **options):
        """Another namespace over the same connection."""
        client = SocketIo(self.node)
        client.tell("join", self.number, namespace, options)
        return client

    def next(self, deadline=DEADLINE):
        return self.aside.popleft() if self.aside else self.inbox.get(timeout=deadline)

    def expect(self, *what, deadline=DEADLINE):
        """What happens next, which must begin so; what is left of it."""
        happened = self.next(deadline)
        assert happened[: len(what)] == list(what), happened
        return happened[len(what) :]

    def connected(self, deadline=DEADLINE):
        """Waits until it is connected; over which transport it then is may have changed already."""
        self.id, self.transport, self.recovered = self.expect("connect", deadline=deadline)
        return self

    def emit(self, *event):
        self.tell("emit", *event)

    def ask(self, *event, timeout=4000):
        """`emitWithAck`; what comes before the answer stays for `expect`."""
        number = next(self.calls)
        self.tell("ask", number, timeout, *event)
        waiting = []
        while (happened := self.next())[:2] not in (["answer", number], ["no answer", number]):
            waiting.append(happened)
        self.aside.extendleft(reversed(waiting))
        return happened[2] if happened[0] == "answer" else TimeoutError(happened[2])

    def done(self, *event):
        """As `ask`, of what must succeed."""
        answer = self.ask(*event)
        assert answer["ok"] is True, answer
        return answer

    def subscribe(self, *channels):
        for channel in channels:
            self.done("subscribe", channel)
        return self


def bytes_of(value):
    return bytes(value["data"]) if value.get("type") == "Buffer" else value


def buffer_of(value):
    return {"type": "Buffer", "data": list(value)}

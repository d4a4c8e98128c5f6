"""An application's own client in Node, told by lines what to do, and a service of it on NATS."""

import collections
import dataclasses
import json
import queue
import subprocess
import sys
import threading
import time

import jwt

from api import PUBLISH_KEY, Api
from bus import Nats
from client import DEADLINE
from harness import TOP, Gateway, NatsServer, Process, secret


def jwt_of(**claims):
    """A token with just these claims, good for an hour."""
    return jwt.encode({"exp": int(time.time()) + 3600} | claims, secret(), algorithm="HS256")


class ProfileGateway(Gateway):
    """A gateway that serves the clients of profiles/PROFILE.toml."""

    config = TOP / "e2e" / "profiles.toml"

    def __init__(self, profile, *arguments, **options):
        super().__init__(*arguments, **options)
        self.flags = ["--profile", TOP / "profiles" / f"{profile}.toml"]


class Service(Process):
    """A program of examples/, connected to NATS."""

    def __init__(self, directory, example, nats, *arguments):
        super().__init__(example, directory)
        self.script, self.arguments = TOP / "examples" / example / "service.py", ["--nats", nats.url, *arguments]

    def command(self):
        return [sys.executable, self.script, *self.arguments]

    def is_ready(self):
        return "ready" in self.log.read_text()


class Application:
    """e2e/node/SCRIPT. What happens to it is taken in the order in which it happened."""

    def __init__(self, script, *arguments):
        command = ["node", TOP / "e2e" / "node" / script, *arguments]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.happenings, self.passed = queue.Queue(), collections.deque()
        threading.Thread(target=self.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.wait(DEADLINE)

    def read(self):
        for line in self.child.stdout:
            self.happenings.put(json.loads(line))

    def tell(self, action, *arguments):
        self.child.stdin.write(json.dumps([action, *arguments]) + "\n")
        self.child.stdin.flush()

    def emit(self, *event):
        self.tell("emit", *event)

    def ask(self, action, *arguments):
        """Of an action that has an answer: the answer."""
        self.tell(action, *arguments)
        return self.await_("answer")[0]

    def await_(self, *beginning, deadline=DEADLINE):
        """The first of what happened that begins so, without that; what came before it stays."""
        for happened in list(self.passed):
            if happened[: len(beginning)] == list(beginning):
                self.passed.remove(happened)
                return happened[len(beginning) :]
        end = time.monotonic() + deadline
        while True:
            try:
                happened = self.happenings.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {beginning}, but {list(self.passed)}") from None
            if happened[: len(beginning)] == list(beginning):
                return happened[len(beginning) :]
            self.passed.append(happened)

    def event(self, name):
        """The argument of the first such event that was not asked for yet."""
        arguments = self.await_("event", name)
        assert len(arguments) == 1, (name, arguments)
        return arguments[0]

    def heard(self, name):
        """Whether there was such an event among what came before the last thing awaited."""
        return any(happened[:2] == ["event", name] for happened in self.passed)


@dataclasses.dataclass
class Served:
    """Gateways that serve an application's clients, and the way in which its services publish."""

    gateways: list
    nats: NatsServer | None
    bus: Nats | None

    @property
    def first(self):
        return self.gateways[0]

    @property
    def last(self):
        return self.gateways[-1]

    def publish(self, channel, data, event=None):
        """As `nats pub fanfare.ch.…`, where there is a bus, else over HTTP."""
        named = {"event": event} if event else {}
        if self.bus is None:
            Api(self.first, PUBLISH_KEY).publish(channel=channel, data=data, **named)
        else:
            headers = {f"Fanfare_{name.title()}": value for name, value in named.items()}
            self.bus.publish(f"fanfare.ch.{channel.replace(':', '.')}", json.dumps(data).encode(), **headers)

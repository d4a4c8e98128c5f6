"""Real processes for black-box tests: servers, gateways, and a way to wait that is no sleep."""

import contextlib
import os
import pathlib
import random
import signal
import socket
import subprocess
import time
import tomllib
import urllib.error
import urllib.request

import jwt

TOP = pathlib.Path(__file__).resolve().parent.parent
CONFIG = TOP / "e2e" / "fanfare.toml"
FANFARE = os.environ.get("FANFARE_BIN", str(TOP / "target" / "debug" / "fanfare"))
ENVIRONMENT = os.environ | {"PATH": f"{TOP / '.tools' / 'bin'}{os.pathsep}{os.environ['PATH']}"}

given_ports = set()


def ports():
    """Not those that connections get by themselves, nor another worker's: a server that is started
    anew must find its port free."""
    first, last = 10_000, 32_000
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = (last - first) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return range(first + worker * share, first + (worker + 1) * share)


def free_port():
    while True:
        port = random.choice(ports())
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in given_ports:
                given_ports.add(port)
                return port


def wait_until(condition, what, deadline=10.0):
    """Returns the first true value of `condition()`; an exception of it counts as not yet."""
    end = time.monotonic() + deadline
    problem = None
    while True:
        try:
            if value := condition():
                return value
        except (OSError, AssertionError) as error:
            problem = error
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what}") from problem
        time.sleep(0.02)


def http_status(url):
    try:
        return urllib.request.urlopen(url, timeout=2).status
    except urllib.error.HTTPError as error:
        return error.code


def node(script, *arguments, options=()):
    """Runs e2e/node/SCRIPT to its end and returns what it printed."""
    command = ["node", *options, TOP / "e2e" / "node" / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{script} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


class Process:
    """A server under test: `directory` holds its data and its log, and outlives a restart."""

    def __init__(self, name, directory):
        self.name = name
        self.directory = directory / name
        self.directory.mkdir()
        self.log = self.directory / "log"
        self.child = None

    def command(self):
        raise NotImplementedError

    def environment(self):
        return {}

    def is_ready(self):
        raise NotImplementedError

    def start(self):
        return self.launch().until_ready()

    def launch(self):
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.command(),
                env=ENVIRONMENT | self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def until_ready(self):
        try:
            wait_until(self.is_ready_or_dead, f"{self.name} is ready")
            assert self.child.poll() is None, f"{self.name} ended with {self.child.returncode}"
        except AssertionError as error:
            self.kill()
            error.add_note(f"{self.log}:\n{self.log.read_text(errors='replace')[-4000:]}")
            raise
        return self

    def is_ready_or_dead(self):
        return self.child.poll() is not None or self.is_ready()

    def is_running(self):
        return self.child is not None and self.child.poll() is None

    def stop(self, deadline=15):
        """Asks it to end (SIGTERM) and returns its exit code; kills it at the deadline."""
        self.terminate()
        return self.wait(deadline)

    def terminate(self):
        self.child.send_signal(signal.SIGCONT)
        self.child.terminate()

    def wait(self, deadline=15):
        """Its exit code; it is killed at the deadline."""
        try:
            return self.child.wait(deadline)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {deadline} s") from None

    def kill(self):
        self.child.kill()
        self.child.wait()

    def pause(self):
        """Returns when it does nothing any more."""
        self.child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.child.pid, os.WSTOPPED)

    def resume(self):
        self.child.send_signal(signal.SIGCONT)


class NatsServer(Process):
    def __init__(self, directory, name="nats"):
        super().__init__(name, directory)
        self.port, self.monitor = free_port(), free_port()
        self.url = f"nats://127.0.0.1:{self.port}"

    def command(self):
        address = ["--addr", "127.0.0.1", "--port", str(self.port), "--http_port", str(self.monitor)]
        return ["nats-server", *address, "--jetstream", "--store_dir", self.directory / "jetstream"]

    def is_ready(self):
        return http_status(f"http://127.0.0.1:{self.monitor}/healthz?js-enabled-only=true") == 200


class RedisServer(Process):
    def __init__(self, directory, name="redis"):
        super().__init__(name, directory)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"

    def command(self):
        address = ["--bind", "127.0.0.1", "--port", str(self.port)]
        # With fsync, what is acknowledged may wait for two seconds for the disk, and a kill loses it.
        persistence = ["--save", "", "--appendonly", "yes", "--appendfsync", "no"]
        return ["redis-server", *address, "--dir", self.directory, *persistence]

    def is_ready(self):
        return self.ask("PING") == "+PONG"

    def ask(self, command):
        """One inline command, and the first line of its reply as it came."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(command.encode() + b"\r\n")
            return connection.makefile().readline().rstrip("\r\n")


class Gateway(Process):
    """`fanfare serve`: embedded, or in a cluster when given NATS and Redis."""

    config, flags = CONFIG, ()

    def __init__(self, directory, name="gateway", nats=None, redis=None, settings=None):
        super().__init__(name, directory)
        self.nats, self.redis, self.settings = nats, redis, settings or {}
        self.public, self.admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.url, self.admin_url = f"http://{self.public}", f"http://{self.admin}"
        self.websocket_url = f"ws://{self.public}/ws"

    def command(self):
        backends = ["--nats", self.nats.url, "--redis", self.redis.url] if self.nats else []
        listeners = ["--listen", self.public, "--admin-listen", self.admin]
        return [FANFARE, "serve", "--config", self.config, *listeners, *backends, *self.flags]

    def environment(self):
        """`settings` by configuration key: {"limits.queue_bytes": 65536}."""
        return {f"FANFARE__{key.replace('.', '__').upper()}": str(value) for key, value in self.settings.items()}

    def is_ready(self):
        return http_status(f"{self.admin_url}/readyz") == 200


def secret():
    return tomllib.loads(CONFIG.read_text())["auth"]["hmac_secret"]


def token(user, **claims):
    """A token that the gateways of e2e/fanfare.toml accept for an hour."""
    return jwt.encode({"sub": user, "exp": int(time.time()) + 3600} | claims, secret(), algorithm="HS256")

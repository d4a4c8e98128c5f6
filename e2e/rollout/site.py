"""What is rolled: three gateways behind HAProxy, three NATS servers, Redis."""

import collections
import contextlib
import http.client
import itertools
import json
import os
import subprocess
import threading
import time
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from api import PUBLISH_KEY
from chaos.servers import ClusterNats
from haproxy import HAProxy
from harness import ENVIRONMENT, TOP, Gateway, RedisServer, secret, wait_until

LOADTEST = os.environ.get("LOADTEST_BIN", str(TOP / "target" / "debug" / "loadtest"))
GATEWAYS = 3
SETTINGS = {
    "history.replicas": 3,
    "socketio.recovery": "true",
    # A channel's messages of a minute, and more.
    "namespaces.room.history.size": 2000,
}


class Site:
    """`gateways` are those that run or start, in the order of their birth. `close` stops all."""

    def __init__(self, directory, settings):
        self.stack, self.directory = contextlib.ExitStack(), directory
        routes = []
        self.nats = [ClusterNats(directory, f"nats-{n}", routes) for n in (1, 2, 3)]
        self.redis = RedisServer(directory)
        # Those that the first ones are replaced by have their addresses from the start.
        self.gateways = [self.gateway(n, SETTINGS | settings) for n in range(1, 2 * GATEWAYS + 1)]
        self.balancer = HAProxy(directory, self.gateways)

    def gateway(self, n, settings):
        return Gateway(self.directory, f"gateway-{n}", self, self.redis, settings)

    @property
    def url(self):
        """Of NATS."""
        return ",".join(it.url for it in self.nats)

    def start(self):
        for server in [*self.nats, self.redis]:
            self.begin(server)
        wait_until(lambda: all(it.is_whole() for it in self.nats), "NATS has its leaders", 40)
        for gateway in self.gateways[:GATEWAYS]:
            self.begin(gateway)
        self.begin(self.balancer)
        # Until they are looked at for the first time, those who are not there count as well.
        names = {it.name for it in self.gateways[:GATEWAYS]}
        wait_until(lambda: self.balancer.up() == names, f"{names} get connections, and nobody else")

    def begin(self, process):
        self.stack.callback(lambda: process.is_running() and process.kill())
        process.start()

    def close(self):
        self.stack.close()

    def wait_until_in_balance(self, *gateways):
        names = {it.name for it in gateways}
        wait_until(lambda: names <= self.balancer.up(), f"{names} get connections")

    def running(self):
        return [it for it in self.gateways if it.is_running()]

    def connections(self):
        return sum(value(scrape(it), "fanfare_connections") for it in self.running())


def scrape(gateway):
    """Fails with OSError alone: who is killed meanwhile may leave half an answer."""
    try:
        with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=2) as answer:
            return list(text_string_to_metric_families(answer.read().decode()))
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"{gateway.name} has not answered whole") from error


def value(families, name, **labels):
    samples = [it for family in families for it in family.samples if it.name == name]
    return sum(it.value for it in samples if labels.items() <= it.labels.items())


class Clients:
    """`loadtest rollout`: half of them native, half Socket.IO. Leaving the block ends it and reads its result."""

    def __init__(self, site, name, load):
        self.log = site.directory / f"{name}.log"
        self.file, secrets, key = (site.directory / f"{name}.{it}" for it in ("json", "secret", "key"))
        secrets.write_text(secret())
        key.write_text(PUBLISH_KEY)
        files = ["--token-secret-file", secrets, "--api-key-file", key, "--json", self.file]
        shape = ["--connections", load.clients, "--rate", load.rate, "--channels", load.channels]
        self.command = [LOADTEST, "rollout", "--url", site.balancer.websocket_url, *shape, *files]
        self.command += ["--channel", f"room:{name}", "--patience", 10, "--ramp", 16]
        self.child = self.found = None

    def __enter__(self):
        with self.log.open("wb") as log:
            command = [str(it) for it in self.command]
            self.child = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            wait_until(lambda: self.child.poll() is not None or "ready" in self.log.read_text(), "all are connected", 120)
            assert self.child.poll() is None, "loadtest ended"
        except AssertionError as error:
            self.child.kill()
            error.add_note(self.log.read_text()[-2000:])
            raise
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.child.kill()
        self.child.stdin.close()
        self.child.wait(150)
        if not kind:
            assert self.file.exists(), self.log.read_text()[-2000:]
            self.found = json.loads(self.file.read_text())


class Sampler:
    """Reads once a second what gateways count: `rates` are their handshakes per second, with the time of the reading."""

    def __init__(self, site):
        self.site, self.rates, self.last, self.seen = site, [], {}, {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        assert kind or self.thread.is_alive(), "nobody has read what gateways count"
        self.over.set()
        self.thread.join()
        self.look()

    def run(self):
        while not self.over.wait(1):
            self.look()

    def look(self):
        readings = [self.rate_of(it) for it in self.site.running()]
        self.rates.append((time.monotonic(), sum(readings)))

    def rate_of(self, gateway):
        """Since the last reading. Who goes meanwhile is told nothing more of."""
        before = time.monotonic()
        try:
            families = self.seen[gateway.child.pid] = scrape(gateway)
        except OSError:
            return 0
        count = value(families, "fanfare_handshakes_total", result="ok")
        # It was read at some time between.
        now = (before + time.monotonic()) / 2
        at, counted = self.last.get(gateway.child.pid, (now - 1, 0))
        self.last[gateway.child.pid] = now, count
        return (count - counted) / max(now - at, 1)

    def counted(self, name):
        """What all gateways have counted by that name, by their labels' values."""
        counts = collections.Counter()
        for family in itertools.chain(*self.seen.values()):
            for sample in family.samples:
                if sample.name == name:
                    counts[" ".join(sample.labels.values())] += int(sample.value)
        return dict(+counts)

    def peak(self, since, until):
        return max((rate for at, rate in self.rates if since < at <= until), default=0)

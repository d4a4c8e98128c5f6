"""What each server pays for a connection, a channel, a stored message, a member: for docs/capacity.md.

    cd e2e && ../.tools/venv/bin/python costs.py channels --connections 1000 --each 100

Memory is what a process has resident (of Redis: `used_memory`) after, less before. Processor time
is what the kernel's scheduler counts for the process. `FANFARE_BIN` names the gateway's binary.
"""

import argparse
import contextlib
import itertools
import json
import pathlib
import re
import socket
import ssl
import struct
import subprocess
import tempfile
import time

from chaos.servers import ClusterNats
from harness import Gateway, NatsServer, RedisServer, token, wait_until

CONFIG = """
[auth]
hmac_secret = "for-tests-only-for-tests-only-for-tests-only-for-tests-only-for-tests-only"
[limits]
subscriptions = 1100
[heartbeat]
interval = "10m"
[nats]
deadline = "60s"
[session]
window = "10m"
[namespaces.venue]
subscribe = ["authenticated"]
[namespaces.kept]
subscribe = ["authenticated"]
history = { size = 20, ttl = "1h" }
[namespaces.club]
subscribe = ["authenticated"]
presence = true
[namespaces.user]
queue = { size = 100, ttl = "24h" }
"""
# Messages to JetStream that are not acknowledged yet.
WINDOW = 500
COMMANDS_IN_A_FRAME = 100
# Connections that are served side by side.
AT_ONCE = 100


TLS = ssl.create_default_context()
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE


class Site:
    """NATS, Redis and one gateway, new and empty."""

    def __init__(self, stack, directory, servers=1, tls=False):
        def start(process):
            stack.callback(lambda: process.is_running() and process.kill())
            return process.start()

        routes = []
        if servers == 1:
            self.nats = [start(NatsServer(directory))]
        else:
            nodes = [ClusterNats(directory, f"nats-{n}", routes) for n in range(servers)]
            for node in nodes:
                node.is_ready = lambda: True
            self.nats = [start(node) for node in nodes]
            for node in self.nats:
                wait_until(node.is_whole, "NATS is whole", 30)
        self.redis = start(RedisServer(directory))
        config = directory / "fanfare.toml"
        config.write_text(CONFIG, encoding="utf-8")
        self.gateway = Gateway(directory, nats=self.nats[0], redis=self.redis)
        self.gateway.config = config
        self.gateway.settings = {"history.replicas": min(servers, 3)}
        self.gateway.tls = tls
        if tls:
            self.gateway.settings |= make_certificate(directory)
        start(self.gateway)

    def memory(self):
        by_name = {it.name: resident(it) for it in [self.gateway, *self.nats]}
        return by_name | {"redis": self.redis_memory()}

    def cpu(self):
        return {it.name: cpu_seconds(it) for it in [self.gateway, *self.nats, self.redis]}

    def redis_memory(self):
        with socket.create_connection(("127.0.0.1", self.redis.port), timeout=5) as connection:
            connection.sendall(b"INFO memory\r\nQUIT\r\n")
            return int(re.search(r"used_memory:(\d+)", connection.makefile().read())[1])


class Connection:
    """A client in as few bytes and steps as it takes: what it sends is answered when `hear` returns."""

    def __init__(self, gateway, user, connect=""):
        host, _, port = gateway.public.partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        if gateway.tls:
            self.socket = TLS.wrap_socket(self.socket)
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        self.socket.sendall(
            f"GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n".encode()
        )
        self.send([f'{{"type":"connect","id":0,"token":"{token(user)}"{connect}}}'])

    def send(self, commands):
        """One frame, masked with zeros, and long enough for a length of two bytes."""
        text = f"[{','.join(commands)}]".encode().ljust(126)
        self.socket.sendall(struct.pack(">BBHI", 0x81, 0x80 | 126, len(text), 0) + text)

    def subscribe(self, channels):
        self.send([f'{{"type":"subscribe","id":{n},"channel":"{it}"}}' for n, it in enumerate(channels, 1)])

    def hear(self, answer, count=1):
        heard = b""
        while heard.count(answer) < count:
            more = self.socket.recv(1 << 20)
            if not more or b'"type":"error"' in more:
                raise RuntimeError(f"refused: {(heard + more)[-300:]}")
            heard += more


def batches(items):
    items = iter(items)
    while some := list(itertools.islice(items, AT_ONCE)):
        yield some


def connect(gateway, users, options=""):
    """Connections of these users, opened some at a time."""
    held = []
    for some in batches(users):
        opened = [Connection(gateway, user, options) for user in some]
        for it in opened:
            it.hear(b'"type":"connected"')
        held += opened
    return held


def subscribe(connections, channels_of):
    """Each to what `channels_of(its number)` says, some connections at a time."""
    for some in batches(enumerate(connections)):
        wanted = {connection: channels_of(n) for n, connection in some}
        for at in range(0, len(next(iter(wanted.values()))), COMMANDS_IN_A_FRAME):
            parts = {it: channels[at : at + COMMANDS_IN_A_FRAME] for it, channels in wanted.items()}
            for connection, part in parts.items():
                connection.subscribe(part)
            for connection, part in parts.items():
                connection.hear(b'"type":"subscribed"', len(part))


class Stored:
    """Publishes to JetStream over a bare connection and waits for every acknowledgement."""

    def __init__(self, nats):
        self.socket = socket.create_connection(("127.0.0.1", nats.port), timeout=30)
        self.socket.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB _INBOX.costs 1\r\n')
        self.under_way = 0

    def publish(self, subjects, body, rate=None):
        """`rate` in messages per second; without it as fast as they are acknowledged."""
        begin = time.monotonic()
        for n, subject in enumerate(subjects):
            if rate and n % 20 == 0:
                time.sleep(max(0, begin + n / rate - time.monotonic()))
            self.socket.sendall(f"PUB {subject} _INBOX.costs {len(body)}\r\n".encode() + body + b"\r\n")
            self.under_way += 1
            self.take(WINDOW)
        self.take(0)

    def take(self, most):
        while self.under_way > most:
            heard = self.socket.recv(1 << 20)
            if b'"error"' in heard or b"-ERR" in heard or not heard:
                raise RuntimeError(heard[:300])
            if b"PING\r\n" in heard:
                self.socket.sendall(b"PONG\r\n")
            # Each answer begins with this, and is counted where it ends up whole.
            self.under_way -= heard.count(b'{"stream":')


def make_certificate(directory):
    """The gateway's options for it."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    kind = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost".split()
    subprocess.run(["openssl", "req", *kind, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return {"http.tls_cert": certificate, "http.tls_key": key}


def resident(process):
    status = pathlib.Path(f"/proc/{process.child.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024


def cpu_seconds(process):
    tasks = pathlib.Path(f"/proc/{process.child.pid}/task").glob("*/schedstat")
    return sum(int(it.read_text().split()[0]) for it in tasks) / 1e9


def kernel_memory():
    return int(re.search(r"Slab:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) * 1024


def disk_bytes(directory):
    return sum(it.stat().st_blocks * 512 for it in directory.rglob("*") if it.is_file())


def settled(read):
    """Its value once two seconds no longer change it by more than a hundredth."""
    last = read()
    for _ in range(30):
        time.sleep(2)
        now = read()
        if all(abs(now[name] - last[name]) <= now[name] / 100 for name in now):
            return now
        last = now
    return last


def user_id(n, kind="0"):
    """As long as a UUID."""
    return f"{n:08}-4bda-4c8a-9c1e-{kind}00000000000"


def per(before, after, count):
    return {name: round((after[name] - before[name]) / count) for name in after}


def connections(site, args):
    """One connection each, with its own user and nothing else; then the same with a session."""
    result, held = {}, []
    for name, options in (("plain", ""), ("with session", ',"session":true')):
        before, kernel = settled(site.memory), kernel_memory()
        held += connect(site.gateway, (user_id(n, name[0]) for n in range(args.connections)), options)
        after = settled(site.memory)
        result[name] = per(before, after, args.connections)
        result[name]["kernel, both ends"] = round((kernel_memory() - kernel) / args.connections)
    return result


def channels(site, args):
    """Each connection subscribes to channels of its own."""
    held = connect(site.gateway, map(user_id, range(args.connections)))
    before, cpu, begin = settled(site.memory), site.cpu(), time.monotonic()
    subscribe(held, lambda n: [f"venue:{user_id(n)[:-12]}{m:012}" for m in range(args.each)])
    seconds, count = time.monotonic() - begin, args.connections * args.each
    spent = {name: round((it - cpu[name]) / count * 1e6, 1) for name, it in site.cpu().items()}
    return {"seconds": round(seconds, 1), "bytes each": per(before, settled(site.memory), count), "CPU-µs each": spent}


def log(site, args):
    """Messages to channels with history; then the servers of NATS are started anew."""
    subjects = [f"fanfare.ch.kept.{user_id(n)}" for n in range(args.channels)]
    before, cpu, disk = settled(site.memory), site.cpu(), log_bytes(site)
    begin, publisher = time.monotonic(), Stored(site.nats[0])
    for _ in range(args.each):
        publisher.publish(subjects, b"x" * args.payload, args.rate)
    seconds, count = time.monotonic() - begin, args.channels * args.each
    spent = {name: round((it - cpu[name]) / count * 1e6, 1) for name, it in site.cpu().items()}
    after = settled(site.memory)
    result = {"messages": count, "seconds": round(seconds, 1), "CPU-µs a message": spent}
    result |= {
        "bytes a channel": per(before, after, args.channels),
        "disk a message": (log_bytes(site) - disk) // count,
    }
    site.gateway.kill()
    for server in site.nats:
        server.stop(60)
    for server in site.nats:
        server.is_ready = lambda: True
        server.start()
    for server in site.nats:
        wait_until(lambda it=server: type(it).is_ready(it), "NATS is back", 60)
    anew = settled(lambda: {it.name: resident(it) for it in site.nats})
    return result | {"bytes a channel, NATS started anew": per(before, anew, args.channels)}


def log_bytes(site):
    return sum(disk_bytes(it.directory / "jetstream") for it in site.nats) // len(site.nats)


def queue(site, args):
    """Messages to users who are away."""
    before, cpu = settled(site.memory), site.cpu()
    subjects = [f"fanfare.ch.user.{user_id(n)}" for n in range(args.users)]
    result, publisher = {}, Stored(site.nats[0])
    for n in range(1, args.each + 1):
        publisher.publish(subjects, b"x" * args.payload)
        after = settled(site.memory)
        if n in (1, args.each):
            result[f"Redis bytes a user, {n} waiting"] = round((after["redis"] - before["redis"]) / args.users)
    count = args.users * args.each
    return result | {
        "CPU-µs a message": {name: round((it - cpu[name]) / count * 1e6, 1) for name, it in site.cpu().items()}
    }


def presence(site, args):
    """Members of channels with presence, `each` in one."""
    held = connect(site.gateway, map(user_id, range(args.connections)))
    before, cpu = settled(site.memory), site.cpu()
    subscribe(held, lambda n: [f"club:{user_id(n // args.each)}"])
    after = settled(site.memory)
    spent = {name: round((it - cpu[name]) / args.connections * 1e6, 1) for name, it in site.cpu().items()}
    return {"bytes a member": per(before, after, args.connections), "CPU-µs a join": spent}


def bus(site, args):
    """What nats-server spends on a message, by how many connections it goes to, at a steady rate."""
    result, server = {}, site.nats[0]
    for receivers in (0, 1, 2, 4, 8):
        inboxes = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(receivers)]
        for it in inboxes:
            it.sendall(b'CONNECT {"verbose":false}\r\nSUB costs.bus 1\r\nPING\r\n')
            it.setblocking(False)
        publisher = Stored(server)
        publisher.socket.sendall(b"PING\r\n")
        publisher.socket.recv(4096)
        cpu, begin, wanted = cpu_seconds(server), time.monotonic(), 0
        body = b"x" * args.payload
        for n in range(args.messages):
            if n % args.at_once == 0:
                drain(inboxes)
                time.sleep(max(0, begin + n / args.rate - time.monotonic()))
            publisher.socket.sendall(f"PUB costs.bus {len(body)}\r\n".encode() + body + b"\r\n")
        publisher.socket.sendall(b"PING\r\n")
        while b"PONG" not in publisher.socket.recv(4096):
            wanted += 1
        spent = cpu_seconds(server) - cpu
        result[f"CPU-µs a message to {receivers}"] = round(spent / args.messages * 1e6, 1)
        for it in inboxes:
            it.close()
    return result


def drain(inboxes):
    for it in inboxes:
        with contextlib.suppress(BlockingIOError):
            while it.recv(1 << 16):
                pass


MEASUREMENTS = {it.__name__: it for it in (connections, channels, log, queue, presence, bus)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MEASUREMENTS)
    parser.add_argument("--servers", type=int, default=1, help="of NATS")
    for name, default in (("connections", 1000), ("each", 1), ("channels", 100_000), ("users", 100_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("payload", 200), ("messages", 20_000), ("at-once", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--tls", action="store_true", help="ended by the gateway")
    parser.add_argument("--rate", type=int, help="messages per second")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fanfare-costs-") as directory, contextlib.ExitStack() as stack:
        site = Site(stack, pathlib.Path(directory), args.servers, args.tls)
        print(json.dumps(MEASUREMENTS[args.what](site, args), indent=2))


if __name__ == "__main__":
    main()

"""What the nemesis can do. Each fault is begun, lasts, and is mended; mended means that the servers are whole again."""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable

from harness import wait_until

from .cluster import WHOLE_WITHIN

GATEWAYS = ("gateway-1", "gateway-2", "gateway-3")
NATS = ("nats-1", "nats-2", "nats-3")
REDIS = ("redis",)
# Each gateway's ways to the servers.
WIRES = ("wires-1", "wires-2", "wires-3")
# How long the replica hears nothing of what Redis is told before it takes over.
TAIL = 1.5


@dataclasses.dataclass(frozen=True)
class Kind:
    targets: tuple
    act: Callable
    # Seconds, from and to.
    hold: tuple = (1, 3)
    # Seconds that begin and mend take, about.
    cost: float = 0.5


def to_process(begin, mend):
    """A fault of one process."""

    @contextlib.contextmanager
    def act(cluster, _, target):
        process = cluster.redis if target == "redis" else cluster.named(target)
        getattr(process, begin)()
        yield
        getattr(process, mend)()
        cluster.wait_until_whole()

    return act


kill, pause = to_process("kill", "start"), to_process("pause", "resume")


@contextlib.contextmanager
def rolling_restart(cluster, _, target):
    for gateway in cluster.gateways:
        assert gateway.stop() == 0, f"{gateway.name} did not end well"
        gateway.start()
    yield


def on_wires(which, begin):
    """A fault of one gateway's wires to NATS or to Redis."""

    @contextlib.contextmanager
    def act(cluster, _, target):
        wires = getattr(cluster.wires_of(target), which)
        wires = wires if isinstance(wires, list) else [wires]
        for wire in wires:
            getattr(wire, begin)()
        yield
        for wire in wires:
            wire.mend()

    return act


@contextlib.contextmanager
def failover(cluster, _, target):
    """Redis dies, and its replica takes over without what it was told last."""
    cluster.links[cluster.redis].cut()
    time.sleep(TAIL)
    old = cluster.redis
    old.kill()
    cluster.promote()
    cluster.links[old].mend()
    yield
    old.master = cluster.links[cluster.redis]
    old.start()
    wait_until(old.is_in_sync, "the old Redis follows the new one", WHOLE_WITHIN)


@contextlib.contextmanager
def full_disk(cluster, _, target):
    cluster.disk.fill()
    yield
    cluster.disk.free()
    # A NATS server that found its disk full stores nothing more until it is started anew.
    server = cluster.nats[-1]
    server.kill()
    server.start()
    cluster.wait_until_whole()


@contextlib.contextmanager
def slow_reader(_, workload, target):
    workload.slow.stall(4)
    yield


@contextlib.contextmanager
def rollback(cluster, _, target):
    """All of NATS is restored from a backup: what was stored meanwhile is gone, and its numbers are free again."""
    for server in cluster.nats:
        server.kill()
    for server in cluster.nats:
        shutil.copytree(server.store, backup(server))
    start_all(cluster)
    yield
    for server in cluster.nats:
        server.kill()
    for server in cluster.nats:
        empty(server.store)
        shutil.copytree(backup(server), server.store, dirs_exist_ok=True)
        shutil.rmtree(backup(server))
    start_all(cluster)


def backup(server):
    return server.directory / "backup"


def empty(directory):
    """Not the directory itself: it may be a mount."""
    for entry in directory.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def start_all(cluster):
    for server in cluster.nats:
        server.start()
    cluster.wait_until_whole()


KINDS = {
    "gateway-kill": Kind(GATEWAYS, kill),
    "gateway-pause": Kind(GATEWAYS, pause, hold=(1, 8)),
    "gateway-restart": Kind(("all",), rolling_restart, hold=(0, 0), cost=3),
    "gateway-slow-reader": Kind(("slow",), slow_reader, hold=(5, 6), cost=0),
    "nats-kill": Kind(NATS, kill, cost=2),
    "nats-pause": Kind(NATS, pause, cost=1),
    "nats-cut": Kind(WIRES, on_wires("nats", "cut")),
    "nats-silence": Kind(WIRES, on_wires("nats", "silence"), hold=(2, 5)),
    "nats-swallow": Kind(WIRES, on_wires("nats", "swallow"), hold=(1, 1)),
    "redis-kill": Kind(REDIS, kill),
    "redis-pause": Kind(REDIS, pause),
    "redis-cut": Kind(WIRES, on_wires("redis", "cut")),
    "redis-silence": Kind(WIRES, on_wires("redis", "silence")),
    "redis-swallow": Kind(WIRES, on_wires("redis", "swallow"), hold=(1, 1)),
    "redis-failover": Kind(REDIS, failover, cost=2),
    "disk-full": Kind(("disk",), full_disk, cost=2),
}
EMBEDDED = ("gateway-kill", "gateway-pause", "gateway-restart", "gateway-slow-reader")
# Only by name: here acknowledged messages are lost for good, and what counts is that readers are told.
EXTRA = {"nats-rollback": Kind(("all",), rollback, hold=(4, 4), cost=10)}

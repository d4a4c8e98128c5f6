"""What a run is made of: a cluster with the wires between its parts, or one gateway with everything embedded."""

import contextlib
import dataclasses

from harness import Gateway, wait_until
from proxy import Proxy

from .servers import ClusterNats, Disk, RedisNode

# A log in JetStream has its leader again, and all its copies, this soon after a fault.
WHOLE_WITHIN = 40


@dataclasses.dataclass(frozen=True)
class Address:
    url: str


@dataclasses.dataclass
class Wires:
    """One gateway's ways to the servers."""

    nats: list
    redis: Proxy


class Site:
    """Processes by name. `close` stops them."""

    def __init__(self):
        self.stack, self.gateways, self.servers = contextlib.ExitStack(), [], []

    def begin(self, process):
        self.stack.callback(end, process)
        process.start()

    def close(self):
        self.stack.close()

    def has(self, target):
        """Whether a fault can hit it."""
        return target in ("all", "slow") or any(it.name == target for it in [*self.gateways, *self.servers])

    def named(self, name):
        return next(it for it in [*self.gateways, *self.servers] if it.name == name)

    def is_whole(self):
        """Whether nothing of an earlier fault is left."""
        return True

    def wait_until_whole(self):
        wait_until(self.is_whole, "NATS has its leaders and copies again", WHOLE_WITHIN)


class Embedded(Site):
    """One gateway, and what it keeps is gone with it."""

    def __init__(self, directory, settings, config, flags=()):
        super().__init__()
        self.gateways = [gateway(directory, 1, settings, config, flags)]

    def start(self):
        self.begin(self.gateways[0])


class Cluster(Site):
    """Three NATS servers, Redis and its replica, three gateways."""

    def __init__(self, directory, settings, config, flags=()):
        super().__init__()
        routes = []
        self.nats = [ClusterNats(directory, f"nats-{n}", routes) for n in (1, 2, 3)]
        self.disk = Disk(self.nats[-1].store)
        self.stack.callback(self.disk.unmount)
        self.redis, self.replica = RedisNode(directory, "redis-1"), RedisNode(directory, "redis-2")
        # By server: the way by which another one follows it.
        self.links = {it: Proxy(it.port, "redis") for it in (self.redis, self.replica)}
        self.servers = [*self.nats, self.redis, self.replica]
        self.wires = [
            Wires([Proxy(it.port, "nats") for it in self.nats], Proxy(self.redis.port, "redis")) for _ in range(3)
        ]
        self.gateways = [
            gateway(directory, n, settings, config, flags, wires) for n, wires in enumerate(self.wires, start=1)
        ]

    def start(self):
        for server in self.nats:
            self.begin(server)
        self.wait_until_whole()
        self.begin(self.redis)
        self.replica.master = self.links[self.redis]
        self.begin(self.replica)
        for gateway in self.gateways:
            self.begin(gateway)

    def has(self, target):
        if target == "disk":
            return self.disk.is_mounted
        return target == "redis" or target.startswith("wires-") or super().has(target)

    def wires_of(self, target):
        return self.wires[int(target.removeprefix("wires-")) - 1]

    def is_whole(self):
        return all(server.is_whole() for server in self.nats)

    def promote(self):
        """Makes the replica what gateways call Redis; the old one stays dead."""
        self.replica.lead()
        self.redis, self.replica = self.replica, self.redis
        for wires in self.wires:
            wires.redis.target = self.redis.port
            wires.redis.cut()
            wires.redis.mend()


def gateway(directory, n, settings, config, flags, wires=None):
    nats = wires and Address(",".join(wire.url for wire in wires.nats))
    made = Gateway(directory, f"gateway-{n}", nats, wires and wires.redis, settings)
    made.config, made.flags = config, flags
    return made


def end(process):
    if process.is_running():
        process.kill()

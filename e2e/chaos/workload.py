"""Who publishes and who reads: small, and with each kind of channel, publisher and reader in it."""

import asyncio
import dataclasses
import time

from .history import Tier
from .publisher import HttpPublisher, Publisher
from .subscriber import Commuter, Guest, SlowReader, Subscriber

# After the faults: how long publishers may take for what is under way.
FINISH_WITHIN = 20

# Large enough that a reader who stalls for some seconds fills its queue.
FAT_BODY = 16_000
USERS = ("u1", "u2", "u3")


@dataclasses.dataclass
class Namespace:
    """How a namespace is configured, and what is checked of it."""

    tier: Tier
    size: int = 0
    ttl: int = 0

    def config(self, name):
        """Its part of the gateways' configuration."""
        lines = [f"[namespaces.{name}]"]
        if name != "user":
            lines += ['subscribe = ["authenticated"]', 'publish = ["authenticated"]']
        if self.tier is Tier.HISTORY:
            lines.append(f'history = {{ size = {self.size}, ttl = "{self.ttl}s" }}')
        if self.tier is Tier.QUEUE:
            lines.append(f'queue = {{ size = {self.size}, ttl = "{self.ttl}s" }}')
        return "\n".join(lines) + "\n"


def namespaces(history=False, queue=False):
    """Those of a gateway that has history and offline queues, or has not."""
    kept = Tier.HISTORY if history else Tier.PLAIN
    return {
        "plain": Namespace(Tier.PLAIN),
        "kept": Namespace(kept, size=2000, ttl=3600),
        "brief": Namespace(kept, size=20, ttl=3600),
        "user": Namespace(Tier.QUEUE if queue else Tier.PLAIN, size=100, ttl=3600),
    }


class Workload:
    def __init__(self, world, rate=1.0):
        self.world, self.tasks = world, []
        one_by_one = [("plain:1", 15), ("kept:1", 15), ("kept:2", 10), ("brief:1", 10)]
        self.publishers = [Publisher(world, f"p-{chan}", chan, rate=rate * n) for chan, n in one_by_one]
        self.publishers += [
            Publisher(world, f"pipelined-{chan}", chan, window=8, rate=rate * 20) for chan in ("plain:1", "kept:1")
        ]
        self.publishers.append(Publisher(world, "p-fat", "kept:fat", window=4, rate=60, body=FAT_BODY))
        self.publishers += [HttpPublisher(world, f"http-{user}", f"user:{user}", rate * 4) for user in USERS]
        self.slow = SlowReader(world, "slow", "slow", ["kept:fat", "plain:1"])
        steady = ["plain:1", "kept:1", "kept:2", "brief:1"]
        self.readers = [Subscriber(world, f"r{n}", f"reader{n}", steady) for n in range(3)]
        self.readers += [self.slow, Subscriber(world, "fat", "fat", ["kept:fat"])]
        self.readers.append(Guest(world, "guest", "guest", ["plain:1", "kept:2"]))
        self.readers += [Commuter(world, f"phone-{user}", user, ["kept:1", "brief:1"]) for user in USERS]
        self.readers.append(Subscriber(world, "desk-u1", "u1"))

    def start(self):
        self.tasks = [asyncio.create_task(client.run()) for client in [*self.publishers, *self.readers]]

    def check(self):
        """Raises what a client failed with: then the test itself is wrong."""
        for task in self.tasks:
            if task.done() and (error := task.exception()):
                raise error

    def roles(self):
        """Who must publish and who must hear what after the faults, for the log."""
        publishers = [[it.proc, it.chan] for it in self.publishers]
        readers = [[it.proc, chan] for it in self.readers for chan in self.channels(it)]
        return {"publishers": publishers, "readers": readers}

    def channels(self, reader):
        own = f"user:{reader.user}"
        return [*reader.chans, *([own] if reader.user in USERS else [])]

    def is_warm(self):
        """Whether each reader has heard something on each channel."""
        return all(reader.newest.get(chan) for reader in self.readers for chan in self.channels(reader))

    def connected(self):
        """The connections that are there now."""
        return {it.conn for it in [*self.publishers, *self.readers] if getattr(it, "conn", None)}

    async def finish(self, patience):
        """No new messages; what is under way ends, and everybody hears the last, or time is up."""
        self.world.finishing.set()
        await self.until(lambda: all(it.is_done for it in self.publishers), FINISH_WITHIN)
        await self.until(self.all_heard, patience)

    def all_heard(self):
        return all(
            reader.has_heard(it.chan, it.proc, it.last)
            for reader in self.readers
            for it in self.publishers
            if it.chan in self.channels(reader)
        )

    async def until(self, condition, deadline):
        end = time.monotonic() + deadline
        while not condition() and time.monotonic() < end:
            self.check()
            await asyncio.sleep(0.05)

    async def stop(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

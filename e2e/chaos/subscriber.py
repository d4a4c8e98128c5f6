"""Subscribers: each logs a message before it takes note of it, and resumes after the last that it noted."""

import asyncio
import time

from .history import Tier
from .publisher import is_intact
from .session import Session, place_of

# An expired token may be noticed this late.
EXPIRY_GRACE = 2.0
ACKNOWLEDGE_EVERY = 0.5
RETRY_WITHIN = 0.5


class Subscriber(Session):
    """Reads its channels, and what the server subscribes it to, for as long as the test runs."""

    def __init__(self, world, proc, user, chans=()):
        super().__init__(world, proc, user)
        self.chans = chans
        # The last position heard of each channel: what a resume asks to go on from.
        self.positions = {}
        self.asked = {}
        # The newest pseq heard, by channel and publisher.
        self.newest = {}
        self.unacknowledged = {}
        self.stalled_until = 0.0

    def stall(self, seconds):
        """From now on it reads nothing, for so long."""
        self.stalled_until = time.monotonic() + seconds

    async def before_reading(self):
        while (left := self.stalled_until - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def use(self):
        self.asked = {}
        for chan in self.channels:
            # The server's own doing, and live since `connected`.
            self.log("subscribe", "ok", chan=chan)
        for chan in self.chans:
            await self.subscribe(chan)
        while True:
            await asyncio.sleep(ACKNOWLEDGE_EVERY)
            await self.acknowledge()

    async def subscribe(self, chan):
        id, position = next(self.ids), self.positions.get(chan)
        members = {}
        if position:
            members = {"position": position, "age": int((time.monotonic() - self.heard) * 1000)}
        self.asked[id] = chan
        asked = place_of(position, "asked_")
        self.log("subscribe", "invoke", chan=chan, **asked)
        await self.send("subscribe", id=id, channel=chan, **members)

    async def acknowledge(self):
        for chan, position in self.unacknowledged.items():
            self.log("ack", "invoke", chan=chan, **place_of(position))
            await self.send("ack", position=position)
        self.unacknowledged = {}

    def on_frame(self, frame):
        match frame["type"]:
            case "message":
                self.on_message(frame)
            case "subscribed" | "error" if frame.get("id") in self.asked:
                self.on_answer(frame, self.asked.pop(frame["id"]))
            case "gap":
                self.log("gap", "info", chan=frame.get("channel"), reason=frame["reason"])
            case "evicted":
                count = frame["evicted"] + frame["expired"]
                self.log("evicted", "info", chan=f"user:{self.user}", count=count)
            case "unsubscribed":
                self.log("unsubscribed", "info", chan=frame["channel"])
                self.subscribe_again(frame["channel"])

    def on_message(self, frame):
        chan, data, position = frame["channel"], frame["data"], frame.get("position")
        place, intact = place_of(position), None if is_intact(data) else False
        self.log("receive", "ok", chan=chan, id=f"{data['pub']}-{data['pseq']}", intact=intact, **place)
        if position:
            self.positions[chan] = position
            if self.world.tier(chan) is Tier.QUEUE:
                self.unacknowledged[chan] = position
        newest = self.newest.setdefault(chan, {})
        newest[data["pub"]] = max(data["pseq"], newest.get(data["pub"], 0))

    def on_answer(self, frame, chan):
        if frame["type"] == "error":
            assert frame["retry"] != "no", frame
            self.log("subscribe", "fail", chan=chan, code=frame["code"])
            return self.subscribe_again(chan)
        position, asked = frame.get("position"), self.positions.get(chan)
        answer = {name: frame.get(name) for name in ("recovered", "replayed")}
        place = place_of(position) | place_of(asked, "asked_")
        self.log("subscribe", "ok", chan=chan, **place, **answer)
        if position and not frame.get("recovered"):
            self.positions[chan] = position

    def subscribe_again(self, chan):
        """After a moment, and on this connection only: a new one subscribes anew anyway."""
        conn = self.conn

        async def run():
            await asyncio.sleep(self.world.rng.uniform(0.05, RETRY_WITHIN))
            if self.conn == conn and self.socket:
                await self.subscribe(chan)

        task = asyncio.create_task(run())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def has_heard(self, chan, pub, pseq):
        return self.newest.get(chan, {}).get(pub, 0) >= pseq


class SlowReader(Subscriber):
    """One that is told to stall; its small buffer makes the gateway notice."""

    receive_buffer = 4096


class Guest(Subscriber):
    """One whose token expires after some seconds, and who then fetches a fresh one."""

    lifetime = 8

    async def use(self):
        expires = int(time.time()) + self.lifetime
        self.log("revoke", "info", grace=expires - time.time() + EXPIRY_GRACE)
        await super().use()


class Commuter(Subscriber):
    """A phone: away for some seconds, again and again, until the faults are over."""

    async def use(self):
        using = asyncio.create_task(super().use())
        try:
            while True:
                wait = self.world.rng.uniform(4, 10)
                await asyncio.wait([using], timeout=wait)
                if using.done():
                    return await using
                if not self.world.calm.is_set():
                    self.pause = self.world.rng.uniform(1, 5)
                    return
        finally:
            using.cancel()
            await asyncio.gather(using, return_exceptions=True)

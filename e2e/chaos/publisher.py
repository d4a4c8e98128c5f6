"""Publishers: each has one channel, numbers its messages, and repeats one until it knows its fate."""

import asyncio
import dataclasses
import time
import zlib

from api import PUBLISH_KEY, http

from .session import Lost, Session, place_of

# The gateway answers within 2 s; the rest is for a busy machine.
ANSWER_WITHIN = 5
BACK_OFF = 0.3


@dataclasses.dataclass
class Outgoing:
    pub: str
    chan: str
    pseq: int
    body: int

    @property
    def id(self):
        return f"{self.pub}-{self.pseq}"

    @property
    def data(self):
        return sealed({"pub": self.pub, "pseq": self.pseq, "pad": "x" * self.body})

    @property
    def members(self):
        """How the log names it."""
        return {"chan": self.chan, "pub": self.pub, "pseq": self.pseq, "id": self.id}


def sealed(data):
    return data | {"crc": checksum(data)}


def is_intact(data):
    return data.get("crc") == checksum({name: value for name, value in data.items() if name != "crc"})


def checksum(data):
    return zlib.crc32(repr(sorted(data.items())).encode())


class Publisher(Session):
    """Over WebSocket, with up to `window` messages under way.

    After a failure it waits for all answers, and then sends what has none that is good, in order.
    """

    def __init__(self, world, proc, chan, window=1, rate=10.0, body=0):
        super().__init__(world, proc, user=proc)
        self.chan, self.window, self.interval, self.body = chan, window, 1 / rate, body
        self.last = 0
        # By pseq, in order: not acknowledged yet.
        self.pending = {}
        # By command id: on their way over this connection, with the time of sending.
        self.in_flight = {}
        self.to_send = []
        self.in_trouble = False
        self.answered = asyncio.Event()
        self.due = time.monotonic()

    @property
    def is_done(self):
        return self.world.finishing.is_set() and not self.pending

    async def use(self):
        self.to_send, self.in_trouble = list(self.pending.values()), False
        while True:
            if self.in_trouble and not self.in_flight:
                await asyncio.sleep(self.world.rng.uniform(0, BACK_OFF))
                self.to_send, self.in_trouble = list(self.pending.values()), False
            if not self.in_trouble and self.to_send:
                await self.publish(self.to_send.pop(0))
            elif not self.in_trouble and self.may_start():
                self.to_send.append(self.next())
            else:
                await self.wait()

    def may_start(self):
        return len(self.pending) < self.window and time.monotonic() >= self.due and not self.world.finishing.is_set()

    def next(self):
        # It does not catch up on what an outage kept it from.
        self.due = max(self.due + self.interval, time.monotonic() - self.interval)
        self.last += 1
        message = Outgoing(self.proc, self.chan, self.last, self.body)
        self.pending[message.pseq] = message
        return message

    async def wait(self):
        """For an answer, or the time to send; not for ever."""
        self.answered.clear()
        patience = max(0.005, self.due - time.monotonic()) if not self.in_flight else 0.05
        try:
            await asyncio.wait_for(self.answered.wait(), min(patience, 1))
        except TimeoutError:
            oldest = next(iter(self.in_flight.values()), None)
            if oldest and time.monotonic() - oldest[1] > ANSWER_WITHIN:
                raise Lost("no answer") from None

    async def publish(self, message):
        id = next(self.ids)
        self.log("publish", "invoke", **message.members)
        self.in_flight[id] = (message, time.monotonic())
        await self.send("publish", id=id, channel=self.chan, data=message.data, message=message.id)

    def on_frame(self, frame):
        if frame.get("id") not in self.in_flight:
            return
        message, _ = self.in_flight.pop(frame["id"])
        self.answered.set()
        if frame["type"] == "published":
            place = place_of(frame.get("position"))
            self.log("publish", "ok", **message.members, **place, dup=frame.get("duplicate"))
            self.pending.pop(message.pseq, None)
            return
        self.in_trouble = True
        self.log("publish", outcome(frame["code"], frame["retry"]), **message.members, code=frame["code"])

    def on_lost(self):
        for message, _ in self.in_flight.values():
            self.log("publish", "info", **message.members, code="disconnected")
        self.in_flight = {}


def outcome(code, retry):
    """`info`: perhaps done; `fail`: not done. What can never be done means that this test is wrong."""
    assert retry != "no" or code == "publish_blocked", code
    return "info" if retry == "unknown" else "fail"


class HttpPublisher:
    """By HTTP, to any gateway, one after the other."""

    def __init__(self, world, proc, chan, rate=5.0):
        self.world, self.proc, self.chan, self.interval = world, proc, chan, 1 / rate
        self.last, self.pending = 0, None

    @property
    def is_done(self):
        return self.world.finishing.is_set() and not self.pending

    def log(self, type, **members):
        self.world.recorder.write("publish", type, proc=self.proc, **self.pending.members, **members)

    async def run(self):
        while not self.world.finishing.is_set():
            self.last += 1
            self.pending = Outgoing(self.proc, self.chan, self.last, 0)
            while not await self.publish():
                await asyncio.sleep(self.world.rng.uniform(0, BACK_OFF))
            self.pending = None
            await asyncio.sleep(self.interval)

    async def publish(self):
        url = f"{self.world.any_gateway().url}/v1/publish"
        body = {"channel": self.chan, "data": self.pending.data, "id": self.pending.id}
        self.log("invoke")
        try:
            answer = await asyncio.to_thread(http, "POST", url, body, ANSWER_WITHIN, x_api_key=PUBLISH_KEY)
        except OSError as error:
            self.log("info", code=type(error).__name__)
            return False
        if answer.status == 200:
            [stored] = answer.json.get("stored") or [{}]
            self.log("ok", **place_of(stored.get("position")), dup=stored.get("duplicate"))
            return True
        code = answer.json["code"]
        self.log("info" if code == "unknown" else "fail", code=code)
        return False

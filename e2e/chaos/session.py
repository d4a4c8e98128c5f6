"""A client that stays connected: to any gateway, over and over, as docs/protocol.md says."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import random
import socket
import time
import urllib.parse

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from harness import token

from .history import Tier
from .record import Recorder

OPEN_WITHIN = 3
# The server has 2 s for an answer; beyond this the client takes it for gone.
HEARD_WITHIN = 6
PING_EVERY = 2
LONGEST_PAUSE = 2.0


@dataclasses.dataclass
class World:
    """What all clients share."""

    recorder: Recorder
    gateways: list
    tiers: dict
    rng: random.Random
    # The faults are over: nobody goes away any more.
    calm: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    # No new messages any more: what is under way is finished.
    finishing: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def any_gateway(self):
        return self.rng.choice(self.gateways)

    def tier(self, chan):
        return self.tiers[chan.split(":")[0]]


class Lost(Exception):
    """This connection is of no use any more; `code` says why, in the log."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class Session:
    """One client (a proc of the log) with one connection at a time.

    Subclasses say what they do once connected (`use`), and what they hear (`on_frame`).
    """

    lifetime = 3600
    # A small one lets a client that does not read be noticed soon.
    receive_buffer = None

    def __init__(self, world, proc, user):
        self.world, self.proc, self.user = world, proc, user
        self.ids = itertools.count(1)
        self.socket = self.conn = self.channels = None
        self.pause = None
        self.heard = time.monotonic()

    def log(self, f, type, **members):
        self.world.recorder.write(f, type, proc=self.proc, conn=self.conn, **members)

    async def run(self):
        attempts = 0
        while True:
            try:
                async with asyncio.timeout(OPEN_WITHIN):
                    await self.open()
                attempts = 0
                await self.stay()
                code = "left"
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 1006
            except Lost as lost:
                code = lost.code
            except (OSError, TimeoutError, WebSocketException) as error:
                code = type(error).__name__
            await self.close(code)
            longest = min(LONGEST_PAUSE, 0.1 * 2 ** min(attempts, 10))
            pause, self.pause = self.pause, None
            await asyncio.sleep(self.world.rng.uniform(0, longest) if pause is None else pause)
            attempts += 1

    async def open(self):
        url = self.world.any_gateway().websocket_url
        self.socket = await connect(
            url,
            sock=await self.bare_socket(url),
            proxy=None,
            compression=None,
            ping_interval=None,
            close_timeout=0.5,
            max_queue=16,
            max_size=None,
        )
        jwt = token(self.user, exp=int(time.time()) + self.lifetime)
        acks = {"acks": "client"} if self.world.tier("user") is Tier.QUEUE else {}
        await self.send("connect", token=jwt, **acks)
        answer = json.loads(await self.socket.recv())
        if answer["type"] != "connected":
            # Refused, or told at once to come back elsewhere.
            raise Lost(answer.get("code", answer["type"]))
        self.conn, self.channels = answer["connection"], answer["channels"]
        self.heard = time.monotonic()
        self.log("connect", "ok", user=self.user)

    async def bare_socket(self, url):
        address = urllib.parse.urlsplit(url)
        bare = socket.socket()
        bare.setblocking(False)
        if self.receive_buffer:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(bare, (address.hostname, address.port))
        except BaseException:
            bare.close()
            raise
        return bare

    async def stay(self):
        """Until the connection is lost, or `use` returns."""
        tasks = [asyncio.create_task(it) for it in (self.use(), self.read(), self.ping())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def read(self):
        while True:
            await self.before_reading()
            try:
                text = await asyncio.wait_for(self.socket.recv(), HEARD_WITHIN)
            except TimeoutError:
                raise Lost("silence") from None
            self.heard = time.monotonic()
            frame = json.loads(text)
            if frame["type"] == "reconnect":
                self.pause = frame["after"] / 1000
            self.on_frame(frame)

    async def ping(self):
        while True:
            await asyncio.sleep(PING_EVERY)
            await self.send("ping")

    async def send(self, type, **members):
        await self.socket.send(json.dumps({"type": type} | members))

    async def close(self, code):
        if self.conn:
            self.log("disconnect", "info", code=code)
            self.on_lost()
        self.conn = None
        if self.socket:
            with contextlib.suppress(OSError, WebSocketException):
                await self.socket.close()
        self.socket = None

    async def before_reading(self):
        """Where a reader may dawdle."""

    async def use(self):
        raise NotImplementedError

    def on_frame(self, frame):
        raise NotImplementedError

    def on_lost(self):
        """What was under way on the connection has no answer."""


def place_of(position, prefix=""):
    """The members of the log for a position: `epoch.offset`, and perhaps a fingerprint."""
    if position is None:
        return {}
    epoch, offset, *_ = position.split(".")
    return {f"{prefix}epoch": epoch, f"{prefix}off": int(offset)}

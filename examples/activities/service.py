"""The service beside profiles/activities.toml: it says who may enter a room, and passes messages on.

    pip install nats-py
    python examples/activities/service.py --nats nats://127.0.0.1:4222 --rooms examples/activities/rooms.json

Instances share the requests: start as many as you like.
"""

import argparse
import asyncio
import dataclasses
import json
import pathlib
import signal
import uuid
from urllib.parse import unquote

import nats

LOBBY = "activities.all"


class Refused(Exception):
    """What the client is told in `error`."""


class Activities:
    def __init__(self, rooms, client):
        self.rooms, self.client = rooms, client

    def check(self, user, room):
        if user not in self.rooms.get(room, []):
            raise Refused("Unauthorized")

    async def publish(self, channel, event, data, **headers):
        headers = {"Fanfare-Event": event} | {name.replace("_", "-"): value for name, value in headers.items()}
        await self.client.publish(f"fanfare.ch.{channel}", json.dumps(data).encode(), headers=headers)

    async def join(self, asker, asked):
        """Nothing is joined here: the gateway does that when it has this answer."""
        self.check(asker.user, asked.get("roomId"))
        return {}

    async def send(self, asker, asked):
        """A message to the chat `chatId`, or to everybody; the sender learns its id."""
        if not isinstance(text := asked.get("text"), str) or not text:
            raise Refused("a message needs a text")
        if (chat := asked.get("chatId")) is not None:
            self.check(asker.user, chat)
        message = {"id": str(uuid.uuid4()), "chatId": chat, "userId": asker.user, "text": text}
        await self.publish(LOBBY if chat is None else f"room.{chat}", "message:new", message)
        return {"success": True, "messageId": message["id"]}

    async def typing(self, asker, asked):
        """The others in the chat are told who types."""
        self.check(asker.user, chat := asked.get("chatId"))
        said = {"chatId": chat, "userId": asker.user}
        await self.publish(f"room.{chat}", "typing:start", said, Fanfare_Exclude_Connections=asker.connection)
        return {}


@dataclasses.dataclass
class Asker:
    """The gateway says who asks; clients cannot."""

    user: str
    connection: str

    @classmethod
    def of(cls, request):
        return cls(unquote(request.headers["Fanfare-User"]), request.headers["Fanfare-Connection"])


async def serve(client, method):
    """At the address that has the method's name."""

    async def reply(request):
        try:
            asked = json.loads(request.data)
            if not isinstance(asked, dict):
                raise Refused("an object is needed")
            await request.respond(json.dumps(await method(Asker.of(request), asked)).encode())
        except Refused as refusal:
            headers = {"Nats-Service-Error": str(refusal), "Nats-Service-Error-Code": "403"}
            await client.publish(request.reply, headers=headers)

    await client.subscribe(f"fanfare.rq.activities.{method.__name__}", queue="activities", cb=reply)


async def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--nats", default="nats://127.0.0.1:4222")
    options.add_argument("--rooms", type=pathlib.Path, required=True, help="JSON: the users of each room")
    options = options.parse_args()
    client = await nats.connect(options.nats)
    activities = Activities(json.loads(options.rooms.read_text()), client)
    for method in (activities.join, activities.send, activities.typing):
        await serve(client, method)
    await client.flush()
    print("ready", flush=True)
    await ended()
    await client.drain()


async def ended():
    end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    await end.wait()


asyncio.run(main())

"""The service beside profiles/platform-admin.toml: features of packages for clients, figures for admins.

    pip install nats-py
    python examples/platform-admin/service.py --nats nats://127.0.0.1:4222 \
        --packages examples/platform-admin/packages.json

The figures are this instance's own; a real application asks its database.
"""

import argparse
import asyncio
import collections
import json
import os
import pathlib
import signal
import time

import nats

FEED = 50


class Refused(Exception):
    """What the client is told."""


class Packages:
    """What clients ask for. Their package comes from their token: the gateway adds it."""

    def __init__(self, packages):
        self.packages, self.reports = packages, 0

    def of(self, asked):
        try:
            return self.packages[str(asked["package"])]
        except KeyError:
            raise Refused("no such package") from None

    def client_connect(self, asked):
        return {"features": [feature["key"] for feature in self.of(asked)["features"]]}

    def config_check(self, asked):
        return self.of(asked)

    def feature_check(self, asked):
        key = asked.get("feature")
        return {"feature": key, "enabled": any(feature["key"] == key for feature in self.of(asked)["features"])}

    def report_metrics(self, _asked):
        self.reports += 1
        return {"ok": True}


class Figures:
    """What administrators ask for."""

    def __init__(self, packages):
        self.packages, self.started = packages, time.monotonic()
        self.feed = collections.deque(maxlen=FEED)

    async def note(self, change):
        """A change of a platform, feature or package, as anybody published it."""
        channel = change.subject.split(".", 2)[2].replace(".", ":")
        event = (change.headers or {}).get("Fanfare-Event", "update")
        self.feed.appendleft({"channel": channel, "event": event, "at": int(time.time() * 1000)})

    def request_dashboard_update(self, _asked):
        return {
            "packages": len(self.packages.packages),
            "metric_reports": self.packages.reports,
            "changes": len(self.feed),
        }

    def request_activity_feed(self, _asked):
        return {"activities": list(self.feed)}

    def request_system_metrics(self, _asked):
        return {"load": os.getloadavg()[0], "uptime_seconds": round(time.monotonic() - self.started, 3)}


async def serve(client, namespace, answer):
    """`answer` is a method, whose name is the event."""

    async def reply(request):
        try:
            asked = json.loads(request.data)
            answered = answer(asked if isinstance(asked, dict) else {})
            await request.respond(json.dumps(answered).encode())
        except Refused as refusal:
            headers = {"Nats-Service-Error": str(refusal), "Nats-Service-Error-Code": "404"}
            await client.publish(request.reply, headers=headers)

    await client.subscribe(f"fanfare.rq.{namespace}.{answer.__name__}", queue="platform-admin", cb=reply)


async def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--nats", default="nats://127.0.0.1:4222")
    options.add_argument("--packages", type=pathlib.Path, required=True, help="JSON: packages by their id")
    options = options.parse_args()
    client = await nats.connect(options.nats)
    packages = Packages(json.loads(options.packages.read_text()))
    figures = Figures(packages)
    for namespace in ("platform", "feature", "package"):
        await client.subscribe(f"fanfare.ch.{namespace}.*", cb=figures.note)
    for answer in (packages.client_connect, packages.config_check, packages.feature_check, packages.report_metrics):
        await serve(client, "client", answer)
    for answer in (figures.request_dashboard_update, figures.request_activity_feed, figures.request_system_metrics):
        await serve(client, "admin", answer)
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

"""A service on NATS: the official Python client, driven from tests that are not async."""

import asyncio
import threading

import nats


class Nats:
    def __init__(self, url):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.client = self.run(nats.connect(url))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.run(self.client.close())
        self.loop.call_soon_threadsafe(self.loop.stop)

    def run(self, coroutine, deadline=10):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(deadline)

    def publish(self, subject, body, **headers):
        """Header names have `_` for `-`. Returns when the server has it."""
        self.run(self.client.publish(subject, body, headers=dashed(headers)))
        self.run(self.client.flush())

    def request(self, subject, body, **headers):
        """The answer's body."""
        return self.run(self.client.request(subject, body, timeout=5, headers=dashed(headers))).data

    def listen(self, subject):
        """A list of what comes, which grows."""
        heard = []
        self.serve(subject, heard.append)
        return heard

    def serve(self, subject, answer):
        """`answer(request)` returns body and headers, or None for no answer at all."""

        async def reply(request):
            if answered := answer(request):
                body, headers = answered
                await self.client.publish(request.reply, body, headers=headers)

        self.run(self.client.subscribe(subject, cb=reply))
        self.run(self.client.flush())


def dashed(headers):
    return {name.replace("_", "-"): value for name, value in headers.items()} or None

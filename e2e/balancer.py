"""A load balancer that never sticks: each HTTP request of a client goes to the next upstream.

By itself, for suites that know one address: python e2e/balancer.py PORT UPSTREAM_PORT…
"""

import asyncio
import contextlib
import itertools
import re
import sys
import threading

HEAD_BYTES = 64 * 1024


class Balancer:
    """Each connection carries one request, so that the next one is balanced anew."""

    def __init__(self, upstreams, port=0):
        self.turns = itertools.cycle(upstreams)
        self.count = len(upstreams)
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(
            asyncio.start_server(self.serve, "127.0.0.1", port, limit=HEAD_BYTES)
        )
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self.end(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def end(self):
        self.server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def serve(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            near, far = await self.connect()
            with contextlib.closing(far):
                far.write(one_request(head))
                # Whoever ends, the client or the upstream: the other one is to know.
                ends = [asyncio.ensure_future(carry(reader, far)), asyncio.ensure_future(carry(near, writer))]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for end in ends:
                    end.cancel()

    async def connect(self):
        """To the next one, or to the next after it that is there."""
        for _ in range(self.count):
            with contextlib.suppress(ConnectionRefusedError):
                return await asyncio.open_connection("127.0.0.1", next(self.turns))
        raise ConnectionRefusedError


def one_request(head):
    if re.search(rb"\r\nupgrade:", head, re.IGNORECASE):
        return head
    head = re.sub(rb"\r\nconnection:[^\r]*", b"", head, flags=re.IGNORECASE)
    return head[:-2] + b"Connection: close\r\n\r\n"


async def carry(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


if __name__ == "__main__":
    own, *others = map(int, sys.argv[1:])
    Balancer(others, own).loop.run_forever()

"""`make demo-offline`: messages wait for a user who is away, though the gateway that the user had is killed.

Three gateways, NATS with JetStream and Redis, all real, as local processes.
"""

import contextlib
import pathlib
import sys
import tempfile

from api import Api
from bus import Nats
from client import Client
from harness import Gateway, NatsServer, RedisServer, token, wait_until

USER = "alice"


def main(directory):
    with contextlib.ExitStack() as stack:

        def start(process):
            stack.callback(lambda: process.is_running() and process.kill())
            return process.start()

        nats, redis = start(NatsServer(directory)), start(RedisServer(directory))
        gateways = [start(Gateway(directory, f"gateway-{n}", nats, redis)) for n in (1, 2, 3)]
        tell("three gateways are up, with NATS and Redis")
        play(gateways, nats)


def play(gateways, nats):
    first, second, third = gateways
    tell(f"{USER} connects to gateway-1, and leaves")
    with Client(first.websocket_url, token(USER)):
        pass

    tell("the order service publishes to her, by NATS alone: no SDK, no envelope")
    with Nats(nats.url) as service:
        service.request(f"fanfare.ch.user.{USER}", b'{"order":7,"state":"packed"}')
    tell("the billing service publishes to her, by HTTP to gateway-2")
    Api(second).publish(users=[USER], event="invoice", data={"order": 7, "total": 12.5})
    tell("bob publishes to her, over his WebSocket to gateway-3")
    with Client(third.websocket_url, token("bob")) as bob:
        bob.ask("publish", channel=f"user:{USER}", event="said", data="see you")

    wait_until(lambda: waiting(second) == 3, "three messages wait")
    tell("three messages wait for her; gateway-1 is killed (SIGKILL)")
    first.kill()

    tell(f"{USER} comes back, to gateway-2:")
    with Client(second.websocket_url) as alice:
        alice.ask("connect", token=token(USER), acks="client")
        messages = [alice.expect("message") for _ in range(3)]
        for message in messages:
            print(f"    {message['data']}   at {message['position']}")
        expected = [{"order": 7, "state": "packed"}, {"order": 7, "total": 12.5}, "see you"]
        assert [message["data"] for message in messages] == expected, messages
        alice.ask("ack", position=messages[-1]["position"])
    wait_until(lambda: waiting(third) == 0, "nothing waits")
    tell("all of them, in order; she has acknowledged them, and her queue is empty")
    with Client(third.websocket_url) as alice:
        alice.ask("connect", token=token(USER), acks="client")
        alice.ask("ping")
        assert not alice.aside, alice.aside
    tell("she comes once more, to gateway-3: nothing is given twice")


def waiting(gateway):
    return len(Api(gateway).get(f"/v1/users/{USER}/queue")["pending"])


def tell(text):
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    with tempfile.TemporaryDirectory(prefix="fanfare-demo-") as directory:
        main(pathlib.Path(directory))

"""Redis as a cluster: every script and every sweep keeps to the slots that it may touch."""

import socket

import pytest

from api import ADMIN_KEY, Api, http
from client import Client
from harness import Gateway, NatsServer, RedisServer, free_port, token, wait_until

SLOTS = 16384
NODES = 3
USERS = [f"user-{n}" for n in range(12)]
CLUBS = [f"club:{n}" for n in range(4)]


class Node(RedisServer):
    def __init__(self, directory, name):
        super().__init__(directory, name)
        self.bus = free_port()

    def command(self):
        return [*super().command(), "--cluster-enabled", "yes", "--cluster-port", str(self.bus)]

    def is_whole(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(b"CLUSTER INFO\r\nQUIT\r\n")
            info = connection.makefile().read()
        return "cluster_state:ok" in info and f"cluster_known_nodes:{NODES}" in info


class RedisCluster:
    def __init__(self, processes, directory):
        nodes = [processes(Node(directory, f"redis-{n}")) for n in range(NODES)]
        for n, node in enumerate(nodes):
            first, end = SLOTS * n // NODES, SLOTS * (n + 1) // NODES
            assert node.ask(f"CLUSTER ADDSLOTSRANGE {first} {end - 1}") == "+OK"
            assert node.ask(f"CLUSTER MEET 127.0.0.1 {nodes[0].port} {nodes[0].bus}") == "+OK"
        wait_until(lambda: all(node.is_whole() for node in nodes), "the nodes know each other", 20)
        others = "&".join(f"node=127.0.0.1:{node.port}" for node in nodes[1:])
        self.url = f"redis-cluster://127.0.0.1:{nodes[0].port}?{others}"


@pytest.fixture
def gateways(processes, tmp_path):
    nats, redis = processes(NatsServer(tmp_path)), RedisCluster(processes, tmp_path)
    leases = {"presence.lease": "3s", "presence.renew": "1s"}
    return [processes(Gateway(tmp_path, f"gateway-{n}", nats, redis, leases)) for n in (1, 2)]


def test_all_that_is_in_redis_may_be_in_several(gateways):
    first, second = gateways
    for user in USERS:
        Api(first).publish(users=[user], data=user)
    sessions = [take_what_waits(second, user) for user in USERS]
    wait_until(lambda: Api(first).get("/v1/queue")["pending"] == 0, "all queues are empty")

    members = []
    for user, session, club in zip(USERS, sessions, CLUBS * len(USERS), strict=False):
        client = Client((first if user in USERS[::2] else second).websocket_url)
        assert client.ask("connect", session=session)["resumed"]
        members.append(client.subscribe(club))
    wait_until(lambda: sum(map(len, members_of(first))) == len(USERS), "all are listed")

    ticket = http("POST", f"{first.url}/v1/tickets", {"user": "guest"}, x_api_key=ADMIN_KEY).json["ticket"]
    with Client(f"{second.websocket_url}?ticket={ticket}") as guest:
        guest.expect("connected", user="guest")

    first.kill()
    wait_until(
        lambda: sorted(sum(members_of(second), [])) == sorted(USERS[1::2]), "the dead one's members are gone", 20
    )


def take_what_waits(gateway, user):
    """Returns the secret of the session."""
    with Client(gateway.websocket_url) as client:
        connected = client.ask("connect", token=token(user), acks="client", session=True)
        message = client.expect("message", data=user)
        client.ask("ack", position=message["position"])
        return connected["session"]


def members_of(gateway):
    return [[it["user"] for it in Api(gateway).get(f"/v1/channels/{club}/members")["members"]] for club in CLUBS]

"""Fixtures. Processes have free ports, and data and logs in a temporary directory.

Tests share a `site`, with channels of their own. A test that stops, kills or configures something
starts it for itself, by `start_gateway` and `start_cluster`.
"""

import contextlib
import dataclasses
import uuid

import pytest

from api import Api
from application import Application, ProfileGateway, Served
from bus import Nats
from client import Client
from harness import Gateway, NatsServer, RedisServer, token


@dataclasses.dataclass
class Site:
    """Gateways that deliver each other's messages."""

    gateways: list[Gateway]
    nats: NatsServer | None = None
    redis: RedisServer | None = None

    @property
    def first(self):
        return self.gateways[0]

    @property
    def last(self):
        """Another gateway than the first, where there are several."""
        return self.gateways[-1]

    @property
    def api(self):
        return Api(self.first)


@contextlib.contextmanager
def processes_in(directory):
    """What is started through it is stopped at the end, last first, even when a stop fails."""
    with contextlib.ExitStack() as stack:

        def start(process):
            stack.callback(lambda: process.is_running() and process.stop())
            return process.start()

        start.directory = directory
        yield start


def cluster_of(count, start, settings=None):
    nats, redis = start(NatsServer(start.directory)), start(RedisServer(start.directory))
    names = [f"gateway-{n + 1}" for n in range(count)]
    gateways = [start(Gateway(start.directory, name, nats, redis, settings)) for name in names]
    return Site(gateways, nats, redis)


@pytest.fixture
def processes(tmp_path):
    with processes_in(tmp_path) as start:
        yield start


@pytest.fixture
def nats_server(processes, tmp_path):
    return processes(NatsServer(tmp_path))


@pytest.fixture
def redis_server(processes, tmp_path):
    return processes(RedisServer(tmp_path))


@pytest.fixture
def start_gateway(processes, tmp_path):
    """start_gateway(name, nats, redis, settings): as many as the test wants."""
    return lambda *arguments, **options: processes(Gateway(tmp_path, *arguments, **options))


@pytest.fixture
def gateway(start_gateway):
    """One embedded gateway."""
    return start_gateway()


@pytest.fixture
def start_cluster(processes):
    """start_cluster(count, settings): a site for this test alone."""
    return lambda count, settings=None: cluster_of(count, processes, settings)


@pytest.fixture(scope="session")
def embedded_site(tmp_path_factory):
    with processes_in(tmp_path_factory.mktemp("embedded")) as start:
        yield Site([start(Gateway(start.directory))])


@pytest.fixture(scope="session")
def compressing(tmp_path_factory):
    """A gateway that lets clients negotiate compression."""
    with processes_in(tmp_path_factory.mktemp("compressing")) as start:
        yield start(Gateway(start.directory, settings={"websocket.compression": "true"}))


@pytest.fixture(scope="session")
def cluster_site(tmp_path_factory):
    """Three gateways."""
    with processes_in(tmp_path_factory.mktemp("cluster")) as start:
        yield cluster_of(3, start)


@pytest.fixture(params=["embedded", "cluster"])
def site(request):
    """One gateway with everything embedded, then three over NATS and Redis."""
    return request.getfixturevalue(f"{request.param}_site")


@pytest.fixture
def nats(cluster_site):
    """A service on the cluster's NATS."""
    with Nats(cluster_site.nats.url) as client:
        yield client


@pytest.fixture
def unique():
    return uuid.uuid4().hex[:12]


@pytest.fixture
def venue(unique):
    """A channel that clients may only read."""
    return f"venue:{unique}"


@pytest.fixture
def chat(unique):
    """A channel that clients may also publish to."""
    return f"chat:{unique}"


@pytest.fixture
def connect():
    """connect(gateway): a client that has said who it is; connect(gateway, jwt) as somebody else."""
    with contextlib.ExitStack() as stack:

        def connect(gateway, jwt=None, **options):
            return stack.enter_context(Client(gateway.websocket_url, jwt or token("alice"), **options))

        yield connect


@pytest.fixture
def subscribers(site, connect):
    """subscribers(channel…): a client on each gateway of the site, subscribed."""
    return lambda *channels: [connect(gateway).subscribe(*channels) for gateway in site.gateways]


@pytest.fixture(scope="module")
def profile_processes(tmp_path_factory):
    with processes_in(tmp_path_factory.mktemp("profile")) as start:
        yield start


@pytest.fixture(scope="module")
def embedded_profile(request, profile_processes):
    """One gateway that serves the module's PROFILE."""
    settings = getattr(request.module, "SETTINGS", None)
    gateway = ProfileGateway(request.module.PROFILE, profile_processes.directory, settings=settings)
    return Served([profile_processes(gateway)], None, None)


@pytest.fixture(scope="module")
def cluster_profile(request, profile_processes):
    """Two gateways that serve the module's PROFILE."""
    start, settings = profile_processes, getattr(request.module, "SETTINGS", None)
    nats, redis = start(NatsServer(start.directory)), start(RedisServer(start.directory))
    gateways = [
        start(ProfileGateway(request.module.PROFILE, start.directory, name, nats, redis, settings))
        for name in ("gateway-1", "gateway-2")
    ]
    with Nats(nats.url) as bus:
        yield Served(gateways, nats, bus)


@pytest.fixture(params=["embedded", "cluster", "cluster by NATS"])
def served(request):
    """Services publish over HTTP to one gateway, to one of two, and over NATS."""
    site, _, over_nats = request.param.partition(" by ")
    served = request.getfixturevalue(f"{site}_profile")
    return dataclasses.replace(served, bus=served.bus if over_nats else None)


@pytest.fixture
def application():
    """application(script, argument…): an application's client in Node."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(Application(*arguments))

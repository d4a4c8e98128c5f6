"""What is measured: how each server is started, spoken to and asked for its version."""

import contextlib
import dataclasses
import json
import pathlib
import re
import socket
import subprocess
from collections.abc import Callable

from .machine import output
from .processes import ENVIRONMENT, TOP, Failure, Server, Unavailable, free_port

LOADTEST = TOP / "target" / "release" / "loadtest"
FANFARE = TOP / "target" / "release" / "fanfare"
PEERS = TOP / "loadtest" / "peers"
UWEBSOCKETS_PYTHON = TOP / ".tools" / "uwebsockets" / "bin" / "python"


@dataclasses.dataclass(frozen=True)
class Target:
    """`name` is that of `loadtest --target` too, unless `template` is given."""

    name: str
    label: str
    start: Callable
    version: Callable = lambda: None
    tools: tuple[str, ...] = ()
    token: str = "no token"
    template: str | None = None
    url: str | None = None


@dataclasses.dataclass
class Running:
    """Servers that are up: `servers` by name, the addresses of those that loadtest connects to."""

    ports: list[int]
    servers: dict[str, Server]


class Bench:
    """Where servers keep their logs and data, and the secret that tokens are signed with."""

    def __init__(self, directory, secret_file):
        self.directory = directory
        self.secret_file = secret_file
        self.secret = secret_file.read_text(encoding="ascii")


def _start(stack, bench, name, command, port, **environment):
    server = Server(name, command, port, bench.directory / "logs", environment)
    stack.callback(server.stop)
    return server


def _alone(name, command, **variables):
    """A single process; `{port}` in its command and in its environment is its port."""

    def start(stack, bench):
        port = free_port()
        filled = {key: value.format(port=port, secret=bench.secret) for key, value in variables.items()}
        words = [str(word).format(port=port) for word in command]
        return Running([port], {name: _start(stack, bench, name, words, port, **filled)})

    return start


def _gateway(stack, bench, name, *options, **environment):
    port, admin = free_port(), free_port()
    addresses = ["--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin}"]
    command = [FANFARE, "serve", "--config", TOP / "loadtest" / "bench" / "fanfare.toml", *addresses, *options]
    environment["FANFARE__AUTH__HMAC_SECRET_FILE"] = str(bench.secret_file)
    return port, _start(stack, bench, name, command, port, **environment)


def _fanfare(stack, bench):
    port, server = _gateway(stack, bench, "fanfare")
    return Running([port], {"fanfare": server})


def _deflating(stack, bench):
    try:
        port, server = _gateway(stack, bench, "fanfare", FANFARE__WEBSOCKET__COMPRESSION="true")
    except Failure as failure:
        raise Unavailable(f"no permessage-deflate in this gateway: {failure}") from failure
    if not _negotiates_deflate(port):
        raise Unavailable("the gateway does not negotiate permessage-deflate")
    return Running([port], {"fanfare": server})


def _negotiates_deflate(port):
    """Whether the server at this port takes permessage-deflate up."""
    request = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Protocol: fanfare.v1\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
        stream.sendall(request.encode("ascii"))
        answer = b""
        while b"\r\n\r\n" not in answer and (part := stream.recv(4096)):
            answer += part
    return b"permessage-deflate" in answer.lower()


def _cluster(gateways):
    def start(stack, bench):
        nats_port, redis_port = free_port(), free_port()
        nats = ["nats-server", "--addr", "127.0.0.1", "--port", nats_port]
        # A directory of its own, new each time: what JetStream kept is not part of a measurement.
        store = bench.directory / "data" / str(nats_port)
        store.mkdir(parents=True)
        redis = ["redis-server", "--bind", "127.0.0.1", "--port", redis_port, "--dir", store, "--save", ""]
        servers = {
            "nats-server": _start(stack, bench, "nats-server", [*nats, "--jetstream", "--store_dir", store], nats_port),
            "redis-server": _start(stack, bench, "redis-server", redis, redis_port),
        }
        urls = ["--nats", f"nats://127.0.0.1:{nats_port}", "--redis", f"redis://127.0.0.1:{redis_port}"]
        ports = []
        for number in range(1, gateways + 1):
            name = f"gateway-{number}"
            port, servers[name] = _gateway(stack, bench, name, *urls)
            ports.append(port)
        return Running(ports, servers)

    return start


def _floor(group):
    return _alone("floor", [LOADTEST, "floor", "--listen", "127.0.0.1:{port}", "--group", group])


def _npm_version(package):
    def version():
        with contextlib.suppress(OSError):
            manifest = (PEERS / "node_modules" / package / "package.json").read_text(encoding="utf-8")
            return f"{package} {json.loads(manifest)['version']}, Node {output('node', '--version')}"
        return None

    return version


def _socketify_version():
    code = "from importlib.metadata import version; import sys; print(version('socketify'), sys.version.split()[0])"
    versions = output(str(UWEBSOCKETS_PYTHON), "-c", code)
    return versions and "socketify {}, Python {}".format(*versions.split())


def _fanfare_version():
    commit = output("git", "describe", "--always", "--dirty") or "unknown"
    return f"{output(str(FANFARE), 'version')}, commit {commit}"


def _nats_version():
    return output("nats-server", "--version")


def _cluster_version():
    return f"{_fanfare_version()}, {_nats_version()}, {output('redis-server', '--version')}"


FANFARE_URL = "ws://127.0.0.1:{port}/ws"
_FANFARE = {"version": _fanfare_version, "token": "HS256", "url": FANFARE_URL}
_CLUSTER = _FANFARE | {"tools": ("nats", "redis"), "template": "fanfare", "version": _cluster_version}
_FLOOR = {"template": "floor", "url": "ws://127.0.0.1:{port}/"}

TARGETS = {
    target.name: target
    for target in (
        Target("fanfare", "**Fanfare**", _fanfare, **_FANFARE),
        Target("floor", "floor: bare `send(2)` loop", _floor(1), **_FLOOR),
        Target("floor-4", "floor, 4 frames per call", _floor(4), **_FLOOR),
        Target("floor-16", "floor, 16 frames per call", _floor(16), **_FLOOR),
        Target(
            "uwebsockets",
            "uWebSockets (`socketify`)",
            _alone("uwebsockets", [UWEBSOCKETS_PYTHON, PEERS / "uwebsockets.py", "{port}"]),
            _socketify_version,
            ("uwebsockets",),
        ),
        Target(
            "nats",
            "nats-server over WebSocket",
            _alone("nats", ["nats-server", "-c", PEERS / "nats.conf"], BENCH_PORT="{port}"),
            _nats_version,
            ("nats",),
        ),
        Target(
            "centrifugo",
            "Centrifugo",
            _alone(
                "centrifugo",
                ["centrifugo", "--config", PEERS / "centrifugo.json"],
                CENTRIFUGO_HTTP_SERVER_PORT="{port}",
                CENTRIFUGO_CLIENT_TOKEN_HMAC_SECRET_KEY="{secret}",
            ),
            lambda: output("centrifugo", "version"),
            ("centrifugo",),
            "HS256",
        ),
        Target(
            "ws",
            "Node `ws`",
            _alone("ws", ["node", PEERS / "ws.mjs", "{port}"]),
            _npm_version("ws"),
            ("node-peers",),
        ),
        Target(
            "socketio",
            "Node `socket.io`",
            _alone("socketio", ["node", PEERS / "socketio.mjs", "{port}"], BENCH_SECRET="{secret}"),
            _npm_version("socket.io"),
            ("node-peers",),
            "HS256",
        ),
        Target("fanfare-deflate", "Fanfare, permessage-deflate", _deflating, **_FANFARE),
        Target("cluster-1", "Fanfare, cluster tier, one gateway", _cluster(1), **_CLUSTER),
        Target("cluster-2", "Fanfare, cluster tier, two gateways", _cluster(2), **_CLUSTER),
    )
}
BESIDE = ("fanfare", "floor", "uwebsockets", "nats", "centrifugo", "ws", "socketio")


def install(target):
    """Installs what the target needs. Fails with the reason where that cannot be had."""
    for tool in target.tools:
        done = subprocess.run(
            ["scripts/tools.sh", tool], cwd=TOP, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"scripts/tools.sh {tool} failed"]
            raise Unavailable(re.sub(r"^error: ", "", lines[-1]))


def template_arguments(target, ports):
    """How loadtest is told to speak to the servers at these ports."""
    name = target.template or target.name
    template = pathlib.Path("loadtest") / "targets" / f"{name}.toml"
    if target.url is None:
        return ["--target", template, "--port", ports[0]]
    chosen = template if (TOP / template).exists() else name
    urls = (("--url", target.url.format(port=port)) for port in ports)
    return ["--target", chosen, *(word for pair in urls for word in pair)]

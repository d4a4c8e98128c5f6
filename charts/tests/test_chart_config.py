"""What the chart configures is taken by what it starts: the gateway's own binary, NATS and Redis."""

import asyncio
import re
import socket
import subprocess
import tomllib

import jwt
import nats
import pytest
import requests
import yaml

import parts
from client import Client
from harness import FANFARE, Gateway, NatsServer, RedisServer, free_port, wait_until

SECRETS = "/run/secrets/fanfare"
# A public key for nothing but these tests.
PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEs08+9/B9sSHsHCGeOxc91WdcEoWB
vXwf9qKSsb66kwPZWNIjvUr9/Hyuxhxqdp2VUzhxrdSQaRqyiADJvsUw+g==
-----END PUBLIC KEY-----
"""
WEBHOOK = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def content(key):
    """What a Secret may hold under a key."""
    known = {"es256.pem": PUBLIC_KEY, "billing": WEBHOOK, "url": "redis://push:word@redis.example.com:6379"}
    return known.get(key, f"{key}-{'0123456789' * 7}")


def pod_files(manifests, directory):
    """Lays out the gateway's files below `directory`, as its pod has them."""
    _, spec = parts.pod(manifests, parts.gateways(manifests))
    text = parts.configuration(manifests).replace(SECRETS, f"{directory}/secrets")
    (directory / "fanfare.toml").write_text(text)
    for volume in spec["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            for item in source.get("secret", {}).get("items", []):
                path = directory / "secrets" / item["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content(item["key"]))
    for each in manifests.all("ConfigMap"):
        if each["metadata"]["name"].endswith("-profiles"):
            for name, profile in each["data"].items():
                (directory / name).write_text(profile)
                yield directory / name


def environment(container, given):
    """As the kubelet makes it: `given` says what fields and Secrets hold."""
    made = {}
    for variable in container["env"]:
        value = variable.get("value")
        if value is None:
            source = variable["valueFrom"]
            value = given(source.get("secretKeyRef", {}).get("key") or source["fieldRef"]["fieldPath"])
        made[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda match: made.get(match[1], match[0]), value)
    return made


def fanfare(*arguments, **variables):
    command = [FANFARE, *map(str, arguments)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=20)


def test_gateways_take_their_configuration(render, ci, tmp_path):
    manifests = render(ci)
    profiles = list(pod_files(manifests, tmp_path))
    fields = {"status.podIP": "2001:db8::1" if ci == "tls" else "192.0.2.1", "metadata.name": "fanfare-0"}
    variables = environment(parts.gateway(manifests), lambda key: fields.get(key) or content(key))
    done = fanfare("config", "check", tmp_path / "fanfare.toml", **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    for profile in profiles:
        done = fanfare("profile", "check", profile)
        assert done.returncode == 0, done.stdout + done.stderr


VALUES = """
replicas: 1
nats: {bundled: {enabled: false}}
valkey: {bundled: {enabled: false}}
tests: {enabled: false}
auth: {existingSecret: given}
config:
  telemetry: {trace_sample: 0.25, otlp_endpoint: null}
  websocket: {compression: true}
  limits: {subscriptions: 1000000, message_bytes: 64KiB}
  auth: {claims: {keep: ['a "quoted" näme']}, api_keys: []}
  namespaces: {Big: {history: {size: 10000}}, "*": {subscribe: [anyone]}, empty: {}}
"""


def test_every_kind_of_value_can_be_set(render, tmp_path):
    (tmp_path / "values.yaml").write_text(VALUES)
    manifests = render(str(tmp_path / "values.yaml"))
    list(pod_files(manifests, tmp_path))
    done = fanfare("config", "show", "--config", tmp_path / "fanfare.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = tomllib.loads(done.stdout)
    assert shown["telemetry"]["trace_sample"] == 0.25 and shown["websocket"]["compression"] is True
    assert shown["limits"]["subscriptions"] == 1_000_000 and shown["limits"]["message_bytes"] in (65536, "64KiB")
    assert shown["auth"]["claims"]["keep"] == ['a "quoted" näme']
    assert set(shown["namespaces"]) == {"Big", "*", "empty"} and shown["namespaces"]["Big"]["history"]["size"] == 10000


class ChartGateway(Gateway):
    """The gateway of a rendering, on free ports of this machine."""

    def __init__(self, directory, manifests, settings=None):
        super().__init__(directory, settings=settings)
        self.manifests = manifests
        list(pod_files(manifests, self.directory))
        self.config = self.directory / "fanfare.toml"

    def environment(self):
        return super().environment() | {"FANFARE__HTTP__INTERNAL_LISTEN": "127.0.0.1:0"}


@pytest.fixture
def processes():
    started = []

    def start(process):
        started.append(process)
        return process.start()

    yield start
    for process in reversed(started):
        process.kill()


def test_probes_ask_for_what_there_is(render, processes, tmp_path):
    manifests = render("minimal")
    gateway = processes(ChartGateway(tmp_path, manifests))
    container = parts.gateway(manifests)
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert requests.get(gateway.admin_url + container[kind]["httpGet"]["path"], timeout=5).status_code == 200
    assert "fanfare_connections" in requests.get(f"{gateway.admin_url}/metrics", timeout=5).text


class ChartNats(NatsServer):
    """One of the bundled servers, which find each other by port instead of by name."""

    def __init__(self, directory, manifests, number, routes):
        super().__init__(directory, f"fanfare-nats-{number}")
        self.manifests, self.route, self.routes = manifests, routes[number], routes

    def command(self):
        text = self.manifests.one("ConfigMap", "fanfare-nats")["data"]["nats.conf"]
        places = {
            "port: 4222": f"port: {self.port}\nhost: 127.0.0.1",
            "http_port: 8222": f"http_port: {self.monitor}",
            "port: 6222": f"port: {self.route}\n  host: 127.0.0.1",
            "/run/nats": str(self.directory),
            "/data": str(self.directory),
        }
        for old, new in places.items():
            assert old in text, old
            text = re.sub(rf"(?<![\w]){re.escape(old)}", new, text)
        (self.directory / "nats.conf").write_text(text)
        return ["nats-server", "--config", self.directory / "nats.conf"]

    def leads_all(self):
        """Whether it is the leader of JetStream, and the others follow: streams can be made then."""
        cluster = requests.get(f"http://127.0.0.1:{self.monitor}/jsz", timeout=5).json().get("meta_cluster", {})
        followers = [each for each in cluster.get("replicas", []) if each["current"] and not each.get("offline")]
        return len(followers) == 2

    def environment(self):
        container = parts.pod(self.manifests, "fanfare-nats")[1]["containers"][0]
        made = environment(container, lambda key: self.name if key == "metadata.name" else content(key))
        host = r"fanfare-nats-(\d)\.fanfare-nats-headless:6222"
        made["ROUTES"] = re.sub(host, lambda match: f"127.0.0.1:{self.routes[int(match[1])]}", made["ROUTES"])
        return made


class ChartRedis(RedisServer):
    """The bundled server; Redis takes what Valkey does."""

    def __init__(self, directory, manifests):
        super().__init__(directory)
        self.manifests = manifests
        secret = manifests.one("Secret", "fanfare-valkey")
        self.secret = {key: yaml.safe_load(f"!!binary {value}").decode() for key, value in secret["data"].items()}

    def command(self):
        (self.directory / "users.acl").write_text(self.secret["users.acl"])
        text = self.manifests.one("ConfigMap", "fanfare-valkey")["data"]["valkey.conf"]
        # Else, others than its own host are refused: the probes' user has no password.
        assert "protected-mode no" in text
        text = text.replace("port 6379", f"port {self.port}\nbind 127.0.0.1")
        text = text.replace("/run/secrets/valkey", str(self.directory)).replace("dir /data", f"dir {self.directory}")
        (self.directory / "valkey.conf").write_text(text)
        return ["redis-server", self.directory / "valkey.conf"]

    def ask_as_exporter(self, command):
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(f"AUTH exporter {self.secret['exporter-password']}\r\n{command}\r\n".encode())
            replies = connection.makefile()
            assert replies.readline() == "+OK\n"
            return replies.readline()

    @property
    def gateway_url(self):
        return self.secret["url"].replace("fanfare-valkey:6379", f"127.0.0.1:{self.port}")


def test_bundled_servers_serve_a_gateway(render, processes, tmp_path):
    """Passwords, permissions, routes and replicas, all as rendered: only addresses are others."""
    sets = (
        "nats.bundled.existingSecret=given",
        "auth.existingSecret=given",
        "config.namespaces.venue.subscribe[0]=authenticated",
        "config.namespaces.venue.history.size=10",
        "config.namespaces.venue.presence=true",
        "config.namespaces.user.queue.size=10",
    )
    manifests = render(None, *sets)
    routes = [free_port() for _ in range(3)]
    servers = [ChartNats(tmp_path, manifests, number, routes) for number in range(3)]
    redis = ChartRedis(tmp_path, manifests)
    for each in (*servers, redis):
        processes(each)
    wait_until(lambda: any(each.leads_all() for each in servers), "JetStream has a leader and three peers")
    settings = {"nats.url": ",".join(each.url for each in servers), "redis.url": redis.gateway_url}
    gateway = processes(ChartGateway(tmp_path, manifests, settings))
    with Client(gateway.websocket_url) as ann:
        claims = {"sub": "ann", "exp": 2**31}
        ann.ask("connect", token=jwt.encode(claims, content("jwt-secret"), algorithm="HS256"))
        ann.ask("subscribe", channel="venue:1")
        publish_as_service(servers[1].url, "fanfare.ch.venue.1")
        assert ann.expect("message", channel="venue:1")["data"] == "hi"
    publish_as_service(servers[2].url, "fanfare.ch.presence.venue.1", refused=True)
    test = parts.pod(manifests, "fanfare-test")[1]["containers"][0]
    arguments = [each.replace("ws://fanfare.fanfare.svc:80", f"ws://{gateway.public}") for each in test["args"]]
    variables = environment(test, content) | gateway.environment() | {"FANFARE_CONFIG": str(gateway.config)}
    done = fanfare(*arguments, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    monitor = f"http://127.0.0.1:{servers[0].monitor}/jsz?streams=true&config=true"
    [account] = requests.get(monitor, timeout=5).json()["account_details"]
    found = {each["name"]: each["config"] for each in account["stream_detail"]}
    assert {"fanfare=venue", "fanfare=user", "fanfare=probe"} <= set(found)
    assert all(each["num_replicas"] == 3 for each in found.values())
    # Whoever has no password may ask whether it lives.
    assert redis.is_ready() and redis.ask("GET key").startswith("-NOPERM")
    assert redis.ask_as_exporter("INFO server").startswith("$")
    assert redis.ask_as_exporter("GET key").startswith("-NOPERM")


def publish_as_service(url, subject, refused=False):
    """Publishes as the bundled servers' user for services, until it is refused where it should be."""

    async def run():
        errors = asyncio.Queue()
        password = content("service-password")
        client = await nats.connect(url, user="service", password=password, error_cb=errors.put)
        await client.publish(subject, b'"hi"')
        await client.flush()
        if refused:
            assert "permissions violation" in str(await asyncio.wait_for(errors.get(), 5)).lower()
        await client.close()

    asyncio.run(run())

"""The configuration changes while clients are connected: by SIGHUP, and where files are swapped."""

import contextlib
import hashlib
import json
import signal
import ssl
import subprocess
import time

import jwt
import pytest
import websocket

from api import ADMIN_KEY, Api, http
from client import Client
from harness import Gateway, wait_until

SECRETS = ["the-first-secret-of-these-tests-is-long-enough", "the-second-secret-of-these-tests-is-as-long"]

CONFIG = """
[auth]
hmac_secret_file = "{directory}/secret"

[[auth.api_keys]]
id = "admin"
hash = "sha256:{key}"
scopes = ["publish", "admin"]

[namespaces.chat]
subscribe = ["anyone"]
publish = ["authenticated"]

[namespaces.log]
subscribe = ["anyone"]
history = {{ size = 10 }}
"""

PROFILE = """
[[socketio]]
paths = ["/socket.io"]
namespaces = { "/" = "app" }

[faces.app]
on_connect = [{ join = "chat:1" }]

[faces.app.auth]
token = ["auth.token"]
api_key = ["auth.key"]

[[faces.app.outgoing]]
channel = "chat:{rest}"
emit = "said"
data = "{{ data }}"
"""

NEW_RULE = """
[[rest]]
method = "GET"
path = "/app/stats"
do = [{ stats = true }]
response = { clients = "{{ stats.connections }}" }
"""


def token(user, secret=SECRETS[0]):
    return jwt.encode({"sub": user, "exp": int(time.time()) + 600}, secret, algorithm="HS256")


def sha256(key):
    return hashlib.sha256(key.encode()).hexdigest()


class Mounted:
    """Files as Kubernetes mounts them: each is a link through `..data` to a directory, which is swapped."""

    def __init__(self, directory):
        self.directory, self.version = directory, 0
        directory.mkdir()
        self.files = {"secret": SECRETS[0], "profile.toml": PROFILE}
        self.config()

    def config(self, text="", key=ADMIN_KEY, *, instead=("", "")):
        return self.write("fanfare.toml", CONFIG.format(directory=self.directory, key=sha256(key)).replace(*instead) + text)

    def write(self, name, text):
        self.files[name] = text
        self.version += 1
        version = self.directory / f"..{self.version}"
        version.mkdir()
        for file, content in self.files.items():
            (version / file).write_text(content)
            if not (self.directory / file).is_symlink():
                (self.directory / file).symlink_to(f"..data/{file}")
        link = self.directory / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.directory / "..data")
        return self


class Reloading(Gateway):
    def __init__(self, directory, settings=None):
        self.mounted = Mounted(directory / "mounted")
        self.config = self.mounted.directory / "fanfare.toml"
        self.flags = ["--profile", self.mounted.directory / "profile.toml"]
        super().__init__(directory, settings=settings)

    def metric(self, name):
        lines = http("GET", f"{self.admin_url}/metrics").body.decode().splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"fanfare_{name} "))

    def reloads(self, result="ok"):
        return self.metric(f'config_reloads_total{{result="{result}"}}')

    def reload(self, result="ok"):
        before = self.reloads(result)
        self.child.send_signal(signal.SIGHUP)
        wait_until(lambda: self.reloads(result) == before + 1, f"a reload that is {result}")

    def follow(self, change):
        """Makes a change, which the gateway must notice by itself."""
        before = self.reloads()
        change()
        wait_until(lambda: self.reloads() > before, "the change is noticed")

    def logged(self):
        return self.log.read_text()


@pytest.fixture
def gateway(processes, tmp_path):
    return processes(Reloading(tmp_path))


@pytest.fixture
def watching(processes, tmp_path):
    return processes(Reloading(tmp_path, {"reload.watch": "100ms"}))


@pytest.fixture
def socketio():
    """socketio(gateway, token=…): a client of the profile that has said who it is."""
    with contextlib.ExitStack() as stack:

        def connect(gateway, at="/socket.io", **auth):
            url = gateway.url.replace("http", "ws") + at + "/?EIO=4&transport=websocket"
            client = websocket.create_connection(url, timeout=5)
            stack.callback(client.close)
            assert client.recv().startswith("0{")
            client.send("40" + json.dumps(auth))
            return client

        yield connect


def test_rules_and_limits_change_for_those_who_are_connected(gateway, connect):
    ann = connect(gateway, token("ann")).subscribe("chat:1", "log:1")
    assert ann.refused("subscribe", channel="fresh:1") == "unknown_namespace"

    closed = ("[namespaces.chat]\nsubscribe = [\"anyone\"]", "[namespaces.chat]\nsubscribe = [\"role:staff\"]")
    fresh = '[namespaces.fresh]\nsubscribe = ["anyone"]\n[limits]\nsubscriptions = 3\nmessage_bytes = 100\n'
    gateway.mounted.config(fresh, instead=closed)
    gateway.reload()

    ann.expect("unsubscribed", channel="chat:1")
    assert ann.refused("subscribe", channel="chat:1") == "forbidden"
    ann.subscribe("fresh:1")
    assert ann.refused("subscribe", channel="log:2") == "too_many_subscriptions"
    assert ann.refused("publish", channel="chat:1", data="x" * 200) == "message_too_large"
    Api(gateway).publish(channel="fresh:1", data="new")
    Api(gateway).publish(channel="log:1", data="old")
    assert ann.expect_data(2) == ["new", "old"]
    assert gateway.metric('messages_out_total{channel_namespace="fresh",path="live"}') == 1


def test_keys_change_for_what_comes_next(gateway, connect):
    ann = connect(gateway, token("ann")).subscribe("chat:1")
    gateway.mounted.write("secret", SECRETS[1] + "\n")
    gateway.mounted.config(key="another-key")
    gateway.reload()

    with Client(gateway.websocket_url) as client:
        assert client.refused("connect", token=token("bob")) == "unauthorized"
    connect(gateway, token("bob", SECRETS[1]))
    assert Api(gateway).try_publish({"channel": "chat:1", "data": 1}).status == 401
    Api(gateway, "another-key").publish(channel="chat:1", data="still here")
    assert ann.expect_data(1) == ["still here"]


def test_a_bad_file_changes_nothing_and_says_what_is_wrong(gateway, connect):
    ann = connect(gateway, token("ann")).subscribe("chat:1")
    gateway.mounted.config("[limits]\nsubscriptions = 1\nmesage_bytes = 1\n")
    gateway.reload("refused")
    assert gateway.metric("config_last_reload_successful") == 0
    assert "limits.mesage_bytes" in gateway.logged() and "did you mean `message_bytes`?" in gateway.logged()
    ann.subscribe("chat:2")

    gateway.mounted.write("profile.toml", PROFILE + "[faces.app.nonsense]\n")
    gateway.reload("refused")
    gateway.mounted.config()
    gateway.mounted.write("profile.toml", PROFILE)
    gateway.reload()
    assert gateway.metric("config_last_reload_successful") == 1
    assert abs(gateway.metric("config_last_reload_timestamp_seconds") - time.time()) < 60
    Api(gateway).publish(channel="chat:2", data="still here")
    assert ann.expect_data(1) == ["still here"]


def test_what_needs_a_restart_is_named_and_the_rest_is_taken_over(gateway, connect):
    ann = connect(gateway, token("ann"))
    kept = '[heartbeat]\ninterval = "7s"\n[namespaces.kept]\nsubscribe = ["anyone"]\nhistory = {}\n'
    gateway.mounted.config(kept + '[namespaces.fresh]\nsubscribe = ["anyone"]\n', instead=("size = 10", "size = 20"))
    gateway.reload()
    for option in ("heartbeat.interval", "namespaces.kept", "namespaces.log.history"):
        assert f"{option} has changed, and takes effect after a restart" in gateway.logged()
    assert ann.refused("subscribe", channel="kept:1") == "unknown_namespace"
    ann.subscribe("fresh:1", "log:1")


def test_swapped_files_are_noticed_and_profiles_change_for_those_who_are_connected(watching, socketio):
    ann = socketio(watching, token=token("ann"))
    assert ann.recv().startswith('40{"sid":')
    wait_until(lambda: "chat:1" in str(Api(watching).get("/v1/channels")), "ann is in the channel")
    Api(watching).publish(channel="chat:1", data="one")
    assert ann.recv() == '42["said","one"]'
    polling = f"{watching.url}/socket.io/?EIO=4&transport=polling"
    polling += "&sid=" + json.loads(http("GET", polling).body[1:])["sid"]

    changed = PROFILE.replace('emit = "said"', 'emit = "told"') + NEW_RULE
    watching.follow(lambda: watching.mounted.write("profile.toml", changed))
    Api(watching).publish(channel="chat:1", data="two")
    assert ann.recv() == '42["told","two"]'
    assert http("POST", polling, b"40" + json.dumps({"token": token("eve")}).encode()).body == b"ok"
    assert http("GET", polling).body.startswith(b'40{"sid":'), "who polls goes on"
    http("POST", polling, b"1")
    assert list(Api(watching).get("/app/stats")) == ["clients"]

    watching.follow(lambda: watching.mounted.write("secret", SECRETS[1]))
    bob = socketio(watching, token=token("bob"))
    assert bob.recv().startswith("44")
    elsewhere = changed.replace('"/socket.io"]', '"/socket.io", "/elsewhere"]')
    watching.follow(lambda: watching.mounted.write("profile.toml", elsewhere))
    assert http("GET", f"{watching.url}/elsewhere/?transport=none").json["message"] == "Transport unknown"
    Api(watching).publish(channel="chat:1", data="three")
    assert ann.recv() == '42["told","three"]'


def test_paths_that_get_faces_of_their_own_take_their_clients_along(gateway, socketio):
    together = PROFILE.replace('"/socket.io"]', '"/socket.io", "/staff"]')
    gateway.mounted.write("profile.toml", together)
    gateway.reload()
    ann, bob = socketio(gateway, token=token("ann")), socketio(gateway, "/staff", token=token("bob"))
    for client in (ann, bob):
        assert client.recv().startswith('40{"sid":')

    def subscribers():
        return [it["subscribers"] for it in Api(gateway).get("/v1/channels?prefix=chat:1")["channels"]]

    wait_until(lambda: subscribers() == [2], "both are in the channel")

    staff = PROFILE.replace("/socket.io", "/staff").replace('"app"', '"staff"').replace("faces.app", "faces.staff")
    gateway.mounted.write("profile.toml", PROFILE + staff.replace('emit = "said"', 'emit = "heard"'))
    gateway.reload()
    Api(gateway).publish(channel="chat:1", data=1)
    assert (ann.recv(), bob.recv()) == ('42["said",1]', '42["heard",1]')


def test_whom_a_face_does_not_want_any_more_has_to_go(gateway, socketio):
    gateway.mounted.config(instead=("[auth]", "[auth]\nanonymous = true"))
    gateway.reload()
    ann, nobody = socketio(gateway, token=token("ann")), socketio(gateway)
    for client in (ann, nobody):
        assert client.recv().startswith('40{"sid":')
    required = PROFILE.replace("[faces.app.auth]", '[faces.app.auth]\nrequire = ["authenticated"]')
    gateway.mounted.write("profile.toml", required)
    gateway.reload()
    assert nobody.recv() == "41"
    Api(gateway).publish(channel="chat:1", data=1)
    assert ann.recv() == '42["said",1]'


def test_a_path_with_two_meanings_is_refused(gateway, connect):
    gateway.mounted.config('[http]\npaths = ["/socket.io/socket.io.js"]\n')
    gateway.reload("refused")
    assert "/socket.io/socket.io.js has two meanings" in gateway.logged()
    connect(gateway, token("ann"))


def test_who_came_with_an_api_key_that_is_revoked_has_to_go(gateway, socketio):
    key = '\n[[auth.api_keys]]\nid = "kiosk"\nhash = "sha256:{}"\nscopes = ["connect"]\n'
    gateway.mounted.config(key.format(sha256("ffk_kiosk")))
    gateway.reload()
    kiosk = socketio(gateway, key="ffk_kiosk")
    assert kiosk.recv().startswith('40{"sid":')
    wait_until(lambda: "chat:1" in str(Api(gateway).get("/v1/channels")), "it is in the channel")
    gateway.reload()
    Api(gateway).publish(channel="chat:1", data="stays")
    assert kiosk.recv() == '42["said","stays"]'
    gateway.mounted.config(key.format(sha256("ffk_other")))
    gateway.reload()
    assert kiosk.recv() == "41", "the namespace is left"


def certificate(directory, name):
    key, cert = directory / f"{name}.key", directory / f"{name}.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", key, "-out", cert, "-days", "1", "-subj", f"/CN={name}"]
    subprocess.run(command, check=True, capture_output=True)
    return {"tls.key": key.read_text(), "tls.crt": cert.read_text()}


def test_a_certificate_is_renewed(processes, tmp_path):
    gateway = Reloading(tmp_path)
    mounted = gateway.mounted
    mounted.files |= certificate(tmp_path, "first")
    tls = f'[http]\ntls_cert = "{mounted.directory}/tls.crt"\ntls_key = "{mounted.directory}/tls.key"\n'
    mounted.config(tls)
    processes(gateway)

    def served():
        host, _, port = gateway.public.partition(":")
        return ssl.get_server_certificate((host, int(port)), timeout=5)

    first = served()
    mounted.files |= certificate(tmp_path, "second")
    mounted.config(tls)
    gateway.reload()
    assert first.strip() == (tmp_path / "first.crt").read_text().strip()
    assert served().strip() == (tmp_path / "second.crt").read_text().strip()
    mounted.write("tls.key", "nonsense")
    gateway.reload("refused")
    assert served().strip() == (tmp_path / "second.crt").read_text().strip()

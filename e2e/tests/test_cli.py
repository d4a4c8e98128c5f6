"""The command line, as people and scripts use it."""

import json
import os
import re
import subprocess
import time

import jwt
import pytest

from api import http
from client import Client
from harness import CONFIG, ENVIRONMENT, FANFARE, Process, free_port, http_status, secret, token, wait_until

DONE, FAILED, USAGE, UNAVAILABLE, REFUSED, CONFIG_ERROR = 0, 1, 2, 69, 77, 78
ALICE = {"FANFARE_TOKEN": token("alice")}


def fanfare(*arguments, stdin="", **environment):
    command = [FANFARE, *map(str, arguments)]
    environment = ENVIRONMENT | environment
    return subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, timeout=20)


def test_what_is_published_is_printed(embedded_site, chat):
    server = embedded_site.first.websocket_url
    command = [FANFARE, "sub", chat, "--count", "2", "--server", server]
    with subprocess.Popen(
        command, env=ENVIRONMENT | ALICE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as sub:
        assert sub.stderr.readline() == f"subscribed to {chat}\n"
        published = fanfare("pub", chat, '{"text": "hello"}', "--event", "said", "--server", server, **ALICE)
        assert (published.returncode, published.stderr) == (DONE, "")
        assert fanfare("pub", chat, "-", "--server", server, stdin="no JSON", **ALICE).returncode == DONE
        first, second = map(json.loads, sub.stdout)
        assert sub.wait(5) == DONE
    assert isinstance(first.pop("time"), int)
    id = published.stdout.strip()
    assert first == {"channel": chat, "event": "said", "data": {"text": "hello"}, "id": id}
    assert second["data"] == "no JSON"


def test_a_subscription_may_begin_in_the_past(embedded_site, unique):
    room, server = f"room:{unique}", ["--server", embedded_site.first.websocket_url]
    stored = [fanfare("pub", room, number, *server, **ALICE).stderr for number in range(3)]
    position = stored[0].removeprefix("stored at ").strip()
    for past in [["--since", position], ["--rewind", "2"], ["--since", "1.1", "--rewind", "2"]]:
        done = fanfare("sub", room, *past, "--count", "2", *server, **ALICE)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["data"] for line in lines] == [1, 2], done
        assert stored[1] == f"stored at {lines[0]['position']}\n"
        assert ("not everything" in done.stderr) == ("1.1" in past)
    done = fanfare("sub", room, "--rewind", "10m", "--count", "3", *server, **ALICE)
    assert done.stdout.count("\n") == 3


def test_the_token_may_stand_in_a_file(embedded_site, connect, chat, tmp_path):
    client = connect(embedded_site.first).subscribe(chat)
    file = tmp_path / "token"
    file.write_text(token("bob") + "\n")
    server = embedded_site.first.websocket_url
    assert fanfare("pub", chat, 1, "--token-file", file, "--server", server).returncode == DONE
    client.expect("message", data=1)


FAILURES = {
    "without token": (["pub", "chat:1", "1"], {}, REFUSED, "unauthorized"),
    "expired token": (["pub", "chat:1", "1"], {"FANFARE_TOKEN": token("alice", exp=1)}, REFUSED, "token_expired"),
    "against the rules": (["pub", "venue:1", "1"], ALICE, REFUSED, "forbidden"),
    "unknown namespace": (["sub", "nowhere:1"], ALICE, REFUSED, "unknown_namespace"),
    "no channel name": (["pub", "chat::1", "1"], ALICE, USAGE, "empty segment"),
    "pattern without saying so": (["sub", "chat:*"], ALICE, USAGE, "--pattern"),
    "no server": (
        ["pub", "chat:1", "1", "--server", f"ws://127.0.0.1:{free_port()}/ws"],
        ALICE,
        UNAVAILABLE,
        "cannot reach",
    ),
    "no URL": (["pub", "chat:1", "1", "--server", "nonsense"], ALICE, USAGE, "URL"),
    "no such command": (["shout"], {}, USAGE, "shout"),
    "no such option": (["serve", "--lisen", "x"], {}, USAGE, "--listen"),
    "password in the command line": (["serve", "--redis", "redis://:hunter2@h"], {}, USAGE, "no passwords"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_has_its_exit_code_and_a_sentence(embedded_site, kind):
    arguments, environment, code, text = FAILURES[kind]
    if arguments[0] in ("pub", "sub") and "--server" not in arguments:
        arguments = [*arguments, "--server", embedded_site.first.websocket_url]
    done = fanfare(*arguments, **environment)
    assert done.returncode == code, done.stderr
    assert text in done.stderr
    assert done.stdout == ""


def test_a_minted_token_is_accepted(embedded_site, connect):
    claims = ["--role", "staff", "--claim", "org=acme", "--ttl", "5m"]
    minted = fanfare("token", "mint", "--config", CONFIG, "--user", "carol", *claims)
    assert (minted.returncode, minted.stdout.count("\n")) == (DONE, 1)
    client = connect(embedded_site.first, minted.stdout.strip())
    assert client.connected["channels"] == ["user:carol", "role:staff", "org:acme"]
    inspected = fanfare("token", "inspect", "--config", CONFIG, stdin=minted.stdout)
    assert inspected.returncode == DONE
    assert "carol" in inspected.stdout
    assert "verified" in inspected.stderr


def test_a_token_that_is_not_good_is_told():
    forged = jwt.encode({"sub": "eve", "exp": 2**33}, "x" * 32)
    assert fanfare("token", "inspect", stdin=forged).returncode == DONE
    done = fanfare("token", "inspect", "--config", CONFIG, stdin=forged)
    assert (done.returncode, "eve" in done.stdout) == (REFUSED, True)
    assert done.stderr.startswith("refused:")
    assert fanfare("token", "inspect", stdin="nonsense").returncode == FAILED


def test_config_show_tells_origins_and_no_secrets():
    environment = {"FANFARE__LIMITS__QUEUE_BYTES": "2MiB", "FANFARE__REDIS__URL": "redis://:hunter2@redis"}
    done = fanfare("config", "show", "--config", CONFIG, **environment)
    assert done.returncode == DONE
    assert re.search(r'^queue_bytes = "2MiB" # .*FANFARE__LIMITS__QUEUE_BYTES', done.stdout, re.MULTILINE)
    assert re.search(r'^leeway = "0s" # .*fanfare.toml:\d+', done.stdout, re.MULTILINE)
    assert re.search(r'^message_bytes = "64KiB" # default', done.stdout, re.MULTILINE)
    assert "hmac_secret = " in done.stdout
    assert secret() not in done.stdout and "hunter2" not in done.stdout


@pytest.fixture
def config(tmp_path):
    """config(text): a configuration file."""

    def write(text):
        file = tmp_path / "bad.toml"
        file.write_text(text)
        return file

    return write


BAD_CONFIGS = {
    "no TOML": ("[http", ["bad.toml:1"]),
    "unknown option": ("[http]\nallowed_orgins = []", ["bad.toml:2", "did you mean `allowed_origins`"]),
    "unknown section": ("[limit]\nqueue_bytes = 1", ["did you mean `limits`"]),
    "wrong type": ("[limits]\nsubscriptions = 'many'", ["limits.subscriptions", "bad.toml:2"]),
    "no size": ("[limits]\nqueue_bytes = '1 MB'", ["limits.queue_bytes", "1MiB"]),
    "no rule": ("[namespaces.venue]\nsubscribe = ['everybody']", ["namespaces.venue.subscribe", "anyone"]),
    "no key": ("[[auth.keys]]\nalgorithm = 'none'\nsecret = 'hunter2'", ["auth.keys[0].algorithm", "HS256"]),
    "several": ("[http]\nlisten = ['x']\n[drain]\nmax_rate = 0", ["http.listen", "drain.max_rate"]),
}


@pytest.mark.parametrize("kind", BAD_CONFIGS)
@pytest.mark.parametrize("command", [["serve", "--config"], ["config", "check"], ["config", "show", "--config"]])
def test_a_bad_configuration_is_told_with_its_place(config, command, kind):
    text, told = BAD_CONFIGS[kind]
    done = fanfare(*command, config(text))
    assert done.returncode == CONFIG_ERROR, done.stderr
    assert all(it in done.stderr for it in told), done.stderr
    assert "hunter2" not in done.stderr


def test_a_configuration_that_cannot_be_read_is_told(tmp_path):
    done = fanfare("serve", "--config", tmp_path / "nowhere.toml")
    assert done.returncode == CONFIG_ERROR
    assert "nowhere.toml" in done.stderr and "cannot be read" in done.stderr


def test_a_wrong_variable_is_told_by_its_name():
    done = fanfare("serve", FANFARE__LIMITS__QUEUE_BITES="1")
    assert done.returncode == CONFIG_ERROR
    assert "FANFARE__LIMITS__QUEUE_BITES" in done.stderr and "queue_bytes" in done.stderr


def test_a_good_configuration_is_told():
    done = fanfare("config", "check", CONFIG)
    assert (done.returncode, done.stderr) == (DONE, "")
    warned = fanfare("config", "check", CONFIG, FANFARE__AUTH__HMAC_SECRET="hunter2")
    assert warned.returncode == DONE
    assert "less than 32 bytes" in warned.stderr and "hunter2" not in warned.stderr


def test_flags_beat_variables_which_beat_the_file(start_gateway):
    gateway = start_gateway(settings={"http.listen": "127.0.0.1:1", "auth.leeway": "60s"})
    with Client(gateway.websocket_url, token("alice", exp=int(time.time()) - 30)) as client:
        client.ask("ping")


def test_aliases_of_variables(processes, tmp_path):
    port = free_port()
    variables = {"JWT_SECRET": secret(), "API_KEYS": "one, two", "WEBSOCKET_PORT": str(port)}
    gateway = processes(Bare(tmp_path, "serve", port, variables))
    Client(gateway.websocket_url, token("alice")).socket.close()
    answer = http("POST", f"{gateway.url}/v1/publish", {"channel": "user:x", "data": 1}, x_api_key="two")
    assert answer.status == 200


class Bare(Process):
    """A gateway without configuration file."""

    def __init__(self, directory, command, port, variables):
        super().__init__(command, directory)
        self.subcommand, self.variables, self.admin = command, variables, f"127.0.0.1:{free_port()}"
        self.url, self.websocket_url = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}/ws"

    def command(self):
        return [FANFARE, self.subcommand, "--admin-listen", self.admin]

    def environment(self):
        return self.variables

    def is_ready(self):
        return http_status(f"http://{self.admin}/readyz") == 200


def test_dev_prints_all_that_a_first_message_needs(processes, tmp_path):
    gateway = processes(Bare(tmp_path, "dev", port := free_port(), {"WEBSOCKET_PORT": str(port)}))
    banner = wait_until(lambda: "curl" in (text := gateway.log.read_text()) and text, "the banner is there")
    assert "INSECURE" in banner and gateway.websocket_url in banner
    jwt = re.search(r"^ +(eyJ\S+)$", banner, re.MULTILINE)[1]
    curl = re.search(r"^ +(curl (?:.*\\\n)*.*)$", banner, re.MULTILINE)[1]
    with Client(gateway.websocket_url, jwt) as client:
        client.subscribe("demo:hello")
        sent = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=20)
        assert json.loads(sent.stdout)["channels"] == ["demo:hello"], sent
        client.expect("message", channel="demo:hello", data={"text": "Hello!"})


def test_an_address_in_use_is_told(embedded_site):
    listen = embedded_site.first.public
    done = fanfare("serve", "--config", CONFIG, "--listen", listen, "--admin-listen", "127.0.0.1:0")
    assert done.returncode not in (DONE, USAGE, CONFIG_ERROR)
    assert listen in done.stderr + done.stdout


def test_nats_out_of_reach_is_told():
    backends = ["--nats", f"nats://127.0.0.1:{free_port()}", "--redis", f"redis://127.0.0.1:{free_port()}"]
    listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    done = fanfare("serve", "--config", CONFIG, *listen, *backends, FANFARE__NATS__CONNECT_WITHIN="0s")
    assert done.returncode == UNAVAILABLE
    assert "NATS" in done.stderr + done.stdout


def test_version_and_completions():
    version = fanfare("version")
    assert version.returncode == DONE
    assert re.fullmatch(r"fanfare \d+\.\d+\.\d+\S*\n", version.stdout)
    assert "fanfare" in fanfare("completions", "bash").stdout
    assert "Exit codes:" in fanfare("--help").stdout


def test_output_that_nobody_reads_is_no_failure():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as closed:
        done = subprocess.run([FANFARE, "config", "docs"], stdout=closed, stderr=subprocess.PIPE, timeout=20)
    assert (done.returncode, done.stderr) == (DONE, b"")

"""`fanfare probe`: says that messages are delivered, and when they are not."""

import re
import subprocess
import types

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api import http
from harness import CONFIG, ENVIRONMENT, FANFARE, Gateway, Process, free_port, http_status, wait_until
from proxy import Proxy
from test_cli import CONFIG_ERROR, DONE, FAILED, REFUSED, UNAVAILABLE, USAGE, fanfare

KEY = {"FANFARE_API_KEY": "test-publish-key"}
OUTCOMES = ["ok", "late", "lost", "duplicate", "reordered", "refused"]


def once(*arguments, **environment):
    return fanfare("probe", "--once", "--config", CONFIG, *arguments, **environment)


def servers(gateways):
    return [argument for gateway in gateways for argument in ("--server", gateway.websocket_url)]


def counted(stdout):
    """What a summary says."""
    return types.SimpleNamespace(**{it: int(re.search(rf"(\d+) {it}\b", stdout)[1]) for it in OUTCOMES})


@pytest.fixture(params=["embedded by api", "cluster by api", "cluster by nats"])
def way(request):
    """A site, and how it is published there."""
    name, _, way = request.param.partition(" by ")
    site = request.getfixturevalue(f"{name}_site")
    return site, ["--nats", site.nats.url] if way == "nats" else ["--api", site.first.admin_url]


@pytest.mark.parametrize("namespace", ["room", "venue"])
def test_what_is_published_comes_once_and_in_order_at_each_gateway(way, unique, namespace):
    """`room` has history, `venue` has none."""
    site, publish = way
    pace = ["--channel", f"{namespace}:{unique}", "--interval", "20ms"]
    done = once(*servers(site.gateways), *publish, *pace, **KEY)
    assert done.returncode == DONE, done
    assert done.stdout.startswith("20 of 20 messages published: ")
    assert re.search(r"; \d+\.\d ms on average, \d+\.\d ms at most\n$", done.stdout)
    seen = counted(done.stdout)
    assert seen.ok + seen.late == 20 * len(site.gateways)
    assert (seen.lost, seen.duplicate, seen.reordered, seen.refused) == (0, 0, 0, 0)


NOWHERE = f"127.0.0.1:{free_port()}"
FAILURES = {
    "no gateway": (["--server", f"ws://{NOWHERE}/ws"], {}, UNAVAILABLE, "cannot reach"),
    "no NATS": (["--nats", f"nats://{NOWHERE}"], {}, UNAVAILABLE, "NATS"),
    "no API": (["--api", f"http://{NOWHERE}"], KEY, UNAVAILABLE, "not in reach"),
    "wrong key": (["--api", "{api}"], {"FANFARE_API_KEY": "guessed"}, REFUSED, "401"),
    "no key": (["--api", "{api}"], {}, USAGE, "--key-file"),
    "no way to publish": ([], {}, USAGE, "--nats"),
    "undeclared namespace": (["--nats", "{nats}", "--channel", "probe:check"], {}, REFUSED, "unknown_namespace"),
    "wrong token": (["--nats", "{nats}"], {"FANFARE_TOKEN": "no token"}, REFUSED, "unauthorized"),
    "wrong configuration": ([], {"FANFARE__LIMITS__QUEUE_BITES": "1"}, CONFIG_ERROR, "QUEUE_BITES"),
    "no patience": (["--nats", "{nats}", "--lost-after", "1s"], {}, USAGE, "--late-after"),
    "less patience than the bus": (["--nats", "{nats}", "--lost-after", "2s"], {}, USAGE, "nats.deadline (2s)"),
    "less patience than the API": (["--api", "{api}", "--lost-after", "5s"], KEY, USAGE, "--api (5s)"),
    "a password": (["--server", f"ws://me:secret@{NOWHERE}/ws"], {}, USAGE, "no password"),
    "no probe but a load": (["--interval", "1ms"], {}, USAGE, "10ms"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_has_its_exit_code(cluster_site, venue, kind):
    arguments, environment, code, text = FAILURES[kind]
    there = {"api": cluster_site.first.admin_url, "nats": cluster_site.nats.url}
    given = [argument.format(**there) for argument in arguments]
    if "--server" in arguments:
        given += ["--nats", cluster_site.nats.url]
    else:
        given += servers([cluster_site.first])
    if "--channel" not in arguments:
        given += ["--channel", venue]
    done = once(*given, "--count", "2", **environment)
    assert done.returncode == code, done
    assert text in done.stderr
    assert "secret" not in done.stdout + done.stderr


@pytest.fixture
def cut(processes, nats_server, redis_server):
    """A gateway whose way to NATS may be cut, and that way."""
    way = Proxy(nats_server.port, "nats")
    gateway = processes(Gateway(processes.directory, "cut", way, redis_server))
    return types.SimpleNamespace(gateway=gateway, way=way, nats=nats_server)


def test_a_gateway_that_gets_no_messages_is_found_out(cut, unique):
    pace = ["--interval", "20ms", "--count", "50", "--late-after", "500ms", "--lost-after", "3s"]
    arguments = [*servers([cut.gateway]), "--nats", cut.nats.url, *pace]
    command = [FANFARE, "probe", "--once", "--config", CONFIG, *arguments, "--channel", f"venue:{unique}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=ENVIRONMENT, **pipes) as probe:
        assert any("subscribed" in line for line in iter(probe.stderr.readline, ""))
        cut.way.silence()
        stdout, stderr = probe.communicate(timeout=20)
    assert probe.returncode == FAILED, (stdout, stderr)
    assert counted(stdout).lost > 0
    assert counted(stdout).refused == 0
    done = once(*arguments, "--channel", f"venue:{unique}-other")
    assert done.returncode == UNAVAILABLE, done


class Prober(Process):
    """`fanfare probe`, for ever."""

    def __init__(self, directory, *arguments):
        super().__init__("prober", directory)
        self.listen, self.arguments = f"127.0.0.1:{free_port()}", arguments
        self.url = f"http://{self.listen}"

    def command(self):
        return [FANFARE, "probe", "--config", CONFIG, "--listen", self.listen, *self.arguments]

    def is_ready(self):
        return http_status(f"{self.url}/healthz") == 200

    def scrape(self):
        """Each sample that has no bucket: its value by name, or by name and result."""
        families = text_string_to_metric_families(http("GET", f"{self.url}/metrics").body.decode())
        samples = [sample for family in families for sample in family.samples]
        return {" ".join([it.name, *it.labels.values()]): it.value for it in samples if "le" not in it.labels}


NAMESPACE = {
    "namespaces.probe.subscribe": "role:probe",
    "namespaces.probe.history.size": "1000",
    "namespaces.probe.history.ttl": "10m",
}


def test_a_killed_gateway_shows_and_loses_nothing_where_there_is_history(start_cluster, processes):
    site = start_cluster(2, NAMESPACE)
    front = Proxy(int(site.first.public.rpartition(":")[2]), "ws")
    pace = ["--interval", "20ms", "--late-after", "10s"]
    prober = processes(Prober(processes.directory, "--server", f"{front.url}/ws", "--nats", site.nats.url, *pace))

    def comes(messages):
        seen = prober.scrape()
        enough = seen["fanfare_probe_messages_total ok"] >= messages and seen["fanfare_probe_up"] == 1
        return enough and seen

    before = wait_until(lambda: comes(10), "messages come")
    assert before["fanfare_probe_connects_total ok"] == 1
    site.first.kill()
    wait_until(lambda: prober.scrape()["fanfare_probe_connects_total failed"] >= 1, "it tries to come back")
    assert prober.scrape()["fanfare_probe_up"] == 0
    front.target = int(site.last.public.rpartition(":")[2])
    # What was published meanwhile, and more.
    after = wait_until(lambda: comes(before["fanfare_probe_messages_total ok"] + 100), "messages come again", 40)
    assert after["fanfare_probe_connects_total ok"] == 2
    assert {it: after[f"fanfare_probe_messages_total {it}"] for it in OUTCOMES[1:]} == dict.fromkeys(OUTCOMES[1:], 0)
    assert after["fanfare_probe_latency_seconds_count"] == after["fanfare_probe_messages_total ok"]
    assert prober.stop() == DONE

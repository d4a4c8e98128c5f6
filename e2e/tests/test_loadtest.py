"""The load test, an outside client of its own, finds a real gateway without fault. Figures are for `make bench`."""

import json
import os
import subprocess
import uuid

import pytest

from harness import TOP, secret

LOADTEST = os.environ.get("LOADTEST_BIN", str(TOP / "target" / "debug" / "loadtest"))
NOTHING = dict.fromkeys(["lost", "duplicated", "reordered", "strays", "refused", "closed"], 0)


@pytest.fixture
def loadtest(tmp_path):
    """loadtest(workload, [gateways], *options): its result, which must be clean."""
    secret_file = tmp_path / "secret"
    secret_file.write_text(secret())

    def run(workload, gateways, *options):
        result = tmp_path / f"{uuid.uuid4().hex}.json"
        urls = [option for gateway in gateways for option in ("--url", gateway.websocket_url)]
        channel = f"chat:{uuid.uuid4().hex}"
        common = ["--channel", channel, "--token-secret-file", secret_file, "--connections", "30"]
        command = [LOADTEST, workload, *urls, *common, "--warmup", "0.2", "--json", result, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        found = json.loads(result.read_text())
        assert {name: found[name] for name in NOTHING} == NOTHING, found
        return found

    return run


@pytest.mark.parametrize("pace", [["--mode", "one-at-a-time"], ["--mode", "flood"], ["--rate", "500"]])
def test_fanout(site, loadtest, pace):
    found = loadtest("fanout", site.gateways, "--messages", "200", *pace)
    assert (found["messages"], found["deliveries"]) == (200, 200 * 30)
    assert found["server_cpu_us_per_delivery"] > 0
    assert 0 < found["p50_us"] <= found["p99_us"] <= found["max_us"]


@pytest.mark.parametrize("publishers", ["0", "2"])
def test_pairs(site, loadtest, publishers):
    found = loadtest("pairs", [site.last], "--messages", "1000", "--publishers", publishers)
    assert found["deliveries"] == 1000


def test_connect(gateway, loadtest):
    found = loadtest("connect", [gateway], "--idle", "0.5", "--sources", "2")
    assert found["handshakes"] == 30
    assert found["handshake_cpu_ms"] > 0
    assert found["rss_after_bytes"] > 0


def test_churn(site, loadtest):
    found = loadtest("churn", site.gateways, "--duration", "2", "--churn", "100%")
    assert found["joined"] > 30
    assert found["left"] > 30


def test_slow_readers_are_closed_and_the_others_miss_nothing(start_gateway, loadtest):
    gateway = start_gateway(settings={"limits.queue_bytes": 65536})
    load = ["--rate", "400", "--payload", "20000", "--duration", "3", "--stalled", "3"]
    found = loadtest("slow", [gateway], *load)
    assert (found["stalled"], found["stalled_closed"], found["stalled_close_codes"]) == (3, 3, "4000:3")


def test_everybody_comes_back_when_a_gateway_dies(start_cluster, loadtest):
    site = start_cluster(2)
    dies = ["--kill-pid", str(site.first.child.pid), "--kill-after", "0.5"]
    found = loadtest("storm", site.gateways, "--duration", "3", *dies)
    assert found["disconnected"] == 15
    assert found["back_seconds"] > 0


def test_a_message_crosses_gateways(cluster_site, loadtest):
    found = loadtest("cluster", cluster_site.gateways, "--duration", "1")
    assert found["deliveries"] == 200 * 30
    assert found["baseline_p50_us"] > 0

"""docs/capacity.md says what scripts/capacity.py does, and that is arithmetic that holds together."""

import dataclasses
import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "capacity.py"


@pytest.fixture(scope="module")
def capacity():
    spec = importlib.util.spec_from_file_location("capacity", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["capacity"] = module
    spec.loader.exec_module(module)
    return module


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=30)


def test_the_page_has_what_the_script_prints(capacity):
    text = capacity.PAGE.read_text(encoding="utf-8")
    assert capacity.page(text) == text, "run scripts/capacity.py --update-docs"


def test_every_cost_is_used(capacity):
    source = SCRIPT.read_text(encoding="utf-8")
    assert [name for name in capacity.COSTS if f'"{name.removesuffix("_batched")}"' not in source] == []


@pytest.mark.parametrize("more", ["connections", "messages_per_second", "payload", "channels_per_connection"])
def test_more_of_anything_never_needs_less(capacity, more):
    load = capacity.Load()
    double = dataclasses.replace(load, **{more: 2 * getattr(load, more)})
    before, after = totals(capacity.plan(load)), totals(capacity.plan(double))
    assert all(now >= then for then, now in zip(before, after, strict=True))


def totals(plan):
    """Memory, cores and network of all gateways, and of one server of each other kind."""
    gateways, nats, redis = plan["Gateways"], plan["NATS"], plan["Redis"]
    return (
        *(gateways["gateways"][0] * gateways[name][0] for name in ("memory used on each", "cores used on each")),
        gateways["network out of all"][0],
        nats["memory used on each"][0],
        redis["data"][0],
    )


def test_gateways_have_room_for_those_of_one_that_dies(capacity):
    for load in capacity.SCENARIOS.values():
        gateways = capacity.count_gateways(load)
        assert load.connections / (gateways - 1) <= load.connections_per_gateway
        assert capacity.gateway_cores(load, gateways - 1) <= load.cores_per_gateway


def test_numbers_have_units_and_programs_get_json():
    done = run("--connections", "1.5M", "--fanout", "2k", "--json")
    assert done.returncode == 0, done.stderr
    needed = json.loads(done.stdout)
    assert needed["Gateways"]["gateways"] * 30_000 > 1_500_000
    assert needed["Limits"] == sorted(needed["Limits"], key=lambda it: -it["used"])


def test_what_cannot_be_is_said():
    done = run("--messages-per-second", "100M", "--fanout", "1M")
    assert done.returncode == 1
    assert "no number of gateways is enough" in done.stderr

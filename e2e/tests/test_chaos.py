"""A minute of faults on real servers. `make chaos` does it for as long as one likes."""

import collections
import concurrent.futures
import multiprocessing

import pytest

from chaos import nemesis
from chaos.faults import EMBEDDED, KINDS
from chaos.nemesis import Step
from chaos.report import details, sentence
from chaos.run import Options, run


@pytest.mark.timeout(240)
def test_no_rule_is_broken_under_a_minute_of_faults(tmp_path):
    history, findings = run(Options(directory=tmp_path, seed=4, seconds=60))
    print(sentence(history, findings, history.run["version"]))
    assert not findings.violations, details(history, findings)


SLOW, KILL = Step("gateway-slow-reader", "slow", 6, 1), Step("gateway-kill", "gateway-1", 1, 2)
# Longer than a publisher waits for an answer: it tries again.
PAUSE = Step("gateway-pause", "gateway-1", 6.5, 1)
CUT = Step("nats-cut", "wires-1", 2, 1)


# The step that brings each bug to light, and the rules that it breaks.
BUGS = {
    "drop-one-in-200": (SLOW, {"I1"}),
    "no-message-id": (PAUSE, {"I3"}),
    "splice-off-by-one": (SLOW, {"I1"}),
    "epoch-not-bumped": (KILL, {"I5", "I8"}),
    "ack-before-store": (CUT, {"I1"}),
}
# Short runs wait most of their time, for what must not happen.
AT_ONCE = 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The short runs, each in a process of its own: without a bug (None), and with each."""

    def options(bug):
        shared = {"directory": tmp_path_factory.mktemp("chaos"), "sabotage": bug}
        if bug is None:
            return Options(**shared, seed=2, seconds=15, kinds=EMBEDDED, embedded=True)
        step, _ = BUGS[bug]
        return Options(**shared, steps=(step,), embedded=step is not CUT, calm=2, patience=1)

    with concurrent.futures.ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("spawn")) as pool:
        yield {bug: pool.submit(run, options(bug)) for bug in (None, *BUGS)}


@pytest.mark.timeout(120)
def test_an_embedded_gateway_keeps_its_promises(runs):
    history, findings = runs[None].result()
    assert not findings.violations, details(history, findings)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("bug", BUGS)
def test_a_deliberate_bug_is_found(runs, bug):
    history, findings = runs[bug].result()
    _, rules = BUGS[bug]
    assert rules <= findings.rules, details(history, findings)


def schedule(seed, seconds):
    return nemesis.schedule(seed, seconds, {name: kind.targets for name, kind in KINDS.items()})


def test_a_schedule_can_be_had_again():
    steps = schedule(7, 600)
    assert steps == schedule(7, 600)
    assert steps != schedule(8, 600)
    assert schedule(7, 60) == steps[: len(schedule(7, 60))]


def test_a_schedule_has_each_kind_before_any_comes_again():
    steps = schedule(7, 600)
    for start in range(0, len(steps) - len(KINDS), len(KINDS)):
        kinds = collections.Counter(step.kind for step in steps[start : start + len(KINDS)])
        assert kinds == dict.fromkeys(KINDS, 1)
    assert 600 <= sum(step.seconds for step in steps) < 620

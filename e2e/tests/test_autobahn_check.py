"""The judge of Autobahn's report must fail on each thing that it is there to catch."""

import pytest

from check import problems

CASES = 100


def report(**changes):
    """A full report, all OK but for `changes`: case 1.1 is called c1_1."""
    results = {f"c{n}": {"behavior": "OK", "behaviorClose": "OK"} for n in range(CASES - len(changes))}
    return results | {case[1:].replace("_", "."): result for case, result in changes.items()}


def judge(results, non_strict):
    return problems(results, {"non-strict": non_strict, "unimplemented": {"13.3.": "for a reason"}}, CASES)


def result(behavior="OK", close="OK"):
    return {"behavior": behavior, "behaviorClose": close}


@pytest.mark.parametrize(
    ("changes", "non_strict"),
    [
        ({}, set()),
        ({"c7_1_6": result("INFORMATIONAL", "INFORMATIONAL")}, set()),
        ({"c13_3_1": result("UNIMPLEMENTED")}, set()),
        ({"c6_4_3": result("NON-STRICT")}, {"6.4.3"}),
    ],
)
def test_passes(changes, non_strict):
    assert judge(report(**changes), non_strict) == []


@pytest.mark.parametrize(
    ("changes", "non_strict", "problem"),
    [
        ({"c1_1_1": result("FAILED")}, set(), "case 1.1.1: behavior is FAILED"),
        ({"c7_1_5": result("OK", "WRONG CODE")}, set(), "case 7.1.5: behaviorClose is WRONG CODE"),
        ({"c1_1_1": result("UNIMPLEMENTED")}, set(), "case 1.1.1: behavior is UNIMPLEMENTED"),
        ({"c12_1_1": result("FAILED")}, set(), "case 12.1.1: behavior is FAILED"),
        ({"c12_1_1": result("UNIMPLEMENTED")}, set(), "case 12.1.1: behavior is UNIMPLEMENTED"),
        ({"c13_30_1": result("UNIMPLEMENTED")}, set(), "case 13.30.1: behavior is UNIMPLEMENTED"),
        ({"c13_3_1": result("FAILED")}, set(), "case 13.3.1: behavior is FAILED"),
        ({"c13_3_1": result()}, set(), "case 13.3.1 is implemented now: take it out of the baseline"),
        ({"c6_4_3": result("NON-STRICT")}, set(), "case 6.4.3: behavior is NON-STRICT"),
        ({"c6_4_3": result("FAILED")}, {"6.4.3"}, "case 6.4.3: behavior is FAILED"),
        ({"c6_4_3": result()}, {"6.4.3"}, "case 6.4.3 is strict now: take it out of the baseline"),
    ],
)
def test_fails(changes, non_strict, problem):
    assert problem in judge(report(**changes), non_strict)


def test_fails_when_cut_short():
    results = report()
    results.popitem()
    assert judge(results, set()) == [f"{CASES - 1} cases ran instead of {CASES}"]

#!/usr/bin/env python3
"""check.py INDEX BASELINE: judges a report of Autobahn's fuzzing client.

Every case must be OK or INFORMATIONAL in behaviour and in close, but for UNIMPLEMENTED compression
(sections 12 and 13) and for the cases that the baseline lists as NON-STRICT, each with its reason.
"""

import collections
import json
import pathlib
import sys

CASES = 517  # of autobahntestsuite 25.10.1: fewer means that the run was cut short
COMPRESSION = ("12.", "13.")


def problems(results, non_strict):
    """The lines to print; none when the run is as it must be."""
    found = []
    if len(results) != CASES:
        found.append(f"{len(results)} cases ran instead of {CASES}")
    seen = set()
    for case, result in results.items():
        allowed = {"OK", "INFORMATIONAL"}
        if case.startswith(COMPRESSION):
            allowed.add("UNIMPLEMENTED")
        if case in non_strict:
            allowed.add("NON-STRICT")
        behaviors = {key: result[key] for key in ("behavior", "behaviorClose")}
        found += [f"case {case}: {key} is {value}" for key, value in behaviors.items() if value not in allowed]
        if "NON-STRICT" in behaviors.values():
            seen.add(case)
    found += [f"case {case} is strict now: take it out of the baseline" for case in sorted(non_strict - seen)]
    return found


def main(index, baseline):
    reports = json.loads(pathlib.Path(index).read_text())
    results = reports.get("fanfare", {})
    found = problems(results, set(json.loads(pathlib.Path(baseline).read_text())["non-strict"]))
    for problem in found:
        print(problem)
    counts = collections.Counter(result["behavior"] for result in results.values())
    print("autobahn:", ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "no case ran")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

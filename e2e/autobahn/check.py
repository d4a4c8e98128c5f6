#!/usr/bin/env python3
"""check.py INDEX BASELINE CASES: judges a report of Autobahn's fuzzing client that ran so many cases.

Every case must be OK or INFORMATIONAL in behaviour and in close, but for those that the baseline lists, each with its
reason: cases that are NON-STRICT, and groups of cases that are UNIMPLEMENTED. What is listed must be so.
"""

import collections
import json
import pathlib
import sys


def problems(results, baseline, cases):
    """The lines to print; none when the run is as it must be."""
    found = []
    if len(results) != cases:
        found.append(f"{len(results)} cases ran instead of {cases}")
    non_strict, groups = set(baseline["non-strict"]), tuple(baseline["unimplemented"])
    seen = set()
    for case, result in results.items():
        allowed = {"OK", "INFORMATIONAL"}
        behaviors = {key: result[key] for key in ("behavior", "behaviorClose")}
        if case in non_strict:
            allowed.add("NON-STRICT")
        if case.startswith(groups):
            allowed.add("UNIMPLEMENTED")
            if result["behavior"] == "OK":
                found.append(f"case {case} is implemented now: take it out of the baseline")
        found += [f"case {case}: {key} is {value}" for key, value in behaviors.items() if value not in allowed]
        if "NON-STRICT" in behaviors.values():
            seen.add(case)
    found += [f"case {case} is strict now: take it out of the baseline" for case in sorted(non_strict - seen)]
    return found


def main(index, baseline, cases):
    reports = json.loads(pathlib.Path(index).read_text())
    results = reports.get("fanfare", {})
    found = problems(results, json.loads(pathlib.Path(baseline).read_text()), int(cases))
    for problem in found:
        print(problem)
    counts = collections.Counter(result["behavior"] for result in results.values())
    print("autobahn:", ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "no case ran")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

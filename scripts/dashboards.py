#!/usr/bin/env python3
"""Writes the dashboards of the chart: charts/fanfare/dashboards/*.json.

What is on them is in scripts/boards. The JSON is committed; a test compares it with what this
writes. `--check` only compares.
"""

import pathlib
import sys

from boards import ALL

TOP = pathlib.Path(__file__).resolve().parent.parent
PLACE = TOP / "charts" / "fanfare" / "dashboards"


def stale():
    """Dashboards whose file is not what this would write."""
    for dashboard in ALL:
        path = PLACE / f"{dashboard.name}.json"
        if not path.exists() or path.read_text() != dashboard.text():
            yield path, dashboard


def main():
    found = list(stale())
    for path, dashboard in found:
        if "--check" not in sys.argv:
            path.write_text(dashboard.text())
        print(path.relative_to(TOP))
    if found and "--check" in sys.argv:
        sys.exit("not what scripts/dashboards.py writes")


if __name__ == "__main__":
    main()

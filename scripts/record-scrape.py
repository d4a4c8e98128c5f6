#!/usr/bin/env python3
"""Records what real processes export, for the tests of dashboards and alerts.

    scripts/record-scrape.py gateway=http://127.0.0.1:9090/metrics probe=http://127.0.0.1:9091/metrics

Writes the parts of charts/tests/scrape.txt that are named (gateway, probe, nats, redis), and keeps
the others. One series of each name and set of labels is enough, and of a histogram one bucket: it
is names and labels that the tests compare.
"""

import pathlib
import re
import sys
import urllib.request

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "charts" / "tests" / "scrape.txt"
OURS = re.compile(r"(fanfare|process|nats|redis)_")
LABEL = re.compile(r'(\w+)="')


def series(url):
    """Lines whose name and labels were not there before."""
    seen = set()
    with urllib.request.urlopen(url, timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if not OURS.match(line):
                continue
            key = line.partition("{")[0].partition(" ")[0], frozenset(LABEL.findall(line))
            if key not in seen:
                seen.add(key)
                yield line


def main():
    parts = {}
    if OUTPUT.exists():
        parts = {part.partition("\n")[0]: part for part in OUTPUT.read_text().rstrip().split("\n\n")}
    for argument in sys.argv[1:]:
        name, _, url = argument.partition("=")
        parts[f"# {name}"] = "\n".join([f"# {name}", *sorted(series(url))])
    OUTPUT.write_text("\n\n".join(parts[name] for name in sorted(parts)) + "\n")


if __name__ == "__main__":
    main()

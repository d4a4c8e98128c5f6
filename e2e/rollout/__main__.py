"""python -m rollout: 5,000 clients and the chart's parameters; prints the figures of docs/operations.md."""

import argparse
import pathlib
import shutil
import sys
import tempfile

from . import report, run
from .site import Site

# As in charts/fanfare/values.yaml.
SETTINGS = {"drain.delay": "10s", "drain.duration": "60s", "drain.grace": "30s"}
GRACE = 120


def main():
    arguments = parse()
    load = run.Load(arguments.clients, arguments.rate, arguments.channels)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="rollout-"))
    print(f"logs are in {directory}", flush=True)
    site = Site(directory, SETTINGS)
    try:
        site.start()
        replaced, drains = run.replace(site, load)
        tell(drains, replaced)
        killed, kills = run.kill(site, load)
        tell(kills, killed)
    finally:
        site.close()
    print(report.table(load, replaced, drains, killed, kills, run.seconds(SETTINGS["drain.duration"])), flush=True)
    run.check_replaced(replaced, drains, SETTINGS, GRACE, arguments.slack)
    run.check_killed(killed, kills)
    shutil.rmtree(directory)


def tell(steps, found):
    """All that is known, for those who look for a fault."""
    print(*steps, {name: value for name, value in found.items() if value is not None}, sep="\n", flush=True)


def parse():
    parser = argparse.ArgumentParser(prog="python -m rollout", description=__doc__)
    parser.add_argument("--clients", type=int, default=5000, help="half of them native, half Socket.IO")
    parser.add_argument("--rate", type=float, default=100, help="messages per second, over all channels")
    parser.add_argument("--channels", type=int, default=50)
    parser.add_argument("--slack", type=float, default=1, help="how far above the pace a busy machine may be")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""python -m chaos: a run from the command line. Ends with 0 only if no rule was broken."""

import argparse
import pathlib
import random
import shutil
import sys
import tempfile

from . import report
from .checker import check
from .faults import EMBEDDED, EXTRA, KINDS
from .record import read
from .run import Options, run


def main():
    arguments = parse()
    if arguments.check:
        return conclude(*check(read(arguments.check)))
    seed = arguments.seed if arguments.seed is not None else random.randrange(1_000_000)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {seed}, log and servers' files in {directory}", flush=True)
    options = Options(
        directory=directory,
        seed=seed,
        seconds=arguments.seconds,
        kinds=tuple(arguments.faults or (EMBEDDED if arguments.embedded else KINDS)),
        rate=arguments.rate,
        embedded=arguments.embedded,
        queue=arguments.queue,
        sabotage=arguments.sabotage,
    )
    failed = True
    try:
        failed = conclude(*run(options))
    finally:
        if failed or arguments.keep:
            print(f"kept: {directory}")
        else:
            shutil.rmtree(directory)
    return failed


def conclude(history, findings):
    print(report.details(history, findings))
    print(report.sentence(history, findings, history.run.get("version", "")))
    return bool(findings.violations)


def parse():
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the schedule; random without")
    parser.add_argument("--seconds", type=float, default=60, help="of faults (default 60)")
    parser.add_argument("--faults", type=kinds, metavar="A,B", help=", ".join(KINDS | EXTRA))
    parser.add_argument("--rate", type=float, default=1, help="how much is published; 1 is some 110 messages a second")
    parser.add_argument("--embedded", action="store_true", help="one gateway and no servers")
    parser.add_argument("--no-queue", dest="queue", action="store_false", help="users have no offline queues")
    parser.add_argument("--sabotage", help="of the gateways: a deliberate bug")
    parser.add_argument("--keep", action="store_true", help="keep log and servers' files of a good run, too")
    parser.add_argument("--check", type=pathlib.Path, metavar="LOG", help="only check a log of an earlier run")
    return parser.parse_args()


def kinds(text):
    named = text.split(",")
    if unknown := [name for name in named if name not in KINDS | EXTRA]:
        raise argparse.ArgumentTypeError(f"no such fault: {', '.join(unknown)}")
    return named


if __name__ == "__main__":
    sys.exit(main())

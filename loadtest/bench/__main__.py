"""python3 -m bench, from the directory loadtest/: what `make bench` runs."""

import argparse
import json
import pathlib
import signal
import sys

from . import machine, plan, report, run
from .peers import TARGETS
from .processes import TOP, Failure, cores

EPILOG = """All that was measured is kept in target/bench/TIME; --report writes the page from it again."""


def arguments():
    parser = argparse.ArgumentParser(prog="make bench", description=__import__("bench").__doc__, epilog=EPILOG)
    parser.add_argument("--quick", action="store_true", help="one short round: about 5 minutes instead of 25")
    parser.add_argument("--only", metavar="KEY,…", help="measurements whose key begins so, as `fanout-one,pairs`")
    parser.add_argument("--targets", metavar="NAME,…", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of 3, or 1 with --quick")
    parser.add_argument("--out", metavar="FILE", default="docs/benchmarks.md", help="the page (default: %(default)s)")
    parser.add_argument("--busy", action="store_true", help="measure though other programs are using the machine")
    parser.add_argument("--list", action="store_true", help="print the plan and end")
    parser.add_argument("--report", metavar="DIRECTORY", help="measure nothing; write the page from an earlier run")
    return parser.parse_args()


def chosen(options, scale):
    targets = options.targets.split(",") if options.targets else list(TARGETS)
    if unknown := set(targets) - set(TARGETS):
        raise Failure(f"no such target: {', '.join(sorted(unknown))}")
    only = tuple(options.only.split(",")) if options.only else ("",)
    found = [m for m in plan.measurements(scale) if m.target in targets and m.key.startswith(only)]
    if not found:
        raise Failure("nothing to measure: --list shows what there is")
    return found


def wait_for_quiet(options, document):
    share, busiest = machine.foreign_load()
    if share <= machine.BUSY:
        return
    who = f" ({', '.join(busiest)})" if busiest else ""
    run.say(f"THE MACHINE IS BUSY: OTHERS USE {share:.0%} OF A CORE{who}")
    if not options.busy:
        raise Failure("figures would mean little; --busy measures all the same, and the page says so")
    document["busy"] = {"share": share, "busiest": busiest}


def measure(options):
    scale = plan.QUICK if options.quick else plan.FULL
    selected = chosen(options, scale)
    if options.list:
        for measurement in selected:
            print(measurement.key, measurement.target, measurement.workload, *measurement.options)
        return None
    cores()
    machine.raise_open_files()
    recorder = run.Recorder(" ".join(sys.argv[1:]))
    wait_for_quiet(options, recorder.document)
    run.run(recorder, selected, options.rounds or scale.rounds)
    run.say(f"measured: {recorder.directory.relative_to(TOP)}")
    return recorder.document


def main():
    # So that a kill, too, stops the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = arguments()
    try:
        if options.report:
            document = json.loads((pathlib.Path(options.report) / "run.json").read_text(encoding="utf-8"))
        elif (document := measure(options)) is None:
            return 0
    except Failure as failure:
        run.say(f"error: {failure}")
        return 3
    out = TOP / options.out
    out.write_text(report.write(document), encoding="utf-8")
    run.say(f"written: {options.out}")
    return 0


sys.exit(main())

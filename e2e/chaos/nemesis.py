"""The schedule of faults: made from a seed alone, so that it can be had again."""

import dataclasses
import random
import time

from .faults import EXTRA, KINDS

QUIET = (0.5, 2)
REASONS = {"disk-full": " (A SMALL DISK MUST BE MOUNTED: THAT NEEDS ROOT)"}


@dataclasses.dataclass(frozen=True)
class Step:
    kind: str
    target: str
    hold: float
    quiet: float

    @property
    def seconds(self):
        return self.hold + self.quiet + find(self.kind).cost

    def __str__(self):
        return f"{self.kind} {self.target} {self.hold} s, then quiet {self.quiet} s"


def find(kind):
    return (KINDS | EXTRA)[kind]


def schedule(seed, seconds, kinds):
    """Steps for about so many seconds; each kind comes once before any comes again. `kinds` have their targets."""
    rng = random.Random(seed)
    steps, deck = [], []
    while sum(step.seconds for step in steps) < seconds:
        deck = deck or rng.sample(sorted(kinds), len(kinds))
        kind = deck.pop()
        hold, quiet = (round(rng.uniform(*span), 1) for span in (find(kind).hold, QUIET))
        steps.append(Step(kind, rng.choice(kinds[kind]), hold, quiet))
    return steps


def possible(names, site):
    """The kinds of these names that can be had here, each with its targets; the others are named aloud."""
    kinds = {name: [target for target in find(name).targets if site.has(target)] for name in names}
    for name in [name for name, targets in kinds.items() if not targets]:
        print(f"NOT IN THIS RUN: {name.upper()} CANNOT BE HAD HERE{REASONS.get(name, '')}", flush=True)
        del kinds[name]
    return kinds


def run(steps, site, workload, recorder):
    """Does them one after the other. Each step is over when what it broke is whole again."""
    start = time.monotonic()
    for step in steps:
        print(f"{time.monotonic() - start:6.1f} s  {step}", flush=True)
        recorder.write("fault", "invoke", kind=step.kind, target=step.target)
        with find(step.kind).act(site, workload, step.target):
            time.sleep(step.hold)
        recorder.write("fault", "ok", kind=step.kind, target=step.target)
        time.sleep(step.quiet)

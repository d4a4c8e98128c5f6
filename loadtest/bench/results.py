"""The figures of one run of the plan, by measurement, target and round."""

import dataclasses
import statistics


WRONG = ("lost", "duplicated", "reordered", "strays", "refused", "closed")


@dataclasses.dataclass(frozen=True)
class Figure:
    """A median over rounds, and what it lies between."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values):
        values = [value for value in values if value is not None]
        return cls(statistics.median(values), min(values), max(values), len(values)) if values else None


class Results:
    def __init__(self, document):
        self.document = document
        self._runs = {}
        for run in document["runs"]:
            self._runs.setdefault((run["key"], run["target"]), {})[run["round"]] = run

    def runs(self, key, target):
        """By round; those that failed are among them, without `result`."""
        return self._runs.get((key, target), {})

    def keys(self):
        return list(dict.fromkeys(run["key"] for run in self.document["runs"]))

    def targets(self, key):
        return list(dict.fromkeys(run["target"] for run in self.document["runs"] if run["key"] == key))

    def _by_round(self, key, target, field):
        """A run that lost something did not do the work that its cost is the cost of: it does not count."""
        values = {}
        for number, run in self.runs(key, target).items():
            value = run.get("result", {}).get(field)
            if value is not None and run.get("exit", 0) == 0:
                values[number] = value
        return values

    def why_not(self, key, target):
        """Why there are no figures."""
        if reason := self.document["not_run"].get(target):
            return f"not run: {reason}"
        runs = self.runs(key, target).values()
        if runs and all(run.get("exit", 1 if "failure" in run else 0) for run in runs):
            return "**FAILED**, see below"
        return "not measured: what it is compared with is missing" if runs else "not measured"

    def figure(self, key, target, field):
        return Figure.of(self._by_round(key, target, field).values())

    def ratio(self, above, below, field):
        """Of two (key, target) in the same round: the machine's mood of the moment cancels out."""
        return _ratio(self._by_round(*above, field), self._by_round(*below, field))

    def fields_ratio(self, key, target, above, below):
        """Of two fields of the same result."""
        return _ratio(self._by_round(key, target, above), self._by_round(key, target, below))

    def wrong(self):
        """Runs that lost, duplicated or reordered something, or failed: (run, what)."""
        found = []
        for run in self.document["runs"]:
            result = run.get("result")
            if result is None:
                found.append((run, f"failed: {run.get('failure', 'no reason given')}"))
                continue
            if bad := [f"{result[name]} {name}" for name in WRONG if result.get(name)]:
                found.append((run, ", ".join(bad)))
        return found


def _ratio(numerators, denominators):
    return Figure.of(numerators[number] / denominators[number] for number in numerators if denominators.get(number))

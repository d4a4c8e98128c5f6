"""The verdict in words: one honest sentence, and what is behind it."""

import collections

from .findings import RULES

NOT_COVERED = "Not covered: power loss, disk corruption."
SHOWN = 5


def sentence(history, findings, version=""):
    """F faults of K kinds, M acknowledged, … as research and docs/delivery.md word it."""
    counts, kinds = findings.counts, {fault.kind for fault in history.faults}
    parts = [
        f"{len(history.faults)} faults of {len(kinds)} kinds",
        f"{counts['acked']} acknowledged",
        f"{len(findings.of('I1'))} lost",
        f"{len(findings.of('I2'))} phantom",
        f"{len(findings.of('I3'))} duplicated ({counts['absorbed']} repetitions absorbed)",
        f"{len(findings.of('I4'))} reordered",
        f"{counts['unknown']} unknown",
    ]
    text = ", ".join(parts) + f"; longest publish stall {counts['stall']:.1f} s."
    return f"{version + ': ' if version else ''}{text} {NOT_COVERED}"


def details(history, findings):
    """Figures that the sentence leaves out, and each broken rule with some of its cases."""
    counts = findings.counts
    lines = [
        f"deliveries {counts['delivered']}, resumes recovered {counts['recovered']}, not recovered"
        f" {counts['unrecovered']}, gaps told {counts['gaps']}, evicted {counts['evicted']},"
        f" redelivered from queues {counts['redelivered']}, retried {counts['retried']}, refused {counts['refused']}",
        f"acknowledged, and lost for good with what a backup replaced: {counts['rolled_back']}",
        f"without history (at most once): {counts['lost_at_most_once']} not delivered around faults of NATS servers,"
        f" {counts['repeated']} repeated and {counts['late']} late after an unknown outcome",
        "connections ended by: " + ", ".join(f"{code} × {n}" for code, n in sorted_codes(history)),
    ]
    by_rule = collections.defaultdict(list)
    for rule, text in findings.violations:
        by_rule[rule].append(text)
    for rule, texts in sorted(by_rule.items(), key=lambda it: int(it[0][1:])):
        lines.append(f"BROKEN {rule} × {len(texts)}: {RULES[rule]}")
        lines += [f"    {text}" for text in texts[:SHOWN]]
    return "\n".join(lines)


def sorted_codes(history):
    return sorted(history.closed.items(), key=lambda it: str(it[0]))

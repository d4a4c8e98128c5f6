"""What the checker found: broken rules, and figures."""

import collections
import dataclasses

# What each rule says, in the words of the report.
RULES = {
    "I1": "lost: acknowledged as stored, owed to a reader, and neither delivered nor declared missing",
    "I2": "phantom: delivered, but never published, refused, or damaged",
    "I3": "duplicate: one message twice",
    "I4": "reordered: a publisher's messages, or a channel's offsets, not in order",
    "I5": "an offset that means two messages",
    "I6": "a hole: a reader lacks what others were given between its own messages",
    "I7": "recovered, yet not everything was replayed",
    "I8": "offsets were handed out again in the same epoch, or the epoch changed in silence",
    "I9": "a queued message ended neither delivered nor evicted",
    "I10": "presence does not show who is there",
    "I11": "delivered after access was revoked",
    "I12": "publishing or receiving does not work again after the faults",
}


@dataclasses.dataclass
class Findings:
    violations: list = dataclasses.field(default_factory=list)
    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def broken(self, rule, text):
        self.violations.append((rule, text))

    def count(self, what, number=1):
        self.counts[what] += number

    def of(self, rule):
        return [text for broken, text in self.violations if broken == rule]

    @property
    def rules(self):
        """The broken rules."""
        return {rule for rule, _ in self.violations}

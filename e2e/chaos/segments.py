"""A reader's stream in a namespace with history, cut where something was declared missing.

Within a segment nothing may be missing: it goes on over reconnects that were answered `recovered`.
"""

import bisect
import dataclasses
import itertools

from .history import SECOND, Disconnected, Gap, Received, Subscribed

# Of the window, where what is known of it is less than all.
MARGIN = 0.9


@dataclasses.dataclass
class Segment:
    epoch: str | None = None
    # Everything after this offset is owed.
    start: int | None = None
    received: list = dataclasses.field(default_factory=list)
    # The answers `recovered: true`, each with the number of messages received before it.
    recoveries: list = dataclasses.field(default_factory=list)
    # The answer that ended it with `recovered: false`.
    reset: Subscribed | None = None
    open: bool = True
    heard: int = 0

    @property
    def last(self):
        return self.received[-1].place[1] if self.received else self.start

    def takes(self, place):
        return self.epoch in (None, place[0])

    def take(self, received):
        epoch, offset = received.place
        if self.epoch is None:
            self.epoch, self.start = epoch, offset - 1
        self.received.append(received)

    def missing(self, known):
        """Offsets that are owed and were not received; `known` are the epoch's, sorted."""
        if self.start is None:
            return []
        end = len(known) if self.open else bisect.bisect_right(known, self.last)
        owed = itertools.islice(known, bisect.bisect_right(known, self.start), end)
        got = {received.place[1] for received in self.received}
        return [offset for offset in owed if offset not in got]

    def should_be_replayed(self, offset):
        """Whether a recovery gave out later messages of the past than this one, which was missed, too."""
        for answer, before in self.recoveries:
            replayed = self.received[before : before + (answer.replayed or 0)]
            if replayed and answer.asked and answer.asked[1] < offset < replayed[-1].place[1]:
                return True
        return False


def cut(stream, findings, name):
    """The stream's segments. An epoch that changes without a word is noted."""
    segments = [Segment()]

    def start_anew(**start):
        segments[-1].open = False
        segments.append(Segment(**start))

    for entry in stream:
        current = segments[-1]
        match entry:
            case Subscribed(recovered=True):
                current.recoveries.append((entry, len(current.received)))
            case Subscribed():
                current.reset = entry
                epoch, offset = entry.place or (None, None)
                start_anew(epoch=epoch, start=offset)
            case Gap():
                start_anew()
            case Received():
                if not current.takes(entry.place):
                    findings.broken("I8", f"{name}: {current.epoch} became {entry.place[0]} in silence")
                    start_anew()
                segments[-1].take(entry)
                segments[-1].heard = entry.t
            case Disconnected():
                current.heard = entry.t
    return [segment for segment in segments if segment.start is not None or segment.reset]


def forgotten(segment, known, namespace):
    """Offsets that `recovered: false` gave up although the window still held them all."""
    reset = segment.reset
    if not (reset and reset.asked and reset.place) or reset.asked[0] != reset.place[0]:
        return []
    between = known[bisect.bisect_right(known, reset.asked[1]) : bisect.bisect_right(known, reset.place[1])]
    away = (reset.t - segment.heard) / SECOND
    if len(between) > namespace["size"] * MARGIN or away > namespace["ttl"] * MARGIN:
        return []
    return between

//! Sequence accounting: what one subscriber got of one stream, what twice, what late and what never.

use std::ops::Range;

/// Missing ranges that a subscriber remembers per stream. Beyond it the oldest is given up as lost.
const MAX_HOLES: usize = 256;

/// Nothing is owed or known yet.
const NONE: u64 = u64::MAX;

/// How a message relates to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// In order, as far as is known now.
    InOrder,
    /// Later than one published after it.
    Reordered,
    /// It was there before.
    Duplicated,
}

/// One stream as one subscriber sees it.
#[derive(Debug)]
pub(crate) struct Tally {
    /// The number after the highest seen; while nothing was seen, the first that is owed.
    next: u64,
    seen: bool,
    /// The first number missed by the connection's last end.
    broken_at: u64,
    /// Missing ranges below `next`, ascending.
    holes: Vec<Range<u64>>,
    given_up: u64,
    outage: u64,
}

impl Tally {
    pub(crate) const fn new() -> Self {
        Self { next: NONE, seen: false, broken_at: NONE, holes: Vec::new(), given_up: 0, outage: 0 }
    }

    /// The subscription is live: every message from this number on is owed. Earlier ones may come too.
    pub(crate) const fn owe_from(&mut self, sequence: u64) {
        if !self.seen {
            self.next = sequence;
        }
    }

    /// The connection ended by no fault of the server's delivery: what is published until the next
    /// [`Self::owe_from`] is missed, and is counted apart.
    pub(crate) const fn broke(&mut self) {
        if self.broken_at == NONE {
            self.broken_at = self.next;
        }
        self.seen = false;
        self.next = NONE;
    }

    pub(crate) fn receive(&mut self, sequence: u64) -> Verdict {
        if self.seen && sequence == self.next {
            self.next += 1;
            return Verdict::InOrder;
        }
        if !self.seen {
            return self.receive_first(sequence);
        }
        if sequence > self.next {
            self.add_hole(self.next..sequence);
            self.next = sequence + 1;
            return Verdict::InOrder;
        }
        if self.fill(sequence) { Verdict::Reordered } else { Verdict::Duplicated }
    }

    fn receive_first(&mut self, sequence: u64) -> Verdict {
        if self.broken_at != NONE {
            if sequence < self.broken_at {
                return Verdict::Duplicated;
            }
            let back_at = sequence.min(self.next);
            self.outage += back_at - self.broken_at;
            self.broken_at = NONE;
        }
        self.seen = true;
        if sequence > self.next {
            self.add_hole(self.next..sequence);
        }
        self.next = sequence + 1;
        Verdict::InOrder
    }

    /// Messages owed of those before `end`.
    pub(crate) fn missing(&self, end: u64) -> u64 {
        let holes = self.holes.iter().map(|hole| hole.end - hole.start);
        self.given_up + holes.sum::<u64>() + end.saturating_sub(self.next)
    }

    /// Messages before `end` that were published while the subscriber was away.
    pub(crate) fn outage(&self, end: u64) -> u64 {
        let open = match self.broken_at {
            NONE => 0,
            since => self.next.min(end).saturating_sub(since),
        };
        self.outage + open
    }

    /// Whether everything before `end` has come.
    pub(crate) fn is_complete(&self, end: u64) -> bool {
        self.missing(end) == 0
    }

    fn add_hole(&mut self, hole: Range<u64>) {
        if self.holes.len() == MAX_HOLES {
            let oldest = self.holes.remove(0);
            self.given_up += oldest.end - oldest.start;
        }
        self.holes.push(hole);
    }

    fn fill(&mut self, sequence: u64) -> bool {
        let Some(index) = self.holes.iter().position(|hole| hole.contains(&sequence)) else {
            return false;
        };
        let hole = self.holes[index].clone();
        let parts = [hole.start..sequence, sequence + 1..hole.end];
        self.holes.splice(index..=index, parts.into_iter().filter(|part| !part.is_empty()));
        true
    }
}

#[cfg(test)]
mod tests;

//! The live messages of one channel with history, without hole, repetition or swap.
//!
//! The bus delivers at most once. What it brings of such a channel says which message came before
//! it, so a hole shows, and is filled from the log before anything else is given out. A hole at
//! the end shows only by a look at the log's top ([`Feed::check`]). New subscribers start from a
//! window of the log's newest messages, which goes on with the feed: what is in it and
//! what comes live meet without a seam.

mod window;

use std::{mem, time::Instant};

use crate::{
    history::{From, History, Slice, Top, is_complete},
    message::{Message, Timestamp},
    position::{Offset, Position},
};
pub use window::{Need, Replay, Wanted};
use window::{Recording, Window};

/// Messages that wait while a hole is filled; with more, they are read from the log later.
const MAX_HELD: usize = 1024;
/// Messages that are read from the log at once.
const MAX_READ: usize = 10_002;

/// One gateway's share of one channel's messages.
#[derive(Debug)]
pub struct Feed {
    /// What was given out last; `None` until the log was asked.
    last: Option<Position>,
    /// When that was accepted; `None` while nothing was given out.
    last_time: Option<Timestamp>,
    /// When `last` was known to be all there was.
    confirmed: Instant,
    catching_up: bool,
    /// What came while catching up.
    held: Vec<Message>,
    /// Whether the log must be asked for its top, since what is held does not show it.
    ask: bool,
    window: Option<Box<Window>>,
    recording: Option<Box<Recording>>,
}

/// What to do with a message that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Give it out.
    Next,
    /// Nothing: it was given out before, or waits for others.
    Later,
    /// Nothing yet: catch up first ([`Feed::plan`]).
    CatchUp,
}

/// What to ask the log for, to catch up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Where the log is known to end at least; `None`: ask it.
    pub known: Option<Top>,
    /// What has been given out already; `None`: nothing is to be read.
    pub last: Option<Position>,
}

/// What catching up has brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CaughtUp {
    /// Messages may be missing before those given out: tell.
    pub lost: bool,
    /// To be given out, in this order.
    pub messages: Vec<Message>,
    /// More came meanwhile: catch up again.
    pub again: bool,
}

enum Place {
    Next,
    Known,
    /// It was given out, or its number was: only the log can tell.
    Old,
    BehindAHole,
}

impl Feed {
    /// A feed that has to catch up before it gives anything out.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            last: None,
            last_time: None,
            confirmed: now,
            catching_up: true,
            held: Vec::new(),
            ask: false,
            window: None,
            recording: None,
        }
    }

    /// Where subscribers stand who got everything; `None` until the first catching up is done.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.last
    }

    /// A message came live.
    pub fn arrive(&mut self, now: Instant, message: &Message) -> Arrival {
        match self.place(message) {
            Place::Known => return Arrival::Later,
            Place::Next if !self.catching_up => {
                self.give_out(message);
                self.confirmed = now;
                return Arrival::Next;
            }
            Place::Old => self.ask = true,
            Place::Next | Place::BehindAHole => self.hold(message),
        }
        if self.check() { Arrival::CatchUp } else { Arrival::Later }
    }

    /// Somebody doubts that this is all there is. Says whether to catch up.
    pub fn check(&mut self) -> bool {
        !mem::replace(&mut self.catching_up, true)
    }

    /// When this was last known to be all there is.
    #[must_use]
    pub fn confirmed(&self) -> Instant {
        self.confirmed
    }

    /// The log's top, looked at at `asked`, is this. Says whether to catch up.
    pub fn compare(&mut self, asked: Instant, top: &Top) -> bool {
        let Some(last) = self.last.filter(|_| !self.catching_up) else { return false };
        if is_all(&last, top) {
            self.confirmed = self.confirmed.max(asked);
            return false;
        }
        // A replica that lags behind shows an older top, which says nothing.
        let differs = top.epoch != last.epoch || top.position().offset >= last.offset;
        differs && self.check()
    }

    /// What to ask the log for.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let known = self.last.filter(|_| !self.ask).and_then(|last| {
            let newest = self.held.iter().filter_map(Message::position).max_by_key(|it| it.offset);
            let newest = newest.filter(|newest| newest.epoch == last.epoch)?;
            Some(Top { epoch: newest.epoch, newest: Some(newest), end: newest.offset })
        });
        Plan { known, last: self.last }
    }

    /// The log's answer to [`Feed::plan`], asked at `asked`: its top, and what it has up to there.
    pub fn caught_up(
        &mut self,
        asked: Instant,
        history: &History,
        top: &Top,
        read: Vec<Message>,
    ) -> CaughtUp {
        let mut outcome = CaughtUp::default();
        // The top was known from what came in an epoch that had ended when the log was read.
        if read.iter().any(|message| message.stored.is_some_and(|it| it.epoch != top.epoch)) {
            (self.ask, outcome.again) = (true, true);
            return outcome;
        }
        let end = self.end_of(history, top, &read);
        match self.last {
            None => self.last = Some(top.position()),
            Some(last) if is_all(&last, top) => {}
            Some(last) => {
                let fresh = asked.saturating_duration_since(self.confirmed) < history.ttl;
                let first = read.first().and_then(Message::position);
                let undisturbed = fresh && read.len() <= history.size;
                outcome.lost = !is_complete(&last, top, first, undisturbed);
                outcome.again = read.len() >= most_read(history);
                if outcome.lost {
                    (self.window, self.recording) = (None, None);
                }
                // Restored, the log may hold what was given out before, under other numbers.
                let restored = last.epoch != top.epoch || last.offset > end.offset;
                let since = self.last_time;
                for message in read {
                    let is_new = match message.position() {
                        Some(at) if !restored => at.offset > last.offset,
                        Some(_) => since.is_some_and(|since| message.time > since),
                        None => false,
                    };
                    if is_new {
                        self.give_out(&message);
                        outcome.messages.push(message);
                    }
                }
                self.last = Some(end);
            }
        }
        self.confirmed = asked;
        self.release_held(top, &mut outcome);
        self.catching_up = outcome.again;
        outcome
    }

    /// How far one has got: where all was read, to the top, also if the message there cannot be
    /// decoded; but not to a top that is known from what is held, which the log may have lost.
    fn end_of(&self, history: &History, top: &Top, read: &[Message]) -> Position {
        let all = read.len() < most_read(history);
        let is_held = self.held.iter().any(|it| it.position() == top.newest);
        let end = top.position();
        let is_short = |seen: Position| seen.epoch == end.epoch && seen.offset < end.offset;
        match (read.last().and_then(Message::position), self.last) {
            (Some(seen), _) if is_held || !all || !is_short(seen) => seen,
            (None, Some(last)) if is_held => last,
            _ => end,
        }
    }

    fn release_held(&mut self, top: &Top, outcome: &mut CaughtUp) {
        outcome.again |= mem::take(&mut self.ask);
        let mut held = mem::take(&mut self.held);
        held.sort_by_key(|message| message.stored.map(|it| it.offset));
        for message in held {
            match self.place(&message) {
                Place::Next if !outcome.again => {
                    self.give_out(&message);
                    outcome.messages.push(message);
                }
                Place::Known | Place::Old => {}
                Place::Next | Place::BehindAHole => {
                    outcome.again = true;
                    // Of another epoch, it is older than this one, or is read next time.
                    if message.stored.map(|it| it.epoch) == self.last.map(|it| it.epoch) {
                        self.held.push(message);
                    }
                }
            }
        }
        // Of another log, or not in this one although it was read up to there: waiting for it
        // would have no end. What is held was stored, so the log itself can tell.
        let elsewhere = |it: Position| self.last.is_none_or(|last| it.epoch != last.epoch);
        let mut held = self.held.iter().filter_map(Message::position);
        if held.any(|it| elsewhere(it) || top.newest == Some(it)) {
            self.held.clear();
            self.ask = true;
        }
    }

    fn place(&self, message: &Message) -> Place {
        let (Some(last), Some(stored)) = (self.last, message.stored) else {
            return Place::BehindAHole;
        };
        if stored.epoch != last.epoch {
            Place::BehindAHole
        } else if message.position() == Some(last) {
            Place::Known
        } else if stored.offset <= last.offset {
            Place::Old
        } else if stored.previous == Some(last.offset) {
            Place::Next
        } else {
            Place::BehindAHole
        }
    }

    fn give_out(&mut self, message: &Message) {
        self.last = message.position();
        self.last_time = Some(message.time);
        if let Some(window) = &mut self.window {
            window.append(message.clone());
        }
        if let Some(recording) = &mut self.recording {
            recording.append(message.clone());
        }
    }

    fn hold(&mut self, message: &Message) {
        if self.held.len() < MAX_HELD {
            self.held.push(message.clone());
        } else {
            self.held = Vec::new();
            self.ask = true;
        }
    }
}

impl Plan {
    /// What to read, once the top is known; `None` where there is nothing to be read.
    #[must_use]
    pub fn slice(&self, history: &History, top: &Top) -> Option<Slice> {
        let (last, newest) = (self.last?, top.newest?);
        if newest == last {
            return None;
        }
        // From the last one given out, to see that it is still the same; all, where the log was
        // made anew or set back.
        let behind = last.epoch == newest.epoch && last.offset <= newest.offset;
        let from = if behind { last.offset } else { Offset(0) };
        Some(Slice { from: From::Offset(from), until: newest.offset, messages: most_read(history) })
    }
}

/// One more than a log with a bounded size can have; enough at once of one without.
fn most_read(history: &History) -> usize {
    history.size.saturating_add(2).min(MAX_READ)
}

/// Whether this is the newest message, or was before it became too old.
fn is_all(last: &Position, top: &Top) -> bool {
    let aged_out = top.newest.is_none() && last.epoch == top.epoch && last.offset <= top.end;
    aged_out || top.newest == Some(*last)
}

#[cfg(test)]
mod tests;

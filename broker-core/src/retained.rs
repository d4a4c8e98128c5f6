//! The newest message of each channel of a namespace: what snapshots are made of.
//!
//! It is read from the log and goes on with what the bus brings of the whole namespace. All
//! channels share the log's numbers, and they have no gaps: so a hole shows by the next message of
//! whichever channel, and one at the end by a look at the log. Then the log is read anew, and what
//! was missed is given out.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    ops::Bound,
    time::Duration,
};

use crate::{
    message::{Message, Timestamp},
    name::{ChannelName, ChannelPattern},
    position::{Epoch, Offset},
};

/// What a value takes beside its name and body, roughly.
const OVERHEAD: usize = 256;

/// How much is kept; with more, there are no snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Channels.
    pub channels: usize,
    /// Bytes of names and bodies, with what keeps them.
    pub bytes: usize,
}

/// The channels of a namespace that have messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The log.
    pub epoch: Epoch,
    /// No message of the namespace had a larger offset yet.
    pub end: Offset,
    /// In no order.
    pub channels: Vec<ChannelName>,
}

/// Whether there can be a snapshot now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Not before the log was read, for the first time or anew.
    Loading,
    /// Yes.
    Ready,
    /// There is more than the bounds allow.
    TooMuch,
}

/// What to do with a message that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Give it out.
    Next,
    /// Tell that earlier ones of its channel are missing, then give it out.
    AfterAHole,
    /// Nothing: it was given out before.
    Known,
}

/// What a comparison with the log has brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Messages were missed: tell, before these are given out.
    pub lost: bool,
    /// The newest of their channels among those, in the order of the log.
    pub messages: Vec<Message>,
}

/// The newest message of each channel of one namespace, as far as one gateway knows.
#[derive(Debug)]
pub struct LastValues {
    bounds: Bounds,
    ttl: Duration,
    values: BTreeMap<ChannelName, Message>,
    bytes: usize,
    /// The log; `None` until it was read.
    epoch: Option<Epoch>,
    /// The largest offset that came, or that the log had when it was compared.
    seen: Offset,
    /// The largest offset that came.
    came: Offset,
    /// Where the log ended when it was last compared: what had no value then has none before that.
    compared: Offset,
    full: bool,
    /// Something may have been missed since the log was last asked.
    doubted: bool,
    /// The log is being read because of that.
    reading: bool,
}

impl LastValues {
    /// Knows nothing yet. `ttl`: how long the log keeps a message.
    #[must_use]
    pub fn new(bounds: Bounds, ttl: Duration) -> Self {
        Self {
            bounds,
            ttl,
            values: BTreeMap::new(),
            bytes: 0,
            epoch: None,
            seen: Offset(0),
            came: Offset(0),
            compared: Offset(0),
            full: false,
            doubted: true,
            reading: false,
        }
    }

    /// Whether there can be a snapshot.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        match self.epoch {
            Some(_) if self.full => Readiness::TooMuch,
            Some(_) if !self.doubted && !self.reading => Readiness::Ready,
            _ => Readiness::Loading,
        }
    }

    /// Whether the log was read at least once.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.epoch.is_some()
    }

    /// Whether the log is to be read anew.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.doubted
    }

    /// Whether everything up to here has come, or is missing.
    #[must_use]
    pub fn has_seen(&self, offset: Offset) -> bool {
        self.seen >= offset
    }

    /// How many values there are, and what they take.
    #[must_use]
    pub fn size(&self) -> Bounds {
        Bounds { channels: self.values.len(), bytes: self.bytes }
    }

    /// Messages may have been missed.
    pub fn doubt(&mut self) {
        self.doubted = true;
    }

    /// A message came live.
    pub fn arrive(&mut self, message: &Message) -> Arrival {
        let Some(stored) = message.stored else { return Arrival::Next };
        let is_late = stored.offset <= self.came;
        if self.epoch == Some(stored.epoch) {
            self.doubted |= !self.full && stored.offset.0 > self.seen.0.saturating_add(1);
            self.seen = self.seen.max(stored.offset);
            self.came = self.came.max(stored.offset);
        } else {
            self.doubt();
        }
        if self.full {
            return Arrival::Next;
        }
        let value = self.values.get(&message.channel);
        let last = value.and_then(|value| value.stored).filter(|it| it.epoch == stored.epoch);
        let known = match last {
            Some(last) => last.offset,
            None if self.epoch == Some(stored.epoch) => self.compared,
            None => Offset(0),
        };
        if stored.offset <= known {
            // A log that was set back gives numbers out again.
            self.doubted |= is_late && value.and_then(Message::position) != message.position();
            return Arrival::Known;
        }
        self.put(message.clone());
        if stored.previous > Some(known) { Arrival::AfterAHole } else { Arrival::Next }
    }

    /// The log is about to be asked. Says what [`LastValues::merge`] must be told.
    pub fn begin(&mut self) -> Offset {
        self.reading |= mem::take(&mut self.doubted);
        self.seen
    }

    /// Whether the values must be read, the log being like this.
    #[must_use]
    pub fn must_read(&self, began: Offset, listing: &Listing) -> bool {
        let differs = self.epoch != Some(listing.epoch) || listing.end < began;
        self.full || self.reading || self.doubted || differs || self.seen < listing.end
    }

    /// Whether so many channels are more than is kept.
    #[must_use]
    pub fn exceeds(&self, size: Bounds) -> bool {
        size.channels > self.bounds.channels || size.bytes > self.bounds.bytes
    }

    /// What the log has: its channels, and the newest messages of these, if they had to be read.
    pub fn merge(&mut self, began: Offset, listing: &Listing, read: Vec<Message>) -> Merged {
        let first = self.epoch.is_none();
        let anew = self.is_anew(began, listing);
        // What came of a new life of the log stays: its numbers mean one message each.
        let set_back = anew && self.epoch == Some(listing.epoch);
        self.drop_what_is_gone(listing, set_back);
        let known = if self.full { self.seen } else { self.compared };
        self.note_compared(listing, anew);
        let mut messages = Vec::new();
        for message in read {
            let Some(stored) = message.stored.filter(|it| it.epoch == listing.epoch) else {
                self.doubt();
                continue;
            };
            let last = self.values.get(&message.channel).and_then(|value| value.stored);
            // What is later than the list is on its way.
            if last.is_some_and(|it| it.offset >= stored.offset || stored.offset > listing.end) {
                continue;
            }
            if !first && (anew || last.is_some() || stored.offset > known) {
                messages.push(message.clone());
            }
            self.put(message);
        }
        messages.sort_by_key(|message| message.stored.map(|it| it.offset));
        Merged { lost: anew || !messages.is_empty(), messages }
    }

    /// The log has more than is kept. Says whether messages may have been missed.
    pub fn give_up(&mut self, began: Offset, listing: &Listing) -> bool {
        let anew = self.is_anew(began, listing);
        let lost = self.is_loaded() && (anew || self.seen < listing.end);
        self.note_compared(listing, anew);
        self.overflow();
        lost
    }

    /// The log did not answer.
    pub fn fail(&mut self) {
        self.doubted |= mem::take(&mut self.reading);
    }

    /// The values of what matches, by channel, behind `after`; those that are too old are left out.
    pub fn matching<'a>(
        &'a self,
        pattern: &'a ChannelPattern,
        after: Option<&'a str>,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a Message> {
        let prefix = literal_prefix(pattern.as_str());
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let ttl = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        self.values
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(channel, _)| channel.as_str().starts_with(prefix))
            .filter(move |(channel, message)| {
                let is_old = message.time.0.saturating_add(ttl) <= now.0;
                pattern.matches(channel) && !is_old && !message.has_expired(now)
            })
            .map(|(_, message)| message)
    }

    /// Whether what is known is of another life of the log, or of one that was set back.
    fn is_anew(&self, began: Offset, listing: &Listing) -> bool {
        self.epoch.is_some_and(|epoch| epoch != listing.epoch || listing.end < began)
    }

    /// What came after the log was listed is not in the list.
    fn drop_what_is_gone(&mut self, listing: &Listing, all: bool) {
        let listed: BTreeSet<&ChannelName> = listing.channels.iter().collect();
        let bytes = &mut self.bytes;
        self.values.retain(|channel, message| {
            let is_later = message
                .stored
                .is_some_and(|it| it.epoch == listing.epoch && it.offset > listing.end);
            let is_there = message.stored.is_some_and(|it| it.epoch == listing.epoch)
                && listed.contains(channel);
            let stays = !all && (is_later || is_there);
            if !stays {
                *bytes -= size_of(message);
            }
            stays
        });
    }

    fn note_compared(&mut self, listing: &Listing, anew: bool) {
        if anew {
            (self.seen, self.came) = (Offset(0), Offset(0));
        }
        let later = self.values.values().filter_map(|it| it.stored).map(|it| it.offset).max();
        self.seen = self.seen.max(listing.end).max(later.unwrap_or(Offset(0)));
        self.compared = listing.end;
        self.epoch = Some(listing.epoch);
        (self.full, self.reading) = (false, false);
    }

    fn put(&mut self, message: Message) {
        if self.full {
            return;
        }
        self.bytes += size_of(&message);
        if let Some(before) = self.values.insert(message.channel.clone(), message) {
            self.bytes -= size_of(&before);
        }
        if self.exceeds(self.size()) {
            self.overflow();
        }
    }

    fn overflow(&mut self) {
        self.full = true;
        (self.values, self.bytes) = (BTreeMap::new(), 0);
    }
}

/// What a value takes, in bytes.
#[must_use]
pub fn size_of(message: &Message) -> usize {
    message.data.len() + message.channel.as_str().len() + OVERHEAD
}

/// What all channels that match begin with.
fn literal_prefix(pattern: &str) -> &str {
    let mut end = 0;
    for segment in pattern.split_inclusive(':') {
        if segment.trim_end_matches(':').chars().all(|it| it == '*') {
            break;
        }
        end += segment.len();
    }
    &pattern[..end]
}

#[cfg(test)]
mod tests;

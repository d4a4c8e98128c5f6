//! Recovery of clients that cannot say where they stand in each of their channels.
//!
//! A Socket.IO client brings back one text, that of the last event that it got. So each event of a
//! channel with history says where its client stands in all of its channels ([`Mark`]), and the
//! session in the store says which these are, and where the client began in each
//! ([`KeptSubscriptions`]). A subscription is kept before it begins. Both together say what the
//! client has got, whatever has become of its gateway.

mod mark;

use crate::{
    history::Since, id::ConnectionId, message::Timestamp, name::Interest, position::Position,
};
pub use mark::{Mark, NotAMark};

/// Most subscriptions of one client in which it can be recovered: each may be in each mark.
pub const MAX_TRACKED: usize = 32;

/// What is kept of a session's subscriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSubscriptions {
    /// Later forms have larger ones.
    pub version: u64,
    /// The number of the next subscription. No number is used twice in a session.
    pub next: u32,
    /// When the connection was last alive with a client that had missed nothing: what it misses was
    /// published later.
    pub confirmed: Timestamp,
    /// In no order.
    pub all: Vec<KeptSubscription>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSubscription {
    /// By which marks name it.
    pub number: u32,
    /// To what.
    pub interest: Interest,
    /// What the client gets comes after this; `None`: that is not known, as where there is no
    /// history.
    pub from: Option<Position>,
}

/// Where a client stands in each of its channels.
#[derive(Debug)]
pub struct Progress {
    /// Tells marks of this session from those of others.
    session: u32,
    next: u32,
    version: u64,
    /// The version that is kept.
    written: u64,
    /// The first version with all that the client may take for begun.
    relied_on: u64,
    entries: Vec<Entry>,
    behind: Option<Behind>,
}

/// A client that has come back, and may not have what it missed.
#[derive(Debug, Clone, Copy)]
struct Behind {
    /// As it was kept before.
    confirmed: Timestamp,
    /// When a connection that is still alive shows that it has; `None`: it was not given it yet.
    until: Option<Timestamp>,
}

#[derive(Debug)]
struct Entry {
    kept: KeptSubscription,
    /// The last message that was given.
    at: Option<Position>,
    tracked: bool,
    /// The version that has it first.
    since: u64,
    /// The version that has it no longer. Until that is kept, marks name it: else it would seem to
    /// stand where it began.
    ended: Option<u64>,
}

/// Why a client cannot go on where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unrecoverable {
    /// In some subscription it is not known where the client stands.
    #[error("a channel has no history, or the client has too many")]
    NoPosition,
    /// Something that the client was subscribed to was not kept.
    #[error("not all subscriptions were kept")]
    NotKept,
}

impl Progress {
    /// Of a client that is subscribed to nothing yet. `origin`: the session's first connection.
    #[must_use]
    pub fn new(origin: ConnectionId) -> Self {
        Self {
            session: session_of(origin),
            next: 0,
            version: 0,
            written: 0,
            relied_on: 0,
            entries: Vec::new(),
            behind: None,
        }
    }

    /// Of a client that comes back with the mark of the last event that it got; `None`: there was
    /// none.
    ///
    /// # Errors
    /// It cannot be told where it stands.
    pub fn recover(
        origin: ConnectionId,
        kept: &KeptSubscriptions,
        mark: Option<&Mark>,
    ) -> Result<Self, Unrecoverable> {
        let mut progress = Self::new(origin);
        // One of another session is the client's last event before this one began.
        let mark = mark.filter(|mark| mark.session == progress.session);
        let positions = match mark {
            Some(mark) => mark.positions.as_deref().ok_or(Unrecoverable::NotKept)?,
            None => &[],
        };
        (progress.next, progress.version) = (kept.next, kept.version + 1);
        progress.behind = Some(Behind { confirmed: kept.confirmed, until: None });
        for kept in &kept.all {
            let named = positions.iter().find(|(number, _)| *number == kept.number);
            let at = named.map(|(_, position)| *position);
            let from = Some(at.or(kept.from).ok_or(Unrecoverable::NoPosition)?);
            let kept = KeptSubscription { from, ..kept.clone() };
            let entry = Entry { kept, at, tracked: true, since: 0, ended: None };
            progress.entries.push(entry);
        }
        Ok(progress)
    }

    /// What the client is subscribed to, and after what it is to go on.
    pub fn positions(&self) -> impl Iterator<Item = (&Interest, Position)> {
        let open = self.entries.iter().filter(|entry| entry.ended.is_none());
        open.filter_map(|entry| Some((&entry.kept.interest, entry.position()?)))
    }

    /// A subscription is about to begin after this; `None`: that cannot be told. Nothing, where
    /// there is one already.
    pub fn begin(&mut self, interest: &Interest, from: Option<Position>) {
        if self.open(interest).is_some() {
            return;
        }
        let tracked = self.entries.iter().filter(|entry| entry.tracked).count() < MAX_TRACKED;
        let (number, from) = (self.next, from.filter(|_| tracked));
        self.next += 1;
        self.version += 1;
        let kept = KeptSubscription { number, interest: interest.clone(), from };
        let since = self.version;
        self.entries.push(Entry { kept, at: None, tracked, since, ended: None });
    }

    /// The subscription begins now; after this, if that can be told.
    pub fn go_live(&mut self, interest: &Interest) -> Option<Position> {
        let entry = self.open(interest)?;
        let (since, position) = (entry.since, entry.position());
        self.relied_on = self.relied_on.max(since);
        position
    }

    /// The client has got all there is up to here.
    pub fn stand(&mut self, interest: &Interest, position: Position) {
        if let Some(entry) = self.open(interest).filter(|entry| entry.tracked)
            && entry.kept.from != Some(position)
        {
            entry.at = Some(position);
        }
    }

    /// The client is given all that it missed. Only a connection that is alive at this time shows
    /// that it has got it: it would have been found dead before.
    pub fn caught_up(&mut self, shown_at: Timestamp) {
        if let Some(behind) = &mut self.behind {
            behind.until = Some(shown_at);
        }
    }

    /// A message is given to the client.
    pub fn advance(&mut self, via: &Interest, position: Position) {
        let Some(entry) = self.open(via).filter(|entry| entry.tracked) else { return };
        let is_later = |at: Position| at.epoch != position.epoch || at.offset < position.offset;
        if entry.at.is_none_or(is_later) {
            entry.at = Some(position);
        }
    }

    /// The subscription has ended.
    pub fn end(&mut self, interest: &Interest) {
        let version = self.version + 1;
        let Some(entry) = self.open(interest) else { return };
        entry.ended = Some(version);
        self.version = version;
        self.entries.retain(|entry| entry.ended.is_none() || entry.at.is_some());
    }

    /// What is to be kept.
    #[must_use]
    pub fn kept(&self, now: Timestamp) -> KeptSubscriptions {
        let open = self.entries.iter().filter(|entry| entry.ended.is_none());
        let all = open.map(|entry| entry.kept.clone()).collect();
        let confirmed = match self.behind {
            Some(Behind { confirmed, until }) if until.is_none_or(|until| now < until) => confirmed,
            _ => now,
        };
        KeptSubscriptions { version: self.version, next: self.next, confirmed, all }
    }

    /// This version is kept.
    pub fn written(&mut self, version: u64) {
        self.written = self.written.max(version);
        let written = self.written;
        self.entries.retain(|entry| entry.ended.is_none_or(|ended| ended > written));
    }

    /// Whether everything is kept that the client takes for begun. Where it is not, the client is
    /// to be given a mark that says so.
    #[must_use]
    pub fn can_tell(&self) -> bool {
        self.relied_on <= self.written
    }

    /// Whether what is kept is all there is.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.version <= self.written
    }

    /// For the next event.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let given = self.entries.iter().filter_map(|entry| Some((entry.kept.number, entry.at?)));
        Mark { session: self.session, positions: self.can_tell().then(|| given.collect()) }
    }

    fn open(&mut self, interest: &Interest) -> Option<&mut Entry> {
        let is_open = |entry: &&mut Entry| entry.ended.is_none();
        self.entries.iter_mut().filter(is_open).find(|entry| entry.kept.interest == *interest)
    }
}

impl Entry {
    fn position(&self) -> Option<Position> {
        self.at.or(self.kept.from)
    }
}

/// What a connection goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The session's first connection.
    pub origin: ConnectionId,
    /// What it was subscribed to, and after what it goes on in each.
    pub subscriptions: Vec<(Interest, Box<Since>)>,
}

/// Enough to tell the few sessions of one client apart.
fn session_of(origin: ConnectionId) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "a part will do")]
    let part = origin.0 as u32;
    part
}

#[cfg(test)]
mod tests;

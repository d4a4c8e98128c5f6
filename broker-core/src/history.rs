//! What a namespace keeps of its channels, and whether that is all that somebody missed.

use std::time::Duration;

use crate::{
    message::Timestamp,
    position::{Epoch, Offset, Position},
};

/// What is kept of each channel of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// At least this many of the newest messages of each channel; `usize::MAX`: any number.
    pub size: usize,
    /// For this long.
    pub ttl: Duration,
}

/// How a namespace queues messages for users who are away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Most pending messages of one user.
    pub size: usize,
    /// How long a message is pending at most.
    pub ttl: Duration,
}

impl Queue {
    /// What the log must keep for it: longer than the queue, which counts what expires.
    #[must_use]
    pub fn history(&self) -> History {
        History { size: usize::MAX, ttl: self.ttl + Duration::from_secs(3600) }
    }
}

/// Where a channel's log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Top {
    /// The log.
    pub epoch: Epoch,
    /// The channel's newest message that is still kept.
    pub newest: Option<Position>,
    /// No message of the log had a larger offset yet; at least that of `newest`.
    pub end: Offset,
}

impl Top {
    /// Where somebody stands who has got all there is.
    #[must_use]
    pub fn position(&self) -> Position {
        self.newest.unwrap_or(Position { epoch: self.epoch, offset: self.end, fingerprint: None })
    }
}

/// Which messages of a channel to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// Where to start.
    pub from: From,
    /// What is read reaches at least to here: a replica that lags behind is asked again.
    pub until: Offset,
    /// At most this many; the oldest ones, where there are more. Otherwise all there are.
    pub messages: usize,
}

/// Where a [`Slice`] starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With this offset, or the next larger one that there is; 0 is the oldest that is kept.
    Offset(Offset),
    /// With the first message stored at this time or later.
    Time(Timestamp),
}

impl History {
    /// How often a quiet channel's top is looked at: well before what it shows could be gone.
    #[must_use]
    pub fn check_every(&self) -> Duration {
        (self.ttl / 4).min(Duration::from_secs(30))
    }

    /// How long a gateway may not have known that it missed a message: until it looks at the top,
    /// and has its answer.
    #[must_use]
    pub fn uncertainty(&self) -> Duration {
        self.check_every() * 4 / 3
    }
}

/// What of a channel's past a new subscription begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Since {
    /// All that came after this; the last position that the client was given.
    pub position: Option<Position>,
    /// How long ago the client last heard anything from a server, while it was subscribed.
    pub age: Option<Duration>,
    /// The latest messages, where there is no position or not everything is left that came after
    /// it.
    pub rewind: Option<Rewind>,
}

/// The latest messages of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewind {
    /// This many.
    Messages(usize),
    /// What came in this last while.
    For(Duration),
    /// The newest one: of the channel, or of each channel that matches the pattern, in a namespace
    /// that is retained.
    Snapshot,
}

impl Since {
    /// Whether the newest messages alone are asked for.
    #[must_use]
    pub fn is_snapshot(&self) -> bool {
        self.rewind == Some(Rewind::Snapshot)
    }

    /// Whether nothing of the past is asked for.
    #[must_use]
    pub fn is_now(&self) -> bool {
        self.position.is_none() && self.rewind.is_none()
    }
}

/// Where a new subscription starts, for its subscriber to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// What follows, the past included, comes after this; `None` of a pattern.
    pub position: Option<Position>,
    /// Whether everything since the subscriber's own position follows; `None` where it gave none.
    pub recovered: Option<bool>,
    /// How many messages of the past follow.
    pub replayed: usize,
}

/// Whether nothing is missing between `since` and what was read of the log from there on, whose
/// first message is at `first`.
///
/// Messages leave the log without a mark, the oldest first. So nothing is missing if the message
/// at `since` is still there; or if none can have left (`undisturbed`) since somebody stood at
/// `since` and had got all there was: none is too old, nor were there ever more than are kept.
#[must_use]
pub fn is_complete(
    since: &Position,
    top: &Top,
    first: Option<Position>,
    undisturbed: bool,
) -> bool {
    // Older messages never outlive a newer one: then the log has lost its newest.
    let set_back = top.newest.is_some_and(|newest| newest.offset < since.offset);
    if since.epoch != top.epoch || since.offset > top.end || set_back {
        return false;
    }
    match first {
        Some(first) if first.offset == since.offset => first == *since,
        _ => undisturbed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Fingerprint;

    const EPOCH: Epoch = Epoch(1);

    fn at(offset: u64, id: &str) -> Position {
        let fingerprint = Some(Fingerprint::of(&id.parse().unwrap()));
        Position { epoch: EPOCH, offset: Offset(offset), fingerprint }
    }

    fn is_all(since: &Position, undisturbed: bool, first: Option<Position>) -> bool {
        let top = Top { epoch: EPOCH, newest: first.map(|_| at(9, "c")), end: Offset(9) };
        is_complete(since, &top, first, undisturbed)
    }

    #[test]
    fn all_that_is_missed_is_there_where_ones_own_message_is() {
        let first = Some(at(3, "a"));
        assert!(is_all(&at(3, "a"), false, first));
        assert!(!is_all(&at(3, "other"), true, first), "the offset was given twice");
        assert!(!is_all(&at(2, "z"), false, first), "messages may have left the log");
        let elsewhere = Position { epoch: Epoch(2), ..at(3, "a") };
        assert!(!is_all(&elsewhere, true, first));
        assert!(!is_all(&at(10, "z"), true, None), "beyond the end: the log lost its newest");
    }

    #[test]
    fn without_it_one_must_have_been_there_lately() {
        let stood = Position { epoch: EPOCH, offset: Offset(2), fingerprint: None };
        assert!(is_all(&stood, true, Some(at(5, "b"))));
        assert!(is_all(&stood, true, None));
        assert!(!is_all(&stood, false, None));
        let taken = Position { offset: Offset(5), ..stood };
        assert!(!is_all(&taken, true, Some(at(5, "b"))), "there was no message at this offset");
        let top = Top { epoch: EPOCH, newest: Some(at(3, "a")), end: Offset(9) };
        assert!(!is_complete(&at(4, "b"), &top, Some(at(3, "a")), true), "the newest were lost");
    }
}

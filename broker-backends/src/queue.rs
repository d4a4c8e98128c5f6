//! What both offline queues have in common.

use std::time::Duration;

use broker_core::{Timestamp, history::Queue};

/// Of each user, so many of the latest messages that are not pending any more are known one by
/// one. Who comes late or again is told apart among these; what is older is taken to come again.
pub(crate) const SETTLED: usize = 256;

/// For how long after its last change what is known of a user is kept, with nothing pending: for
/// longer than the log keeps a message.
pub(crate) fn keep(queue: &Queue) -> Duration {
    queue.history().ttl.saturating_add(Duration::from_secs(3600))
}

/// Until when a message is pending that was stored at this time, and has perhaps its `own` end.
pub(crate) fn expiry(queue: &Queue, own: Option<Timestamp>, stored: Timestamp) -> Timestamp {
    let end = after(stored, queue.ttl);
    own.map_or(end, |own| own.min(end))
}

pub(crate) fn after(time: Timestamp, duration: Duration) -> Timestamp {
    Timestamp(time.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
}

//! The bus in figures, for whoever exports them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use broker_core::ports::PublishError;

/// How this gateway feeds the offline queues from the log, in a cluster: counters since the start,
/// and a gauge.
#[derive(Debug, Default)]
pub struct QueueStats {
    /// Messages that were handed to the store, those that came again included.
    pub fed: AtomicU64,
    /// Gauge: messages that no gateway had been given yet, when this one was given its last.
    pub waiting: AtomicU64,
    /// How often the log was read anew, because the store had lost what it took.
    pub rewinds: AtomicU64,
}

impl QueueStats {
    pub(crate) fn set_waiting(&self, waiting: u64) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }
}

/// Counters since the start, and two gauges; every loss is counted somewhere here.
#[derive(Debug, Default)]
pub struct BusStats {
    /// Gauge: whether the bus is in reach.
    pub connected: AtomicBool,
    /// Gauge: subscribed interests.
    pub subscriptions: AtomicU64,
    /// Messages that the bus confirmed.
    pub published: AtomicU64,
    /// Publishes refused because the bus is away.
    pub publish_unavailable: AtomicU64,
    /// Publishes refused because too many are under way.
    pub publish_overloaded: AtomicU64,
    /// Publishes refused because of their size.
    pub publish_too_large: AtomicU64,
    /// Publishes refused because the log has no room.
    pub publish_full: AtomicU64,
    /// Publishes of unknown fate.
    pub publish_unknown: AtomicU64,
    /// Messages that arrived, by whichever interest.
    pub received: AtomicU64,
    /// Messages that arrived in a form that cannot be delivered.
    pub malformed: AtomicU64,
    /// Messages dropped because they came faster than they were taken.
    pub overruns: AtomicU64,
    /// Connections made anew; there are two, one to publish and one to read.
    pub reconnects: AtomicU64,
    /// Subscriptions that the bus does not permit.
    pub subscribes_denied: AtomicU64,
    /// Questions dropped because they came faster than they were taken.
    pub questions_dropped: AtomicU64,
    /// Answers to questions that could not be handed to the bus.
    pub answers_dropped: AtomicU64,
}

impl BusStats {
    /// Publishes that failed in this way.
    #[must_use]
    pub fn publish_failed(&self, error: PublishError) -> u64 {
        self.failed(error).load(Ordering::Relaxed)
    }

    pub(crate) fn note_publish(&self, outcome: Result<(), PublishError>) {
        add(outcome.map_or_else(|error| self.failed(error), |()| &self.published), 1);
    }

    fn failed(&self, error: PublishError) -> &AtomicU64 {
        match error {
            PublishError::Unavailable => &self.publish_unavailable,
            PublishError::Overloaded => &self.publish_overloaded,
            PublishError::TooLarge => &self.publish_too_large,
            PublishError::Full => &self.publish_full,
            PublishError::Unknown => &self.publish_unknown,
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

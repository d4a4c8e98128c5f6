use std::sync::atomic::{AtomicU64, Ordering};

use broker_backends::QueueStats;
use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::{Make, set};

/// What becomes of a client's position; the values of a label.
const RESULTS: [&str; 2] = ["recovered", "lost"];

/// What logs are used for.
#[derive(Debug)]
pub(crate) struct HistoryMetrics {
    /// Times that a live message did not follow the one before it.
    pub(crate) holes: IntCounter,
    /// Messages that were read from the log to fill holes.
    pub(crate) filled: IntCounter,
    /// Messages of the past that were given to new subscribers.
    pub(crate) replayed: IntCounter,
    /// Messages to users that were given again, for want of an acknowledgement.
    pub(crate) redelivered: IntCounter,
    recoveries: IntCounterVec,
    queue_fed: IntCounter,
    queue_waiting: IntGauge,
    queue_rewinds: IntCounter,
}

impl HistoryMetrics {
    pub(super) fn new(make: &Make) -> prometheus::Result<Self> {
        let metrics = Self {
            holes: make.counter(
                "history_holes_total",
                "Times that a live message did not follow the one before it, so that the log was read.",
            )?,
            filled: make.counter(
                "history_filled_messages_total",
                "Messages that came from the log instead of live.",
            )?,
            replayed: make.counter(
                "history_replayed_messages_total",
                "Messages of the past that new subscriptions began with.",
            )?,
            redelivered: make.counter(
                "queue_redelivered_messages_total",
                "Messages to connected users that were sent again, for want of an acknowledgement.",
            )?,
            recoveries: make.counters(
                "recoveries_total",
                "Subscriptions from a position: recovered, or lost (not everything since was left).",
                &["result"],
            )?,
            queue_fed: make.counter(
                "queue_fed_messages_total",
                "Stored messages that this gateway told the offline queues of, repetitions included.",
            )?,
            queue_waiting: make.gauge(
                "queue_unfed_messages",
                "Stored messages that the offline queues had not been told of, when this gateway last told them of some.",
            )?,
            queue_rewinds: make.counter(
                "queue_rewinds_total",
                "Times that the offline queues were told anew, because Redis had lost what it knew, or may have: also when a gateway starts.",
            )?,
        };
        for result in RESULTS {
            metrics.recoveries.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    /// What the backends count by themselves.
    pub(crate) fn take_queue(&self, stats: &QueueStats) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        set(&self.queue_fed, load(&stats.fed));
        set(&self.queue_rewinds, load(&stats.rewinds));
        self.queue_waiting.set(i64::try_from(load(&stats.waiting)).unwrap_or(i64::MAX));
    }

    /// A subscription from a position has started.
    pub(crate) fn recovery(&self, recovered: bool) {
        self.recoveries.with_label_values(&[RESULTS[usize::from(!recovered)]]).inc();
    }
}

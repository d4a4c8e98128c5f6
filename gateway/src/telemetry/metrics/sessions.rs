use prometheus::{IntCounter, IntCounterVec};

use super::Make;

/// What becomes of attempts to resume; the values of a label.
const RESULTS: [&str; 3] = ["resumed", "lost", "unavailable"];

/// What becomes of Socket.IO clients that come back; the values of a label.
const RECOVERIES: [&str; 9] = [
    "recovered",
    "lost",
    "foreign_offset",
    "denied",
    "no_position",
    "not_kept",
    "incomplete",
    "too_much",
    "unavailable",
];

/// Sessions that can be resumed.
#[derive(Debug)]
pub(crate) struct SessionMetrics {
    /// Sessions that cannot be resumed, though their clients asked for it.
    pub(crate) not_kept: IntCounter,
    resumes: IntCounterVec,
    recoveries: IntCounterVec,
}

impl SessionMetrics {
    pub(super) fn new(make: &Make) -> prometheus::Result<Self> {
        let metrics = Self {
            not_kept: make.counter(
                "sessions_not_kept_total",
                "Sessions that cannot be resumed though their clients asked for it, because the store was away.",
            )?,
            resumes: make.counters(
                "session_resumes_total",
                "Attempts to resume a session: resumed, lost (used before, expired, or not known), unavailable (the store was away).",
                &["result"],
            )?,
            recoveries: make.counters(
                "socketio_recoveries_total",
                "Socket.IO clients that came back, by what became of that: recovered; or not, and so connected anew: lost (expired, ended, or not known), foreign_offset (the client's last text was not the gateway's), denied (another user, or not allowed any more), no_position (a channel without history, a pattern, or too many channels), not_kept (the store was away when it subscribed), incomplete (the log has not everything any more), too_much (more was missed than a queue holds), unavailable (the store was away).",
                &["result"],
            )?,
        };
        for result in RECOVERIES {
            metrics.recoveries.with_label_values(&[result]);
        }
        for result in RESULTS {
            metrics.resumes.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    /// `result`: one of those above.
    pub(crate) fn resumed(&self, result: &str) {
        self.resumes.with_label_values(&[result]).inc();
    }

    /// `result`: one of those above.
    pub(crate) fn recovered(&self, result: &str) {
        self.recoveries.with_label_values(&[result]).inc();
    }
}

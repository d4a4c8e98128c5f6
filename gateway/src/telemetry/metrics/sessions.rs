use prometheus::{IntCounter, IntCounterVec};

use super::Make;

/// What becomes of attempts to resume; the values of a label.
const RESULTS: [&str; 3] = ["resumed", "lost", "unavailable"];

/// Sessions that can be resumed.
#[derive(Debug)]
pub(crate) struct SessionMetrics {
    /// Sessions that cannot be resumed, though their clients asked for it.
    pub(crate) not_kept: IntCounter,
    resumes: IntCounterVec,
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
        };
        for result in RESULTS {
            metrics.resumes.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    /// `result`: one of those above.
    pub(crate) fn resumed(&self, result: &str) {
        self.resumes.with_label_values(&[result]).inc();
    }
}

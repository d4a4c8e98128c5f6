use prometheus::{IntCounterVec, IntGauge};

use super::Make;
use crate::clock;

/// What came of a reload; the values of a label.
const RESULTS: [&str; 2] = ["ok", "refused"];

/// Changes of the configuration while the gateway runs.
#[derive(Debug)]
pub(crate) struct ReloadMetrics {
    reloads: IntCounterVec,
    successful: IntGauge,
    timestamp: IntGauge,
}

impl ReloadMetrics {
    pub(super) fn new(make: &Make) -> prometheus::Result<Self> {
        let reloads = make.counters(
            "config_reloads_total",
            "Reloads of the configuration: ok, or refused (the one before stays in force).",
            &["result"],
        )?;
        for result in RESULTS {
            reloads.with_label_values(&[result]);
        }
        let metrics = Self {
            reloads,
            successful: make.gauge(
                "config_last_reload_successful",
                "Whether what the files held at the last reload, or at the start, was taken over, but \
                 for what waits for a restart.",
            )?,
            timestamp: make.gauge(
                "config_last_reload_timestamp_seconds",
                "When the configuration was last taken over, at the start included.",
            )?,
        };
        metrics.loaded();
        Ok(metrics)
    }

    pub(crate) fn reloaded(&self) {
        self.reloads.with_label_values(&["ok"]).inc();
        self.loaded();
    }

    pub(crate) fn refused(&self) {
        self.reloads.with_label_values(&["refused"]).inc();
        self.successful.set(0);
    }

    fn loaded(&self) {
        self.successful.set(1);
        self.timestamp.set(i64::try_from(clock::wall().0 / 1000).unwrap_or(i64::MAX));
    }
}

use prometheus::{IntCounterVec, IntGaugeVec};

use super::{Make, gauge, set};
use crate::hub::retained::{Refusal, Retained};

/// What becomes of a read of the newest messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Done,
    /// There is more than may be kept.
    TooMuch,
    Failed,
}

impl Load {
    const ALL: [Self; 3] = [Self::Done, Self::TooMuch, Self::Failed];

    const fn name(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::TooMuch => "too_much",
            Self::Failed => "failed",
        }
    }
}

/// Snapshots, and what they are made of.
#[derive(Debug)]
pub(crate) struct RetainedMetrics {
    channels: IntGaugeVec,
    bytes: IntGaugeVec,
    loads: IntCounterVec,
    refused: IntCounterVec,
}

impl RetainedMetrics {
    pub(super) fn new(make: &Make) -> prometheus::Result<Self> {
        let metrics = Self {
            channels: make.gauges(
                "retained_channels",
                "Channels of retained namespaces whose newest message this gateway has at hand; 0 where there are more than it may keep.",
                &["channel_namespace"],
            )?,
            bytes: make.gauges(
                "retained_bytes",
                "What these messages take.",
                &["channel_namespace"],
            )?,
            loads: make.counters(
                "retained_loads_total",
                "Times that the newest messages were read from the log, by outcome: ok, too_much, failed.",
                &["outcome"],
            )?,
            refused: make.counters(
                "snapshots_refused_total",
                "Snapshots that were asked for and not given, by reason: loading, bounds (more than the gateway keeps), queue (more than the connection takes).",
                &["reason"],
            )?,
        };
        for outcome in Load::ALL {
            metrics.loads.with_label_values(&[outcome.name()]);
        }
        for reason in Refusal::ALL {
            metrics.refused.with_label_values(&[reason.name()]);
        }
        Ok(metrics)
    }

    /// What the namespaces count by themselves.
    pub(super) fn take(&self, retained: &Retained) {
        for watched in retained.iter() {
            let (label, size) = ([watched.namespace.as_str()], watched.lock().size());
            self.channels.with_label_values(&label).set(gauge(size.channels));
            self.bytes.with_label_values(&label).set(gauge(size.bytes));
        }
        for reason in Refusal::ALL {
            let count = retained.iter().map(|watched| watched.refusals(reason)).sum();
            set(&self.refused.with_label_values(&[reason.name()]), count);
        }
    }

    /// The newest messages were read, or were to be.
    pub(crate) fn loaded(&self, outcome: Load) {
        self.loads.with_label_values(&[outcome.name()]).inc();
    }
}

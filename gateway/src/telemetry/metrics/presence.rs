use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::{Make, gauge};

/// Who is in which channel, in figures.
#[derive(Debug)]
pub(crate) struct PresenceMetrics {
    members: IntGauge,
    events: IntCounterVec,
    pub(crate) told_anew: IntCounter,
}

impl PresenceMetrics {
    pub(super) fn new(make: &Make) -> prometheus::Result<Self> {
        Ok(Self {
            members: make.gauge(
                "presence_members",
                "Members of channels with presence on this gateway; a user counts once in each channel.",
            )?,
            events: make.counters(
                "presence_events_total",
                "Times that somebody joined or left, found here, by event and by whether the bus took it (ok, lost).",
                &["event", "result"],
            )?,
            told_anew: make.counter(
                "presence_told_anew_total",
                "Times that the store was told anew who is in which channel here; once at the start.",
            )?,
        })
    }

    pub(crate) fn members(&self, count: usize) {
        self.members.set(gauge(count));
    }

    /// Somebody joined or left; `taken`: whether the bus has it.
    pub(crate) fn event(&self, event: &str, taken: bool) {
        let result = if taken { "ok" } else { "lost" };
        self.events.with_label_values(&[event, result]).inc();
    }
}

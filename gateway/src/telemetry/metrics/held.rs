use prometheus::IntGauge;

use super::{Make, gauge};
use crate::hub::Hub;

/// What this gateway holds, counted when it is asked for.
#[derive(Debug)]
pub(super) struct HeldMetrics {
    users: IntGauge,
    subscriptions: IntGauge,
    channels: IntGauge,
    interests: IntGauge,
    queued_bytes: IntGauge,
}

impl HeldMetrics {
    pub(super) fn new(make: &Make) -> prometheus::Result<Self> {
        Ok(Self {
            users: make.gauge("users", "Users with a connection to this gateway.")?,
            subscriptions: make
                .gauge("subscriptions", "Subscriptions of this gateway's connections.")?,
            channels: make
                .gauge("channels", "Channels and patterns with a subscriber on this gateway.")?,
            interests: make
                .gauge("bus_interests", "Channels and patterns that the bus is asked for.")?,
            queued_bytes: make
                .gauge("egress_buffered_bytes", "Bytes that wait to be written to clients.")?,
        })
    }

    pub(super) fn take(&self, hub: &Hub) {
        let figures = hub.figures();
        self.users.set(gauge(figures.users));
        self.subscriptions.set(gauge(figures.subscriptions));
        self.channels.set(gauge(figures.channels));
        self.interests.set(gauge(hub.interest_count()));
        let mut queued = 0;
        hub.for_each_connection(|outbox| queued += outbox.queued_bytes());
        self.queued_bytes.set(gauge(queued));
    }
}

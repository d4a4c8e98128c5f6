//! `[limits]`, `[heartbeat]` and `[drain]`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{problems::Checks, text};

/// What one connection may use.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Largest body of a message or request, in bytes. A connection that sends a larger frame is
    /// closed with 1009.
    #[serde(with = "text::size")]
    #[schemars(with = "String")]
    pub(crate) message_bytes: usize,
    /// Bytes that may wait for a connection whose client does not read; beyond it, the connection
    /// is closed with 4000. It bounds the memory that a slow client can hold.
    #[serde(with = "text::size")]
    #[schemars(with = "String")]
    pub(crate) queue_bytes: usize,
    /// Subscriptions of one connection, those made by the server included.
    pub(crate) subscriptions: usize,
    /// Commands of one connection that wait for their outcome; while there are as many, nothing
    /// more is read from it.
    pub(crate) in_flight: usize,
    /// Longest time from the opening of a connection to its `connect`; then it is closed with
    /// 4002.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) connect_timeout: Duration,
    /// Longest time that a service may take to answer a client's request.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) request_timeout: Duration,
    /// Pings, pongs and empty fragments that a client may send in one second; beyond it, the
    /// connection is closed with 1008.
    pub(crate) control_frames_per_second: u32,
    /// Largest frame before `connect` has succeeded, in bytes. The token must fit.
    #[serde(with = "text::size")]
    #[schemars(with = "String")]
    pub(crate) unauthenticated_message_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 64 << 10,
            queue_bytes: 1 << 20,
            subscriptions: 128,
            in_flight: 256,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(5),
            control_frames_per_second: 50,
            unauthenticated_message_bytes: 16 << 10,
        }
    }
}

impl Limits {
    pub(in crate::config) fn check(&self, checks: &mut Checks<'_>) {
        for (key, value) in [
            ("limits.message_bytes", self.message_bytes),
            ("limits.subscriptions", self.subscriptions),
            ("limits.in_flight", self.in_flight),
            ("limits.control_frames_per_second", self.control_frames_per_second as usize),
            ("limits.unauthenticated_message_bytes", self.unauthenticated_message_bytes),
        ] {
            if value == 0 {
                checks.fail(key, "write at least 1");
            }
        }
        if self.queue_bytes < self.message_bytes {
            checks.fail("limits.queue_bytes", "it must hold one message: `limits.message_bytes`");
        }
        checks.positive("limits.connect_timeout", self.connect_timeout);
        checks.positive("limits.request_timeout", self.request_timeout);
    }
}

/// How a connection that is gone is noticed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Heartbeat {
    /// Silence of a client after which it is pinged, and the longest that a long poll waits. Keep
    /// it below the idle timeouts of the proxies in between; many have 60 s.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) interval: Duration,
    /// Time for the client's next sign of life after a ping; then it is closed with 4001.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) timeout: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval: Duration::from_secs(25), timeout: Duration::from_secs(10) }
    }
}

impl Heartbeat {
    pub(in crate::config) fn check(&self, checks: &mut Checks<'_>) {
        checks.positive("heartbeat.interval", self.interval);
        checks.positive("heartbeat.timeout", self.timeout);
    }
}

/// How connections are handed to other gateways when this one is told to stop (SIGTERM).
///
/// A drain takes up to `delay` + `duration` + `grace`, longer only where `max_rate` says so: give
/// the process manager (in Kubernetes, `terminationGracePeriodSeconds`) some seconds more.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Drain {
    /// How long connections are still accepted after the signal, while load balancers learn that
    /// the gateway is not ready any more.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) delay: Duration,
    /// Time over which the closing of many connections is spread; a few take less.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) duration: Duration,
    /// Most connections closed in one second. A gateway that has more of them than fit into
    /// `duration` takes longer.
    pub(crate) max_rate: u32,
    /// Clients are told to come back after a random time up to this.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) reconnect_within: Duration,
    /// Time for what is under way on a connection (publishes, requests) before it is cut.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) grace: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            duration: Duration::from_secs(20),
            max_rate: 1000,
            reconnect_within: Duration::from_secs(2),
            grace: Duration::from_secs(5),
        }
    }
}

impl Drain {
    pub(in crate::config) fn check(&self, checks: &mut Checks<'_>) {
        if self.max_rate == 0 {
            checks.fail("drain.max_rate", "write at least 1 (connections per second)");
        }
    }
}

use prometheus::{IntCounterVec, IntGauge};

use super::Make;

/// What becomes of requests; the values of a label.
const RESULTS: [&str; 5] = ["ok", "unknown", "unreachable", "timed_out", "overloaded"];

/// Requests whose Socket.IO session is at another gateway.
#[derive(Debug)]
pub(crate) struct ForwardingMetrics {
    requests: IntCounterVec,
    /// WebSockets that are carried to another gateway.
    pub(crate) tunnels: IntGauge,
}

impl ForwardingMetrics {
    pub(super) fn new(make: &Make) -> prometheus::Result<Self> {
        let metrics = Self {
            requests: make.counters(
                "socketio_forwarded_total",
                "Requests that belong to a Socket.IO session at another gateway: ok (it has answered), unknown (there is no such gateway), unreachable, timed_out, overloaded (too many at once).",
                &["result"],
            )?,
            tunnels: make.gauge(
                "socketio_tunnels",
                "Open WebSockets of Socket.IO whose sessions are at other gateways.",
            )?,
        };
        for result in RESULTS {
            metrics.requests.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    /// `result`: one of those above.
    pub(crate) fn request(&self, result: &str) {
        self.requests.with_label_values(&[result]).inc();
    }
}

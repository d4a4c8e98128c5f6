//! The admin listener: health, readiness and metrics.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use broker_backends::{BusStats, QueueStats};
use broker_core::{
    NodeId,
    ports::{Bus, Presence},
};

use tokio::time;

use crate::{
    canary::{Health, Verdict},
    hub::Hub,
    telemetry::Metrics,
};

/// How long the store may take to say how others fare: probes give up after a second.
const ASK: Duration = Duration::from_millis(500);

/// What the probes look at.
#[derive(Debug)]
pub(crate) struct Probes {
    pub(crate) hub: Arc<Hub>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) verdict: Arc<Verdict>,
    /// How long a canary must fail before what other gateways said of theirs is believed: by
    /// then, their leases tell of the same outage.
    pub(crate) patience: Duration,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) node: NodeId,
    pub(crate) stats: Arc<BusStats>,
    pub(crate) queue_stats: Arc<QueueStats>,
}

pub(crate) fn router(probes: Arc<Probes>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(probes)
}

/// Ready means that messages are delivered. A pod whose canary fails is taken out only while
/// other pods say that theirs fly: where all are cut off, sockets must still be served.
async fn ready(State(probes): State<Arc<Probes>>) -> Response {
    if probes.metrics.draining.get() == 1 {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    let since = match probes.verdict.health() {
        Health::Delivering => return "ok\n".into_response(),
        Health::Starting => {
            return (StatusCode::SERVICE_UNAVAILABLE, "starting: no canary has come back yet\n")
                .into_response();
        }
        Health::Failing { since } => since,
    };
    let others_deliver = since.elapsed() > probes.patience && probes.others_deliver().await;
    let bus = if probes.bus.is_connected() { "connected" } else { "disconnected" };
    if others_deliver {
        let text = format!(
            "not delivering: the canary fails here, and not on other gateways (bus {bus})\n"
        );
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    let text = format!(
        "degraded: the canary fails, and no other gateway is known to deliver (bus {bus})\n"
    );
    text.into_response()
}

impl Probes {
    async fn others_deliver(&self) -> bool {
        match time::timeout(ASK, self.presence.gateways()).await {
            Ok(Ok(leases)) => leases.iter().any(|lease| lease.bus_ok && lease.node != self.node),
            _ => false,
        }
    }
}

async fn metrics(State(probes): State<Arc<Probes>>) -> Response {
    probes.metrics.history.take_queue(&probes.queue_stats);
    match probes.metrics.render(&probes.hub, &probes.stats) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be rendered\n").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use broker_backends::EmbeddedOptions;
    use broker_core::{Timestamp, ports::Lease};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(12);

    async fn probes() -> Arc<Probes> {
        let backends = broker_backends::embedded(&EmbeddedOptions::default()).await;
        Arc::new(Probes {
            hub: Arc::new(Hub::new(Arc::clone(&backends.bus), Duration::ZERO)),
            bus: backends.bus,
            presence: backends.presence,
            verdict: Arc::default(),
            patience: PATIENCE,
            metrics: Arc::new(Metrics::new([]).unwrap()),
            node: "a".parse().unwrap(),
            stats: backends.stats,
            queue_stats: backends.queue_stats,
        })
    }

    async fn lease(probes: &Probes, node: &str, bus_ok: bool) {
        let lease = Lease {
            node: node.parse().unwrap(),
            ttl: Duration::from_secs(3600),
            started: Timestamp(0),
            version: String::new(),
            connections: 0,
            users: 0,
            channels: 0,
            subscriptions: 0,
            bus_ok,
        };
        probes.presence.renew(lease).await.unwrap();
    }

    async fn is_ready(probes: &Arc<Probes>) -> bool {
        ready(State(Arc::clone(probes))).await.status() == StatusCode::OK
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_is_ready_once_a_canary_has_come_back() {
        let probes = probes().await;
        assert!(!is_ready(&probes).await);
        probes.verdict.note(false);
        assert!(!is_ready(&probes).await);
        probes.verdict.note(true);
        assert!(is_ready(&probes).await);
        probes.metrics.draining.set(1);
        assert!(!is_ready(&probes).await);
    }

    #[tokio::test(start_paused = true)]
    async fn it_leaves_only_while_others_deliver_and_not_on_their_stale_word() {
        let probes = probes().await;
        lease(&probes, "a", true).await;
        lease(&probes, "b", true).await;
        probes.verdict.note(true);
        probes.verdict.note(false);
        assert!(is_ready(&probes).await, "b may not have noticed yet");
        time::advance(PATIENCE * 2).await;
        probes.verdict.note(false);
        assert!(!is_ready(&probes).await);
        lease(&probes, "b", false).await;
        assert!(is_ready(&probes).await, "all are cut off");
    }
}

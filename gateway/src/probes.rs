//! The admin listener: health, readiness and metrics.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use broker_backends::BusStats;
use broker_core::{
    NodeId,
    ports::{Bus, Presence},
};

use crate::{hub::Hub, telemetry::Metrics};

/// What the probes look at.
#[derive(Debug)]
pub(crate) struct Probes {
    pub(crate) hub: Arc<Hub>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) node: NodeId,
    pub(crate) stats: Arc<BusStats>,
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
    if probes.metrics.canary_ok() {
        return "ok\n".into_response();
    }
    if !probes.metrics.canary_ever_ok() {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting: no canary has come back yet\n")
            .into_response();
    }
    let others_deliver = match probes.presence.gateways().await {
        Ok(leases) => leases.iter().any(|lease| lease.bus_ok && lease.node != probes.node),
        Err(_) => false,
    };
    let bus = if probes.bus.is_connected() { "connected" } else { "disconnected" };
    if others_deliver {
        let text = format!(
            "not delivering: the canary fails here, and not on other gateways (bus {bus})\n"
        );
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    format!("degraded: the canary fails, on other gateways too (bus {bus})\n").into_response()
}

async fn metrics(State(probes): State<Arc<Probes>>) -> Response {
    match probes.metrics.render(&probes.hub, &probes.stats) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be rendered\n").into_response()
        }
    }
}

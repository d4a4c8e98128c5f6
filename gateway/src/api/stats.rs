//! The cluster in figures, as the gateways' leases have them.

use broker_core::ports::Lease;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Coverage, Deps};

/// The cluster in figures, some seconds old.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stats)]
pub(super) struct StatsBody {
    #[serde(flatten)]
    total: Figures,
    /// Each gateway's share.
    gateways: Vec<GatewayBody>,
    #[serde(flatten)]
    coverage: Coverage,
}

/// Figures of a gateway, or of all.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Figures {
    /// Open connections.
    connections: u64,
    /// Channels and patterns with a subscriber. In the sum, one that has subscribers on two
    /// gateways counts twice.
    channels: u64,
    /// Subscriptions of these connections.
    subscriptions: u64,
}

/// A gateway.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Gateway)]
pub(super) struct GatewayBody {
    /// Its name, which changes with each start.
    node: String,
    #[serde(flatten)]
    figures: Figures,
    /// Its version.
    version: String,
    /// When it started, in milliseconds since 1970; unknown while the store is away.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<u64>,
    /// Whether its messages come through.
    bus_ok: bool,
}

impl From<Lease> for GatewayBody {
    fn from(lease: Lease) -> Self {
        Self {
            node: lease.node.to_string(),
            figures: Figures {
                connections: lease.connections,
                channels: lease.channels,
                subscriptions: lease.subscriptions,
            },
            version: lease.version,
            started: Some(lease.started.0),
            bus_ok: lease.bus_ok,
        }
    }
}

/// All gateways with a lease. With the store away, this one.
pub(super) async fn read(deps: &Deps) -> StatsBody {
    let (mut gateways, coverage) = match deps.presence.gateways().await {
        Ok(leases) => (leases.into_iter().map(Into::into).collect(), Coverage::default()),
        Err(error) => {
            let reason = format!("{error}, so these are the figures of this gateway only");
            (vec![this_gateway(deps)], Coverage::partial(reason))
        }
    };
    gateways.sort_by(|a: &GatewayBody, b| a.node.cmp(&b.node));
    let mut total = Figures::default();
    for GatewayBody { figures, .. } in &gateways {
        total.connections += figures.connections;
        total.channels += figures.channels;
        total.subscriptions += figures.subscriptions;
    }
    StatsBody { total, gateways, coverage }
}

fn this_gateway(deps: &Deps) -> GatewayBody {
    let interests = deps.hub.subscriptions();
    GatewayBody {
        node: deps.node.to_string(),
        figures: Figures {
            connections: deps.hub.connection_count() as u64,
            channels: interests.len() as u64,
            subscriptions: interests.iter().map(|(_, count)| *count as u64).sum(),
        },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: None,
        bus_ok: deps.bus.is_connected(),
    }
}

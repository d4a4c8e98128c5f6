//! The cluster in figures, as the gateways' leases have them.

use broker_core::ports::Lease;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Coverage, Deps};
use crate::hub::Figures;

/// The cluster in figures, some seconds old.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stats)]
pub(super) struct StatsBody {
    #[serde(flatten)]
    total: FiguresBody,
    /// Each gateway's share.
    gateways: Vec<GatewayBody>,
    #[serde(flatten)]
    coverage: Coverage,
}

/// Figures of a gateway, or of all.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Figures)]
pub(super) struct FiguresBody {
    /// Open connections.
    connections: u64,
    /// Users with a connection. In the sum, one who is connected to two gateways counts twice.
    users: u64,
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
    figures: FiguresBody,
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
            figures: FiguresBody {
                connections: lease.connections,
                users: lease.users,
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
    let mut total = FiguresBody::default();
    for GatewayBody { figures, .. } in &gateways {
        total.connections += figures.connections;
        total.users += figures.users;
        total.channels += figures.channels;
        total.subscriptions += figures.subscriptions;
    }
    StatsBody { total, gateways, coverage }
}

fn this_gateway(deps: &Deps) -> GatewayBody {
    let Figures { connections, users, channels, subscriptions } = deps.hub.figures();
    GatewayBody {
        node: deps.node.to_string(),
        figures: FiguresBody { connections, users, channels, subscriptions },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: None,
        bus_ok: deps.bus.is_connected(),
    }
}

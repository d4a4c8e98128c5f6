//! Sessions at other gateways: a load balancer may bring each request of a client to another one.
//!
//! A session's name says which gateway it is at. A request is forwarded to that gateway's
//! [door](crate::api::Door) as it is, and ends there when its client breaks it off here. A
//! WebSocket becomes a [`tunnel`]. Why HTTP, and not the bus: DESIGN.

#[cfg(test)]
mod fake;
mod guard;
mod peers;
mod tunnel;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header, uri::Scheme},
    response::Response,
};
use broker_core::ports::{Bus, Presence};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rand::RngExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time,
};
use tokio_util::task::TaskTracker;

use super::sid::Owner;
use crate::{api::Door, config::Drain, connection::raw_socket, telemetry::Metrics};
pub(crate) use guard::door;
pub(super) use guard::is_forwarded;
use peers::Peers;

/// How long the other gateway's host may take to answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections to one gateway that are kept for the next requests.
const IDLE_CONNECTIONS: usize = 256;
/// Of each tunnel, when this gateway goes away.
const LEISURE: Duration = Duration::from_millis(100);
/// Who asks, for the gateway that does not see it.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What concerns only the two ends of a TCP connection; `Connection` may name more.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// Hands requests over to other gateways.
#[derive(Debug)]
pub(crate) struct Forwarder {
    peers: Peers,
    client: Client<HttpConnector, Body>,
    limits: Limits,
    room: Arc<Semaphore>,
    tunnels: TaskTracker,
    /// Within which time tunnels are to end, once this gateway goes away.
    leaving: watch::Sender<Option<Duration>>,
    metrics: Arc<Metrics>,
}

/// How long and how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Requests and tunnels at once.
    pub(crate) at_once: usize,
    /// Until a request is answered; polls wait for what there is to say.
    pub(crate) answer: Duration,
    /// Until a WebSocket is answered.
    pub(crate) upgrade: Duration,
    /// For how long either side of a tunnel may say nothing.
    pub(crate) silence: Duration,
    /// For how long a connection is kept that no request needs: less than the other side keeps it.
    pub(crate) idle: Duration,
}

/// Why a request was not forwarded, or not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotForwarded {
    #[error("there is no such gateway")]
    Unknown,
    #[error("the session's gateway is not in reach")]
    Unreachable,
    #[error("the session's gateway did not answer in time")]
    TimedOut,
    #[error("too many requests belong to sessions at other gateways")]
    Overloaded,
}

impl Forwarder {
    pub(crate) fn new(
        presence: Arc<dyn Presence>,
        bus: Arc<dyn Bus>,
        metrics: Arc<Metrics>,
        limits: Limits,
    ) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_keepalive(Some(limits.silence));
        #[cfg(target_os = "linux")]
        connector.set_tcp_user_timeout(Some(limits.silence));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits.idle)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector);
        Self {
            peers: Peers::new(presence, bus),
            client,
            limits,
            room: Arc::new(Semaphore::new(limits.at_once.min(Semaphore::MAX_PERMITS))),
            tunnels: TaskTracker::new(),
            leaving: watch::Sender::new(None),
            metrics,
        }
    }

    /// The answer of the gateway whose sessions' names begin so.
    ///
    /// # Errors
    /// There is none: the client does best to open a new session.
    pub(super) async fn forward(
        self: &Arc<Self>,
        owner: Owner,
        request: Request,
    ) -> Result<Response, NotForwarded> {
        let outcome = self.try_forward(owner, request).await;
        self.metrics.forwarding.request(match outcome {
            Ok(_) => "ok",
            Err(NotForwarded::Unknown) => "unknown",
            Err(NotForwarded::Unreachable) => "unreachable",
            Err(NotForwarded::TimedOut) => "timed_out",
            Err(NotForwarded::Overloaded) => "overloaded",
        });
        outcome
    }

    async fn try_forward(
        self: &Arc<Self>,
        owner: Owner,
        mut request: Request,
    ) -> Result<Response, NotForwarded> {
        let room = Arc::clone(&self.room).try_acquire_owned();
        let room = room.map_err(|_| NotForwarded::Overloaded)?;
        let (peer, door) = self.peers.find(owner).await?;
        let upgrade = request.headers().contains_key(header::UPGRADE);
        let patience = if upgrade { self.limits.upgrade } else { self.limits.answer };
        let client = upgrade.then(|| hyper::upgrade::on(&mut request));
        let request = readdress(request, &door, upgrade).ok_or(NotForwarded::Unreachable)?;
        let mut response = match time::timeout(patience, self.client.request(request)).await {
            Ok(Ok(response)) if response.status() == guard::NOT_HERE => {
                tracing::debug!(node = %peer.node(), "another one is at a gateway's door");
                peer.was_not_at(&door).await;
                return Err(NotForwarded::Unreachable);
            }
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                tracing::debug!(node = %peer.node(), ?error, "a request was not forwarded");
                if error.is_connect() {
                    peer.was_not_at(&door).await;
                }
                return Err(NotForwarded::Unreachable);
            }
            Err(_) => return Err(NotForwarded::TimedOut),
        };
        match client {
            Some(client) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let owner = hyper::upgrade::on(&mut response);
                self.tunnels.spawn(Arc::clone(self).tunnel(client, owner, room));
            }
            _ => remove_hop_by_hop(response.headers_mut()),
        }
        Ok(response.map(Body::new))
    }

    async fn tunnel(
        self: Arc<Self>,
        client: hyper::upgrade::OnUpgrade,
        owner: hyper::upgrade::OnUpgrade,
        _room: OwnedSemaphorePermit,
    ) {
        let both = async { tokio::join!(raw_socket(client), raw_socket(owner)) };
        let Ok((Some(client), Some(owner))) = time::timeout(self.limits.upgrade, both).await else {
            tracing::debug!("a WebSocket was gone before it could be carried");
            return;
        };
        self.metrics.forwarding.tunnels.inc();
        tokio::select! {
            () = tunnel::run(client, owner, self.limits.silence) => {}
            () = self.turn_to_leave() => {}
        }
        self.metrics.forwarding.tunnels.dec();
    }

    async fn turn_to_leave(&self) {
        let mut leaving = self.leaving.subscribe();
        let within = match leaving.wait_for(Option::is_some).await {
            Ok(within) => within.unwrap_or_default(),
            Err(_) => return,
        };
        let turn = rand::rng().random_range(Duration::ZERO..=within);
        time::sleep(turn).await;
    }

    /// Sends those away who are carried through this gateway: they come back by another, one
    /// after the other.
    pub(crate) async fn drain(&self, config: &Drain) {
        time::sleep(config.delay).await;
        let open = u32::try_from(self.tunnels.len()).unwrap_or(u32::MAX);
        self.leaving.send_replace(Some(LEISURE.saturating_mul(open).min(config.duration)));
        self.tunnels.close();
        let within = config.duration + config.grace;
        if time::timeout(within, self.tunnels.wait()).await.is_err() {
            tracing::debug!("some clients are still carried to other gateways");
        }
    }
}

/// The same request, to another gateway; `None` if its address is none.
fn readdress(request: Request, door: &Door, upgrade: bool) -> Option<Request> {
    let (mut parts, body) = request.into_parts();
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(door.address.parse().ok()?);
    parts.uri = Uri::from_parts(uri).ok()?;
    parts.version = Version::HTTP_11;
    let headers = &mut parts.headers;
    remove_hop_by_hop(headers);
    if upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    if let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<std::net::SocketAddr>>() {
        headers.append(FORWARDED_FOR, peer.ip().to_string().parse().ok()?);
    }
    let mut key: HeaderValue = door.key.reveal().parse().ok()?;
    key.set_sensitive(true);
    headers.insert(guard::KEY, key);
    parts.extensions.clear();
    Some(Request::from_parts(parts, body))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests;

//! The composition root: the only place that sees everything. It builds, spawns and drains.

mod servers;
mod settings;
mod signals;

use std::{io, net::SocketAddr, sync::Arc};

use broker_backends::{Backends, BusEvents, ConnectError};
use broker_core::NodeId;
use tokio::task::JoinSet;

use crate::{
    api,
    auth::{ApiKeys, Verifier},
    backends,
    canary::{self, Verdict},
    cli::Exit,
    config::Config,
    connection::{Admission, Deps},
    directory::{self, Writer},
    drain::drain,
    fanout::{self, Fanout},
    hub::Hub,
    probes::Probes,
    telemetry::{Metrics, Tracing},
    wheel::Wheel,
};
use servers::Listeners;

/// Where a gateway listens, once it does.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) public: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
}

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    #[error("cannot load the certificate: {0}")]
    Tls(io::Error),
    #[error(transparent)]
    Bus(#[from] ConnectError),
    #[error("{0}")]
    Auth(String),
    #[error("{0}")]
    Other(String),
    /// It had started, and broke later.
    #[error("a part of the gateway ended by itself")]
    Broken,
}

impl StartError {
    /// How the process says so.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Bus(ConnectError::Option { .. }) | Self::Tls(_) | Self::Auth(_) => Exit::Config,
            Self::Bus(_) => Exit::Unavailable,
            Self::Listen(..) | Self::Other(_) | Self::Broken => Exit::Failure,
        }
    }
}

/// Runs a gateway until SIGTERM or SIGINT, then drains it. A SIGINT during the drain ends it at
/// once.
///
/// # Errors
/// Why it could not start, or that a part of it broke.
pub(crate) async fn run(config: Config, started: impl FnOnce(&Started)) -> Result<(), StartError> {
    let listeners = Listeners::bind(&config).await?;
    let node = node_id();
    let backends = backends::open(&config, &node).await?;
    let (gateway, writer) = Gateway::build(&config, &node, &backends)?;
    let Backends { events, inbox, presence, closer, .. } = backends;
    let mut background = gateway.spawn();
    let lease = background.spawn(writer.run(settings::lease_times(&config)));
    gateway.fan_out(events, &mut background);
    background.spawn(api::serve_inbox(inbox, Arc::clone(&gateway.api)));

    let servers = listeners.serve(&config, &gateway)?;
    started(&servers.started);
    tracing::info!(%node, public = ?servers.started.public, admin = %servers.started.admin, "listening");

    let outcome = tokio::select! {
        () = signals::shutdown() => Ok(()),
        // Without it, messages may not be delivered any more: clients fare better elsewhere.
        Some(ended) = background.join_next() => {
            tracing::error!(?ended, "a part of the gateway ended by itself: draining");
            Err(StartError::Broken)
        }
    };
    let going = async {
        drain(&gateway.admission, &config.drain, &gateway.metrics).await;
        servers.stop().await;
        // Or it would take the lease again.
        lease.abort();
        if let Err(error) = presence.retire(node).await {
            tracing::debug!(%error, "the directory was not told that this gateway is gone");
        }
        closer.close().await;
        background.shutdown().await;
        gateway.tracing.shutdown().await;
    };
    tokio::select! {
        () = going => {}
        () = signals::interrupt() => tracing::warn!("interrupted: not waiting for the drain"),
    }
    outcome
}

/// The parts of a gateway, each knowing those that it uses.
struct Gateway {
    admission: Arc<Admission>,
    api: Arc<api::Deps>,
    probes: Arc<Probes>,
    metrics: Arc<Metrics>,
    tracing: Arc<Tracing>,
}

impl Gateway {
    fn build(
        config: &Config,
        node: &NodeId,
        backends: &Backends,
    ) -> Result<(Self, Writer), StartError> {
        let (bus, presence) = (&backends.bus, &backends.presence);
        let metrics = settings::metrics(config)?;
        let tracing = Arc::new(settings::tracing(config, node)?);
        if let Some(spans) = tracing.collector() {
            metrics.register_spans(spans).map_err(|error| StartError::Other(error.to_string()))?;
        }
        let hub = Arc::new(Hub::new(Arc::clone(bus), config.nats.linger));
        let rules = Arc::new(settings::rules(config));
        let verifier =
            Verifier::new(&config.auth).map_err(|error| StartError::Auth(error.to_string()))?;
        let verdict = Arc::<Verdict>::default();
        let (directory, writer) = directory::start(
            Arc::clone(presence),
            Arc::clone(&hub),
            Arc::clone(&verdict),
            Arc::clone(&metrics),
            node.clone(),
        );
        let deps = Arc::new(Deps {
            rules: Arc::clone(&rules),
            hub: Arc::clone(&hub),
            bus: Arc::clone(bus),
            verifier: Arc::new(verifier),
            wheel: Arc::new(Wheel::new()),
            directory,
            metrics: Arc::clone(&metrics),
            tracing: Arc::clone(&tracing),
            wire: settings::wire_limits(config),
        });
        let api = Arc::new(api::Deps {
            bus: Arc::clone(bus),
            presence: Arc::clone(presence),
            sessions: Arc::clone(&backends.sessions),
            hub: Arc::clone(&hub),
            rules,
            api_keys: Arc::new(ApiKeys::new(&config.auth.api_keys)),
            tracing: Arc::clone(&tracing),
            node: node.clone(),
        });
        let probes = Arc::new(Probes {
            hub,
            bus: Arc::clone(bus),
            presence: Arc::clone(presence),
            verdict,
            patience: canary::NOTICED_WITHIN + config.presence.renew,
            metrics: Arc::clone(&metrics),
            node: node.clone(),
            stats: Arc::clone(&backends.stats),
        });
        let admission = Arc::new(settings::admission(config, deps));
        Ok((Self { admission, api, probes, metrics, tracing }, writer))
    }

    /// What goes on beside the connections.
    fn spawn(&self) -> JoinSet<()> {
        let deps = &self.admission.deps;
        let mut background = JoinSet::new();
        background.spawn(canary::run(
            Arc::clone(&deps.bus),
            Arc::clone(&deps.hub),
            Arc::clone(&self.probes.verdict),
            Arc::clone(&self.metrics),
            self.api.node.clone(),
        ));
        background
            .spawn(owned(Arc::clone(&deps.verifier), async |verifier| verifier.keep_fresh().await));
        background.spawn(owned(Arc::clone(&deps.wheel), async |wheel| wheel.turn().await));
        background.spawn(owned(Arc::clone(&deps.hub), async |hub| hub.tidy().await));
        background
    }

    /// One worker for each source of events.
    fn fan_out(&self, sources: Vec<BusEvents>, background: &mut JoinSet<()>) {
        for (index, events) in sources.into_iter().enumerate() {
            let worker = Fanout {
                hub: Arc::clone(&self.admission.deps.hub),
                metrics: Arc::clone(&self.metrics),
                tracing: Arc::clone(&self.tracing),
                compression: self.admission.deps.wire.compression,
                tells_all: index == 0,
            };
            background.spawn(fanout::run(events, worker));
        }
    }
}

/// A name for this start of this process: the host's, and what makes it unique.
fn node_id() -> NodeId {
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let host: String =
        host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(48).collect();
    let unique: u32 = rand::random();
    format!("{host}-{unique:08x}")
        .parse()
        .expect("48 letters, digits and dashes, a dash, and 8 digits")
}

/// A future that keeps alive what it runs on.
async fn owned<T: Send + Sync + 'static>(value: Arc<T>, run: impl AsyncFnOnce(&T)) {
    run(&value).await;
}

//! The composition root: the only place that sees everything. It builds, spawns and drains.

mod generation;
mod internal;
mod paths;
mod reload;
mod servers;
mod settings;
mod signals;

use std::{io, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use broker_backends::{Backends, BusEvents, ConnectError};
use broker_core::{NodeId, history::Queue, retained::Bounds};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    api::{self, Door},
    asks::Asks,
    backends,
    canary::{self, Verdict},
    cli::Exit,
    config::{Config, HistoryStorage},
    connection::{Deps, Latest, TwoFaces},
    directory::{self, Writer},
    drain::drain,
    fanout::{self, Fanout},
    hub::{Hub, feeds::Feeds, retained::Retained},
    keeper::Keeper,
    probes::Probes,
    public_url::PublicUrl,
    queue::Acknowledgements,
    register,
    reload::Startup,
    rest,
    roster::{self, Tools},
    telemetry::{Metrics, Tracing},
    wheel::Wheel,
};
use generation::Generation;
use internal::Internal;
use reload::{Reloader, Running, keep_keys_fresh};
use servers::Listeners;
use settings::Configured;
use signals::Signals;

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
    #[error(transparent)]
    Taken(#[from] rest::Taken),
    #[error(transparent)]
    TwoFaces(#[from] TwoFaces),
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
            Self::Bus(ConnectError::Option { .. })
            | Self::Tls(_)
            | Self::Auth(_)
            | Self::Taken(_)
            | Self::TwoFaces(_) => Exit::Config,
            Self::Bus(_) => Exit::Unavailable,
            Self::Listen(..) | Self::Other(_) | Self::Broken => Exit::Failure,
        }
    }
}

/// Runs a gateway until SIGTERM or SIGINT, then drains it. A SIGINT during the drain ends it at
/// once. On SIGHUP, and when its files change, it takes over what they hold.
///
/// # Errors
/// Why it could not start, or that a part of it broke.
pub(crate) async fn run(
    startup: Startup,
    started: impl FnOnce(&Started),
) -> Result<(), StartError> {
    let mut signals = Signals::listen();
    let Startup { inputs, seen, loaded, profiles } = startup;
    let config = Arc::new(loaded.config.clone());
    let by = Configured { config: Arc::clone(&config), profiles: profiles.into() };
    let listeners = Listeners::bind(&config).await?;
    let node = node_id();
    let mut backends = tokio::select! {
        backends = backends::open(&config, &node) => backends?,
        () = signals.shutdown() => return Ok(()),
    };
    if let Some(bug) = config.sabotage {
        backends = bug.spoil(backends);
    }
    let internal = Internal::bind(&by).await?;
    let door = internal.as_ref().map(|internal| internal.door.clone());
    let (gateway, Writers { directory, members }) = Gateway::build(by, &node, &backends, door)?;
    let Backends { events, inbox, presence, roster, closer, .. } = backends;
    let mut background = gateway.spawn();
    let lease = background.spawn(directory.run(settings::lease_times(&config)));
    let members = members.map(|keeper| background.spawn(keeper.run()));
    gateway.fan_out(events, &mut background);
    let api = Arc::new(ArcSwap::new(Arc::clone(&gateway.generation.api)));
    background.spawn(api::serve_inbox(inbox, Arc::clone(&api)));

    let servers = listeners.serve(&config, &gateway.generation.routes, internal)?;
    let generation = Arc::clone(&gateway.generation);
    let verifier = watch::Sender::new(Arc::clone(generation.verifier()));
    background.spawn(keep_keys_fresh(verifier.subscribe()));
    let running = Running { sites: servers.sites.clone(), inbox: api, verifier };
    let (inputs, loaded) = (Arc::new(inputs), Arc::new(loaded));
    let reloader = Reloader { inputs, seen, loaded, generation, running };
    background.spawn(reloader.run(signals.hangup.take()));
    started(&servers.started);
    tracing::info!(%node, public = ?servers.started.public, admin = %servers.started.admin, "listening");

    let outcome = tokio::select! {
        () = signals.shutdown() => Ok(()),
        // Without it, messages may not be delivered any more: clients fare better elsewhere.
        Some(ended) = background.join_next() => {
            tracing::error!(?ended, "a part of the gateway ended by itself: draining");
            Err(StartError::Broken)
        }
    };
    let going = async {
        tokio::join!(
            drain(&gateway.generation.admission, &config.drain, &gateway.metrics),
            gateway.send_away_the_carried(&config),
        );
        servers.stop().await;
        if let Some(members) = members {
            members.abort();
            // While there is a lease: without one, others would leave it no grace.
            if let Err(error) = roster.retire(node.clone()).await {
                tracing::debug!(%error, "members of channels stay listed until the lease is over");
            }
        }
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
        () = signals.interrupt() => tracing::warn!("interrupted: not waiting for the drain"),
    }
    outcome
}

/// The parts of a gateway, each knowing those that it uses.
struct Gateway {
    /// The first; others may follow.
    generation: Arc<Generation>,
    probes: Arc<Probes>,
    metrics: Arc<Metrics>,
    tracing: Arc<Tracing>,
}

/// The tasks that keep the store up to date.
struct Writers {
    directory: Writer,
    members: Option<roster::Keeper>,
}

impl Gateway {
    fn build(
        by: Configured,
        node: &NodeId,
        backends: &Backends,
        door: Option<Door>,
    ) -> Result<(Self, Writers), StartError> {
        let config = &*by.config;
        let (bus, presence, roster) = (&backends.bus, &backends.presence, &backends.roster);
        let metrics = settings::metrics(config)?;
        let tracing = settings::tracing(config, node, &metrics)?;
        let (feeds, acknowledgements) = history(config, backends, &metrics);
        let rules = Arc::new(settings::rules(config));
        let has_presence = rules.namespaces.any_presence();
        let (register, notes) = has_presence.then(|| register::open(Arc::clone(&rules))).unzip();
        let hub =
            Hub::new(Arc::clone(bus), config.nats.linger).with_feeds(feeds).with_register(register);
        let hub = Arc::new(hub.with_retained(retained(config)));
        let authenticator = settings::authenticator(config, &backends.sessions, &metrics, None)?;
        let verdict = Arc::<Verdict>::default();
        let members = notes.and_then(|notes| {
            let tools = Tools {
                roster: Arc::clone(roster),
                bus: Arc::clone(bus),
                hub: Arc::clone(&hub),
                metrics: Arc::clone(&metrics),
                node: node.clone(),
            };
            roster::Keeper::new(notes, tools)
        });
        let (directory, writer) = directory::start(
            Arc::clone(presence),
            Arc::clone(&hub),
            Arc::clone(&verdict),
            Arc::clone(&metrics),
            node.clone(),
        );
        let deps = Arc::new(Deps {
            asks: Arc::new(Asks::new(Arc::clone(&metrics))),
            rules: Arc::clone(&rules),
            hub: Arc::clone(&hub),
            bus: Arc::clone(bus),
            services: settings::services(config, bus, &metrics)?,
            authenticator: authenticator.clone(),
            wheel: Arc::new(Wheel::new()),
            directory,
            roster: Arc::clone(roster),
            keeper: keeper(config, backends, &hub, &metrics),
            metrics: Arc::clone(&metrics),
            tracing: Arc::clone(&tracing),
            wire: settings::wire_limits(config),
            acknowledgements,
            latest: Latest::default(),
        });
        let api = Arc::new(api::Deps {
            asks: Arc::clone(&deps.asks),
            bus: Arc::clone(bus),
            presence: Arc::clone(presence),
            roster: Arc::clone(roster),
            sessions: Arc::clone(&backends.sessions),
            log: Arc::clone(&backends.log),
            queue: backends.queue.clone(),
            turns: Arc::default(),
            hub: Arc::clone(&hub),
            rules,
            authenticator,
            public_url: PublicUrl::new(&config.http),
            tracing: Arc::clone(&tracing),
            door,
            node: node.clone(),
        });
        let probes = Arc::new(probes(config, node, backends, (hub, verdict, &metrics)));
        let generation = Generation::first(by, (deps, api), Arc::clone(&probes))?;
        let writers = Writers { directory: writer, members };
        Ok((Self { generation: Arc::new(generation), probes, metrics, tracing }, writers))
    }

    async fn send_away_the_carried(&self, config: &Config) {
        if let Some(forwarder) = &self.generation.forwarder {
            forwarder.drain(&config.drain).await;
        }
    }

    /// What goes on beside the connections.
    fn spawn(&self) -> JoinSet<()> {
        let deps = &self.generation.admission.deps;
        let mut background = JoinSet::new();
        background.spawn(canary::run(
            Arc::clone(&deps.bus),
            Arc::clone(&deps.hub),
            Arc::clone(&self.probes.verdict),
            Arc::clone(&self.metrics),
            self.generation.node().clone(),
        ));
        background.spawn(owned(Arc::clone(&deps.keeper), async |keeper| keeper.run().await));
        background.spawn(owned(Arc::clone(&deps.wheel), async |wheel| wheel.turn().await));
        background.spawn(owned(Arc::clone(&deps.hub), async |hub| hub.tidy().await));
        if let Some(feeds) = deps.hub.feeds() {
            background.spawn(owned(Arc::clone(feeds), async |feeds| feeds.watch().await));
            let catcher = Arc::new(self.fanout(false));
            for namespace in feeds.namespaces().cloned() {
                let (feeds, catcher) = (Arc::clone(feeds), Arc::clone(&catcher));
                background.spawn(fanout::catch_up(feeds, catcher, namespace));
            }
            if deps.acknowledgements.is_some() {
                background.spawn(fanout::redeliver(Arc::clone(feeds), catcher));
            }
        }
        for watched in deps.hub.retained().iter() {
            let (watched, log) = (Arc::clone(watched), Arc::clone(&self.generation.api.log));
            background.spawn(fanout::keep_retained(watched, log, Arc::new(self.fanout(false))));
        }
        if let Some(acks) = &deps.acknowledgements {
            background.spawn(owned(Arc::clone(acks), async |acks| acks.run().await));
            background.spawn(owned(Arc::clone(acks), async |acks| acks.sweep().await));
        }
        background
    }

    /// One worker for each source of events.
    fn fan_out(&self, sources: Vec<BusEvents>, background: &mut JoinSet<()>) {
        for (index, events) in sources.into_iter().enumerate() {
            background.spawn(fanout::run(events, Arc::new(self.fanout(index == 0))));
        }
    }

    fn fanout(&self, tells_all: bool) -> Fanout {
        Fanout {
            hub: Arc::clone(&self.generation.admission.deps.hub),
            metrics: Arc::clone(&self.metrics),
            tracing: Arc::clone(&self.tracing),
            compression: self.generation.admission.deps.wire.compression,
            tells_all,
        }
    }
}

/// The feeds of channels with history, and what users acknowledge of their queues.
fn history(
    config: &Config,
    backends: &Backends,
    metrics: &Arc<Metrics>,
) -> (Arc<Feeds>, Option<Arc<Acknowledgements>>) {
    let feeds = Feeds::new(Arc::clone(&backends.log), config.histories());
    let (Some(queue), Some(Queue { ttl, .. })) = (&backends.queue, config.queue()) else {
        return (Arc::new(feeds), None);
    };
    let acknowledgements = Acknowledgements::new(Arc::clone(queue), Arc::clone(metrics));
    (Arc::new(feeds.with_queue(Arc::clone(queue), ttl)), Some(Arc::new(acknowledgements)))
}

/// What is kept known of retained namespaces.
fn retained(config: &Config) -> Retained {
    let HistoryStorage { retained_channels: channels, retained_bytes: bytes, .. } = config.history;
    Retained::new(config.retained(), Bounds { channels, bytes })
}

fn probes(
    config: &Config,
    node: &NodeId,
    backends: &Backends,
    (hub, verdict, metrics): (Arc<Hub>, Arc<Verdict>, &Arc<Metrics>),
) -> Probes {
    Probes {
        hub,
        bus: Arc::clone(&backends.bus),
        presence: Arc::clone(&backends.presence),
        verdict,
        patience: canary::NOTICED_WITHIN + config.presence.renew,
        metrics: Arc::clone(metrics),
        node: node.clone(),
        stats: Arc::clone(&backends.stats),
        queue_stats: Arc::clone(&backends.queue_stats),
    }
}

fn keeper(
    config: &Config,
    backends: &Backends,
    hub: &Arc<Hub>,
    metrics: &Arc<Metrics>,
) -> Arc<Keeper> {
    let (store, bus) = (Arc::clone(&backends.sessions), Arc::clone(&backends.bus));
    let (hub, metrics) = (Arc::clone(hub), Arc::clone(metrics));
    Arc::new(Keeper::new(store, bus, hub, metrics, config.session.window))
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

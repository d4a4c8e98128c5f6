//! Connecting, and putting the parts together.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectOptions};
use broker_core::history::Queue;
use futures_util::stream::select;
use tokio::time::{Instant, sleep};

use super::{
    bus::NatsBus,
    consumer::Consumer,
    dial::{CONNECT, Dialer, PING_INTERVAL, pause_before},
    link::{Link, OLDEST, too_old},
    log::NatsLog,
    mailbox::Mailbox,
    questions::Questions,
    reader,
    receiver::Receiver,
    reconcile::Mode,
    returns::Returns,
    streams::Streams,
    subject::Subjects,
};
use crate::{
    arrivals::BusEvents,
    inbox::Inbox,
    options::{ConnectError, Histories, NatsAuth, NatsOptions, TlsFiles},
    stats::BusStats,
};

/// Gateways of which one answers each question of a service.
const API_GROUP: &str = "fanfare-api";

pub(crate) struct Parts {
    pub(crate) bus: NatsBus,
    pub(crate) events: Vec<BusEvents>,
    pub(crate) log: NatsLog,
    /// Where there are offline queues to be fed.
    pub(crate) consumer: Option<Consumer>,
    pub(crate) inbox: Inbox,
    pub(crate) link: Link,
}

/// Between attempts to connect.
const PAUSE: Duration = Duration::from_secs(1);

/// Where all parts of a cluster start at once, NATS may not be there yet: this tries again, as long
/// as [`NatsOptions::connect_within`] says.
pub(crate) async fn connect(
    options: NatsOptions,
    histories: &Histories,
    queue: Option<&Queue>,
    stats: Arc<BusStats>,
) -> Result<Parts, ConnectError> {
    let end = Instant::now() + options.connect_within;
    loop {
        match connect_once(options.clone(), histories, queue, Arc::clone(&stats)).await {
            Err(error) if may_pass(&error) && Instant::now() + PAUSE < end => {
                tracing::warn!(%error, "not connected yet: trying again");
            }
            outcome => return outcome,
        }
        sleep(PAUSE).await;
    }
}

/// Whether NATS may only be on its way up.
fn may_pass(error: &ConnectError) -> bool {
    match error {
        ConnectError::Nats(_) | ConnectError::NoJetStream(_) | ConnectError::Stream { .. } => true,
        ConnectError::Option { .. } | ConnectError::NatsTooOld { .. } => false,
    }
}

async fn connect_once(
    options: NatsOptions,
    histories: &Histories,
    queue: Option<&Queue>,
    stats: Arc<BusStats>,
) -> Result<Parts, ConnectError> {
    let subjects = Subjects::new(&options.prefix).ok_or_else(|| wrong_prefix("prefix"))?;
    let subjects = Arc::new(subjects.with_history(histories.keys()));
    Subjects::new(&options.inbox_prefix).ok_or_else(|| wrong_prefix("inbox_prefix"))?;
    let returns = Returns::new(format!("{}.{}", options.inbox_prefix, options.node));
    let mailboxes =
        (0..options.workers.max(1)).map(|_| Arc::new(Mailbox::new(options.queue_capacity)));
    let link = Link::new(options.deadline, returns, mailboxes.collect(), stats);
    let parts = build(&link, subjects, options, histories, queue).await;
    if parts.is_err() {
        // Its tasks and subscriptions would live on.
        link.close().await;
    }
    parts
}

async fn build(
    link: &Link,
    subjects: Arc<Subjects>,
    options: NatsOptions,
    histories: &Histories,
    queue: Option<&Queue>,
) -> Result<Parts, ConnectError> {
    let stats = Arc::clone(&link.shared.stats);
    let client = dial(&options, link).await?;
    link.set_client(client.clone());

    // In this order: async-nats names its subscriptions by number, and the link knows the first.
    let arrivals = client.subscribe(link.shared.returns.pattern()).await.map_err(nats_error)?;
    let ask = client.subscribe(subjects.of_ask().to_owned()).await.map_err(nats_error)?;
    let own =
        client.subscribe(subjects.of_gateway(options.node.mark())).await.map_err(nats_error)?;
    let api =
        client.queue_subscribe(subjects.of_api(), API_GROUP.into()).await.map_err(nats_error)?;

    link.spawn(Arc::clone(&link.shared.returns).run(arrivals));
    let mut dialer = Dialer::new(&options).map_err(nats_error)?;
    let streams = Arc::new(Streams::new(link.clone(), &options, histories, &subjects));
    let mut connection = None;
    let mut mode = Mode::Apply;
    if !options.wait {
        let silent = |_| nats_error("the server does not confirm in time");
        link.arrived(link.probe().await.map_err(silent)?);
        streams.prepare().await?;
        mode = Mode::Restore;
        connection = Some(reader::connect_first(link, &mut dialer).await.map_err(nats_error)?);
    }
    link.spawn(link.clone().watch());
    link.spawn(Arc::clone(&streams).keep(mode));
    let orders = reader::start(link, Arc::clone(&subjects), dialer, connection);
    let receiver = |mailbox: &Arc<_>| {
        BusEvents::new(Receiver::new(
            Arc::clone(mailbox),
            Arc::clone(&subjects),
            Arc::clone(&streams),
            Arc::clone(&stats),
        ))
    };
    // Its name has a token more than those that the link subscribes to.
    let inbox = format!("{}.{}.queue.feed", options.inbox_prefix, options.node);
    let consumer = match queue {
        Some(queue) => Consumer::open((link, inbox), &streams, &subjects, queue).await,
        None => Ok(None),
    };
    let capacity = options.publish_capacity;
    Ok(Parts {
        events: link.shared.mailboxes.iter().map(receiver).collect(),
        consumer: consumer.map_err(nats_error)?,
        inbox: Inbox::new(Questions::new(
            (select(ask, own), api),
            client,
            Arc::clone(&subjects),
            stats,
            link.shared.cancelled.clone(),
        )),
        log: NatsLog::new(link.clone(), Arc::clone(&streams), Arc::clone(&subjects)),
        bus: NatsBus::new(link.clone(), subjects, streams, orders, capacity),
        link: link.clone(),
    })
}

pub(super) async fn dial(options: &NatsOptions, link: &Link) -> Result<Client, ConnectError> {
    if options.urls.is_empty() {
        return Err(ConnectError::Option {
            option: "nats.url",
            reason: "no server is named".into(),
        });
    }
    // async-nats keeps the callback as long as the link keeps the client: one of them must let go.
    let hears = link.downgrade();
    let connect = with_auth(ConnectOptions::new(), &options.auth).await?;
    let mut connect = with_tls(connect, &options.tls)?
        .name(&options.name)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT)
        .custom_inbox_prefix(&options.inbox_prefix)
        .max_reconnects(None)
        .reconnect_delay_callback(backoff())
        .event_callback(move |event| {
            if let Some(shared) = hears.upgrade() {
                Link { shared }.on_event(&event);
            }
            ready(())
        });
    if options.wait {
        connect = connect.retry_on_initial_connect();
    }
    let client = connect.connect(options.urls.as_slice()).await.map_err(nats_error)?;
    match client.try_server_info() {
        Some(info) if too_old(&client) => {
            Err(ConnectError::NatsTooOld { found: info.version, wanted: OLDEST })
        }
        _ => Ok(client),
    }
}

async fn with_auth(
    connect: ConnectOptions,
    auth: &NatsAuth,
) -> Result<ConnectOptions, ConnectError> {
    match auth {
        NatsAuth::None => Ok(connect),
        NatsAuth::User { name, password } => {
            Ok(connect.user_and_password(name.clone(), password.clone()))
        }
        NatsAuth::Token(token) => Ok(connect.token(token.clone())),
        NatsAuth::Credentials(path) => connect.credentials_file(path).await.map_err(|error| {
            ConnectError::Option { option: "nats.credentials_file", reason: error.to_string() }
        }),
    }
}

fn with_tls(
    mut connect: ConnectOptions,
    TlsFiles { ca, certificate, key }: &TlsFiles,
) -> Result<ConnectOptions, ConnectError> {
    if let Some(ca) = ca {
        connect = connect.add_root_certificates(ca.clone()).require_tls(true);
    }
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            Ok(connect.add_client_certificate(certificate.clone(), key.clone()))
        }
        (None, None) => Ok(connect),
        _ => Err(ConnectError::Option {
            option: "nats.tls",
            reason: "a certificate needs its key, and a key its certificate".into(),
        }),
    }
}

/// The pause before an attempt: none before the first ever.
fn backoff() -> impl Fn(usize) -> Duration + Send + Sync + 'static {
    let first = AtomicBool::new(true);
    move |attempt| {
        if first.swap(false, Ordering::Relaxed) {
            return Duration::ZERO;
        }
        pause_before(attempt.saturating_sub(1))
    }
}

pub(super) fn nats_error(error: impl std::fmt::Display) -> ConnectError {
    ConnectError::Nats(error.to_string())
}

pub(super) fn wrong_prefix(option: &'static str) -> ConnectError {
    ConnectError::Option {
        option,
        reason: "it must be tokens of A-Z a-z 0-9 _ and -, joined by dots".into(),
    }
}

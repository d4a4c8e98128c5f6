//! The connection that publishes and asks: whether it stands, what it confirmed, when it was lost.
//!
//! What the gateway's clients are subscribed to is read on a second one, see
//! [`reader`](super::reader); the bus is in reach when both stand.
//!
//! NATS confirms no publish. But a server handles what one connection sends in order, so a message
//! that the gateway sends to itself proves, when it comes back, that all before it was handled:
//! the *barrier*. It proves nothing when the connection was made anew in between.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, Event, Message,
    client::{PublishErrorKind, traits::Publisher as _},
    connection::State,
    message::OutboundMessage,
};
use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    mailbox::Mailbox,
    returns::{Returns, Ticket},
};
use crate::stats::{BusStats, add};

/// The oldest server that will do.
pub(super) const OLDEST: &str = "2.11";
/// How often the connection is looked at, should an event have been lost.
const LOOK: Duration = Duration::from_millis(500);
/// The first of async-nats's subscriptions, which it counts from 1; the others bring questions.
const RETURNS: u64 = 1;

/// The connection; clones are handles.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    client: OnceLock<Client>,
    pub(super) deadline: Duration,
    pub(super) returns: Arc<Returns>,
    pub(super) mailboxes: Vec<Arc<Mailbox>>,
    pub(super) stats: Arc<BusStats>,
    pub(super) tasks: TaskTracker,
    pub(super) cancelled: CancellationToken,
    changed: Notify,
    /// The server did not confirm in time: nothing more is handed over until it does.
    suspect: AtomicBool,
    /// Somebody looks whether it still confirms.
    probing: AtomicBool,
    /// Where the connection leads to, while it stands.
    pub(super) home: watch::Sender<Option<Home>>,
    /// The reading connection stands, and all is subscribed on it.
    pub(super) reading: AtomicBool,
    /// The reading connection's server owes an answer for too long.
    silent: AtomicBool,
}

/// The server at the other end of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Home {
    stamp: Stamp,
    /// Its id.
    pub(super) server: String,
}

/// Which connection something was handed to, counted from the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp(u64);

/// Why something could not be handed to the connection: it is certain that nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotSent {
    TooLarge,
    /// Away, or without room.
    Unavailable,
}

/// What was handed over before may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unconfirmed;

/// A barrier under way.
#[derive(Debug)]
pub(super) struct Barrier {
    stamp: Stamp,
    ticket: Ticket<oneshot::Receiver<Message>>,
}

impl Link {
    pub(super) fn new(
        deadline: Duration,
        returns: Returns,
        mailboxes: Vec<Arc<Mailbox>>,
        stats: Arc<BusStats>,
    ) -> Self {
        let shared = Shared {
            client: OnceLock::new(),
            deadline,
            returns: Arc::new(returns),
            mailboxes,
            stats,
            tasks: TaskTracker::new(),
            cancelled: CancellationToken::new(),
            changed: Notify::new(),
            suspect: AtomicBool::new(false),
            probing: AtomicBool::new(false),
            home: watch::Sender::new(None),
            reading: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A handle that keeps nothing alive.
    pub(super) fn downgrade(&self) -> Weak<Shared> {
        Arc::downgrade(&self.shared)
    }

    /// The client; events may come before it is there.
    pub(super) fn set_client(&self, client: Client) {
        self.shared.client.get_or_init(|| client);
        self.look();
    }

    pub(super) fn client(&self) -> Option<&Client> {
        self.shared.client.get()
    }

    /// Whether both connections work.
    pub(super) fn is_connected(&self) -> bool {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        self.takes() && is(&self.shared.reading) && !is(&self.shared.silent)
    }

    /// Whether something can be handed to the connection.
    pub(super) fn takes(&self) -> bool {
        self.stands() && !self.shared.suspect.load(Ordering::Relaxed)
    }

    pub(super) fn set_reading(&self, reading: bool) {
        self.shared.reading.store(reading, Ordering::Relaxed);
        self.note();
    }

    pub(super) fn set_silent(&self, silent: bool) {
        if self.shared.silent.swap(silent, Ordering::Relaxed) != silent {
            self.note();
        }
    }

    fn stands(&self) -> bool {
        // Once it is closed, async-nats goes on to say what it said last.
        !self.shared.cancelled.is_cancelled()
            && self.client().is_some_and(|client| client.connection_state() == State::Connected)
    }

    /// How many connections there were so far, this one included.
    fn connects(&self) -> u64 {
        self.client().map_or(0, |client| client.statistics().connects.load(Ordering::SeqCst))
    }

    /// The present connection, if it is fit to be handed something.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        // In this order: a reconnect in between makes the stamp old, and so invalid.
        let stamp = Stamp(self.connects());
        self.takes().then_some(stamp)
    }

    /// Hands a message over; an error says for certain that it was not sent.
    pub(super) async fn send(&self, message: OutboundMessage, end: Instant) -> Result<(), NotSent> {
        let client = self.client().ok_or(NotSent::Unavailable)?;
        match timeout_at(end, client.publish_message(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(NotSent::TooLarge)
            }
            Ok(Err(_)) | Err(_) => Err(NotSent::Unavailable),
        }
    }

    /// Sends a barrier after all that was handed to the connection `stamp`.
    pub(super) async fn barrier(&self, stamp: Stamp, end: Instant) -> Result<Barrier, Unconfirmed> {
        let ticket = self.shared.returns.one();
        let message = OutboundMessage {
            subject: ticket.subject().into(),
            reply: None,
            payload: Bytes::new(),
            headers: None,
        };
        self.send(message, end).await.map_err(|_| Unconfirmed)?;
        Ok(Barrier { stamp, ticket })
    }

    /// Waits until the barrier is back.
    pub(super) async fn confirmed(
        &self,
        barrier: Barrier,
        end: Instant,
    ) -> Result<(), Unconfirmed> {
        let Barrier { stamp, mut ticket } = barrier;
        match timeout_at(end, &mut ticket.answers).await {
            Ok(Ok(_)) if self.connects() == stamp.0 => Ok(()),
            Ok(_) => Err(Unconfirmed),
            Err(_) => {
                if self.connects() == stamp.0 {
                    self.shared.suspect.store(true, Ordering::Relaxed);
                    self.shared.changed.notify_one();
                }
                Err(Unconfirmed)
            }
        }
    }

    /// Hears of async-nats's events. Called on its event task: must not wait.
    pub(super) fn on_event(&self, event: &Event) {
        match event {
            // A lost answer is an answer too late.
            Event::SlowConsumer(RETURNS) => add(&self.shared.stats.overruns, 1),
            Event::SlowConsumer(_) => add(&self.shared.stats.questions_dropped, 1),
            Event::ServerError(error) => tracing::warn!(%error, "NATS refuses"),
            Event::ClientError(error) => tracing::debug!(%error, "NATS is out of reach"),
            Event::Disconnected => {
                self.shared.returns.give_up();
                self.look();
            }
            _ => self.look(),
        }
    }

    /// Notes whether the bus is in reach, and that the connection leads nowhere.
    fn note(&self) {
        self.shared.stats.connected.store(self.is_connected(), Ordering::Relaxed);
        if !self.stands() {
            self.shared.home.send_if_modified(|home| home.take().is_some());
        }
    }

    fn look(&self) {
        self.note();
        self.shared.changed.notify_one();
    }

    /// Notes where the connection leads to. Called after the server confirmed something, for only
    /// then async-nats is sure to know it.
    pub(super) fn arrived(&self, stamp: Stamp) {
        let server = self.client().and_then(Client::try_server_info).map(|info| info.server_id);
        self.shared.home.send_replace(server.map(|server| Home { stamp, server }));
        self.look();
    }

    /// Watches the connection: counts each new one, and notes where it leads to.
    pub(super) async fn watch(self) {
        let mut counted = self.connects().max(1);
        loop {
            // An event may have been lost: look anyway from time to time.
            drop(timeout(LOOK, self.shared.changed.notified()).await);
            self.note();
            let stamp = Stamp(self.connects());
            let known = self.shared.home.borrow().as_ref().is_some_and(|home| home.stamp == stamp);
            let suspect = self.shared.suspect.load(Ordering::Relaxed);
            if !self.stands() || (known && !suspect) || self.probe().await != Ok(stamp) {
                continue;
            }
            self.shared.suspect.store(false, Ordering::Relaxed);
            if !known && self.client().is_some_and(too_old) {
                tracing::error!(wanted = OLDEST, "this nats-server is too old for Fanfare");
            }
            add(&self.shared.stats.reconnects, stamp.0 - counted);
            counted = stamp.0;
            self.arrived(stamp);
        }
    }

    /// Waits until the server has handled all that was handed to the present connection.
    pub(super) async fn probe(&self) -> Result<Stamp, Unconfirmed> {
        let stamp = Stamp(self.connects());
        let end = Instant::now() + self.shared.deadline;
        let barrier = self.barrier(stamp, end).await?;
        self.confirmed(barrier, end).await.map(|()| stamp)
    }

    /// Looks whether the server still confirms anything, since it did not answer in time.
    pub(super) fn doubt(&self) {
        if self.shared.probing.swap(true, Ordering::Relaxed) {
            return;
        }
        let link = self.clone();
        self.spawn(async move {
            // Without an answer, nothing more is handed over.
            link.probe().await.map(drop).unwrap_or_default();
            link.shared.probing.store(false, Ordering::Relaxed);
        });
    }

    /// Runs until the link is closed.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cancelled = self.shared.cancelled.clone();
        self.shared.tasks.spawn(async move {
            // Cancelled or done, there is nothing to tell.
            cancelled.run_until_cancelled(task).await.unwrap_or_default();
        });
    }

    /// Ends the connection; what was confirmed before is safe.
    pub(crate) async fn close(self) {
        self.shared.mailboxes.iter().for_each(|mailbox| mailbox.close());
        if let Some(client) = self.client() {
            let drained = timeout(self.shared.deadline, client.drain()).await;
            if !matches!(drained, Ok(Ok(()))) {
                tracing::debug!("NATS is away: the connection ends without its goodbyes");
            }
        }
        self.shared.cancelled.cancel();
        self.shared.returns.give_up();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.stats.connected.store(false, Ordering::Relaxed);
    }
}

/// Whether the server that is connected now is older than [`OLDEST`].
pub(super) fn too_old(client: &Client) -> bool {
    client.try_server_info().is_some() && !client.is_server_compatible(2, 11, 0)
}

//! The one connection to NATS: whether it stands, what it confirmed, and when it was lost.
//!
//! NATS confirms no publish. But a server handles what one connection sends in order, so a message
//! that the gateway sends to itself proves, when it comes back, that all before it was handled:
//! the *barrier*. It proves nothing when the connection was made anew in between.

use std::{
    collections::HashMap,
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
use broker_core::Interest;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
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
/// async-nats keeps this many events, and drops what comes on top.
const EVENT_CAPACITY: u32 = 128;

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
    /// What each of async-nats's subscriptions is for, by its number.
    pub(super) subscriptions: Mutex<HashMap<u64, Subscribed>>,
    changed: Notify,
    /// The server did not confirm in time: nothing more is handed over until it does.
    suspect: AtomicBool,
    drops: Mutex<Drops>,
}

/// What a subscription is for.
#[derive(Debug, Clone)]
pub(super) enum Subscribed {
    Returns,
    Questions,
    Interest { interest: Interest, worker: usize },
}

/// Reports of dropped messages in a row, without half a second between any two.
#[derive(Debug)]
struct Drops {
    last: Instant,
    in_a_row: u32,
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
        workers: usize,
        stats: Arc<BusStats>,
    ) -> Self {
        let shared = Shared {
            client: OnceLock::new(),
            deadline,
            returns: Arc::new(returns),
            mailboxes: (0..workers).map(|_| Arc::default()).collect(),
            stats,
            tasks: TaskTracker::new(),
            cancelled: CancellationToken::new(),
            subscriptions: Mutex::default(),
            changed: Notify::new(),
            suspect: AtomicBool::new(false),
            drops: Mutex::new(Drops { last: Instant::now(), in_a_row: 0 }),
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

    pub(super) fn is_connected(&self) -> bool {
        self.stands() && !self.shared.suspect.load(Ordering::Relaxed)
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
        self.is_connected().then_some(stamp)
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
            Event::SlowConsumer(subscription) => self.on_drop(*subscription),
            Event::ServerError(error) => tracing::warn!(%error, "NATS refuses"),
            Event::ClientError(error) => tracing::debug!(%error, "NATS is out of reach"),
            Event::Disconnected => {
                self.shared.returns.give_up();
                self.look();
            }
            _ => self.look(),
        }
    }

    /// A message was dropped because its subscription was full.
    fn on_drop(&self, subscription: u64) {
        let subscribed = self.shared.subscriptions.lock().get(&subscription).cloned();
        match subscribed {
            Some(Subscribed::Questions) => add(&self.shared.stats.questions_dropped, 1),
            Some(Subscribed::Interest { interest, worker }) => {
                add(&self.shared.stats.overruns, 1);
                self.shared.mailboxes[worker].overrun(Some(interest));
            }
            // A lost answer is an answer too late; a subscription that ended misses nothing.
            Some(Subscribed::Returns) | None => add(&self.shared.stats.overruns, 1),
        }
        if self.events_may_be_lost() {
            self.shared.mailboxes.iter().for_each(|mailbox| mailbox.overrun(None));
        }
    }

    /// Whether async-nats may have had no room to report another drop: its events are handled one
    /// after the other, so a full queue of them is that many in a row.
    fn events_may_be_lost(&self) -> bool {
        let now = Instant::now();
        let mut drops = self.shared.drops.lock();
        let in_a_row = now - drops.last < LOOK;
        drops.in_a_row = if in_a_row { drops.in_a_row + 1 } else { 1 };
        drops.last = now;
        let lost = drops.in_a_row >= EVENT_CAPACITY / 2;
        if lost {
            drops.in_a_row = 0;
        }
        lost
    }

    fn look(&self) {
        self.shared.stats.connected.store(self.is_connected(), Ordering::Relaxed);
        self.shared.changed.notify_one();
    }

    /// Watches the connection, and tells of gaps when it was made anew.
    pub(super) async fn watch(self) {
        // Before the first connection nothing was subscribed, and nothing can be missing.
        let mut told = self.connects().max(1);
        loop {
            // An event may have been lost: look anyway from time to time.
            drop(timeout(LOOK, self.shared.changed.notified()).await);
            self.shared.stats.connected.store(self.is_connected(), Ordering::Relaxed);
            let stamp = Stamp(self.connects());
            let suspect = self.shared.suspect.load(Ordering::Relaxed);
            if !self.stands() || (stamp.0 == told && !suspect) {
                continue;
            }
            if self.probe().await != Ok(stamp) {
                continue;
            }
            self.shared.suspect.store(false, Ordering::Relaxed);
            if self.client().is_some_and(too_old) {
                tracing::error!(wanted = OLDEST, "this nats-server is too old for Fanfare");
            }
            if stamp.0 > told {
                add(&self.shared.stats.reconnects, stamp.0 - told);
                // Only now: the server has seen all subscriptions, nothing is missed from here on.
                self.shared.mailboxes.iter().for_each(|mailbox| mailbox.reconnected());
                told = stamp.0;
            }
        }
    }

    /// Waits until the server has handled all that was handed to the present connection.
    pub(super) async fn probe(&self) -> Result<Stamp, Unconfirmed> {
        let stamp = Stamp(self.connects());
        let end = Instant::now() + self.shared.deadline;
        let barrier = self.barrier(stamp, end).await?;
        self.confirmed(barrier, end).await.map(|()| stamp)
    }

    /// Runs until the link is closed.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
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

//! The seams: what Fanfare asks of a bus and of a store, and the laws they keep.
//!
//! Each has two implementations, embedded (in memory) and cluster (NATS, Redis), and one contract
//! suite in `broker-testkit` that runs against both. Traits are object-safe: the configuration
//! chooses, and a faulty wrapper fits around any of them. What arrives is a value
//! ([`BusEvent`]), not a callback, so that a bus never knows who listens.

mod roster;

use std::{borrow::Cow, fmt::Debug, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    history::{Slice, Top},
    id::{ConnectionId, NodeId, NodeMark},
    message::{Data, Message, Publisher, Timestamp},
    name::{ChannelName, EventName, Interest, Namespace, Role, UserId},
    position::{Epoch, Offset, Position},
    resume::{KeptSession, SessionKey},
    retained::Listing,
};

pub use roster::{
    Attendance, ChannelNews, Member, MemberCount, MemberEvent, MemberEventKind, MemberInfo,
    MemberPage, RETELLING, Roster, Tell,
};

/// A future that owns what it needs for `'a`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Live routing between gateways, and to services.
///
/// Laws:
/// - **Order.** Publishes are handed over in the order of the *calls* to [`Bus::publish`], whether
///   or not the futures are polled; messages of one publisher on one channel arrive in that order.
///   With one that fails, those that were called after it and are not handed over yet fail too.
/// - **Stored.** In a namespace with history, `Ok` means that the message is in its channel's log.
///   The same publisher's message id, published to the channel again within the log's window, has
///   no effect but the same answer, marked as a duplicate.
/// - **Once per interest.** A message arrives once for each subscribed interest that it matches.
/// - **Live after `Ok`.** What is published anywhere after [`Bus::subscribe`] resolved arrives,
///   or a [`BusEvent::Gap`] for that interest does.
/// - **Bounded.** Nothing waits longer than the bus's deadline (2 s), and nothing is buffered
///   without bound: a bus that has no room refuses.
pub trait Bus: Send + Sync + Debug {
    /// Publishes to all gateways with a matching interest, this one included.
    ///
    /// Without history, `Ok` means that the bus has it: embedded, that it was handed to this
    /// process's fan-out; clustered, that the NATS server has processed it.
    fn publish(
        &self,
        message: Message,
        publisher: Publisher,
    ) -> BoxFuture<'static, Result<Accepted, PublishError>>;

    /// Starts the arrival of messages. Idempotent.
    fn subscribe(&self, interest: Interest) -> BoxFuture<'static, Result<(), BusError>>;

    /// Ends the arrival of messages; some may still come. Idempotent.
    fn unsubscribe(&self, interest: &Interest);

    /// Sends a request to whichever service listens at the address, and waits for its answer.
    fn request(&self, request: ServiceRequest) -> BoxFuture<'static, Result<Data, RequestError>>;

    /// Puts a question to every gateway, this one included, and collects answers until there are
    /// `expected` of them or `wait` is over.
    fn ask_gateways(
        &self,
        question: Bytes,
        expected: usize,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, BusError>>;

    /// Puts a question to one other gateway. `None` says that there is no such gateway, and so
    /// that nothing was done; [`BusError::Timeout`], that it may have been.
    fn ask_gateway(
        &self,
        node: NodeMark,
        question: Bytes,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Option<Bytes>, BusError>>;

    /// Whether the bus is in reach right now.
    fn is_connected(&self) -> bool;
}

/// What is known of a publish that succeeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Where the message is stored; `None` in a namespace without history.
    pub position: Option<Position>,
    /// Whether it had been published before, and is stored there since.
    pub duplicate: bool,
}

/// What arrives from the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusEvent {
    /// A message, by way of one subscribed interest.
    Message {
        /// The interest that brought it.
        via: Interest,
        /// The message.
        message: Message,
    },
    /// Messages may have been lost.
    Gap {
        /// Where; `None` means any subscribed channel.
        interest: Option<Interest>,
        /// Why.
        reason: GapReason,
    },
}

/// Why messages may have been lost on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The connection to the bus broke and was made anew.
    Reconnected,
    /// The gateway could not take messages from the bus as fast as they came.
    Overrun,
    /// A message on the bus was not of a form that can be delivered.
    Malformed,
    /// Messages left the log before they could be read, or the log itself has lost some.
    Lost,
}

impl GapReason {
    /// All reasons, for documentation and metrics.
    pub const ALL: [Self; 4] = [Self::Reconnected, Self::Overrun, Self::Malformed, Self::Lost];

    /// The reason as it stands on the wire and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reconnected => "bus_reconnected",
            Self::Overrun => "bus_overrun",
            Self::Malformed => "malformed",
            Self::Lost => "lost",
        }
    }
}

/// Why a publish was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Not done; the bus is away. Retry later.
    #[error("the bus is not in reach; nothing was published")]
    Unavailable,
    /// Not done; too many publishes are under way. Retry later.
    #[error("too many publishes are under way; nothing was published")]
    Overloaded,
    /// Not done, and never will be: larger than the bus takes.
    #[error("the message is larger than the bus takes")]
    TooLarge,
    /// Not done; the log has no room. Retry later.
    #[error("the log has no room; nothing was published")]
    Full,
    /// Perhaps done: the bus went away before it confirmed. Retry with the same id.
    #[error(
        "the bus went away before it confirmed: the message may or may not have been published"
    )]
    Unknown,
}

/// Why the bus did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The bus is away.
    #[error("the bus is not in reach")]
    Unavailable,
    /// The bus did not confirm in time.
    #[error("the bus did not confirm in time")]
    Timeout,
    /// What was to be sent is larger than the bus takes; nothing was done.
    #[error("it is larger than the bus takes")]
    TooLarge,
}

/// A client's command that becomes a request to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRequest {
    /// The service's address: a channel name in a namespace that allows requests.
    pub address: ChannelName,
    /// What kind of request it is.
    pub event: Option<EventName>,
    /// The body.
    pub data: Data,
    /// Who asks.
    pub caller: Caller,
    /// How long to wait for the answer.
    pub timeout: Duration,
    /// W3C trace context of the command.
    pub trace: Option<Arc<str>>,
}

/// On whose behalf a request is sent; services trust it, so only the gateway fills it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The connection.
    pub connection: ConnectionId,
    /// Its user.
    pub user: Option<UserId>,
    /// The user's roles.
    pub roles: Vec<Role>,
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nobody listens at the address.
    #[error("no service listens at this address")]
    NoService,
    /// The service did not answer in time; it may or may not have done what was asked.
    #[error("the service did not answer in time")]
    Timeout,
    /// The bus is away.
    #[error("the bus is not in reach")]
    Unavailable,
    /// Not done; the service takes no more requests now. Retry later.
    #[error("the service takes no more requests now; nothing was done")]
    Overloaded,
    /// The way to the service broke before the answer came; it may or may not have done what was
    /// asked.
    #[error("the service's answer was lost: it may or may not have done what was asked")]
    Lost,
    /// The service answered that it refuses, in its own words.
    #[error("{message}")]
    Refused {
        /// The service's error code (`Nats-Service-Error-Code`), where it is given.
        code: Option<u32>,
        /// The service's words (`Nats-Service-Error`).
        message: String,
    },
}

/// The recent messages of the channels whose namespaces have history.
///
/// Laws:
/// - Within an epoch, a later message of a channel has a larger offset.
/// - Messages leave the log oldest first, by age or by number.
/// - Every call ends within the log's deadline.
pub trait Log: Send + Sync + Debug {
    /// Where the channel's log ends, as whoever accepts new messages knows it: everything that was
    /// acknowledged before the call is counted.
    fn top(&self, channel: ChannelName) -> BoxFuture<'static, Result<Top, LogError>>;

    /// Where the logs of several channels of one namespace end, in their order; perhaps as it was a
    /// moment ago.
    fn tops(&self, channels: Vec<ChannelName>) -> BoxFuture<'static, Result<Vec<Top>, LogError>>;

    /// A channel's messages, oldest first.
    fn read(
        &self,
        channel: ChannelName,
        slice: Slice,
    ) -> BoxFuture<'static, Result<Vec<Message>, LogError>>;

    /// The channels of a namespace that have messages, as whoever accepts new messages knows them.
    fn channels(&self, namespace: Namespace) -> BoxFuture<'static, Result<Listing, LogError>>;

    /// The newest message of each of these channels of one namespace, where it has one, in no
    /// order: as it was at some moment when the log had reached `until`.
    fn newest(
        &self,
        channels: Vec<ChannelName>,
        until: Offset,
    ) -> BoxFuture<'static, Result<Vec<Message>, LogError>>;
}

/// Why the log did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The channel's namespace has no history.
    #[error("the namespace has no history")]
    NoHistory,
    /// The log is away, or did not answer in time.
    #[error("the log is not in reach")]
    Unavailable,
}

/// Which of a user's stored messages no connection has acknowledged yet. The log has the messages
/// themselves: a queue only knows their offsets, and what became of those it knows no more.
///
/// Laws:
/// - Every message is pending until it is acknowledged, evicted or expired, and counted as one of
///   these exactly once.
/// - Every call may be repeated: repeating changes nothing, and counts nothing again.
/// - Acknowledgements are cumulative: of an offset, and of all before it. While messages of
///   another epoch are pending, one says nothing.
/// - A message of another epoch than the pending ones evicts these: their log is lost.
/// - Of more pending messages than the queue's size, the oldest are evicted.
/// - Every call ends within the store's deadline; with the store away, with [`StoreError`].
pub trait OfflineQueue: Send + Sync + Debug {
    /// Notes messages that were stored, in any order. What was acknowledged, evicted or expired
    /// before stays so.
    fn enqueue(&self, messages: Vec<Queued>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// What a user has to be given who connects.
    fn backlog(&self, user: UserId) -> BoxFuture<'_, Result<Backlog, StoreError>>;

    /// Notes acknowledgements, of an epoch's log up to an offset.
    fn acknowledge(
        &self,
        acknowledged: Vec<(UserId, Epoch, Offset)>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Expires what is due, of all users; says how many messages that were.
    fn sweep(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// The offsets of a user's pending messages, oldest first, `limit` of them at most.
    fn pending(
        &self,
        user: UserId,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Epoch, Offset)>, StoreError>>;

    /// Evicts all of a user's pending messages; says how many that were.
    fn purge(&self, user: UserId) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// How many messages of all users are pending, and what became of the others.
    fn figures(&self) -> BoxFuture<'_, Result<QueueFigures, StoreError>>;
}

/// A message for an [`OfflineQueue`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Whose.
    pub user: UserId,
    /// The log it is stored in.
    pub epoch: Epoch,
    /// Its number there.
    pub offset: Offset,
    /// When it expires.
    pub expires: Timestamp,
}

/// Where a user's [`OfflineQueue`] begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// All that the log has behind this, and that has not expired, is pending, or will be once the
    /// queue knows of it; `None`: all that it has.
    pub after: Option<(Epoch, Offset)>,
    /// Messages that were evicted since the user last acknowledged one.
    pub evicted: u64,
    /// Messages that expired since then.
    pub expired: u64,
}

/// An [`OfflineQueue`] in figures, since it exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// Waiting for an acknowledgement.
    pub pending: u64,
    /// Acknowledged.
    pub delivered: u64,
    /// Evicted, because there were too many.
    pub evicted: u64,
    /// Expired unacknowledged.
    pub expired: u64,
}

/// Who is connected where, across all gateways.
///
/// Laws:
/// - Every write may be repeated: repeating changes nothing.
/// - What a gateway wrote is listed only while its lease lives.
/// - Every call ends within the store's deadline; with the store away, with [`StoreError`].
pub trait Presence: Send + Sync + Debug {
    /// Says that a gateway lives, for [`Lease::ttl`] from now, with its figures. Says whether the
    /// store is sure to have what was noted of the gateway before; not if its lease has not lived
    /// until now, for then it may have been swept, nor if the store was reached anew, for then it
    /// may be one that lags behind. The caller then tells everything anew.
    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Notes connections that came or went, in order.
    fn apply(
        &self,
        node: NodeId,
        changes: Vec<PresenceChange>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Replaces all that is noted of a gateway, after the store was away.
    fn replace(
        &self,
        node: NodeId,
        connections: Vec<Arc<ConnectionInfo>>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Removes a gateway that stops, and all that is noted of it.
    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The gateways with a living lease.
    fn gateways(&self) -> BoxFuture<'_, Result<Vec<Lease>, StoreError>>;

    /// One connection, if it is noted and its gateway's lease lives.
    fn connection(
        &self,
        id: ConnectionId,
    ) -> BoxFuture<'_, Result<Option<ConnectionInfo>, StoreError>>;

    /// A user's connections.
    fn connections_of(
        &self,
        user: UserId,
    ) -> BoxFuture<'_, Result<Vec<ConnectionInfo>, StoreError>>;

    /// All connections, at most about `limit` of them, and where to go on; `None` starts.
    fn connections(
        &self,
        cursor: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ConnectionPage, StoreError>>;

    /// Removes what gateways without a lease left behind; says how many connections that were.
    fn sweep(&self) -> BoxFuture<'_, Result<u64, StoreError>>;
}

/// A gateway's sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The gateway.
    pub node: NodeId,
    /// How long it counts as alive without a further sign.
    pub ttl: Duration,
    /// When the process started.
    pub started: Timestamp,
    /// Its version.
    pub version: String,
    /// Open connections.
    pub connections: u64,
    /// Users with one of them.
    pub users: u64,
    /// Channels with a subscriber.
    pub channels: u64,
    /// Subscriptions of its connections.
    pub subscriptions: u64,
    /// Whether it reaches the bus (the canary's last verdict).
    pub bus_ok: bool,
}

/// A connection came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresenceChange {
    /// It came.
    Connected(Arc<ConnectionInfo>),
    /// It went.
    Disconnected {
        /// The connection.
        connection: ConnectionId,
        /// Its user.
        user: Option<UserId>,
    },
}

/// What is known of a connection across the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The connection.
    pub connection: ConnectionId,
    /// Its user.
    pub user: Option<UserId>,
    /// The gateway that holds it.
    pub node: NodeId,
    /// `websocket`, `sse` or `poll`, later others.
    pub transport: Cow<'static, str>,
    /// When it came.
    pub connected_at: Timestamp,
    /// What the client calls itself.
    pub user_agent: Option<Box<str>>,
}

/// Some of the connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionPage {
    /// The connections.
    pub connections: Vec<ConnectionInfo>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

/// Why a store did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store is away or did not answer in time.
    #[error("the store is not in reach")]
    Unavailable,
    /// The store answered with an error.
    #[error("the store refused: {0}")]
    Refused(String),
}

/// What outlives a connection: the answers to requests that may be repeated, and sessions.
///
/// Laws:
/// - For one key, at most one caller is told [`Begun::New`] until it is abandoned or expires.
/// - For one kept session, at most one caller of [`Sessions::take`] is given it, and nothing brings
///   it back for as long as that caller said.
/// - A session is kept only for the connection that has it: for who kept it first, until it was
///   passed to another one; and of its forms, the one with the latest version.
/// - Every call ends within the store's deadline; with the store away, with [`StoreError`].
pub trait Sessions: Send + Sync + Debug {
    /// Claims a key for a request with this fingerprint, for `ttl`.
    fn begin(
        &self,
        key: String,
        fingerprint: u64,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Begun, StoreError>>;

    /// Keeps the answer for repetitions of the request.
    fn finish(
        &self,
        key: String,
        fingerprint: u64,
        answer: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Gives the key back, because the request was not carried out.
    fn abandon(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Keeps sessions for `ttl` from now, those that are kept already in their new form. Says which
    /// of them were taken meanwhile, or passed to others; these are not kept.
    fn keep(
        &self,
        sessions: Vec<KeptSession>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Vec<SessionKey>, StoreError>>;

    /// Takes a session, so that nobody else can. For `remembered` from now, the store remembers
    /// that it was taken.
    fn take(
        &self,
        key: SessionKey,
        remembered: Duration,
    ) -> BoxFuture<'_, Result<Option<KeptSession>, StoreError>>;

    /// Passes a session to another connection, which goes on with it under the same key; says what
    /// was kept. It lasts for `ttl` from now.
    fn pass(
        &self,
        key: SessionKey,
        to: ConnectionId,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Option<KeptSession>, StoreError>>;
}

/// What is known of a request's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Nothing: carry it out.
    New,
    /// It is being carried out.
    Running,
    /// It was carried out, with this answer.
    Done(Bytes),
    /// The key was used for a different request.
    Conflict,
}

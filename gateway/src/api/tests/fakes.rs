//! A bus that records, a store that can go away, and a socket that does nothing.

use std::{
    io::{self, IoSlice},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use broker_core::{
    ChannelName, ConnectionId, Data, Interest, Message, Namespace, NodeId, NodeMark, Offset,
    Position, UserId,
    history::{Slice, Top},
    message::Publisher,
    ports::{
        Accepted, Begun, BoxFuture, Bus, BusError, ConnectionInfo, ConnectionPage, Lease, Log,
        LogError, Presence, PresenceChange, PublishError, RequestError, ServiceRequest, Sessions,
        StoreError,
    },
    resume::{KeptSession, SessionKey},
    retained::Listing,
};
use bytes::Bytes;
use futures_util::{FutureExt as _, future::ready};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{api::peers, hub::Hub, socket::Socket};

/// What is published, and the gateways that answer questions.
#[derive(Debug)]
pub(super) struct TestBus {
    pub(super) published: Mutex<Vec<Message>>,
    /// Publishes take a permit each.
    gate: Arc<Semaphore>,
    gateways: Mutex<Vec<(NodeId, Arc<Hub>)>>,
    away: AtomicBool,
}

impl TestBus {
    pub(super) fn new() -> Self {
        Self {
            published: Mutex::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            gateways: Mutex::default(),
            away: AtomicBool::new(false),
        }
    }

    /// A gateway that answers from now on.
    pub(super) fn enter(&self, node: NodeId, hub: Arc<Hub>) {
        self.gateways.lock().push((node, hub));
    }

    /// Publishes wait from now on until `open`.
    pub(super) fn shut(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(super) fn open(&self) {
        self.gate.add_permits(1_000);
    }

    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    pub(super) fn channels(&self) -> Vec<String> {
        self.published.lock().iter().map(|message| message.channel.to_string()).collect()
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.published.lock().iter().map(|message| message.id.to_string()).collect()
    }
}

impl Bus for TestBus {
    /// A channel's last segment says what becomes of a publish there.
    fn publish(
        &self,
        message: Message,
        _: Publisher,
    ) -> BoxFuture<'static, Result<Accepted, PublishError>> {
        let outcome = match message.channel.segments().last() {
            _ if self.away.load(Ordering::Relaxed) => Err(PublishError::Unavailable),
            Some("overloaded") => Err(PublishError::Overloaded),
            Some("too-large") => Err(PublishError::TooLarge),
            Some("unknown") => Err(PublishError::Unknown),
            _ => Ok(Accepted::default()),
        };
        if matches!(outcome, Ok(_) | Err(PublishError::Unknown)) {
            self.published.lock().push(message);
        }
        let gate = Arc::clone(&self.gate);
        async move {
            gate.acquire().await.unwrap().forget();
            outcome
        }
        .boxed()
    }

    fn subscribe(&self, _: Interest) -> BoxFuture<'static, Result<(), BusError>> {
        ready(Ok(())).boxed()
    }

    fn unsubscribe(&self, _: &Interest) {}

    fn request(&self, _: ServiceRequest) -> BoxFuture<'static, Result<Data, RequestError>> {
        ready(Err(RequestError::NoService)).boxed()
    }

    fn ask_gateways(
        &self,
        question: Bytes,
        expected: usize,
        _: Duration,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, BusError>> {
        if self.away.load(Ordering::Relaxed) {
            return ready(Err(BusError::Unavailable)).boxed();
        }
        let gateways = self.gateways.lock();
        let answers = gateways.iter().map(|(node, hub)| peers::answer(&question, hub, None, node));
        ready(Ok(answers.take(expected).collect())).boxed()
    }

    fn ask_gateway(
        &self,
        node: NodeMark,
        question: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Option<Bytes>, BusError>> {
        if self.away.load(Ordering::Relaxed) {
            return ready(Err(BusError::Unavailable)).boxed();
        }
        let gateways = self.gateways.lock();
        let asked = gateways.iter().find(|(known, _)| known.mark() == node);
        let answer = asked.map(|(node, hub)| peers::answer(&question, hub, None, node));
        ready(Ok(answer)).boxed()
    }

    fn is_connected(&self) -> bool {
        !self.away.load(Ordering::Relaxed)
    }
}

/// The embedded log, which can go away.
#[derive(Debug)]
pub(super) struct TestLog {
    log: Arc<dyn Log>,
    bus: Arc<dyn Bus>,
    away: AtomicBool,
    /// How many messages were read.
    pub(super) read: AtomicUsize,
}

impl TestLog {
    /// `bus` writes to `log`.
    pub(super) fn new(log: Arc<dyn Log>, bus: Arc<dyn Bus>) -> Self {
        Self { log, bus, away: false.into(), read: 0.into() }
    }

    pub(super) fn set_away(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    /// Stores the message, and says where.
    pub(super) async fn store(&self, message: Message) -> Position {
        let publisher = Publisher::Service("test".into());
        self.bus.publish(message, publisher).await.unwrap().position.unwrap()
    }

    fn reach<T: Send + 'static>(
        &self,
        call: BoxFuture<'static, Result<T, LogError>>,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        if self.away.load(Ordering::Relaxed) {
            return ready(Err(LogError::Unavailable)).boxed();
        }
        call
    }
}

impl Log for TestLog {
    fn top(&self, channel: ChannelName) -> BoxFuture<'static, Result<Top, LogError>> {
        self.reach(self.log.top(channel))
    }

    fn tops(&self, channels: Vec<ChannelName>) -> BoxFuture<'static, Result<Vec<Top>, LogError>> {
        self.reach(self.log.tops(channels))
    }

    fn read(
        &self,
        channel: ChannelName,
        slice: Slice,
    ) -> BoxFuture<'static, Result<Vec<Message>, LogError>> {
        self.read.fetch_add(slice.messages, Ordering::Relaxed);
        self.reach(self.log.read(channel, slice))
    }

    fn channels(&self, namespace: Namespace) -> BoxFuture<'static, Result<Listing, LogError>> {
        self.reach(self.log.channels(namespace))
    }

    fn newest(
        &self,
        channels: Vec<ChannelName>,
        until: Offset,
    ) -> BoxFuture<'static, Result<Vec<Message>, LogError>> {
        self.reach(self.log.newest(channels, until))
    }
}

/// The embedded store, which can go away.
#[derive(Debug)]
pub(super) struct TestStore {
    presence: Arc<dyn Presence>,
    sessions: Arc<dyn Sessions>,
    away: AtomicBool,
}

impl TestStore {
    pub(super) fn new(presence: Arc<dyn Presence>, sessions: Arc<dyn Sessions>) -> Self {
        Self { presence, sessions, away: AtomicBool::new(false) }
    }

    pub(super) fn set_away(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    fn reach<'a, T: Send + 'a>(
        &self,
        call: BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        if self.away.load(Ordering::Relaxed) {
            return ready(Err(StoreError::Unavailable)).boxed();
        }
        call
    }
}

impl Presence for TestStore {
    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.reach(self.presence.renew(lease))
    }

    fn apply(
        &self,
        node: NodeId,
        changes: Vec<PresenceChange>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.reach(self.presence.apply(node, changes))
    }

    fn replace(
        &self,
        node: NodeId,
        connections: Vec<Arc<ConnectionInfo>>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.reach(self.presence.replace(node, connections))
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.reach(self.presence.retire(node))
    }

    fn gateways(&self) -> BoxFuture<'_, Result<Vec<Lease>, StoreError>> {
        self.reach(self.presence.gateways())
    }

    fn connection(
        &self,
        id: ConnectionId,
    ) -> BoxFuture<'_, Result<Option<ConnectionInfo>, StoreError>> {
        self.reach(self.presence.connection(id))
    }

    fn connections_of(
        &self,
        user: UserId,
    ) -> BoxFuture<'_, Result<Vec<ConnectionInfo>, StoreError>> {
        self.reach(self.presence.connections_of(user))
    }

    fn connections(
        &self,
        cursor: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ConnectionPage, StoreError>> {
        self.reach(self.presence.connections(cursor, limit))
    }

    fn sweep(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.reach(self.presence.sweep())
    }
}

impl Sessions for TestStore {
    fn begin(
        &self,
        key: String,
        fingerprint: u64,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Begun, StoreError>> {
        self.reach(self.sessions.begin(key, fingerprint, ttl))
    }

    fn finish(
        &self,
        key: String,
        fingerprint: u64,
        answer: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.reach(self.sessions.finish(key, fingerprint, answer, ttl))
    }

    fn abandon(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        self.reach(self.sessions.abandon(key))
    }

    fn keep(
        &self,
        sessions: Vec<KeptSession>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Vec<SessionKey>, StoreError>> {
        self.reach(self.sessions.keep(sessions, ttl))
    }

    fn take(
        &self,
        key: SessionKey,
        remembered: Duration,
    ) -> BoxFuture<'_, Result<Option<KeptSession>, StoreError>> {
        self.reach(self.sessions.take(key, remembered))
    }

    fn pass(
        &self,
        key: SessionKey,
        to: ConnectionId,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Option<KeptSession>, StoreError>> {
        self.reach(self.sessions.pass(key, to, ttl))
    }
}

/// Nobody reads it, and nothing is written to it.
#[derive(Debug)]
pub(super) struct NoSocket;

impl Socket for NoSocket {
    fn try_write_vectored(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn try_read(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn finish(&self) {}
}

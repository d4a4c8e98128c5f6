//! What this gateway holds: its connections, what they are subscribed to, and what it therefore
//! asks of the bus.

mod behind;
pub(crate) mod feeds;
mod figures;
mod interests;
pub(crate) mod retained;

use std::{sync::Arc, time::Duration};

use broker_core::{
    CloseCode, ConnectionId, Interest, UserId,
    feed::Wanted,
    id::ConnectionIdHasher,
    name::ChannelName,
    ports::{BoxFuture, Bus, BusError},
    session::Since,
    subscribers::Subscribers,
};
use futures_util::FutureExt as _;
use tokio::time::Instant;

use crate::{outbox::Outbox, register::Register};
use feeds::{ChannelFeed, Feeds};
pub(crate) use figures::Figures;
use interests::Interests;
use retained::{Retained, Watched};

/// Namespace of the channels that gateways test their own delivery on.
pub(crate) const CANARY_NAMESPACE: &str = "fanfare-canary";

/// The gateway's connections and subscriptions.
#[derive(Debug)]
pub(crate) struct Hub {
    subscribers: Subscribers<Subscriber>,
    connections: Connections,
    interests: Interests,
    /// `None` where no namespace has history.
    feeds: Option<Arc<Feeds>>,
    register: Option<Register>,
    retained: Retained,
}

fn wanted(since: Option<&Since>) -> Wanted<'_> {
    since.map_or(Wanted::Nothing, Wanted::Since)
}

/// One connection's share in an interest.
#[derive(Debug, Clone)]
pub(crate) struct Subscriber {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) since: Instant,
}

type Connections = dashmap::DashMap<ConnectionId, Arc<Outbox>, ConnectionIdHasher>;

impl Hub {
    /// `linger`: how long the bus is still asked for what nobody here wants any more.
    pub(crate) fn new(bus: Arc<dyn Bus>, linger: Duration) -> Self {
        Self {
            subscribers: Subscribers::default(),
            connections: Connections::default(),
            interests: Interests::new(bus, linger),
            feeds: None,
            register: None,
            retained: Retained::default(),
        }
    }

    pub(crate) fn with_feeds(self, feeds: Arc<Feeds>) -> Self {
        Self { feeds: Some(feeds), ..self }
    }

    pub(crate) fn feeds(&self) -> Option<&Arc<Feeds>> {
        self.feeds.as_ref()
    }

    /// The feed of what matches, while it is open; there is none without history.
    pub(crate) fn feed(&self, interest: &Interest) -> Option<Arc<ChannelFeed>> {
        match interest {
            Interest::Channel(channel) => self.feeds.as_ref()?.get(channel),
            Interest::Pattern(_) => None,
        }
    }

    /// Has it noted who comes to a channel with presence, and who leaves.
    pub(crate) fn with_register(self, register: Option<Register>) -> Self {
        Self { register, ..self }
    }

    /// Has patterns of these namespaces served from what is known of all their channels.
    pub(crate) fn with_retained(self, retained: Retained) -> Self {
        Self { retained, ..self }
    }

    pub(crate) fn retained(&self) -> &Retained {
        &self.retained
    }

    /// What serves the namespace's patterns, where it is retained.
    pub(crate) fn watched(&self, namespace: &str) -> Option<&Arc<Watched>> {
        self.retained.of(namespace)
    }

    /// The same, of the one interest that it hangs on.
    pub(crate) fn watched_by(&self, interest: &Interest) -> Option<&Arc<Watched>> {
        self.watched(interest.namespace()).filter(|watched| watched.all == *interest)
    }

    /// What the bus is asked for.
    fn on_bus<'a>(&'a self, interest: &'a Interest) -> &'a Interest {
        match (interest, self.watched(interest.namespace())) {
            (Interest::Pattern(_), Some(watched)) => &watched.all,
            _ => interest,
        }
    }

    /// Asks the bus for what matches, for the gateway itself. Every call is paired with one of
    /// [`Hub::let_go`], whatever came of it.
    pub(crate) fn hold(&self, interest: &Interest) -> BoxFuture<'static, Result<(), BusError>> {
        self.interests.acquire(interest)
    }

    pub(crate) fn let_go(&self, interest: &Interest) {
        self.interests.release(interest);
    }

    pub(crate) fn register(&self) -> Option<&Register> {
        self.register.as_ref()
    }

    pub(crate) fn add(&self, outbox: &Arc<Outbox>) {
        self.connections.insert(outbox.id(), Arc::clone(outbox));
    }

    pub(crate) fn remove(&self, connection: ConnectionId) {
        self.connections.remove(&connection);
    }

    /// Asks the bus for what matches, and has at hand what is wanted of the past. Every call is
    /// paired with one of [`Hub::leave`], whatever came of it.
    pub(crate) fn join(
        &self,
        interest: &Interest,
        since: Option<Box<Since>>,
    ) -> BoxFuture<'static, Result<(), BusError>> {
        let joined = self.interests.acquire(self.on_bus(interest));
        match (&self.feeds, interest) {
            (Some(feeds), Interest::Channel(channel)) if feeds.keeps(channel) => {
                let (feeds, channel) = (Arc::clone(feeds), channel.clone());
                async move {
                    joined.await?;
                    let prepared = feeds.prepare(&channel, wanted(since.as_deref())).await;
                    prepared.map_err(|_| BusError::Unavailable)
                }
                .boxed()
            }
            (_, Interest::Pattern(pattern)) => match self.watched(pattern.namespace()) {
                Some(watched) => {
                    let watched = Arc::clone(watched);
                    async move {
                        joined.await?;
                        let snapshot = since.is_some_and(|since| since.is_snapshot());
                        watched.ready(snapshot).await.map_err(|_| BusError::Unavailable)
                    }
                    .boxed()
                }
                None => joined,
            },
            _ => joined,
        }
    }

    /// From now on the connection gets what matches.
    pub(crate) fn deliver(&self, interest: Interest, outbox: Arc<Outbox>) {
        let noted = self.register.as_ref().map(|it| (it, interest.clone(), Arc::clone(&outbox)));
        let subscriber = Subscriber { since: Instant::now(), outbox };
        self.subscribers.insert(interest, subscriber.outbox.id(), subscriber);
        if let Some((register, interest, outbox)) = noted {
            register.came(&interest, outbox.info());
        }
    }

    /// From now on it does not.
    pub(crate) fn leave(&self, interest: &Interest, connection: ConnectionId) {
        self.subscribers.remove(interest, connection);
        self.interests.release(self.on_bus(interest));
        if let Some(register) = &self.register {
            let outbox = self.connection(connection);
            register.left(interest, outbox.as_ref().and_then(|outbox| outbox.info()));
        }
    }

    /// The bus may bring this no longer: whoever joins next asks it again.
    pub(crate) fn doubt(&self, interest: &Interest) {
        self.interests.doubt(interest);
    }

    /// Messages may have been missed. Says whether that will be made good from a log.
    pub(crate) fn recover(&self, interest: &Interest) -> bool {
        let Some(feed) = self.feed(interest) else { return false };
        if let Some(feeds) = &self.feeds {
            feeds.check(&feed);
        }
        true
    }

    /// What connections are subscribed to, with how many of them; without the gateway's own canary.
    pub(crate) fn subscriptions(&self) -> Vec<(Interest, usize)> {
        let mut all = self.subscribers.interests();
        all.retain(|(interest, _)| interest.namespace() != CANARY_NAMESPACE);
        all
    }

    pub(crate) fn subscribers(&self) -> &Subscribers<Subscriber> {
        &self.subscribers
    }

    /// Lets the bus go where nobody wanted anything for a while. Runs until dropped.
    pub(crate) async fn tidy(&self) {
        self.interests
            .tidy(|interest| {
                if let (Some(feeds), Interest::Channel(channel)) = (&self.feeds, interest) {
                    feeds.close(channel);
                }
            })
            .await;
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Interests that the bus is asked for, lingering ones included.
    pub(crate) fn interest_count(&self) -> usize {
        self.interests.len()
    }

    pub(crate) fn for_each_connection(&self, mut visit: impl FnMut(&Arc<Outbox>)) {
        for entry in &self.connections {
            visit(entry.value());
        }
    }

    pub(crate) fn connection(&self, id: ConnectionId) -> Option<Arc<Outbox>> {
        self.connections.get(&id).map(|entry| Arc::clone(entry.value()))
    }

    /// Ends one connection; says whether it was here.
    pub(crate) fn close(&self, connection: ConnectionId, code: CloseCode) -> bool {
        self.disconnect(connection, code, None)
    }

    /// The same, for a reason that its client is told.
    pub(crate) fn disconnect(
        &self,
        connection: ConnectionId,
        code: CloseCode,
        reason: Option<&str>,
    ) -> bool {
        let outbox = self.connection(connection);
        if let Some(outbox) = &outbox {
            outbox.disconnect(code, reason);
        }
        outbox.is_some()
    }

    /// Ends all connections of a user; says how many were here.
    pub(crate) fn disconnect_user(
        &self,
        user: &UserId,
        code: CloseCode,
        reason: Option<&str>,
    ) -> usize {
        let own = Interest::Channel(ChannelName::of_user(user));
        let mut count = 0;
        self.subscribers.for_each(&own, |_, subscriber| {
            subscriber.outbox.disconnect(code, reason);
            count += 1;
        });
        count
    }
}

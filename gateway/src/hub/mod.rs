//! What this gateway holds: its connections, what they are subscribed to, and what it therefore
//! asks of the bus.

mod interests;

use std::{sync::Arc, time::Duration};

use broker_core::{
    CloseCode, ConnectionId, Interest, UserId,
    id::ConnectionIdHasher,
    name::ChannelName,
    ports::{BoxFuture, Bus, BusError},
    subscribers::Subscribers,
};
use tokio::time::Instant;

use crate::outbox::Outbox;
use interests::Interests;

/// Namespace of the channels that gateways test their own delivery on.
pub(crate) const CANARY_NAMESPACE: &str = "fanfare-canary";

/// The gateway's connections and subscriptions.
#[derive(Debug)]
pub(crate) struct Hub {
    subscribers: Subscribers<Subscriber>,
    connections: Connections,
    interests: Interests,
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
        }
    }

    pub(crate) fn add(&self, outbox: &Arc<Outbox>) {
        self.connections.insert(outbox.id(), Arc::clone(outbox));
    }

    pub(crate) fn remove(&self, connection: ConnectionId) {
        self.connections.remove(&connection);
    }

    /// Asks the bus for what matches. Every call is paired with one of [`Hub::leave`], whatever
    /// came of it.
    pub(crate) fn join(&self, interest: &Interest) -> BoxFuture<'static, Result<(), BusError>> {
        self.interests.acquire(interest)
    }

    /// From now on the connection gets what matches.
    pub(crate) fn deliver(&self, interest: Interest, outbox: Arc<Outbox>) {
        let subscriber = Subscriber { since: Instant::now(), outbox };
        self.subscribers.insert(interest, subscriber.outbox.id(), subscriber);
    }

    /// From now on it does not.
    pub(crate) fn leave(&self, interest: &Interest, connection: ConnectionId) {
        self.subscribers.remove(interest, connection);
        self.interests.release(interest);
    }

    /// The bus may bring this no longer: whoever joins next asks it again.
    pub(crate) fn doubt(&self, interest: &Interest) {
        self.interests.doubt(interest);
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
        self.interests.tidy().await;
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
        let outbox = self.connection(connection);
        if let Some(outbox) = &outbox {
            outbox.tell(|notices| notices.close = Some(code));
        }
        outbox.is_some()
    }

    /// Ends all connections of a user; says how many were here.
    pub(crate) fn close_user(&self, user: &UserId, code: CloseCode) -> usize {
        let own = Interest::Channel(ChannelName::of_user(user));
        let mut count = 0;
        self.subscribers.for_each(&own, |_, subscriber| {
            subscriber.outbox.tell(|notices| notices.close = Some(code));
            count += 1;
        });
        count
    }
}

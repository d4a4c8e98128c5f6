//! Keeps the cluster's directory of connections up to date.
//!
//! Connections only note that they came or went; one task writes. Where the store is away, or the
//! notes come faster than it takes them, nothing waits: the directory is told anew, in whole, once
//! the store is back. Delivery never depends on it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use broker_core::{
    ConnectionId, NodeId, Timestamp, UserId,
    ports::{ConnectionInfo, Lease, Presence, PresenceChange, StoreError},
};
use tokio::{
    sync::mpsc,
    time::{self, MissedTickBehavior},
};

use crate::{
    canary::Verdict,
    clock,
    hub::{Figures, Hub},
    telemetry::Metrics,
};

/// Notes that wait to be written.
const CAPACITY: usize = 16 * 1024;
/// Notes written at once.
const BATCH: usize = 512;

/// Where connections note that they came and went.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    changes: mpsc::Sender<PresenceChange>,
    /// Set when notes were lost; the writer then tells everything anew.
    stale: Arc<AtomicBool>,
    node: NodeId,
}

/// The task that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    changes: mpsc::Receiver<PresenceChange>,
    stale: Arc<AtomicBool>,
    presence: Arc<dyn Presence>,
    hub: Arc<Hub>,
    verdict: Arc<Verdict>,
    metrics: Arc<Metrics>,
    node: NodeId,
    started: Timestamp,
    /// Whether it ever had the lease.
    renewed: bool,
}

/// How long a gateway counts as alive, and how often it says that it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseTimes {
    pub(crate) ttl: Duration,
    pub(crate) renew: Duration,
}

pub(crate) fn start(
    presence: Arc<dyn Presence>,
    hub: Arc<Hub>,
    verdict: Arc<Verdict>,
    metrics: Arc<Metrics>,
    node: NodeId,
) -> (Directory, Writer) {
    let (sender, changes) = mpsc::channel(CAPACITY);
    let stale = Arc::new(AtomicBool::new(false));
    let directory = Directory { changes: sender, stale: Arc::clone(&stale), node: node.clone() };
    let started = clock::wall();
    let writer =
        Writer { changes, stale, presence, hub, verdict, metrics, node, started, renewed: false };
    (directory, writer)
}

impl Directory {
    /// What the directory will say of a connection that has just been opened.
    pub(crate) fn describe(
        &self,
        connection: ConnectionId,
        user: Option<UserId>,
        agent: Option<Box<str>>,
        transport: &'static str,
    ) -> Arc<ConnectionInfo> {
        Arc::new(ConnectionInfo {
            connection,
            user,
            node: self.node.clone(),
            transport: transport.into(),
            connected_at: clock::wall(),
            user_agent: agent,
        })
    }

    pub(crate) fn connected(&self, info: Arc<ConnectionInfo>) {
        self.note(PresenceChange::Connected(info));
    }

    pub(crate) fn disconnected(&self, connection: ConnectionId, user: Option<UserId>) {
        self.note(PresenceChange::Disconnected { connection, user });
    }

    fn note(&self, change: PresenceChange) {
        if self.changes.try_send(change).is_err() {
            self.stale.store(true, Ordering::Release);
        }
    }
}

impl Writer {
    /// Writes notes and renews the lease until dropped.
    pub(crate) async fn run(mut self, times: LeaseTimes) {
        let mut renewals = time::interval(times.renew);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                _ = renewals.tick() => self.renew(times.ttl).await,
                count = self.changes.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.write(std::mem::take(&mut batch)).await;
                }
            }
        }
    }

    async fn write(&self, batch: Vec<PresenceChange>) {
        if self.stale.load(Ordering::Acquire) {
            return;
        }
        let outcome = self.presence.apply(self.node.clone(), batch).await;
        self.note_outcome(&outcome);
    }

    async fn renew(&mut self, ttl: Duration) {
        let Figures { connections, users, channels, subscriptions } = self.hub.figures();
        let lease = Lease {
            node: self.node.clone(),
            ttl,
            started: self.started,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            connections,
            users,
            channels,
            subscriptions,
            bus_ok: self.verdict.is_delivering(),
        };
        let lived = self.presence.renew(lease).await;
        if self.note_outcome(&lived.clone().map(drop)) {
            // Without a lease it may have been swept; or the store has forgotten everything.
            if std::mem::replace(&mut self.renewed, true) && lived == Ok(false) {
                self.stale.store(true, Ordering::Release);
                if let Some(register) = self.hub.register() {
                    register.doubt().raise();
                }
            }
            self.tell_anew().await;
            if let Err(error) = self.presence.sweep().await {
                tracing::debug!(%error, "dead gateways could not be swept");
            }
        }
    }

    /// After notes were lost, the whole truth.
    async fn tell_anew(&mut self) {
        if !self.stale.swap(false, Ordering::AcqRel) {
            return;
        }
        // Notes that wait are older than what the hub says; written after it, a note of one who
        // came would bring back one whose going was the note that got lost.
        while self.changes.try_recv().is_ok() {}
        let mut connections = Vec::new();
        self.hub.for_each_connection(|outbox| connections.extend(outbox.info().cloned()));
        tracing::info!(
            connections = connections.len(),
            "the directory is told anew what this gateway holds"
        );
        let outcome = self.presence.replace(self.node.clone(), connections).await;
        self.note_outcome(&outcome);
    }

    fn note_outcome(&self, outcome: &Result<(), StoreError>) -> bool {
        self.metrics.store_up(outcome.is_ok());
        if let Err(error) = outcome {
            if !self.stale.swap(true, Ordering::AcqRel) {
                tracing::warn!(%error, "the directory of connections is not up to date");
            }
            self.metrics.store_error();
        }
        outcome.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use broker_backends::EmbeddedOptions;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_came_and_went_while_notes_were_lost_does_not_come_back() {
        let backends = broker_backends::embedded(&EmbeddedOptions::default()).await;
        let hub = Arc::new(Hub::new(backends.bus, Duration::ZERO));
        let metrics = Arc::new(Metrics::new([]).unwrap());
        let node: NodeId = "a".parse().unwrap();
        let (directory, mut writer) =
            start(Arc::clone(&backends.presence), hub, Arc::default(), metrics, node);
        let ids = || (0..CAPACITY as u128).map(ConnectionId);
        ids().for_each(|id| directory.connected(directory.describe(id, None, None, "websocket")));
        ids().for_each(|id| directory.disconnected(id, None));
        writer.renew(Duration::from_secs(15)).await;
        let mut late = Vec::new();
        while let Ok(change) = writer.changes.try_recv() {
            late.push(change);
        }
        writer.write(late).await;
        let page = backends.presence.connections(None, 10).await.unwrap();
        assert_eq!(page.connections, []);
    }
}

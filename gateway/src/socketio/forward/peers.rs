//! Which gateway a session is at, and by which door it takes requests.

use std::{collections::HashMap, sync::Arc, time::Duration};

use broker_core::{
    NodeId,
    ports::{Bus, Presence},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::NotForwarded;
use crate::{
    api::{self, Door},
    socketio::sid::Owner,
};

/// How often the store is asked for gateways, at most. Whoever makes up names of sessions gets no
/// more out of it; a gateway has its lease long before its first client.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long a gateway that did not answer is left in peace.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The gateways with a lease, by what the names of their sessions begin with.
#[derive(Debug)]
pub(super) struct Peers {
    presence: Arc<dyn Presence>,
    bus: Arc<dyn Bus>,
    known: Mutex<HashMap<Owner, Arc<Peer>>>,
    /// When the store was asked last. Whoever holds the lock is asking.
    looked: tokio::sync::Mutex<Option<Instant>>,
}

/// One gateway.
#[derive(Debug)]
pub(super) struct Peer {
    node: NodeId,
    /// Whoever holds the lock is asking.
    door: tokio::sync::Mutex<Asked>,
}

#[derive(Debug)]
enum Asked {
    NotYet,
    Known(Arc<Door>),
    InVain { at: Instant, why: NotForwarded },
}

impl Peers {
    pub(super) fn new(presence: Arc<dyn Presence>, bus: Arc<dyn Bus>) -> Self {
        Self { presence, bus, known: Mutex::default(), looked: tokio::sync::Mutex::default() }
    }

    /// The gateway whose sessions' names begin so.
    ///
    /// # Errors
    /// None has a lease, or it cannot be asked for its door.
    pub(super) async fn find(&self, owner: Owner) -> Result<(Arc<Peer>, Arc<Door>), NotForwarded> {
        let mut peer = self.known(owner);
        if peer.is_none() {
            self.look().await;
            peer = self.known(owner);
        }
        let peer = peer.ok_or(NotForwarded::Unknown)?;
        let door = peer.door(&*self.bus).await?;
        Ok((peer, door))
    }

    fn known(&self, owner: Owner) -> Option<Arc<Peer>> {
        self.known.lock().get(&owner).cloned()
    }

    /// Asks the store, unless it was asked just now.
    async fn look(&self) {
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return;
        }
        let leases = self.presence.gateways().await;
        *looked = Some(Instant::now());
        match leases {
            Ok(leases) => self.keep(leases.into_iter().map(|lease| lease.node)),
            Err(error) => tracing::debug!(%error, "it is not known which gateways there are"),
        }
    }

    /// Forgets those without a lease.
    fn keep(&self, nodes: impl Iterator<Item = NodeId>) {
        let mut known = self.known.lock();
        let mut before = std::mem::take(&mut *known);
        *known = nodes
            .map(|node| {
                let owner = Owner::of(&node);
                let same = before.remove(&owner).filter(|peer| peer.node == node);
                let new = || Arc::new(Peer { node, door: tokio::sync::Mutex::new(Asked::NotYet) });
                (owner, same.unwrap_or_else(new))
            })
            .collect();
    }
}

impl Peer {
    pub(super) fn node(&self) -> &NodeId {
        &self.node
    }

    async fn door(&self, bus: &dyn Bus) -> Result<Arc<Door>, NotForwarded> {
        let mut asked = self.door.lock().await;
        match &*asked {
            Asked::Known(door) => return Ok(Arc::clone(door)),
            Asked::InVain { at, why } if at.elapsed() < ASK_AGAIN => return Err(*why),
            Asked::NotYet | Asked::InVain { .. } => {}
        }
        let why = match api::ask_for_door(bus, self.node.clone()).await {
            Ok(Some(door)) => {
                let door = Arc::new(door);
                *asked = Asked::Known(Arc::clone(&door));
                return Ok(door);
            }
            // Its lease outlives it.
            Ok(None) => NotForwarded::Unknown,
            Err(error) => {
                tracing::debug!(node = %self.node, %error, "a gateway was not asked for its door");
                NotForwarded::Unreachable
            }
        };
        *asked = Asked::InVain { at: Instant::now(), why };
        Err(why)
    }

    /// Nobody was at the door, or not this gateway: it is asked anew, by the bus, which also knows
    /// of a gateway that is gone.
    pub(super) async fn was_not_at(&self, door: &Arc<Door>) {
        let mut asked = self.door.lock().await;
        if matches!(&*asked, Asked::Known(known) if Arc::ptr_eq(known, door)) {
            *asked = Asked::NotYet;
        }
    }
}

#[cfg(test)]
mod tests;

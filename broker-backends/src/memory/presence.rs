use std::{
    collections::{BTreeMap, BTreeSet},
    future::ready,
    ops::Bound,
    sync::Arc,
};

use broker_core::{
    ConnectionId, NodeId, UserId,
    ports::{
        BoxFuture, ConnectionInfo, ConnectionPage, Lease, Presence, PresenceChange, StoreError,
    },
};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Presence within one process.
#[derive(Debug, Default)]
pub(crate) struct MemoryPresence {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    leases: BTreeMap<NodeId, (Lease, Instant)>,
    /// Shared with the connections themselves: there may be hundreds of thousands.
    connections: BTreeMap<ConnectionId, Arc<ConnectionInfo>>,
    users: BTreeSet<(UserId, ConnectionId)>,
}

impl State {
    fn lives(&self, node: &NodeId) -> bool {
        self.leases.get(node).is_some_and(|(_, end)| *end > Instant::now())
    }

    fn add(&mut self, info: Arc<ConnectionInfo>) {
        self.remove(info.connection);
        if let Some(user) = &info.user {
            self.users.insert((user.clone(), info.connection));
        }
        self.connections.insert(info.connection, info);
    }

    fn remove(&mut self, id: ConnectionId) {
        let Some(info) = self.connections.remove(&id) else { return };
        if let Some(user) = &info.user {
            self.users.remove(&(user.clone(), id));
        }
    }

    /// Removes all connections of the gateways for which `dead` says so.
    fn clear(&mut self, dead: impl Fn(&NodeId) -> bool) -> u64 {
        let gone = self.connections.values().filter(|info| dead(&info.node));
        let gone: Vec<_> = gone.map(|info| info.connection).collect();
        for id in &gone {
            self.remove(*id);
        }
        gone.len() as u64
    }

    fn living(&self, id: ConnectionId) -> Option<ConnectionInfo> {
        let info = self.connections.get(&id).filter(|info| self.lives(&info.node))?;
        Some(info.as_ref().clone())
    }

    fn page(&self, cursor: Option<&str>, limit: usize) -> Result<ConnectionPage, StoreError> {
        let start = match cursor {
            None => Bound::Unbounded,
            Some(text) => Bound::Excluded(
                text.parse::<ConnectionId>()
                    .map_err(|_| StoreError::Refused("the cursor is not of its form".into()))?,
            ),
        };
        let mut living = self
            .connections
            .range((start, Bound::Unbounded))
            .filter(|(_, info)| self.lives(&info.node));
        let connections: Vec<_> =
            living.by_ref().take(limit.max(1)).map(|(_, info)| info.as_ref().clone()).collect();
        let more = living.next().is_some();
        let next = connections.last().filter(|_| more).map(|info| info.connection.to_string());
        Ok(ConnectionPage { connections, next })
    }
}

impl MemoryPresence {
    /// Whether a gateway has a lease.
    pub(super) fn lives(&self, node: &NodeId) -> bool {
        self.state.lock().lives(node)
    }

    fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut State) -> T,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        Box::pin(ready(Ok(act(&mut self.state.lock()))))
    }
}

impl Presence for MemoryPresence {
    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.with(|state| {
            let end = Instant::now() + lease.ttl;
            let lived = state.lives(&lease.node);
            state.leases.insert(lease.node.clone(), (lease, end));
            lived
        })
    }

    fn apply(
        &self,
        _: NodeId,
        changes: Vec<PresenceChange>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|state| {
            for change in changes {
                match change {
                    PresenceChange::Connected(info) => state.add(info),
                    PresenceChange::Disconnected { connection, .. } => state.remove(connection),
                }
            }
        })
    }

    fn replace(
        &self,
        node: NodeId,
        connections: Vec<Arc<ConnectionInfo>>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|state| {
            state.clear(|at| *at == node);
            for info in connections {
                state.add(info);
            }
        })
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|state| {
            state.clear(|at| *at == node);
            state.leases.remove(&node);
        })
    }

    fn gateways(&self) -> BoxFuture<'_, Result<Vec<Lease>, StoreError>> {
        self.with(|state| {
            let now = Instant::now();
            let living = state.leases.values().filter(|(_, end)| *end > now);
            living.map(|(lease, _)| lease.clone()).collect()
        })
    }

    fn connection(
        &self,
        id: ConnectionId,
    ) -> BoxFuture<'_, Result<Option<ConnectionInfo>, StoreError>> {
        self.with(|state| state.living(id))
    }

    fn connections_of(
        &self,
        user: UserId,
    ) -> BoxFuture<'_, Result<Vec<ConnectionInfo>, StoreError>> {
        self.with(|state| {
            let first = (user.clone(), ConnectionId(0));
            let own = state.users.range(first..).take_while(|(of, _)| *of == user);
            own.filter_map(|(_, id)| state.living(*id)).collect()
        })
    }

    fn connections(
        &self,
        cursor: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ConnectionPage, StoreError>> {
        let page = self.state.lock().page(cursor.as_deref(), limit);
        Box::pin(ready(page))
    }

    fn sweep(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.with(|state| {
            let now = Instant::now();
            state.leases.retain(|_, (_, end)| *end > now);
            let living: BTreeSet<NodeId> = state.leases.keys().cloned().collect();
            state.clear(|node| !living.contains(node))
        })
    }
}

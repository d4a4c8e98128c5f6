use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::ready,
    ops::Bound,
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
    connections: BTreeMap<(NodeId, ConnectionId), ConnectionInfo>,
    nodes: HashMap<ConnectionId, NodeId>,
    users: HashMap<UserId, HashSet<ConnectionId>>,
}

impl State {
    fn lives(&self, node: &NodeId) -> bool {
        self.leases.get(node).is_some_and(|(_, end)| *end > Instant::now())
    }

    fn add(&mut self, node: &NodeId, info: ConnectionInfo) {
        self.remove(info.connection);
        self.nodes.insert(info.connection, node.clone());
        if let Some(user) = &info.user {
            self.users.entry(user.clone()).or_default().insert(info.connection);
        }
        self.connections.insert((node.clone(), info.connection), info);
    }

    fn remove(&mut self, id: ConnectionId) {
        let Some(node) = self.nodes.remove(&id) else { return };
        let Some(info) = self.connections.remove(&(node, id)) else { return };
        let Some(user) = info.user else { return };
        if let Some(ids) = self.users.get_mut(&user) {
            ids.remove(&id);
            if ids.is_empty() {
                self.users.remove(&user);
            }
        }
    }

    fn ids_at(&self, node: &NodeId) -> Vec<ConnectionId> {
        let first = (node.clone(), ConnectionId(0));
        let here = self.connections.range(first..).take_while(|((at, _), _)| at == node);
        here.map(|((_, id), _)| *id).collect()
    }

    fn clear(&mut self, node: &NodeId) -> u64 {
        let ids = self.ids_at(node);
        for id in &ids {
            self.remove(*id);
        }
        ids.len() as u64
    }

    fn living(&self, id: ConnectionId) -> Option<ConnectionInfo> {
        let node = self.nodes.get(&id).filter(|node| self.lives(node))?;
        self.connections.get(&(node.clone(), id)).cloned()
    }

    fn page(&self, cursor: Option<&str>, limit: usize) -> Result<ConnectionPage, StoreError> {
        let start = match cursor {
            None => Bound::Unbounded,
            Some(text) => Bound::Excluded(parse_cursor(text)?),
        };
        let mut living = self
            .connections
            .range((start, Bound::Unbounded))
            .filter(|((node, _), _)| self.lives(node));
        let connections: Vec<_> =
            living.by_ref().take(limit.max(1)).map(|(_, info)| info.clone()).collect();
        let more = living.next().is_some();
        let last = connections.last().filter(|_| more);
        let next = last.map(|info| format!("{}/{}", info.node, info.connection));
        Ok(ConnectionPage { connections, next })
    }
}

fn parse_cursor(text: &str) -> Result<(NodeId, ConnectionId), StoreError> {
    let wrong = || StoreError::Refused("the cursor is not of its form".into());
    let (node, id) = text.split_once('/').ok_or_else(wrong)?;
    Ok((node.parse().map_err(|_| wrong())?, id.parse().map_err(|_| wrong())?))
}

impl MemoryPresence {
    fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut State) -> T,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        Box::pin(ready(Ok(act(&mut self.state.lock()))))
    }
}

impl Presence for MemoryPresence {
    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|state| {
            let end = Instant::now() + lease.ttl;
            state.leases.insert(lease.node.clone(), (lease, end));
        })
    }

    fn apply(
        &self,
        node: NodeId,
        changes: Vec<PresenceChange>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|state| {
            for change in changes {
                match change {
                    PresenceChange::Connected(info) => state.add(&node, info),
                    PresenceChange::Disconnected { connection, .. } => state.remove(connection),
                }
            }
        })
    }

    fn replace(
        &self,
        node: NodeId,
        connections: Vec<ConnectionInfo>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|state| {
            state.clear(&node);
            for info in connections {
                state.add(&node, info);
            }
        })
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|state| {
            state.clear(&node);
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
            let ids = state.users.get(&user).into_iter().flatten();
            ids.filter_map(|id| state.living(*id)).collect()
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
            let mut nodes: Vec<NodeId> = state.nodes.values().cloned().collect();
            nodes.sort_unstable();
            nodes.dedup();
            nodes.retain(|node| !state.lives(node));
            let now = Instant::now();
            state.leases.retain(|_, (_, end)| *end > now);
            nodes.iter().map(|node| state.clear(node)).sum()
        })
    }
}

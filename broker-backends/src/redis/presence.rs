use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use broker_core::{
    ConnectionId, NodeId, UserId,
    ports::{
        BoxFuture, ConnectionInfo, ConnectionPage, Lease, Presence, PresenceChange, StoreError,
    },
};
use fred::{
    clients::{Client, WithOptions},
    interfaces::{HashesInterface, KeysInterface, SetsInterface},
    types::{Expiration, SetOptions},
};
use futures_util::future::try_join_all;
use parking_lot::Mutex;

use super::{
    record::{self, millis},
    store::{Reconnects, Store},
};

/// Connections per step of a call that touches many.
const STEP: usize = 500;
/// How long whoever sweeps up after a gateway has for it, in ms.
const SWEEP_MS: i64 = 30_000;

/// Presence across all gateways.
#[derive(Debug)]
pub(crate) struct RedisPresence {
    store: Store,
    /// Since the last lease was given.
    reconnects: Mutex<Reconnects>,
}

/// A page of a gateway's hash.
struct Scanned {
    /// Where to go on; 0 at the end.
    next: u64,
    connections: Vec<ConnectionInfo>,
    /// Fields that hold no readable record.
    unreadable: Vec<String>,
}

impl RedisPresence {
    pub(crate) fn new(store: Store) -> Self {
        let reconnects = Mutex::new(store.reconnects());
        Self { store, reconnects }
    }

    fn client(&self) -> Result<&WithOptions<Client>, StoreError> {
        self.store.client()
    }

    async fn nodes(&self) -> Result<Vec<NodeId>, StoreError> {
        let (client, key) = (self.client()?, self.store.keys.gateways());
        let names: Vec<String> = self.store.step(client.smembers(key)).await?;
        let mut nodes: Vec<NodeId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        nodes.sort_unstable();
        Ok(nodes)
    }

    async fn leases(&self, nodes: Vec<NodeId>) -> Result<Vec<Lease>, StoreError> {
        let client = self.client()?;
        let keys: Vec<String> = nodes.iter().map(|node| self.store.keys.lease(node)).collect();
        let reads = try_join_all(keys.iter().map(|key| client.get::<Option<String>, _>(key)));
        let texts = self.store.step(reads).await?;
        let read = |(node, text): (NodeId, Option<String>)| record::read_lease(node, &text?);
        Ok(nodes.into_iter().zip(texts).filter_map(read).collect())
    }

    async fn living(&self) -> Result<Vec<NodeId>, StoreError> {
        let leases = self.leases(self.nodes().await?).await?;
        Ok(leases.into_iter().map(|lease| lease.node).collect())
    }

    async fn scan(&self, node: &NodeId, cursor: u64, count: usize) -> Result<Scanned, StoreError> {
        let key = self.store.keys.connections(node);
        let (next, fields) = self.store.scan_hash(&key, cursor, count).await?;
        let mut scanned = Scanned { next, connections: Vec::new(), unreadable: Vec::new() };
        for pair in fields.chunks_exact(2) {
            match record::read_connection(node, &pair[0], &pair[1]) {
                Some(info) => scanned.connections.push(info),
                None => scanned.unreadable.push(pair[0].clone()),
            }
        }
        Ok(scanned)
    }

    async fn add(&self, node: &NodeId, infos: &[&ConnectionInfo]) -> Result<(), StoreError> {
        let client = self.client()?;
        let key = self.store.keys.connections(node);
        for infos in infos.chunks(STEP) {
            let records: HashMap<String, String> = infos
                .iter()
                .map(|info| (info.connection.to_string(), record::write_connection(info)))
                .collect();
            let users =
                infos.iter().filter_map(|info| Some((info.user.as_ref()?, info.connection)));
            let writes = users.map(|(user, id)| {
                let entry = (id.to_string(), node.as_str().to_owned());
                client.hset::<(), _, _>(self.store.keys.user(user), entry)
            });
            self.store.step(client.hset::<(), _, _>(&key, records)).await?;
            self.store.step(try_join_all(writes)).await?;
        }
        Ok(())
    }

    /// Removes connections; says how many were there.
    async fn remove(
        &self,
        node: &NodeId,
        gone: &[(ConnectionId, Option<UserId>)],
    ) -> Result<u64, StoreError> {
        let client = self.client()?;
        let key = self.store.keys.connections(node);
        let mut removed = 0;
        for gone in gone.chunks(STEP) {
            let users = gone.iter().filter_map(|(id, user)| Some((user.as_ref()?, id)));
            let writes = users.map(|(user, id)| {
                client.hdel::<(), _, _>(self.store.keys.user(user), id.to_string())
            });
            // The users first: what is still in the gateway's hash can be swept again.
            self.store.step(try_join_all(writes)).await?;
            let ids: Vec<String> = gone.iter().map(|(id, _)| id.to_string()).collect();
            removed += self.store.step(client.hdel::<u64, _, _>(&key, ids)).await?;
        }
        Ok(removed)
    }

    /// Removes all connections of a gateway for which `unwanted` says so.
    async fn clear(
        &self,
        node: &NodeId,
        unwanted: impl Fn(ConnectionId) -> bool,
    ) -> Result<u64, StoreError> {
        let (mut removed, mut cursor) = (0, 0);
        loop {
            let (gone, next) = self.clear_step(node, cursor, &unwanted).await?;
            removed += gone;
            if next == 0 {
                return Ok(removed);
            }
            cursor = next;
        }
    }

    /// One page of [`RedisPresence::clear`]: how many were removed, and where to go on.
    async fn clear_step(
        &self,
        node: &NodeId,
        cursor: u64,
        unwanted: impl Fn(ConnectionId) -> bool,
    ) -> Result<(u64, u64), StoreError> {
        let scanned = self.scan(node, cursor, STEP).await?;
        let infos = scanned.connections.into_iter().filter(|info| unwanted(info.connection));
        let gone: Vec<_> = infos.map(|info| (info.connection, info.user)).collect();
        let removed = self.remove(node, &gone).await?;
        if !scanned.unreadable.is_empty() {
            let (client, key) = (self.client()?, self.store.keys.connections(node));
            self.store.step(client.hdel::<(), _, _>(key, scanned.unreadable)).await?;
        }
        Ok((removed, scanned.next))
    }

    async fn note_node(&self, node: &NodeId) -> Result<(), StoreError> {
        let (client, key) = (self.client()?, self.store.keys.gateways());
        self.store.step(client.sadd(key, node.as_str())).await
    }

    async fn forget_node(&self, node: &NodeId) -> Result<(), StoreError> {
        let (client, key) = (self.client()?, self.store.keys.gateways());
        self.store.step(client.srem(key, node.as_str())).await
    }

    async fn sweep_node(&self, node: &NodeId) -> Result<u64, StoreError> {
        let (client, claim) = (self.client()?, self.store.keys.sweep(node));
        let (expiry, unless_there) = (Some(Expiration::PX(SWEEP_MS)), Some(SetOptions::NX));
        let claimed: Option<String> =
            self.store.step(client.set(&claim, "1", expiry, unless_there, false)).await?;
        if claimed.is_none() {
            return Ok(0);
        }
        let (mut removed, mut cursor) = (0, 0);
        // A gateway that was only asleep may wake up meanwhile, and tell anew what it holds.
        while !self.store.lives(node).await? {
            let (gone, next) = self.clear_step(node, cursor, |_| true).await?;
            (removed, cursor) = (removed + gone, next);
            if next == 0 {
                self.forget_node(node).await?;
                break;
            }
        }
        self.store.step(client.del::<(), _>(claim)).await?;
        Ok(removed)
    }

    /// Refuses while somebody sweeps up after this gateway: what is written now may be removed.
    async fn is_not_swept(&self, node: &NodeId) -> Result<(), StoreError> {
        let (client, claim) = (self.client()?, self.store.keys.sweep(node));
        let claims: u64 = self.store.step(client.exists(claim)).await?;
        if claims == 0 { Ok(()) } else { Err(StoreError::Refused("it is being swept".into())) }
    }

    async fn renew_now(&self, lease: &Lease) -> Result<bool, StoreError> {
        let (client, key) = (self.client()?, self.store.keys.lease(&lease.node));
        self.note_node(&lease.node).await?;
        let expiry = i64::try_from(millis(lease.ttl)).unwrap_or(i64::MAX);
        let (text, expiry) = (record::write_lease(lease), Some(Expiration::PX(expiry)));
        let before: Option<String> =
            self.store.step(client.set(key, text, expiry, None, true)).await?;
        let reached_anew = self.reconnects.lock().any();
        Ok(before.is_some() && !reached_anew)
    }

    async fn page(&self, cursor: Option<&str>, limit: usize) -> Result<ConnectionPage, StoreError> {
        let start = cursor.map(parse_cursor).transpose()?;
        let living = self.living().await?;
        let (first, mut cursor) = match start {
            // A gateway that ended meanwhile: go on with the one after it.
            Some((node, cursor)) => match living.binary_search(&node) {
                Ok(index) => (index, cursor),
                Err(index) => (index, 0),
            },
            None => (0, 0),
        };
        let mut page = ConnectionPage::default();
        for (index, node) in living.iter().enumerate().skip(first) {
            loop {
                let room = limit.max(1).saturating_sub(page.connections.len());
                if room == 0 {
                    page.next = Some(format!("{node}/{cursor}"));
                    return Ok(page);
                }
                let scanned = self.scan(node, cursor, room).await?;
                page.connections.extend(scanned.connections);
                cursor = scanned.next;
                if cursor == 0 {
                    break;
                }
            }
            if page.connections.len() >= limit.max(1) {
                page.next = living.get(index + 1).map(|next| format!("{next}/0"));
                return Ok(page);
            }
        }
        Ok(page)
    }

    async fn of_user(&self, user: &UserId) -> Result<Vec<ConnectionInfo>, StoreError> {
        let (client, key) = (self.client()?, self.store.keys.user(user));
        let entries: HashMap<String, String> = self.store.step(client.hgetall(key)).await?;
        let mut by_node: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
        for (id, node) in entries {
            if let Ok(node) = node.parse() {
                by_node.entry(node).or_default().push(id);
            }
        }
        let living = self.leases(by_node.keys().cloned().collect()).await?;
        let mut found = Vec::new();
        for Lease { node, .. } in living {
            let ids = by_node.remove(&node).unwrap_or_default();
            let key = self.store.keys.connections(&node);
            let records: Vec<Option<String>> =
                self.store.step(client.hmget(key, ids.clone())).await?;
            let read =
                |(id, json): (String, Option<String>)| record::read_connection(&node, &id, &json?);
            found.extend(ids.into_iter().zip(records).filter_map(read));
        }
        Ok(found)
    }
}

impl Presence for RedisPresence {
    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let renewed = self.renew_now(&lease).await;
            self.store.calm.note_renewal(lease.ttl, renewed.is_ok());
            renewed
        })
    }

    fn apply(
        &self,
        node: NodeId,
        changes: Vec<PresenceChange>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            // The last word on each connection counts.
            let last: HashMap<ConnectionId, &PresenceChange> =
                changes.iter().map(|change| (connection_of(change), change)).collect();
            let (mut came, mut went) = (Vec::new(), Vec::new());
            for change in last.into_values() {
                match change {
                    PresenceChange::Connected(info) => came.push(&**info),
                    PresenceChange::Disconnected { connection, user } => {
                        went.push((*connection, user.clone()));
                    }
                }
            }
            self.note_node(&node).await?;
            self.add(&node, &came).await?;
            self.remove(&node, &went).await?;
            Ok(())
        })
    }

    fn replace(
        &self,
        node: NodeId,
        connections: Vec<Arc<ConnectionInfo>>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let kept: HashSet<ConnectionId> =
                connections.iter().map(|info| info.connection).collect();
            self.is_not_swept(&node).await?;
            self.note_node(&node).await?;
            self.clear(&node, |id| !kept.contains(&id)).await?;
            let infos: Vec<&ConnectionInfo> = connections.iter().map(|info| &**info).collect();
            self.add(&node, &infos).await
        })
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let (client, key) = (self.client()?, self.store.keys.lease(&node));
            // First: nothing of it is listed from here on.
            self.store.step(client.del::<(), _>(key)).await?;
            self.clear(&node, |_| true).await?;
            self.forget_node(&node).await
        })
    }

    fn gateways(&self) -> BoxFuture<'_, Result<Vec<Lease>, StoreError>> {
        Box::pin(async move { self.leases(self.nodes().await?).await })
    }

    fn connection(
        &self,
        id: ConnectionId,
    ) -> BoxFuture<'_, Result<Option<ConnectionInfo>, StoreError>> {
        Box::pin(async move {
            let (client, living) = (self.client()?, self.living().await?);
            let field = id.to_string();
            let reads = living.iter().map(|node| {
                client.hget::<Option<String>, _, _>(self.store.keys.connections(node), &field)
            });
            let records = self.store.step(try_join_all(reads)).await?;
            let mut records = living.iter().zip(records);
            Ok(records.find_map(|(node, json)| record::read_connection(node, &field, &json?)))
        })
    }

    fn connections_of(
        &self,
        user: UserId,
    ) -> BoxFuture<'_, Result<Vec<ConnectionInfo>, StoreError>> {
        Box::pin(async move { self.of_user(&user).await })
    }

    fn connections(
        &self,
        cursor: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ConnectionPage, StoreError>> {
        Box::pin(async move { self.page(cursor.as_deref(), limit).await })
    }

    fn sweep(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            if self.store.calm.holds() {
                return Ok(0);
            }
            let nodes = self.nodes().await?;
            let living: HashSet<NodeId> =
                self.leases(nodes.clone()).await?.into_iter().map(|lease| lease.node).collect();
            let mut removed = 0;
            for node in nodes.iter().filter(|node| !living.contains(*node)) {
                removed += self.sweep_node(node).await?;
            }
            Ok(removed)
        })
    }
}

fn connection_of(change: &PresenceChange) -> ConnectionId {
    match change {
        PresenceChange::Connected(info) => info.connection,
        PresenceChange::Disconnected { connection, .. } => *connection,
    }
}

fn parse_cursor(text: &str) -> Result<(NodeId, u64), StoreError> {
    let wrong = || StoreError::Refused("the cursor is not of its form".into());
    let (node, cursor) = text.split_once('/').ok_or_else(wrong)?;
    Ok((node.parse().map_err(|_| wrong())?, cursor.parse().map_err(|_| wrong())?))
}

//! Ends graces that are over, and removes what gateways left behind.

use std::collections::{BTreeMap, HashMap, HashSet};

use broker_core::{
    ChannelName, NodeId,
    ports::{StoreError, Tell},
};
use fred::{
    interfaces::{KeysInterface, SetsInterface, SortedSetsInterface},
    types::{Expiration, SetOptions},
};
use futures_util::future::try_join_all;

use super::{Fields, Hand, RedisRoster, STEP};
use crate::member;

/// Channels that are swept at once.
const CHANNELS: usize = 64;
/// How long whoever sweeps up after a gateway has for it, in ms.
const SWEEP_MS: i64 = 60_000;
/// One gateway tidies in each period, in ms.
const TIDY_MS: i64 = 900;

impl RedisRoster {
    pub(super) async fn tidy_now(&self, tell: &Tell) -> Result<(), StoreError> {
        if self.store.calm.holds() || !self.claim(&self.store.keys.tidying(), TIDY_MS).await? {
            return Ok(());
        }
        self.settle(tell).await?;
        let (client, key) = (self.store.client()?, self.store.keys.rosters());
        let names: Vec<String> = self.store.step(client.smembers(key)).await?;
        for node in names.iter().filter_map(|name| name.parse::<NodeId>().ok()) {
            if !self.store.lives(&node).await? {
                self.sweep(&node, tell).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn retire_now(&self, hand: Hand<'_>, node: &NodeId) -> Result<(), StoreError> {
        while !self.clear_some(node, hand, None).await? {}
        self.forget(node).await
    }

    /// Ends graces that are over.
    async fn settle(&self, tell: &Tell) -> Result<(), StoreError> {
        let (client, key) = (self.store.client()?, self.store.keys.leaving());
        loop {
            let now = self.store.now().await? as f64;
            let limit = Some((0, STEP as i64));
            let due = client.zrangebyscore(&key, f64::NEG_INFINITY, now, false, limit);
            let due: Vec<String> = self.store.step(due).await?;
            let mut by_channel: BTreeMap<ChannelName, HashMap<String, Vec<&String>>> =
                BTreeMap::new();
            for entry in &due {
                if let Some((channel, field)) = read_leaving(entry) {
                    by_channel.entry(channel).or_default().entry(field).or_default().push(entry);
                }
            }
            let hand = self.with_grace("");
            let sets = by_channel.iter().map(|(channel, fields)| {
                let fields = fields.keys().map(|field| (field.clone(), 0, 0)).collect();
                self.set(hand, channel, fields)
            });
            let done = try_join_all(sets).await?;
            let early: HashSet<&String> = by_channel
                .values()
                .zip(&done)
                .flat_map(|(fields, done)| done.in_grace.iter().filter_map(|it| fields.get(it)))
                .flatten()
                .copied()
                .collect();
            let settled: Vec<String> =
                due.iter().filter(|entry| !early.contains(entry)).cloned().collect();
            tell(done.into_iter().flat_map(|done| done.events).collect()).await;
            let more = due.len() == STEP && !settled.is_empty();
            if !settled.is_empty() {
                self.store.step(client.zrem::<(), _, _>(&key, settled)).await?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Removes what a dead gateway left, if nobody else does.
    async fn sweep(&self, node: &NodeId, tell: &Tell) -> Result<(), StoreError> {
        let (client, claim) = (self.store.client()?, self.store.keys.roster_sweep(node));
        if !self.claim(&claim, SWEEP_MS).await? {
            return Ok(());
        }
        let at_once = Hand { node: node.as_str(), grace_ms: 0, later_ms: 0 };
        // A gateway that was only asleep may wake up meanwhile, and tell anew what it holds.
        let mut emptied = false;
        while !emptied && !self.store.lives(node).await? {
            emptied = self.clear_some(node, at_once, Some(tell)).await?;
        }
        if emptied {
            self.forget(node).await?;
        }
        self.store.step(client.del::<(), _>(claim)).await
    }

    /// Removes what a gateway holds in some channels; says whether nothing is left.
    async fn clear_some(
        &self,
        node: &NodeId,
        hand: Hand<'_>,
        tell: Option<&Tell>,
    ) -> Result<bool, StoreError> {
        let (client, key) = (self.store.client()?, self.store.keys.channels(node));
        let names = client.srandmember::<Vec<String>, _>(&key, Some(CHANNELS));
        let names = self.store.step(names).await?;
        if names.is_empty() {
            return Ok(true);
        }
        let channels = names.iter().filter_map(|name| name.parse::<ChannelName>().ok());
        try_join_all(channels.map(|channel| self.clear_channel(node, channel, hand, tell))).await?;
        self.store.step(client.srem::<(), _, _>(key, names)).await?;
        Ok(false)
    }

    async fn clear_channel(
        &self,
        node: &NodeId,
        channel: ChannelName,
        hand: Hand<'_>,
        tell: Option<&Tell>,
    ) -> Result<(), StoreError> {
        let mut cursor = 0;
        loop {
            let (next, members) = self.scan(&channel, cursor, STEP).await?;
            let held = members.into_iter().filter(|it| it.places.iter().any(|(at, _)| at == node));
            let fields: Fields = held.map(|it| (member::write(&it.member), 0, 0)).collect();
            if !fields.is_empty() {
                let leaving: Vec<String> = fields
                    .iter()
                    .filter_map(|(field, ..)| write_leaving(&channel, field))
                    .collect();
                self.expect_leaves(hand, leaving).await?;
                let done = self.set(hand, &channel, fields).await?;
                if let Some(tell) = tell {
                    tell(done.events).await;
                }
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    async fn claim(&self, key: &str, period_ms: i64) -> Result<bool, StoreError> {
        let (expiry, unless_there) = (Some(Expiration::PX(period_ms)), Some(SetOptions::NX));
        let set = self.store.client()?.set(key, "1", expiry, unless_there, false);
        let claimed: Option<String> = self.store.step(set).await?;
        Ok(claimed.is_some())
    }

    async fn forget(&self, node: &NodeId) -> Result<(), StoreError> {
        let (client, key) = (self.store.client()?, self.store.keys.rosters());
        self.store.step(client.srem(key, node.as_str())).await
    }
}

/// What is noted of a user who may leave, behind the end of the grace; names have no line breaks.
pub(super) fn write_leaving(channel: &ChannelName, field: &str) -> Option<String> {
    field.starts_with('u').then(|| format!("{channel}\n{field}"))
}

fn read_leaving(entry: &str) -> Option<(ChannelName, String)> {
    let mut parts = entry.splitn(3, '\n').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next()?.to_owned()))
}

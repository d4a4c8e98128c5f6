//! Ends graces that are over, and removes what gateways left behind.

use std::future::ready;

use broker_core::{
    ChannelName, NodeId,
    ports::{StoreError, Tell},
};
use fred::{
    interfaces::{KeysInterface, SetsInterface},
    types::{Expiration, SetOptions},
};
use futures_util::future::join_all;

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
        let settled = self.settle(tell).await;
        let (client, key) = (self.store.client()?, self.store.keys.rosters());
        let names: Vec<String> = self.store.step(client.smembers(key)).await?;
        for node in names.iter().filter_map(|name| name.parse::<NodeId>().ok()) {
            if !self.store.lives(&node).await? {
                self.sweep(&node, tell).await?;
            }
        }
        settled
    }

    pub(super) async fn retire_now(&self, hand: Hand<'_>, node: &NodeId) -> Result<(), StoreError> {
        // All of them are in their grace: nobody has left yet.
        let nobody: &Tell = &|_| Box::pin(ready(()));
        while !self.clear_some(node, hand, nobody).await? {}
        self.forget(node).await
    }

    /// Ends graces that are over.
    async fn settle(&self, tell: &Tell) -> Result<(), StoreError> {
        loop {
            let (due, count) = self.due_leaves().await?;
            let hand = self.with_grace("");
            let sets = due.iter().map(async |(channel, fields)| {
                let left = |end: u64| end.saturating_sub(hand.grace_ms);
                let fields = fields.iter().map(|(field, (end, _))| (field.clone(), 0, left(*end)));
                self.set(hand, channel, &fields.collect()).await
            });
            let done = join_all(sets).await;
            let (mut events, mut settled, mut outcome) = (Vec::new(), Vec::new(), Ok(()));
            for (fields, done) in due.into_values().zip(done) {
                match done {
                    Ok(done) => {
                        let over = fields.into_iter().filter(|it| !done.in_grace.contains(&it.0));
                        settled.extend(over.flat_map(|(_, (_, entries))| entries));
                        events.extend(done.events);
                    }
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
            tell(events).await;
            let more = count == STEP && !settled.is_empty();
            self.expect_no_longer(settled).await?;
            outcome?;
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
            emptied = self.clear_some(node, at_once, tell).await?;
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
        tell: &Tell,
    ) -> Result<bool, StoreError> {
        let (client, key) = (self.store.client()?, self.store.keys.channels(node));
        let names = client.srandmember::<Vec<String>, _>(&key, Some(CHANNELS));
        let names = self.store.step(names).await?;
        if names.is_empty() {
            return Ok(true);
        }
        let clear = names.into_iter().map(async |name| match name.parse() {
            Ok(channel) => (name, self.clear_channel(node, channel, hand, tell).await),
            Err(_) => (name, Ok(())),
        });
        let (mut cleared, mut outcome) = (Vec::new(), Ok(false));
        for (name, done) in join_all(clear).await {
            match done {
                Ok(()) => cleared.push(name),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        if !cleared.is_empty() {
            self.store.step(client.srem::<(), _, _>(key, cleared)).await?;
        }
        outcome
    }

    async fn clear_channel(
        &self,
        node: &NodeId,
        channel: ChannelName,
        hand: Hand<'_>,
        tell: &Tell,
    ) -> Result<(), StoreError> {
        let mut cursor = 0;
        loop {
            let (next, members) = self.scan(&channel, cursor, STEP).await?;
            let held = members.into_iter().filter(|it| it.places.iter().any(|(at, _)| at == node));
            let fields: Fields = held.map(|it| (member::write(&it.member), 0, 0)).collect();
            if !fields.is_empty() {
                self.change(hand, &[(channel.clone(), fields)], tell).await?;
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

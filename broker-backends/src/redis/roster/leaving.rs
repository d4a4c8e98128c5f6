//! The list of users who may have left, by when their grace ends.
//!
//! They are listed before they leave, and until it is told that they left: whoever looks too early
//! or in vain does no harm, but a grace that nobody looks at would never end.

use std::collections::{BTreeMap, HashMap};

use broker_core::{ChannelName, ports::StoreError};
use fred::interfaces::SortedSetsInterface;

use super::{Fields, Hand, RedisRoster, STEP};

/// What one call lists.
pub(super) struct Leaving<'a> {
    node: &'a str,
    /// When the grace ends, in ms since 1970.
    end: u64,
}

/// Entries that are due, by channel and field, with the latest end of a grace.
pub(super) type Due = BTreeMap<ChannelName, HashMap<String, (u64, Vec<String>)>>;

impl Leaving<'_> {
    /// The entries of the users who go, of these fields; names have no line breaks.
    pub(super) fn entries<'a>(
        &self,
        channel: &ChannelName,
        fields: impl Iterator<Item = &'a (String, u32, u64)>,
    ) -> Vec<String> {
        let gone = fields.filter(|(field, held, _)| *held == 0 && field.starts_with('u'));
        // Each gateway has entries of its own: none removes another's.
        let Self { node, end } = self;
        gone.map(|(field, ..)| format!("{end} {node}\n{channel}\n{field}")).collect()
    }
}

/// The end of the grace, the channel and the field.
fn read_entry(entry: &str) -> Option<(u64, ChannelName, String)> {
    let mut parts = entry.splitn(3, '\n');
    let end = parts.next()?.split(' ').next()?.parse().ok()?;
    Some((end, parts.next()?.parse().ok()?, parts.next()?.to_owned()))
}

impl RedisRoster {
    /// Lists the users who are about to go.
    pub(super) async fn expect_leaves<'a>(
        &self,
        hand: Hand<'a>,
        changes: &[(ChannelName, Fields)],
    ) -> Result<Leaving<'a>, StoreError> {
        let mut leaving = Leaving { node: hand.node, end: 0 };
        if changes
            .iter()
            .all(|(channel, fields)| leaving.entries(channel, fields.iter()).is_empty())
        {
            return Ok(leaving);
        }
        leaving.end = self.store.now().await? + hand.grace_ms + hand.later_ms;
        let entries: Vec<(f64, String)> = changes
            .iter()
            .flat_map(|(channel, fields)| leaving.entries(channel, fields.iter()))
            .map(|entry| (leaving.end as f64, entry))
            .collect();
        let (client, key) = (self.store.client()?, self.store.keys.leaving());
        let add = client.zadd::<(), _, _>(key, None, None, false, false, entries);
        self.store.step(add).await?;
        Ok(leaving)
    }

    pub(super) async fn expect_no_longer(&self, entries: Vec<String>) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let (client, key) = (self.store.client()?, self.store.keys.leaving());
        self.store.step(client.zrem::<(), _, _>(key, entries)).await
    }

    /// Those whose grace is over, and of how many entries they are; no more than one step has.
    pub(super) async fn due_leaves(&self) -> Result<(Due, usize), StoreError> {
        let (client, key) = (self.store.client()?, self.store.keys.leaving());
        let now = self.store.now().await? as f64;
        let limit = Some((0, STEP as i64));
        let entries = client.zrangebyscore(&key, f64::NEG_INFINITY, now, false, limit);
        let entries: Vec<String> = self.store.step(entries).await?;
        let (mut due, mut unreadable, count) = (Due::new(), Vec::new(), entries.len());
        for entry in entries {
            match read_entry(&entry) {
                Some((end, channel, field)) => {
                    let listed = due.entry(channel).or_default().entry(field).or_default();
                    listed.0 = listed.0.max(end);
                    listed.1.push(entry);
                }
                None => unreadable.push(entry),
            }
        }
        self.expect_no_longer(unreadable).await?;
        Ok((due, count))
    }
}

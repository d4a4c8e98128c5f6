mod leaving;
mod tidy;

use std::collections::{HashMap, HashSet};

use broker_core::{
    ChannelName, NodeId, Timestamp, UserId,
    name::USER_NAMESPACE,
    ports::{
        BoxFuture, ChannelNews, Member, MemberCount, MemberEvent, MemberEventKind, MemberInfo,
        MemberPage, RETELLING, Roster, StoreError, Tell,
    },
};
use fred::{
    interfaces::{HashesInterface, KeysInterface, SetsInterface},
    types::{SetOptions, Value},
};
use futures_util::future::{join_all, try_join_all};

use super::{
    record::{self, millis},
    script::Script,
    store::Store,
};
use crate::{member, options::RosterOptions};

/// Members, or graces that are over, per step of a call that touches many.
const STEP: usize = 500;

static SET: Script = Script::new(include_str!("lua/roster.lua"));

/// Who is in which channel, across all gateways.
#[derive(Debug)]
pub(crate) struct RedisRoster {
    store: Store,
    options: RosterOptions,
}

/// What the script is to set: fields of a channel, with connections and since.
type Fields = Vec<(String, u32, u64)>;

/// What the script did.
#[derive(Debug, Default)]
struct Done {
    events: Vec<MemberEvent>,
    /// Fields of users who may come back.
    in_grace: HashSet<String>,
}

/// In whose name, and with how much grace, something is set.
#[derive(Debug, Clone, Copy)]
struct Hand<'a> {
    node: &'a str,
    grace_ms: u64,
    /// How much later than now whoever leaves is taken to have left.
    later_ms: u64,
}

impl RedisRoster {
    pub(crate) fn new(store: Store, options: RosterOptions) -> Self {
        Self { store, options }
    }

    fn with_grace<'a>(&self, node: &'a str) -> Hand<'a> {
        let grace = self.options.grace;
        Hand { node, grace_ms: if grace.is_zero() { 0 } else { millis(grace) }, later_ms: 0 }
    }

    /// As if all who leave had left so much later that they have [`RETELLING`] to be told of.
    fn with_time_to_retell<'a>(&self, node: &'a str) -> Hand<'a> {
        let later_ms = millis(RETELLING.saturating_sub(self.options.grace));
        Hand { later_ms, ..self.with_grace(node) }
    }

    async fn set(
        &self,
        hand: Hand<'_>,
        channel: &ChannelName,
        fields: &Fields,
    ) -> Result<Done, StoreError> {
        let keys = vec![self.store.keys.members(channel), self.store.keys.last_seen(channel)];
        let is_personal = channel.namespace() == USER_NAMESPACE;
        let keep = if is_personal { millis(self.options.last_seen) } else { 0 };
        let numbers = [hand.grace_ms, hand.later_ms, keep].map(|number| number.to_string().into());
        let mut arguments: Vec<Value> = vec![hand.node.into()];
        arguments.extend(numbers);
        for (field, connections, since) in fields {
            let numbers = [connections.to_string(), since.to_string()];
            arguments.push(field.as_str().into());
            arguments.extend(numbers.map(Value::from));
        }
        let told = SET.call(&self.store, keys, arguments).await?;
        let mut done = Done::default();
        for line in &told {
            done.read(channel, line);
        }
        Ok(done)
    }

    /// Sets something in each of some channels, and tells who came and left. A channel that fails
    /// keeps nobody from hearing of the others.
    async fn change(
        &self,
        hand: Hand<'_>,
        changes: &[(ChannelName, Fields)],
        tell: &Tell,
    ) -> Result<(), StoreError> {
        let leaving = self.expect_leaves(hand, changes).await?;
        let sets = changes.iter().map(|(channel, fields)| self.set(hand, channel, fields));
        let (mut events, mut in_vain, mut outcome) = (Vec::new(), Vec::new(), Ok(()));
        for ((channel, fields), done) in changes.iter().zip(join_all(sets).await) {
            match done {
                Ok(done) => {
                    let over = fields.iter().filter(|it| !done.in_grace.contains(&it.0));
                    in_vain.extend(leaving.entries(channel, over));
                    events.extend(done.events);
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        tell(events).await;
        self.expect_no_longer(in_vain).await?;
        outcome
    }

    async fn note_now(
        &self,
        node: &NodeId,
        news: Vec<ChannelNews>,
        tell: &Tell,
    ) -> Result<(), StoreError> {
        let client = self.store.client()?;
        let (nodes, channels) = (self.store.keys.rosters(), self.store.keys.channels(node));
        let names = |deserted| {
            let names = news.iter().filter(move |it| it.deserted == deserted);
            names.map(|it| it.channel.as_str().to_owned()).collect::<Vec<String>>()
        };
        let (kept, deserted) = (names(false), names(true));
        self.store.step(client.sadd::<(), _, _>(nodes, node.as_str())).await?;
        if !kept.is_empty() {
            self.store.step(client.sadd::<(), _, _>(&channels, kept)).await?;
        }
        let changes = news.iter().map(|ChannelNews { channel, members, .. }| {
            let fields = members.iter();
            let fields = fields.map(|it| (member::write(&it.member), it.connections, it.since.0));
            (channel.clone(), fields.collect())
        });
        let changes: Vec<(ChannelName, Fields)> = changes.collect();
        self.change(self.with_grace(node.as_str()), &changes, tell).await?;
        if !deserted.is_empty() {
            self.store.step(client.srem::<(), _, _>(channels, deserted)).await?;
        }
        Ok(())
    }

    async fn scan(
        &self,
        channel: &ChannelName,
        cursor: u64,
        count: usize,
    ) -> Result<(u64, Vec<record::MemberRecord>), StoreError> {
        let (next, fields) =
            self.store.scan_hash(&self.store.keys.members(channel), cursor, count).await?;
        let read = |pair: &[String]| record::read_member(&pair[0], &pair[1]);
        Ok((next, fields.chunks_exact(2).filter_map(read).collect()))
    }

    async fn page(
        &self,
        channel: &ChannelName,
        cursor: u64,
        limit: usize,
    ) -> Result<MemberPage, StoreError> {
        let (next, records) = self.scan(channel, cursor, limit.max(1)).await?;
        let nodes: HashSet<&NodeId> =
            records.iter().flat_map(|it| it.places.iter().map(|(node, _)| node)).collect();
        let lives = nodes.iter().map(async |node| Ok((*node, self.store.lives(node).await?)));
        let lives: HashMap<&NodeId, bool> = try_join_all(lives).await?.into_iter().collect();
        let members = records.iter().filter_map(|it| {
            let living = it.places.iter().filter(|(node, _)| lives.get(node) == Some(&true));
            let held: Vec<u64> = living.map(|(_, held)| u64::from(*held)).collect();
            let listed = it.places.is_empty() || !held.is_empty();
            listed.then(|| MemberInfo {
                member: it.member.clone(),
                connections: held.iter().sum(),
                since: it.since,
            })
        });
        Ok(MemberPage { members: members.collect(), next: (next != 0).then(|| next.to_string()) })
    }
}

impl Done {
    fn read(&mut self, channel: &ChannelName, line: &str) {
        let mut note = |field: &str, kind| {
            if let Some(Member::User(user)) = member::read(field) {
                self.events.push(MemberEvent { channel: channel.clone(), user, kind });
            }
        };
        if let Some(field) = line.strip_prefix('+') {
            note(field, MemberEventKind::Joined);
        } else if let Some(field) = line.strip_prefix('~') {
            self.in_grace.insert(field.to_owned());
        } else if let Some((left, field)) = line.strip_prefix('-').and_then(|it| it.split_once(' '))
        {
            note(field, MemberEventKind::Left(Timestamp(left.parse().unwrap_or_default())));
        }
    }
}

impl Roster for RedisRoster {
    fn note<'a>(
        &'a self,
        node: NodeId,
        news: Vec<ChannelNews>,
        tell: &'a Tell,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.note_now(&node, news, tell).await })
    }

    fn life(&self, node: NodeId) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let client = self.store.client()?;
            let claims = client.exists::<u64, _>(self.store.keys.roster_sweep(&node));
            if self.store.step(claims).await? > 0 {
                return Err(StoreError::Refused("it is being swept".into()));
            }
            let (key, fresh) = (self.store.keys.life(), rand::random::<u64>().to_string());
            let unless_there = Some(SetOptions::NX);
            self.store.step(client.set::<(), _, _>(&key, fresh, None, unless_there, false)).await?;
            let life: String = self.store.step(client.get(key)).await?;
            life.parse().map_err(|_| StoreError::Refused("no number".into()))
        })
    }

    fn tidy<'a>(&'a self, tell: &'a Tell) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.tidy_now(tell).await })
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.retire_now(self.with_grace(node.as_str()), &node).await })
    }

    fn take_back(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(
            async move { self.retire_now(self.with_time_to_retell(node.as_str()), &node).await },
        )
    }

    fn members(
        &self,
        channel: ChannelName,
        cursor: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<MemberPage, StoreError>> {
        Box::pin(async move {
            let wrong = |_| StoreError::Refused("the cursor is not of its form".into());
            let cursor = cursor.map_or(Ok(0), |text| text.parse()).map_err(wrong)?;
            self.page(&channel, cursor, limit).await
        })
    }

    fn count(&self, channel: ChannelName) -> BoxFuture<'_, Result<MemberCount, StoreError>> {
        Box::pin(async move {
            let (client, key) = (self.store.client()?, self.store.keys.members(&channel));
            let text: Option<String> = self.store.step(client.hget(key, "#")).await?;
            Ok(text.and_then(|text| record::read_count(&text)).unwrap_or_default())
        })
    }

    fn last_seen(&self, user: UserId) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        Box::pin(async move {
            let key = self.store.keys.last_seen(&ChannelName::of_user(&user));
            let text: Option<String> = self.store.step(self.store.client()?.get(key)).await?;
            Ok(text.and_then(|text| text.parse().ok()).map(Timestamp))
        })
    }
}

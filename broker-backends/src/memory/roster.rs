use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    future::ready,
    ops::Bound,
    sync::Arc,
};

use broker_core::{
    ChannelName, NodeId, Timestamp, UserId,
    name::USER_NAMESPACE,
    ports::{
        Attendance, BoxFuture, ChannelNews, Member, MemberCount, MemberEvent, MemberEventKind,
        MemberInfo, MemberPage, RETELLING, Roster, StoreError, Tell,
    },
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::MemoryPresence;
use crate::{clock, member, options::RosterOptions};

/// Who left is told in parts of this size.
const STEP: usize = 500;

/// Who is in which channel, within one process.
#[derive(Debug)]
pub(crate) struct MemoryRoster {
    /// Has the leases.
    presence: Arc<MemoryPresence>,
    options: RosterOptions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    channels: BTreeMap<ChannelName, Channel>,
    /// Gateways that may hold something.
    nodes: BTreeSet<NodeId>,
    /// When to look whether a user is still gone.
    leaving: BTreeSet<(Instant, ChannelName, Member)>,
    seen: LastSeen,
}

#[derive(Debug, Default)]
struct Channel {
    members: BTreeMap<Member, Record>,
    count: MemberCount,
}

#[derive(Debug)]
struct Record {
    since: Timestamp,
    /// Until when the user may come back, and when the last connection went.
    left: Option<(Instant, Timestamp)>,
    /// Gateways with connections, and how many.
    places: Vec<(NodeId, u32)>,
}

/// When users were last seen, for a while, of so many.
#[derive(Debug, Default)]
struct LastSeen {
    times: HashMap<UserId, (Timestamp, Instant)>,
    /// When to forget whom, oldest first.
    order: VecDeque<(Instant, UserId)>,
}

impl LastSeen {
    fn note(&mut self, user: UserId, at: Timestamp, options: &RosterOptions) {
        let end = Instant::now() + options.last_seen;
        self.order.push_back((end, user.clone()));
        self.times.insert(user, (at, end));
        while self.order.len() > options.last_seen_capacity {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((end, user)) = self.order.pop_front() else { return };
        // Seen again later: then it is listed again.
        if self.times.get(&user).is_some_and(|(_, latest)| *latest == end) {
            self.times.remove(&user);
        }
    }

    fn tidy(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(end, _)| *end <= now) {
            self.forget_first();
        }
    }
}

impl Channel {
    /// Sets what a gateway holds of a member.
    fn hold(&mut self, node: &NodeId, attendance: &Attendance) {
        let Attendance { member, connections, since } = attendance;
        let record = self.members.entry(member.clone()).or_insert_with(|| Record {
            since: *since,
            left: None,
            places: Vec::new(),
        });
        let before = record.places.extract_if(.., |(at, _)| at == node).map(|(_, held)| held);
        self.count.connections -= before.map(u64::from).sum::<u64>();
        if *connections > 0 {
            record.places.push((node.clone(), *connections));
            record.left = None;
            self.count.connections += u64::from(*connections);
        }
    }
}

impl State {
    /// Sets what a gateway holds of a member; without a gateway, only looks whether the grace is
    /// over.
    fn set(
        &mut self,
        name: &ChannelName,
        node: Option<&NodeId>,
        attendance: &Attendance,
        options: &RosterOptions,
    ) -> Option<MemberEvent> {
        let member = &attendance.member;
        let known = self.channels.get(name).is_some_and(|it| it.members.contains_key(member));
        if !known && attendance.connections == 0 {
            return None;
        }
        let channel = self.channels.entry(name.clone()).or_default();
        if let Some(node) = node {
            channel.hold(node, attendance);
        }
        let record = channel.members.get_mut(member)?;
        let event = |user: &UserId, kind| {
            Some(MemberEvent { channel: name.clone(), user: user.clone(), kind })
        };
        if !record.places.is_empty() {
            let Member::User(user) = member else { return None };
            channel.count.users += u64::from(!known);
            return if known { None } else { event(user, MemberEventKind::Joined) };
        }
        let now = Instant::now();
        let end = now + options.grace;
        let (known_end, at) = *record.left.get_or_insert_with(|| (end, clock::now()));
        // Only a gateway knows better.
        let end = if node.is_some() { known_end.min(end) } else { known_end };
        record.left = Some((end, at));
        let Member::User(user) = member else {
            self.remove(name, member);
            return None;
        };
        if now < end {
            self.leaving.insert((end, name.clone(), member.clone()));
            return None;
        }
        channel.count.users -= 1;
        self.remove(name, member);
        if name.namespace() == USER_NAMESPACE {
            self.seen.note(user.clone(), at, options);
        }
        event(user, MemberEventKind::Left(at))
    }

    fn remove(&mut self, name: &ChannelName, member: &Member) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        channel.members.remove(member);
        if channel.members.is_empty() {
            self.channels.remove(name);
        }
    }

    /// Ends graces that are over.
    fn settle(&mut self, options: &RosterOptions) -> Vec<MemberEvent> {
        let now = Instant::now();
        self.seen.tidy(now);
        let mut events = Vec::new();
        while self.leaving.first().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, channel, member)) = self.leaving.pop_first() else { break };
            events.extend(self.set(&channel, None, &gone(member), options));
        }
        events
    }

    /// Removes what a gateway holds.
    fn clear(&mut self, node: &NodeId, options: &RosterOptions) -> Vec<MemberEvent> {
        let holds = |record: &Record| record.places.iter().any(|(at, _)| at == node);
        let mut held = Vec::new();
        for (channel, Channel { members, .. }) in &self.channels {
            let here = members.iter().filter(|(_, record)| holds(record));
            held.extend(here.map(|(member, _)| (channel.clone(), member.clone())));
        }
        self.nodes.remove(node);
        held.into_iter()
            .filter_map(|(channel, member)| self.set(&channel, Some(node), &gone(member), options))
            .collect()
    }
}

fn gone(member: Member) -> Attendance {
    Attendance { member, connections: 0, since: Timestamp(0) }
}

impl MemoryRoster {
    pub(crate) fn new(presence: Arc<MemoryPresence>, options: RosterOptions) -> Self {
        Self { presence, options, state: Mutex::default() }
    }

    /// What those who look at the member see; nothing where all its gateways are dead.
    fn describe(&self, member: &Member, record: &Record) -> Option<MemberInfo> {
        let living: Vec<u64> = record
            .places
            .iter()
            .filter(|(node, _)| self.presence.lives(node))
            .map(|(_, held)| u64::from(*held))
            .collect();
        let listed = record.places.is_empty() || !living.is_empty();
        listed.then(|| MemberInfo {
            member: member.clone(),
            connections: living.iter().sum(),
            since: record.since,
        })
    }

    fn page(
        &self,
        channel: &ChannelName,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<MemberPage, StoreError> {
        let start = match cursor {
            None => Bound::Unbounded,
            Some(text) => Bound::Excluded(
                member::read(text)
                    .ok_or_else(|| StoreError::Refused("the cursor is not of its form".into()))?,
            ),
        };
        let state = self.state.lock();
        let Some(channel) = state.channels.get(channel) else { return Ok(MemberPage::default()) };
        let mut listed = channel
            .members
            .range((start, Bound::Unbounded))
            .filter_map(|(member, record)| self.describe(member, record));
        let members: Vec<MemberInfo> = listed.by_ref().take(limit.max(1)).collect();
        let more = listed.next().is_some();
        let next = members.last().filter(|_| more).map(|info| member::write(&info.member));
        Ok(MemberPage { members, next })
    }

    fn dead(&self) -> Vec<NodeId> {
        let nodes: Vec<NodeId> = self.state.lock().nodes.iter().cloned().collect();
        nodes.into_iter().filter(|node| !self.presence.lives(node)).collect()
    }
}

impl Roster for MemoryRoster {
    fn note<'a>(
        &'a self,
        node: NodeId,
        news: Vec<ChannelNews>,
        tell: &'a Tell,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut state = self.state.lock();
        state.nodes.insert(node.clone());
        let mut events = Vec::new();
        for ChannelNews { channel, members, .. } in &news {
            for attendance in members {
                events.extend(state.set(channel, Some(&node), attendance, &self.options));
            }
        }
        drop(state);
        Box::pin(async move {
            tell(events).await;
            Ok(())
        })
    }

    fn life(&self, _: NodeId) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(ready(Ok(0)))
    }

    fn tidy<'a>(&'a self, tell: &'a Tell) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut events = self.state.lock().settle(&self.options);
            let at_once = RosterOptions { grace: std::time::Duration::ZERO, ..self.options };
            for node in self.dead() {
                events.extend(self.state.lock().clear(&node, &at_once));
            }
            for part in events.chunks(STEP) {
                tell(part.to_vec()).await;
            }
            Ok(())
        })
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.state.lock().clear(&node, &self.options);
        Box::pin(ready(Ok(())))
    }

    fn take_back(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        let grace = self.options.grace.max(RETELLING);
        self.state.lock().clear(&node, &RosterOptions { grace, ..self.options });
        Box::pin(ready(Ok(())))
    }

    fn members(
        &self,
        channel: ChannelName,
        cursor: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<MemberPage, StoreError>> {
        let page = self.page(&channel, cursor.as_deref(), limit);
        Box::pin(ready(page))
    }

    fn count(&self, channel: ChannelName) -> BoxFuture<'_, Result<MemberCount, StoreError>> {
        let state = self.state.lock();
        let count = state.channels.get(&channel).map(|it| it.count).unwrap_or_default();
        Box::pin(ready(Ok(count)))
    }

    fn last_seen(&self, user: UserId) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        let seen = self.state.lock().seen.times.get(&user).copied();
        let now = Instant::now();
        Box::pin(ready(Ok(seen.filter(|(_, end)| *end > now).map(|(at, _)| at))))
    }
}

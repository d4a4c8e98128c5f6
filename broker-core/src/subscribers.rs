//! Who gets a message: from interest to the connections that share it.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    mem,
};

use indexmap::IndexMap;
use parking_lot::RwLock;

use crate::{
    id::{ConnectionId, ConnectionIdHasher},
    name::{ChannelName, ChannelPattern, Interest},
};

const SHARDS: usize = 64;

type Shard<H> = RwLock<HashMap<Interest, Group<H>>>;

/// The connections that share an interest. Most interests are some user's own: a table for the
/// one connection would take ten times its room.
#[derive(Debug)]
enum Group<H> {
    One(ConnectionId, H),
    Many(Box<Dense<H>>),
}

/// A dense list of handles, walked once per message; the index beside it is for removal only.
type Dense<H> = IndexMap<ConnectionId, H, ConnectionIdHasher>;

impl<H> Group<H> {
    fn insert(&mut self, connection: ConnectionId, handle: H) {
        if let Self::One(known, one) = self {
            if *known == connection {
                *one = handle;
                return;
            }
            let Self::One(known, one) = mem::replace(self, Self::Many(Box::default())) else {
                return;
            };
            self.insert(known, one);
        }
        if let Self::Many(many) = self {
            many.insert(connection, handle);
        }
    }

    /// Says whether that was the last one.
    fn remove(&mut self, connection: ConnectionId) -> bool {
        let many = match self {
            Self::One(known, _) => return *known == connection,
            Self::Many(many) => many,
        };
        many.swap_remove(&connection);
        if many.len() == 1
            && let Some((last, handle)) = many.pop()
        {
            *self = Self::One(last, handle);
        } else if many.capacity() > 64 && many.len() < many.capacity() / 4 {
            many.shrink_to(many.len() * 2);
        }
        false
    }

    fn for_each(&self, mut visit: impl FnMut(ConnectionId, &H)) {
        match self {
            Self::One(connection, handle) => visit(*connection, handle),
            Self::Many(many) => many.iter().for_each(|(id, handle)| visit(*id, handle)),
        }
    }

    fn contains(&self, connection: ConnectionId) -> bool {
        match self {
            Self::One(known, _) => *known == connection,
            Self::Many(many) => many.contains_key(&connection),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(..) => 1,
            Self::Many(many) => many.len(),
        }
    }
}

/// The subscriptions of one gateway's connections. `H` is whatever delivers; it is opaque here.
///
/// Sharded by interest, so that a delivery locks out only subscriptions of the same shard.
#[derive(Debug)]
pub struct Subscribers<H> {
    shards: Box<[Shard<H>]>,
    /// All patterns with a subscriber: few, and needed to know who a channel reaches.
    /// By namespace.
    patterns: RwLock<HashMap<String, Vec<ChannelPattern>>>,
    hasher: RandomState,
}

impl<H> Default for Subscribers<H> {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            patterns: RwLock::default(),
            hasher: RandomState::new(),
        }
    }
}

impl<H> Subscribers<H> {
    /// Adds a connection to an interest. Once this returns, every message is delivered to it.
    pub fn insert(&self, interest: Interest, connection: ConnectionId, handle: H) {
        let mut shard = self.shard(&interest).write();
        if let Interest::Pattern(pattern) = &interest
            && !shard.contains_key(&interest)
        {
            let mut patterns = self.patterns.write();
            patterns.entry(pattern.namespace().to_owned()).or_default().push(pattern.clone());
        }
        match shard.entry(interest) {
            Entry::Occupied(mut group) => group.get_mut().insert(connection, handle),
            Entry::Vacant(place) => {
                place.insert(Group::One(connection, handle));
            }
        }
    }

    /// Removes a connection from an interest; without it, does nothing.
    pub fn remove(&self, interest: &Interest, connection: ConnectionId) {
        let mut shard = self.shard(interest).write();
        let Some(group) = shard.get_mut(interest) else { return };
        if group.remove(connection) {
            shard.remove(interest);
            if let Interest::Pattern(pattern) = interest {
                let mut patterns = self.patterns.write();
                let Some(known) = patterns.get_mut(pattern.namespace()) else { return };
                known.retain(|known| known != pattern);
                if known.is_empty() {
                    patterns.remove(pattern.namespace());
                }
            }
        }
    }

    /// Calls `deliver` for each connection that shares the interest.
    pub fn for_each(&self, interest: &Interest, mut deliver: impl FnMut(ConnectionId, &H)) {
        if let Some(group) = self.shard(interest).read().get(interest) {
            group.for_each(&mut deliver);
        }
    }

    /// Calls `visit` for each connection that a message on the channel reaches, by name or by
    /// pattern; a connection may be visited more than once.
    pub fn for_each_reached(&self, channel: &ChannelName, mut visit: impl FnMut(ConnectionId, &H)) {
        self.for_each(&Interest::Channel(channel.clone()), &mut visit);
        let mut patterns = self.patterns_of(channel.namespace());
        patterns.retain(|pattern| pattern.matches(channel));
        for pattern in patterns {
            self.for_each(&Interest::Pattern(pattern), &mut visit);
        }
    }

    /// The patterns of a namespace that connections have.
    #[must_use]
    pub fn patterns_of(&self, namespace: &str) -> Vec<ChannelPattern> {
        self.patterns.read().get(namespace).cloned().unwrap_or_default()
    }

    /// Whether the connection shares the interest.
    #[must_use]
    pub fn contains(&self, interest: &Interest, connection: ConnectionId) -> bool {
        self.shard(interest).read().get(interest).is_some_and(|group| group.contains(connection))
    }

    /// Number of connections that share the interest.
    #[must_use]
    pub fn count(&self, interest: &Interest) -> usize {
        self.shard(interest).read().get(interest).map_or(0, Group::len)
    }

    /// Every interest with the number of its connections, in no order.
    #[must_use]
    pub fn interests(&self) -> Vec<(Interest, usize)> {
        self.shards
            .iter()
            .flat_map(|shard| {
                shard
                    .read()
                    .iter()
                    .map(|(interest, group)| (interest.clone(), group.len()))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Number of interests with a connection.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Whether nobody is subscribed to anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, interest: &Interest) -> &Shard<H> {
        let hash = self.hasher.hash_one(interest);
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Interest {
        Interest::Channel(name.parse().unwrap())
    }

    fn reached(subscribers: &Subscribers<&'static str>, name: &str) -> Vec<&'static str> {
        let mut found = Vec::new();
        subscribers.for_each_reached(&name.parse().unwrap(), |_, handle| found.push(*handle));
        found.sort_unstable();
        found
    }

    #[test]
    fn names_and_patterns_reach_their_connections() {
        let subscribers = Subscribers::default();
        subscribers.insert(channel("venue:1"), ConnectionId(1), "exact");
        subscribers.insert(Interest::Pattern("venue:*".parse().unwrap()), ConnectionId(2), "wild");
        assert_eq!(reached(&subscribers, "venue:1"), ["exact", "wild"]);
        assert_eq!(reached(&subscribers, "venue:2"), ["wild"]);
        assert_eq!(reached(&subscribers, "other:1"), Vec::<&str>::new());
    }

    #[test]
    fn what_is_removed_leaves_nothing_behind() {
        let subscribers = Subscribers::default();
        let wild = Interest::Pattern("venue:*".parse().unwrap());
        for n in 0..200 {
            subscribers.insert(wild.clone(), ConnectionId(n), "x");
        }
        assert_eq!(subscribers.count(&wild), 200);
        assert!(subscribers.contains(&wild, ConnectionId(7)));
        for n in 0..200 {
            subscribers.remove(&wild, ConnectionId(n));
            subscribers.remove(&wild, ConnectionId(n));
        }
        assert!(subscribers.is_empty());
        assert!(!subscribers.contains(&wild, ConnectionId(7)));
        assert!(subscribers.patterns.read().is_empty());
    }
}

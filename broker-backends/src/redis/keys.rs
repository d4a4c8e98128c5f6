//! Where things are. What people choose is escaped: nobody chooses a hash slot by a brace.

use broker_core::{ChannelName, NodeId, UserId, resume::SessionKey};

use crate::escape::{escape_into, is_plain};

/// How many shards the offline queues' users are spread over; the server spreads them further.
/// Changing it loses what is queued.
pub(super) const SHARDS: u32 = 256;

/// One of [`SHARDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shard(u32);

#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Shard {
    /// By FNV-1a, so that every release finds what another has written.
    pub(super) fn of(user: &UserId) -> Self {
        let hash = user
            .as_str()
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self(hash % SHARDS)
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Set: every gateway that may have left something.
    pub(super) fn gateways(&self) -> String {
        format!("{}:gateways", self.prefix)
    }

    /// String that expires: a gateway's sign of life.
    pub(super) fn lease(&self, node: &NodeId) -> String {
        format!("{}:gw:{{{node}}}:lease", self.prefix)
    }

    /// Hash: a gateway's connections.
    pub(super) fn connections(&self, node: &NodeId) -> String {
        format!("{}:gw:{{{node}}}:conns", self.prefix)
    }

    /// String that expires: somebody removes what this gateway left.
    pub(super) fn sweep(&self, node: &NodeId) -> String {
        format!("{}:gw:{{{node}}}:sweep", self.prefix)
    }

    /// Hash: a user's connections, with the gateway of each.
    pub(super) fn user(&self, user: &UserId) -> String {
        self.of("user", user.as_str())
    }

    /// Set: every gateway that may have left members in a channel.
    pub(super) fn rosters(&self) -> String {
        format!("{}:rosters", self.prefix)
    }

    /// Set: channels in which a gateway may hold somebody.
    pub(super) fn channels(&self, node: &NodeId) -> String {
        format!("{}:gw:{{{node}}}:channels", self.prefix)
    }

    /// String that expires: somebody removes this gateway's members.
    pub(super) fn roster_sweep(&self, node: &NodeId) -> String {
        format!("{}:gw:{{{node}}}:roster-sweep", self.prefix)
    }

    /// Hash: who is in a channel.
    pub(super) fn members(&self, channel: &ChannelName) -> String {
        self.of("ch", channel.as_str())
    }

    /// String that expires: when the user of a personal channel was last in it.
    pub(super) fn last_seen(&self, channel: &ChannelName) -> String {
        format!("{}:seen", self.of("ch", channel.as_str()))
    }

    /// Sorted set: users who left a channel, by the end of their grace.
    pub(super) fn leaving(&self) -> String {
        format!("{}:leaving", self.prefix)
    }

    /// String that expires: somebody looks after graces and dead gateways.
    pub(super) fn tidying(&self) -> String {
        format!("{}:tidying", self.prefix)
    }

    /// String: a random number, another one after the store has forgotten everything.
    pub(super) fn life(&self) -> String {
        format!("{}:life", self.prefix)
    }

    /// String that expires: what became of a request that may be repeated.
    pub(super) fn request(&self, key: &str) -> String {
        self.of("once", key)
    }

    /// Hash: the packed record of each user of the shard. Sorted set: when to look at which. Hash:
    /// the shard's figures.
    pub(super) fn queue(&self, Shard(shard): Shard) -> [String; 3] {
        ["users", "due", "figures"].map(|kind| format!("{}:queue:{{{shard}}}:{kind}", self.prefix))
    }

    /// String that expires: somebody sweeps the queues.
    pub(super) fn queue_sweep(&self) -> String {
        format!("{}:queue:sweep", self.prefix)
    }

    /// String that expires: somebody has compared what the queues and the stream have.
    pub(super) fn queue_tended(&self) -> String {
        format!("{}:queue:tended", self.prefix)
    }

    /// String that expires: a session; empty once it was taken.
    pub(super) fn session(&self, key: &SessionKey) -> String {
        format!("{}:session:{{{key}}}", self.prefix)
    }

    fn of(&self, kind: &str, name: &str) -> String {
        let mut key = format!("{}:{kind}:{{", self.prefix);
        escape_into(&mut key, name, is_plain);
        key.push('}');
        key
    }
}

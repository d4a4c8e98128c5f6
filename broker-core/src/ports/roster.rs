//! Who is in which channel, across all gateways.

use std::{fmt::Debug, time::Duration};

use super::{BoxFuture, StoreError};
use crate::{
    id::{ConnectionId, NodeId},
    message::Timestamp,
    name::{ChannelName, UserId},
};

/// Who is in which channel, across all gateways.
///
/// Laws:
/// - **Absolute.** A gateway tells how many connections a member has there, not what changed:
///   every write may be repeated, and the last one counts.
/// - **First in, last out.** A user joins a channel with their first connection on any gateway and
///   leaves it with their last; each is told at least once, and again only where it is not
///   certain that it was. A user who comes back within the grace has not left.
/// - **Leases.** Members are listed while a gateway that holds them has a lease. What a dead
///   gateway left is removed by [`Roster::tidy`], without grace, and counted until then.
/// - **Calm.** After the store was away, nobody leaves for the time of a lease.
/// - Counting takes the same time however many members there are. Every call ends within the
///   store's deadline for each of its steps; with the store away, with [`StoreError`].
pub trait Roster: Send + Sync + Debug {
    /// Notes what a gateway holds, at most some hundred members at a time, and tells who joined.
    /// After an error some of it may have been noted, and of that not everything told.
    fn note<'a>(
        &'a self,
        node: NodeId,
        news: Vec<ChannelNews>,
        tell: &'a Tell,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Which life of the store this is: another one after it has forgotten everything. Refused
    /// while what the gateway left is being removed, for what it notes now may be removed too.
    fn life(&self, node: NodeId) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Ends graces that are over, and removes what gateways without a lease left behind. Who left
    /// is told in parts; after an error, a later call tells the rest. Made to be called each second
    /// by every gateway: one of them does it.
    fn tidy<'a>(&'a self, tell: &'a Tell) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes all that is noted of a gateway that stops, with grace.
    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Removes all that is noted of a gateway that is about to tell it anew, which may take longer
    /// than the grace: whoever it says no more of leaves after [`RETELLING`].
    fn take_back(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Some members of a channel, about `limit`, and where to go on; `None` starts. One may come
    /// twice while others come and go.
    fn members(
        &self,
        channel: ChannelName,
        cursor: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<MemberPage, StoreError>>;

    /// How many are in a channel.
    fn count(&self, channel: ChannelName) -> BoxFuture<'_, Result<MemberCount, StoreError>>;

    /// When the last connection of a user who is away went, as far as that is kept.
    fn last_seen(&self, user: UserId) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>>;
}

/// How long a gateway has for telling anew who is there.
pub const RETELLING: Duration = Duration::from_secs(60);

/// Takes who joined and left, and resolves when that is told.
pub type Tell = dyn Fn(Vec<MemberEvent>) -> BoxFuture<'static, ()> + Send + Sync;

/// Who is in a channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// A connection without a user.
    Anonymous(ConnectionId),
    /// A user, with however many connections.
    User(UserId),
}

impl Member {
    /// No other comes before this one in their order.
    pub const FIRST: Self = Self::Anonymous(ConnectionId(0));
}

/// What a gateway has to say about one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelNews {
    /// The channel.
    pub channel: ChannelName,
    /// The members for whom something has changed.
    pub members: Vec<Attendance>,
    /// Whether the gateway holds nobody in this channel any more.
    pub deserted: bool,
}

/// What one gateway holds of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attendance {
    /// Who.
    pub member: Member,
    /// Connections, on this gateway; none any more if 0.
    pub connections: u32,
    /// Since when; of a member that is in the channel already, that stays.
    pub since: Timestamp,
}

/// A user came to a channel, or left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberEvent {
    /// The channel.
    pub channel: ChannelName,
    /// The user.
    pub user: UserId,
    /// What happened.
    pub kind: MemberEventKind,
}

/// What happened to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberEventKind {
    /// The first connection came.
    Joined,
    /// The last connection is gone, since then.
    Left(Timestamp),
}

/// A member as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// Who.
    pub member: Member,
    /// Connections in the channel, on all gateways; 0 within the grace after the last one.
    pub connections: u64,
    /// When the first connection came.
    pub since: Timestamp,
}

/// Some of a channel's members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberPage {
    /// The members.
    pub members: Vec<MemberInfo>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

/// How many are in a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemberCount {
    /// Users, those within their grace included.
    pub users: u64,
    /// Connections, with and without a user.
    pub connections: u64,
}

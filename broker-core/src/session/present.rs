//! Who is in a channel, for a client that asks.

use super::{Effect, Failure, OpId, Outgoing, Pending, RequestId, Session};
use crate::{
    access::Action,
    name::{ChannelName, Interest},
    ports::{MemberCount, MemberPage},
};

/// A client's question who is in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersQuery {
    /// The channel.
    pub channel: ChannelName,
    /// Where to go on, as the answer before said; `None` starts.
    pub cursor: Option<String>,
    /// About how many members; with 0, only how many there are.
    pub limit: usize,
}

/// Who is in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// The channel.
    pub channel: ChannelName,
    /// How many there are in all.
    pub count: MemberCount,
    /// Those that were asked for; `None` if none were.
    pub page: Option<MemberPage>,
}

impl Session {
    pub(super) fn ask_members(&mut self, id: RequestId, query: MembersQuery) {
        let channel = Interest::Channel(query.channel.clone());
        if let Err(denied) = self.authorize(Action::Members, &channel) {
            return self.fail(id, denied.into());
        }
        let op = self.begin(Pending::Members(id));
        self.effects.push_back(Effect::Members { op, query });
    }

    /// The outcome of [`Effect::Members`].
    pub fn handle_members(&mut self, op: OpId, outcome: Result<Present, Failure>) {
        if let Some(Pending::Members(id)) = self.finish(op) {
            match outcome {
                Ok(present) => self.reply(id, Outgoing::Present(Box::new(present))),
                Err(failure) => self.fail(id, failure),
            }
        }
        self.close_if_drained();
    }
}

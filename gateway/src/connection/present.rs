//! Who is in a channel, for a client that asks.

use std::sync::Arc;

use broker_core::session::{MembersQuery, OpId};
use futures_util::FutureExt;

use super::conversation::{Conversation, Outcome};
use crate::roster;

impl Conversation {
    pub(super) fn look_up_members(&mut self, op: OpId, query: MembersQuery) {
        let roster = Arc::clone(&self.deps.roster);
        self.wait_for(
            async move { Outcome::Present(op, roster::look_up(&*roster, query).await) }.boxed(),
        );
    }
}

//! The start of a subscription to a pattern in a retained namespace.

use std::sync::Arc;

use broker_core::{
    ChannelPattern, ErrorCode, Interest,
    history::Start,
    retained::Readiness,
    session::{Failure, Outgoing, Reply, RequestId, Since},
};
use bytes::BytesMut;

use super::Conversation;
use crate::{
    clock,
    hub::retained::{Refusal, Watched, too_much},
};

impl Conversation {
    /// The answer, the snapshot if one is wanted, and from then on what comes live. A snapshot that
    /// does not fit is refused as a whole, and the subscription with it.
    pub(super) fn deliver_retained(
        &mut self,
        (interest, pattern): (&Interest, &ChannelPattern),
        watched: &Watched,
        (id, since): (RequestId, Option<&Since>),
        replies: &mut BytesMut,
    ) {
        // What follows is one block: nothing comes between the answer and the snapshot.
        self.push(replies);
        let values = watched.lock();
        let snapshot = since.is_some_and(Since::is_snapshot);
        if snapshot && values.readiness() == Readiness::TooMuch {
            drop(values);
            return self.refuse_snapshot(
                (id, interest),
                watched,
                (Refusal::Bounds, too_much(pattern)),
            );
        }
        let mut messages = Vec::new();
        if snapshot {
            let found = values.matching(pattern, None, clock::wall());
            messages.extend(found.filter(|message| !self.is_excluded(message)));
        }
        let replayed = messages.len();
        let start = snapshot.then_some(Start { position: None, recovered: None, replayed });
        let body = Outgoing::Subscribed { interest: interest.clone(), start };
        self.encode(&Reply { id, body }, replies);
        let room = self.outbox.room();
        for message in messages {
            self.encode_message(message, replies);
            if replies.len() > room {
                replies.clear();
                drop(values);
                return self.refuse_snapshot((id, interest), watched, (Refusal::Queue, too_long()));
            }
        }
        let count = u32::try_from(replayed).unwrap_or(u32::MAX);
        self.deps.metrics.history.replayed.inc_by(count.into());
        self.push_messages(replies, count);
        self.deps.hub.deliver(interest.clone(), Arc::clone(&self.outbox));
    }

    fn refuse_snapshot(
        &mut self,
        (id, interest): (RequestId, &Interest),
        watched: &Watched,
        (why, failure): (Refusal, Failure),
    ) {
        watched.refused(why);
        self.session.handle_refused(id, interest, failure);
    }
}

fn too_long() -> Failure {
    let text = "the snapshot is larger than what is queued for one connection: subscribe without \
                it, then read it by `GET /v1/snapshot`";
    Failure::new(ErrorCode::SnapshotTooLarge, text)
}

//! Publishes, and the order that a failed one must not break.

use super::{Effect, Failure, Now, OpId, Outgoing, Pending, Publish, RequestId, Session};
use crate::{
    access::Action,
    code::{ErrorCode, Retry},
    id::MessageId,
    message::{Exclude, Message, Options, Publisher},
    name::{ChannelName, Interest},
    ports::{Accepted, PublishError},
};

/// Failed publishes that a session remembers; with this many, it takes only retries.
pub(super) const MAX_FAILED: usize = 64;

/// A publish that is under way, or failed and is to be retried or given up.
#[derive(Debug)]
pub(super) struct Attempt {
    request: RequestId,
    channel: ChannelName,
    message: MessageId,
    /// The operation of its first attempt: its place among the connection's publishes.
    order: OpId,
}

/// Failed publishes in the order in which they were first made.
///
/// Several of one channel, where they were under way together. Each must be retried, in this
/// order, before anything new on the channel.
#[derive(Debug, Default)]
pub(super) struct Failed(Vec<Attempt>);

impl Session {
    pub(super) fn publish(&mut self, now: Now, id: RequestId, publish: Publish, entropy: u128) {
        let message = publish.id.unwrap_or_else(|| MessageId::random(entropy));
        let admitted = self
            .check_size(publish.data.len())
            .and_then(|()| {
                let interest = Interest::Channel(publish.channel.clone());
                self.authorize(Action::Publish, &interest).map_err(Failure::from)
            })
            .and_then(|()| self.failed.take_turn(&publish.channel, &message));
        let order = match admitted {
            Ok(order) => order.unwrap_or(OpId(self.next_op)),
            Err(failure) => return self.fail(id, failure.about(message)),
        };
        let exclude = Exclude {
            connections: if publish.echo { Vec::new() } else { vec![self.origin] },
            users: Vec::new(),
        };
        let options = Options { exclude, trace: publish.trace, ..Options::default() };
        let attempt = Attempt {
            request: id,
            channel: publish.channel.clone(),
            message: message.clone(),
            order,
        };
        let message = Message {
            id: message,
            channel: publish.channel,
            event: publish.event,
            data: publish.data,
            time: now.wall,
            stored: None,
            options: (options != Options::default()).then(|| Box::new(options)),
        };
        let op = self.begin(Pending::Publish(attempt));
        let publisher = self.publisher();
        self.effects.push_back(Effect::Publish { op, message, publisher });
    }

    /// For whom the log remembers message ids.
    fn publisher(&self) -> Publisher {
        match &self.identity.user {
            Some(user) => Publisher::User(user.clone()),
            None => Publisher::Connection(self.origin),
        }
    }

    pub(super) fn published(&mut self, attempt: Attempt, outcome: Result<Accepted, PublishError>) {
        let id = attempt.request;
        let error = match outcome {
            Err(error) => error,
            Ok(accepted) => {
                self.failed.settle(&attempt);
                let message = attempt.message;
                return self.reply(id, Outgoing::Published { message, accepted });
            }
        };
        let failure = Failure::from(error).about(attempt.message.clone());
        let blocks = failure.code.retry() != Retry::No;
        self.fail(id, failure);
        if blocks {
            self.hold_back_later(&attempt);
            self.failed.insert(attempt);
        }
    }

    /// Refuses the later publishes on the channel that are not handed over yet: they would
    /// overtake this one.
    fn hold_back_later(&mut self, failed: &Attempt) {
        let later: Vec<OpId> = self
            .pending
            .iter()
            .filter(
                |(_, pending)| matches!(pending, Pending::Publish(it) if it.comes_after(failed)),
            )
            .map(|(op, _)| *op)
            .collect();
        for op in later {
            let queued = self.effects.iter().position(
                |effect| matches!(effect, Effect::Publish { op: known, .. } if *known == op),
            );
            let Some(index) = queued else { continue };
            self.effects.remove(index);
            let Some(Pending::Publish(later)) = self.finish(op) else { continue };
            let refusal = blocked_by(&failed.message).about(later.message.clone());
            self.fail(later.request, refusal);
            if later.order != op {
                // A retry: what became of its earlier attempt is as open as before.
                self.failed.insert(later);
            }
        }
    }
}

impl Failed {
    /// Whether the message may be published now; if it is a retry, with its place in the order.
    fn take_turn(
        &mut self,
        channel: &ChannelName,
        message: &MessageId,
    ) -> Result<Option<OpId>, Failure> {
        match self.0.iter().position(|attempt| attempt.channel == *channel) {
            Some(first) if self.0[first].message == *message => {
                let attempt = self.0.remove(first);
                self.release();
                Ok(Some(attempt.order))
            }
            Some(first) => Err(blocked_by(&self.0[first].message)),
            None if self.0.len() >= MAX_FAILED => {
                let text = format!(
                    "{MAX_FAILED} publishes have failed: retry them, or `abandon` their channels"
                );
                Err(Failure::new(ErrorCode::PublishBlocked, text))
            }
            None => Ok(None),
        }
    }

    pub(super) fn abandon(&mut self, channel: &ChannelName) {
        self.0.retain(|attempt| attempt.channel != *channel);
        self.release();
    }

    /// The message is in: another attempt at it that failed counts no more.
    fn settle(&mut self, done: &Attempt) {
        self.0.retain(|attempt| !attempt.is_at_same(done));
        self.release();
    }

    fn insert(&mut self, attempt: Attempt) {
        if self.0.iter().any(|known| known.is_at_same(&attempt)) {
            return;
        }
        let index = self.0.partition_point(|known| known.order.is_before(attempt.order));
        self.0.insert(index, attempt);
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    fn release(&mut self) {
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }
}

impl Attempt {
    fn comes_after(&self, other: &Self) -> bool {
        self.channel == other.channel && other.order.is_before(self.order)
    }

    fn is_at_same(&self, other: &Self) -> bool {
        self.channel == other.channel && self.message == other.message
    }
}

impl OpId {
    /// Whether this operation began before the other; numbers start again after 2³².
    fn is_before(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0).cast_signed() < 0
    }
}

fn blocked_by(message: &MessageId) -> Failure {
    let text = format!("retry message `{message}` first, or send `abandon` for its channel");
    Failure::new(ErrorCode::PublishBlocked, text)
}

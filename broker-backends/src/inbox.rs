//! What others ask a gateway.

use std::{
    fmt::{self, Debug},
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use broker_core::MessageId;
use bytes::Bytes;
use tokio::sync::mpsc;

/// The questions put to this gateway.
#[derive(Debug)]
pub struct Inbox(Box<dyn Source>);

/// Where questions come from.
pub(crate) trait Source: Send + Debug {
    /// As [`Inbox::next`].
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Question>>;
}

impl Source for mpsc::Receiver<Question> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Question>> {
        self.poll_recv(cx)
    }
}

impl Inbox {
    pub(crate) fn new(source: impl Source + 'static) -> Self {
        Self(Box::new(source))
    }

    /// The next question; `None` when the bus is closed. May be cancelled without loss.
    pub async fn next(&mut self) -> Option<Question> {
        poll_fn(|cx| self.0.poll_next(cx)).await
    }
}

/// A question to this gateway.
#[derive(Debug)]
pub struct Question {
    /// Who asks what.
    pub kind: QuestionKind,
    /// The question itself.
    pub body: Bytes,
    /// W3C trace context (`traceparent`).
    pub trace: Option<Arc<str>>,
    /// What the asker calls it (`Nats-Msg-Id`), so that a repetition is known as one.
    pub message_id: Option<MessageId>,
    pub(crate) reply: Reply,
}

/// Who asks what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuestionKind {
    /// Another gateway, or this one.
    Gateway,
    /// A service, for an operation of the API such as `publish`.
    Api {
        /// The operation: the subject behind `fanfare.api.`.
        operation: String,
    },
}

/// How to answer; `None` where the asker does not wait for it.
pub(crate) struct Reply(pub(crate) Option<Box<dyn FnOnce(Bytes) + Send>>);

impl Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reply").field(&self.0.is_some()).finish()
    }
}

impl Question {
    /// Answers, if the asker waits for it; never blocks.
    pub fn answer(self, answer: Bytes) {
        if let Some(reply) = self.reply.0 {
            reply(answer);
        }
    }
}

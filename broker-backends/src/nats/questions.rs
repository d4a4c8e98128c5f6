//! The inbox: questions of other gateways to all or to this one, and of services to any.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_nats::{Client, Message, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::Select};
use tokio::task::coop::unconstrained;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{envelope, subject::Subjects};
use crate::{
    inbox::{Question, QuestionKind, Reply, Source},
    stats::{BusStats, add},
};

pub(crate) struct Questions {
    /// To all gateways, and to this one.
    ask: Select<Subscriber, Subscriber>,
    api: Subscriber,
    client: Client,
    subjects: Arc<Subjects>,
    stats: Arc<BusStats>,
    api_first: bool,
    /// The link was closed; async-nats ends no subscription while its server is away.
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Questions").finish_non_exhaustive()
    }
}

impl Questions {
    pub(super) fn new(
        (ask, api): (Select<Subscriber, Subscriber>, Subscriber),
        client: Client,
        subjects: Arc<Subjects>,
        stats: Arc<BusStats>,
        closed: CancellationToken,
    ) -> Self {
        let closed = Box::pin(closed.cancelled_owned());
        Self { ask, api, client, subjects, stats, api_first: false, closed }
    }

    fn question(&self, asked: Message, api: bool) -> Question {
        let kind = if api {
            let operation = self.subjects.operation(&asked.subject).unwrap_or_default();
            QuestionKind::Api { operation: operation.to_owned() }
        } else {
            QuestionKind::Gateway
        };
        let (trace, message_id) = envelope::decode_question(asked.headers.as_ref());
        let (client, stats) = (self.client.clone(), Arc::clone(&self.stats));
        let reply = asked.reply.map(|subject| -> Box<dyn FnOnce(Bytes) + Send> {
            Box::new(move |answer| send(&client, subject, answer, &stats))
        });
        Question { kind, body: asked.payload, trace, message_id, reply: Reply(reply) }
    }
}

impl Source for Questions {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Question>> {
        // Turn by turn, so that neither side keeps the other waiting.
        self.api_first = !self.api_first;
        for api in [self.api_first, !self.api_first] {
            let asked =
                if api { self.api.poll_next_unpin(cx) } else { self.ask.poll_next_unpin(cx) };
            let Poll::Ready(asked) = asked else { continue };
            return Poll::Ready(asked.map(|asked| self.question(asked, api)));
        }
        self.closed.poll_unpin(cx).map(|()| None)
    }
}

/// Hands the answer over if there is room at once; else it is dropped, and counted.
fn send(client: &Client, subject: Subject, answer: Bytes, stats: &BusStats) {
    let sent = unconstrained(client.publish(subject, answer)).now_or_never();
    if !matches!(sent, Some(Ok(()))) {
        add(&stats.answers_dropped, 1);
    }
}

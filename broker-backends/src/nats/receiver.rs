//! What one fan-out worker polls: its subscriptions, all together.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use broker_core::{
    Interest,
    ports::{BusEvent, GapReason},
};
use futures_util::{StreamExt, stream::SelectAll};

use super::{
    envelope::{self, Malformed},
    feed::{Chunk, Feed},
    mailbox::Mailbox,
    subject::Subjects,
};
use crate::{
    arrivals::{Inbound, Source},
    clock,
    stats::{BusStats, add},
};

/// The messages for one fan-out worker.
pub(crate) struct Receiver {
    feeds: SelectAll<Feed>,
    mailbox: Arc<Mailbox>,
    registered: Option<Waker>,
    /// Ready, but not yet asked for.
    rest: VecDeque<Inbound>,
    closed: bool,
    subjects: Arc<Subjects>,
    stats: Arc<BusStats>,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("feeds", &self.feeds.len()).finish_non_exhaustive()
    }
}

impl Receiver {
    pub(super) fn new(
        mailbox: Arc<Mailbox>,
        subjects: Arc<Subjects>,
        stats: Arc<BusStats>,
    ) -> Self {
        Self {
            feeds: SelectAll::new(),
            mailbox,
            registered: None,
            rest: VecDeque::new(),
            closed: false,
            subjects,
            stats,
        }
    }

    fn take_news(&mut self, cx: &Context<'_>) {
        let Some(mut news) = self.mailbox.take(cx, &mut self.registered) else { return };
        self.feeds.extend(news.feeds.drain(..));
        self.closed = news.closed;
        self.rest.extend(news.gaps().map(|event| Inbound { event, handled: None }));
    }

    fn read(&mut self, Chunk { interest, messages }: Chunk) {
        let now = clock::now();
        add(&self.stats.received, messages.len() as u64);
        for raw in messages {
            let channel = match &interest {
                Interest::Channel(channel) => Some(channel.clone()),
                Interest::Pattern(_) => self.subjects.channel(&raw.subject),
            };
            let message = channel.ok_or(Malformed("the subject")).and_then(|channel| {
                envelope::decode(channel, raw.headers.as_ref(), raw.payload, now, rand::random)
            });
            let event = match message {
                Ok(message) => BusEvent::Message { via: interest.clone(), message },
                Err(malformed) => {
                    add(&self.stats.malformed, 1);
                    tracing::debug!(subject = %raw.subject, %malformed, "a message cannot be delivered");
                    BusEvent::Gap { interest: Some(interest.clone()), reason: GapReason::Malformed }
                }
            };
            self.rest.push_back(Inbound { event, handled: None });
        }
    }
}

impl Source for Receiver {
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Inbound>,
        max: usize,
    ) -> Poll<bool> {
        self.take_news(cx);
        let mut taken = 0;
        loop {
            let ready = self.rest.len().min(max - taken);
            batch.extend(self.rest.drain(..ready));
            taken += ready;
            if taken == max {
                return Poll::Ready(true);
            }
            match self.feeds.poll_next_unpin(cx) {
                Poll::Ready(Some(chunk)) => self.read(chunk),
                // No feed at all: the mailbox wakes when there is one.
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        match taken {
            0 if self.closed => Poll::Ready(false),
            0 => Poll::Pending,
            _ => Poll::Ready(true),
        }
    }
}

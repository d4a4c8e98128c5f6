//! One subscription, in chunks.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use async_nats::Subscriber;
use broker_core::Interest;
use futures_util::{Stream, StreamExt, stream::Abortable};

/// Messages of one subscription that are taken together.
const CHUNK: usize = 64;

/// One interest's messages.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) interest: Interest,
    pub(super) subscriber: Abortable<Subscriber>,
}

pub(super) struct Chunk {
    pub(super) interest: Interest,
    pub(super) messages: Vec<async_nats::Message>,
}

impl Stream for Feed {
    type Item = Chunk;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
        let mut messages = Vec::new();
        while messages.len() < CHUNK {
            match self.subscriber.poll_next_unpin(cx) {
                Poll::Ready(Some(message)) => messages.push(message),
                Poll::Ready(None) if messages.is_empty() => return Poll::Ready(None),
                Poll::Pending if messages.is_empty() => return Poll::Pending,
                // What was taken comes first; the end, or the wake, at the next poll.
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Some(Chunk { interest: self.interest.clone(), messages }))
    }
}

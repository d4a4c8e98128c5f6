//! What one fan-out worker polls: its messages, read where they are wanted.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};

use broker_core::{
    Interest, Message, Namespace, Offset,
    message::Stored,
    ports::{BusEvent, GapReason},
};

use super::{
    envelope::{self, Malformed},
    mailbox::{Arrival, Mailbox, Parcel},
    streams::Streams,
    subject::Subjects,
};
use crate::{
    arrivals::{Inbound, Source},
    clock,
    stats::{BusStats, add},
};

/// The messages for one fan-out worker.
#[derive(Debug)]
pub(crate) struct Receiver {
    mailbox: Arc<Mailbox>,
    /// Taken, but not yet asked for.
    parcel: Parcel,
    subjects: Arc<Subjects>,
    streams: Arc<Streams>,
    /// The last offset that came of each namespace.
    offsets: HashMap<Namespace, Offset>,
    stats: Arc<BusStats>,
}

impl Receiver {
    pub(super) fn new(
        mailbox: Arc<Mailbox>,
        subjects: Arc<Subjects>,
        streams: Arc<Streams>,
        stats: Arc<BusStats>,
    ) -> Self {
        let (parcel, offsets) = (Parcel::default(), HashMap::new());
        Self { mailbox, parcel, subjects, streams, offsets, stats }
    }

    fn next(&mut self) -> Option<BusEvent> {
        if let Some(gap) = self.parcel.gaps.pop_front() {
            return Some(gap);
        }
        let arrival = self.parcel.arrivals.pop_front()?;
        Some(self.read(arrival))
    }

    fn read(&mut self, arrival: Arrival) -> BusEvent {
        add(&self.stats.received, 1);
        let Arrival { interest, subject, headers, payload } = arrival;
        let block = &self.parcel.block;
        let channel = match &interest {
            Interest::Channel(channel) => Some(channel.clone()),
            Interest::Pattern(_) => {
                std::str::from_utf8(&block[subject]).ok().and_then(|it| self.subjects.channel(it))
            }
        };
        let stream = channel.as_ref().and_then(|channel| self.streams.of(channel.namespace()));
        let epoch = stream.and_then(|stream| stream.epoch());
        if stream.is_some() && epoch.is_none() {
            // Nobody can say where it stands; the log will.
            return BusEvent::Gap { interest: Some(interest), reason: GapReason::Lost };
        }
        let message = channel.ok_or(Malformed("the subject")).and_then(|channel| {
            let (headers, payload) = (&block[headers], block.slice(payload));
            match epoch {
                Some(epoch) => envelope::decode_live(channel, headers, payload, epoch),
                None => envelope::decode(channel, headers, payload, clock::now(), rand::random),
            }
        });
        if let Ok(Message { channel, stored: Some(Stored { epoch, offset, .. }), .. }) = &message {
            stream.into_iter().for_each(|stream| stream.note_given(*epoch, *offset));
            self.watch(channel.namespace(), *offset);
        }
        match message {
            Ok(message) => BusEvent::Message { via: interest, message },
            Err(malformed) => {
                add(&self.stats.malformed, 1);
                tracing::debug!(%interest, %malformed, "a message cannot be delivered");
                BusEvent::Gap { interest: Some(interest), reason: GapReason::Malformed }
            }
        }
    }
}

impl Receiver {
    /// Offsets come in order; unless the stream was created anew, or set back.
    fn watch(&mut self, namespace: &str, offset: Offset) {
        match self.offsets.get_mut(namespace) {
            Some(last) if offset < *last => {
                *last = offset;
                self.streams.doubt();
            }
            Some(last) => *last = offset,
            None => {
                let known = namespace.parse().map(|namespace| (namespace, offset));
                self.offsets.extend(known);
            }
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
        let mut taken = 0;
        while taken < max {
            if let Some(event) = self.next() {
                batch.push(Inbound { event, handled: None });
                taken += 1;
                continue;
            }
            match self.mailbox.poll_next(cx) {
                Poll::Ready(Some(parcel)) => self.parcel = parcel,
                Poll::Ready(None) if taken == 0 => return Poll::Ready(false),
                Poll::Pending if taken == 0 => return Poll::Pending,
                // What was taken comes first.
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(true)
    }
}

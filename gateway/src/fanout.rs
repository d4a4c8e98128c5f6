//! From the bus to the sockets: hot path 2.
//!
//! What the bus has ready is one batch. Messages of a batch that follow each other on one channel
//! become one block of frames, encoded once and shared by all subscribers.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use broker_backends::{BusEvents, Inbound};
use broker_core::{
    ConnectionId, Interest, Message,
    ports::{BusEvent, GapReason},
};
use broker_protocol::native;
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::{
    clock,
    hub::{Hub, Subscriber},
    outbox::{Outbox, Pushed},
    telemetry::{Metrics, Tracing},
};

/// Most that is taken from the bus at once: enough to join frames, not enough to delay others.
const BATCH: usize = 1024;
/// A subscription older than this has got every earlier copy of a message just published.
const SETTLED: Duration = Duration::from_secs(2);

/// Delivers what arrives until the bus is closed.
pub(crate) async fn run(mut events: BusEvents, fanout: Fanout) {
    let mut batch = Vec::with_capacity(BATCH);
    while events.next_batch(&mut batch, BATCH).await {
        fanout.deliver(&batch);
        batch.clear();
    }
}

/// One of the workers that deliver; each channel belongs to one of them.
#[derive(Debug)]
pub(crate) struct Fanout {
    pub(crate) hub: Arc<Hub>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tracing: Arc<Tracing>,
    /// Whether this worker tells all connections of gaps that concern every channel.
    pub(crate) tells_all: bool,
}

impl Fanout {
    fn deliver(&self, batch: &[Inbound]) {
        let mut touched = Touched { single: batch.len() == 1, outboxes: Vec::new() };
        let mut rest = batch;
        while let Some(first) = rest.first() {
            let run = match &first.event {
                BusEvent::Gap { interest, reason } => {
                    self.tell_gap(interest.as_ref(), *reason);
                    1
                }
                BusEvent::Message { via, message } if message.options.is_some() => {
                    self.deliver_single(via, message, &mut touched);
                    1
                }
                BusEvent::Message { via, .. } => {
                    let run = rest.iter().take_while(|next| is_plain(next, via)).count();
                    self.deliver_run(via, &rest[..run], &mut touched);
                    run
                }
            };
            rest = &rest[run..];
        }
        for outbox in &touched.outboxes {
            outbox.flush();
        }
        self.note_latency(batch);
    }

    /// Messages without options that came one after the other by the same interest.
    fn deliver_run(&self, via: &Interest, run: &[Inbound], touched: &mut Touched) {
        let mut block = BytesMut::new();
        for message in messages(run) {
            native::encode_message(message, &mut block);
        }
        let (block, count) = (block.freeze(), u32::try_from(run.len()).unwrap_or(u32::MAX));
        let mut delivered = 0;
        self.hub.subscribers().for_each(via, |_, subscriber| {
            if subscriber.outbox.is_overlapping() {
                for message in messages(run) {
                    delivered += self.deliver_first_copy(via, message, &subscriber.outbox, touched);
                }
            } else {
                delivered += self.push(&subscriber.outbox, &block, count, touched);
            }
        });
        self.metrics.delivered(
            via.namespace(),
            delivered,
            block.len() as u64 / u64::from(count.max(1)),
        );
    }

    /// A message that some subscribers may not get.
    fn deliver_single(&self, via: &Interest, message: &Message, touched: &mut Touched) {
        let Some(options) = &message.options else { return };
        if message.has_expired(clock::wall()) {
            return self.metrics.dropped("expired", 1);
        }
        let span = self.tracing.deliver(message);
        let covered = self.reached_by_earlier_targets(message);
        let frame = encode(message);
        let mut delivered = 0;
        self.hub.subscribers().for_each(via, |id, subscriber| {
            let outbox = &subscriber.outbox;
            if options.exclude.covers(id, outbox.user()) || covered.contains(&id) {
                return;
            }
            delivered += if outbox.is_overlapping() {
                self.deliver_first_copy(via, message, outbox, touched)
            } else {
                self.push(outbox, &frame, 1, touched)
            };
        });
        self.metrics.delivered(via.namespace(), delivered, frame.len() as u64);
        if let Some(span) = span {
            span.delivered(delivered);
        }
    }

    /// Connections that get another copy of this message, on a channel named before this one.
    fn reached_by_earlier_targets(&self, message: &Message) -> HashSet<ConnectionId> {
        let now = Instant::now();
        let mut reached = HashSet::new();
        for target in message.earlier_targets() {
            self.hub.subscribers().for_each_reached(target, |id, Subscriber { since, .. }| {
                if now.saturating_duration_since(*since) > SETTLED {
                    reached.insert(id);
                }
            });
        }
        reached
    }

    fn deliver_first_copy(
        &self,
        via: &Interest,
        message: &Message,
        outbox: &Arc<Outbox>,
        touched: &mut Touched,
    ) -> u64 {
        if !outbox.is_first_copy(fingerprint(message), via) {
            return 0;
        }
        self.push(outbox, &encode(message), 1, touched)
    }

    fn push(
        &self,
        outbox: &Arc<Outbox>,
        block: &Bytes,
        messages: u32,
        touched: &mut Touched,
    ) -> u64 {
        let pushed = if touched.single {
            outbox.deliver(block, messages)
        } else {
            touched.outboxes.push(Arc::clone(outbox));
            outbox.push(block, messages)
        };
        match pushed {
            Pushed::Taken => u64::from(messages),
            Pushed::Closed => 0,
            Pushed::Overflow { lost } => {
                self.metrics.slow_client();
                self.metrics.dropped("queue_full", u64::from(lost));
                0
            }
        }
    }

    fn tell_gap(&self, interest: Option<&Interest>, reason: GapReason) {
        if interest.is_none() && !self.tells_all {
            return;
        }
        self.metrics.gap(reason);
        let place = interest.map_or("any subscribed channel", Interest::as_str);
        tracing::warn!(reason = reason.as_str(), channel = place, "messages may have been lost");
        let mut frame = BytesMut::new();
        native::encode_gap(interest, reason, &mut frame);
        let frame = frame.freeze();
        match interest {
            Some(interest) => self.hub.subscribers().for_each(interest, |_, subscriber| {
                subscriber.outbox.deliver(&frame, 0);
            }),
            None => self.hub.for_each_connection(|outbox| {
                outbox.deliver(&frame, 0);
            }),
        }
    }

    fn note_latency(&self, batch: &[Inbound]) {
        let now = clock::wall();
        for message in messages(batch) {
            self.metrics.delivery_latency(now.0.saturating_sub(message.time.0));
        }
    }
}

/// The connections whose queues a batch filled, to be written at its end. A message that came
/// alone is written at once.
struct Touched {
    single: bool,
    outboxes: Vec<Arc<Outbox>>,
}

fn is_plain(inbound: &Inbound, wanted: &Interest) -> bool {
    matches!(&inbound.event, BusEvent::Message { via, message } if via == wanted && message.options.is_none())
}

fn messages(batch: &[Inbound]) -> impl Iterator<Item = &Message> {
    batch.iter().filter_map(|inbound| match &inbound.event {
        BusEvent::Message { message, .. } => Some(message),
        BusEvent::Gap { .. } => None,
    })
}

fn encode(message: &Message) -> Bytes {
    let mut frame = BytesMut::new();
    native::encode_message(message, &mut frame);
    frame.freeze()
}

/// The same for copies of one message. Ids do not serve: what a service put on the bus without
/// one gets a fresh id for each copy.
fn fingerprint(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.channel.hash(&mut hasher);
    message.event.hash(&mut hasher);
    match &message.data {
        broker_core::Data::Json(text) => text.as_bytes().hash(&mut hasher),
        broker_core::Data::Binary(bytes) => bytes.hash(&mut hasher),
    }
    hasher.finish()
}

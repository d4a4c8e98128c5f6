//! From the bus to the sockets: hot path 2.
//!
//! What the bus has ready is one batch. Messages of a batch that follow each other on one channel
//! become one block of frames, encoded once and shared by all subscribers.

mod block;
mod catch_up;
mod marked;
mod redelivery;
mod retained;
mod stored;

use std::{
    cell::OnceCell,
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    iter,
    ops::Range,
    sync::Arc,
    time::Duration,
};

use broker_backends::{BusEvents, Inbound};
use broker_core::{
    ConnectionId, Interest, Message,
    ports::{BusEvent, GapReason},
};
use broker_protocol::ws::deflate;
use bytes::Bytes;
use tokio::{
    task,
    time::{self, Instant},
};

use crate::{
    clock,
    hub::{CANARY_NAMESPACE, Hub, Subscriber},
    outbox::{Outbox, Pushed},
    telemetry::{ActiveSpan, Metrics, Tracing},
};
use block::{Block, Compressor, Gap};
pub(crate) use catch_up::run as catch_up;
pub(crate) use redelivery::run as redeliver;
pub(crate) use retained::keep_retained;

/// Most that is taken from the bus at once: enough to join frames, not enough to delay others.
const BATCH: usize = 1024;
/// Bodies that are joined to one block. A slow client holds a whole block until it has read it.
const BLOCK_BYTES: usize = 64 * 1024;
/// Deliveries after which others have their turn on this thread.
const TURN_DELIVERIES: u64 = 8 * 1024;

/// A subscription older than this has got every earlier copy of a message just published.
const SETTLED: Duration = Duration::from_millis(200);
/// Copies that wait for [`SETTLED`] at once; further ones are not waited for.
const MAX_LATE: usize = 4096;

/// How often a gap is logged at most; all are counted.
const LOG_GAPS: Duration = Duration::from_secs(1);

/// Delivers what arrives until the bus is closed.
pub(crate) async fn run(mut events: BusEvents, fanout: Arc<Fanout>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut touched = Touched::default();
    let mut delivered = 0;
    loop {
        let open = match touched.late.front().map(|late| late.due) {
            None => events.next_batch(&mut batch, BATCH).await,
            Some(due) => tokio::select! {
                open = events.next_batch(&mut batch, BATCH) => open,
                () = time::sleep_until(due) => true,
            },
        };
        if !open {
            return;
        }
        delivered += fanout.deliver(&batch, &mut touched);
        fanout.deliver_late(&mut touched, Some(Instant::now()));
        batch.clear();
        if delivered >= TURN_DELIVERIES {
            delivered = 0;
            task::yield_now().await;
        }
    }
}

/// One of the workers that deliver; each channel belongs to one of them.
#[derive(Debug)]
pub(crate) struct Fanout {
    pub(crate) hub: Arc<Hub>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tracing: Arc<Tracing>,
    /// What is compressed for those who can read it.
    pub(crate) compression: Option<deflate::Policy>,
    /// Whether this worker tells all connections that the bus was lost: it is for all workers.
    pub(crate) tells_all: bool,
}

/// What a batch has touched so far. Kept from batch to batch for its memory.
#[derive(Debug, Default)]
struct Touched {
    /// A message that came alone is written at once.
    alone: bool,
    /// The connections to be written to at the end.
    outboxes: Vec<Arc<Outbox>>,
    /// Of the messages that are traced, until they are written, and how many get each.
    spans: Vec<(ActiveSpan, u64)>,
    /// What of the batch somebody got.
    delivered: Vec<Range<usize>>,
    /// Bytes queued or written since they were last counted.
    bytes: u64,
    /// Copies that are delivered only if no other copy of their message is until then.
    late: VecDeque<Late>,
    gaps: GapLog,
}

/// When a gap was last logged, and how many were not since.
#[derive(Debug, Default)]
struct GapLog {
    last: Option<Instant>,
    unlogged: u64,
}

/// A message that is a block of its own.
type Single<'a> = Block<iter::Once<&'a Message>>;

/// One of the copies of a message to several targets.
struct TargetCopy<'a> {
    via: &'a Interest,
    /// The same for all copies.
    message: u64,
    frame: &'a Single<'a>,
    /// Who is subscribed to a target named before this one, and since when.
    earlier: HashMap<ConnectionId, Instant>,
}

/// A copy of a message to several targets, on its way to a connection that has just subscribed to
/// an earlier one of them: perhaps in time for that target's copy, perhaps too late.
#[derive(Debug)]
struct Late {
    due: Instant,
    outbox: Arc<Outbox>,
    via: Interest,
    message: u64,
    frame: Bytes,
}

impl Fanout {
    /// Says how many deliveries that were.
    fn deliver(&self, batch: &[Inbound], touched: &mut Touched) -> u64 {
        touched.alone = batch.len() == 1;
        let (mut at, mut total) = (0, 0);
        while let Some(first) = batch.get(at) {
            let (run, delivered) = match &first.event {
                BusEvent::Gap { interest, reason } => {
                    self.tell_gap(interest.as_ref(), *reason, &mut touched.gaps);
                    (1, 0)
                }
                BusEvent::Message { via, message } if message.stored.is_some() => {
                    let run = stored::run_length(&batch[at..], via);
                    (run, self.deliver_stored(via, &batch[at..at + run], touched))
                }
                BusEvent::Message { via, message } if message.options.is_some() => {
                    (1, self.deliver_single(via, message, touched))
                }
                BusEvent::Message { via, .. } => {
                    let run = run_length(&batch[at..], via);
                    (run, self.deliver_run(via, &messages(&batch[at..at + run]), touched))
                }
            };
            if delivered > 0 {
                touched.delivered.push(at..at + run);
            }
            total += delivered;
            at += run;
        }
        touched.write();
        let now = clock::wall();
        for message in touched.delivered.drain(..).flat_map(|run| messages(&batch[run])) {
            self.metrics.delivery_latency(now.0.saturating_sub(message.time.0));
        }
        total
    }

    /// Messages without options that came one after the other by the same interest.
    fn deliver_run<'a>(
        &self,
        via: &Interest,
        run: &(impl Iterator<Item = &'a Message> + Clone),
        touched: &mut Touched,
    ) -> u64 {
        let block = Block::new(run.clone());
        let copies = OnceCell::new();
        let make_copies = || {
            run.clone().map(|it| (Print::of(it), Block::new(iter::once(it)))).collect::<Vec<_>>()
        };
        let mut delivered = 0;
        self.hub.subscribers().for_each(via, |_, Subscriber { outbox, .. }| {
            if !outbox.is_overlapping() {
                delivered += self.push(outbox, via, &block, touched);
                return;
            }
            for (print, copy) in copies.get_or_init(make_copies) {
                delivered += self.push_first_copy(outbox, via, (*print, copy), touched);
            }
        });
        self.count(via, delivered, touched)
    }

    /// A message that some subscribers may not get.
    fn deliver_single(&self, via: &Interest, message: &Message, touched: &mut Touched) -> u64 {
        let Some(options) = &message.options else { return 0 };
        if message.has_expired(clock::wall()) {
            self.metrics.dropped("expired", self.hub.subscribers().count(via) as u64);
            return 0;
        }
        let span = self.tracing.deliver(message);
        let frame = Block::new(iter::once(message));
        let print = OnceCell::new();
        let target = options.targets.as_ref().map(|_| TargetCopy {
            via,
            message: hash(&message.id),
            frame: &frame,
            earlier: self.subscribed_to_earlier_targets(message),
        });
        let mut delivered = 0;
        self.hub.subscribers().for_each(via, |id, Subscriber { outbox, .. }| {
            if outbox.is_excluded(&options.exclude) {
                return;
            }
            delivered += if let Some(target) = &target {
                self.push_target(id, outbox, target, touched)
            } else if outbox.is_overlapping() {
                let print = *print.get_or_init(|| Print::of(message));
                self.push_first_copy(outbox, via, (print, &frame), touched)
            } else {
                self.push(outbox, via, &frame, touched)
            };
        });
        touched.spans.extend(span.map(|span| (span, delivered)));
        self.count(via, delivered, touched)
    }

    /// Connections that get another copy of this message, on a channel named before this one, and
    /// since when they are subscribed to it.
    fn subscribed_to_earlier_targets(&self, message: &Message) -> HashMap<ConnectionId, Instant> {
        let mut subscribed = HashMap::new();
        for target in message.earlier_targets() {
            self.hub.subscribers().for_each_reached(target, |id, Subscriber { since, .. }| {
                let first = subscribed.entry(id).or_insert(*since);
                *first = (*first).min(*since);
            });
        }
        subscribed
    }

    /// A connection takes the copy of the first target that it is subscribed to. Where it
    /// subscribed so lately that this copy may have passed before, the next one waits a moment,
    /// and is then taken if the first did not come.
    fn push_target(
        &self,
        connection: ConnectionId,
        outbox: &Arc<Outbox>,
        copy: &TargetCopy<'_>,
        touched: &mut Touched,
    ) -> u64 {
        let now = Instant::now();
        let frame = || copy.frame.bytes_for(outbox, &self.compressor());
        match copy.earlier.get(&connection) {
            Some(since) if now.saturating_duration_since(*since) > SETTLED => 0,
            Some(_) if touched.late.len() < MAX_LATE => {
                touched.late.push_back(Late {
                    due: now + SETTLED,
                    outbox: Arc::clone(outbox),
                    via: copy.via.clone(),
                    message: copy.message,
                    frame: frame().clone(),
                });
                0
            }
            _ if copy.frame.is_stored() && outbox.is_tracked() => {
                self.push_marked(outbox, (copy.via, Some(copy.message)), copy.frame, touched)
            }
            _ => {
                let frame = frame();
                let pushed = outbox.push_new(copy.message, frame);
                pushed.map_or(0, |pushed| self.note(pushed, outbox, (1, frame.len()), touched))
            }
        }
    }

    /// What is due by then; `None`: all.
    fn deliver_late(&self, touched: &mut Touched, by: Option<Instant>) {
        let is_due = |late: &Late| by.is_none_or(|by| late.due <= by);
        while touched.late.front().is_some_and(is_due) {
            let Some(late) = touched.late.pop_front() else { break };
            // It may have been told meanwhile that it is subscribed no longer.
            if !self.hub.subscribers().contains(&late.via, late.outbox.id()) {
                continue;
            }
            if let Some(pushed) = late.outbox.push_new(late.message, &late.frame) {
                let delivered = self.note(pushed, &late.outbox, (1, late.frame.len()), touched);
                self.count(&late.via, delivered, touched);
            }
        }
        touched.write();
    }

    fn push<'a>(
        &self,
        outbox: &Arc<Outbox>,
        via: &Interest,
        block: &Block<impl Iterator<Item = &'a Message> + Clone>,
        touched: &mut Touched,
    ) -> u64 {
        if outbox.is_tracked() && block.is_stored() {
            return self.push_marked(outbox, (via, None), block, touched);
        }
        let bytes = block.bytes_for(outbox, &self.compressor());
        let pushed = if touched.alone {
            outbox.deliver(bytes, block.count)
        } else {
            outbox.push(bytes, block.count)
        };
        self.note(pushed, outbox, (block.count, bytes.len()), touched)
    }

    fn push_first_copy(
        &self,
        outbox: &Arc<Outbox>,
        via: &Interest,
        (print, copy): (Print, &Single<'_>),
        touched: &mut Touched,
    ) -> u64 {
        if let (Print::Own(print), true) = (print, outbox.is_tracked()) {
            return self.push_marked(outbox, (via, Some(print)), copy, touched);
        }
        let bytes = copy.bytes_for(outbox, &self.compressor());
        let pushed = match print {
            Print::Own(print) => outbox.push_new(print, bytes),
            Print::Alike(print) => outbox.push_first_copy(print, via, bytes),
        };
        pushed.map_or(0, |pushed| self.note(pushed, outbox, (1, bytes.len()), touched))
    }

    fn compressor(&self) -> Compressor<'_> {
        Compressor { policy: self.compression, metrics: &self.metrics }
    }

    fn note(
        &self,
        pushed: Pushed,
        outbox: &Arc<Outbox>,
        (messages, bytes): (u32, usize),
        touched: &mut Touched,
    ) -> u64 {
        match pushed {
            Pushed::Taken | Pushed::Unwritten => {
                if pushed == Pushed::Unwritten {
                    touched.outboxes.push(Arc::clone(outbox));
                }
                touched.bytes += bytes as u64;
                u64::from(messages)
            }
            Pushed::Closed => {
                self.metrics.dropped("connection_lost", messages.into());
                0
            }
            Pushed::Overflow { lost } => {
                self.metrics.slow_client(lost);
                0
            }
        }
    }

    /// The gateway's own canary is no delivery to anybody.
    fn count(&self, via: &Interest, delivered: u64, touched: &mut Touched) -> u64 {
        let bytes = std::mem::take(&mut touched.bytes);
        if via.namespace() == CANARY_NAMESPACE {
            return 0;
        }
        self.metrics.delivered(via.namespace(), delivered, bytes);
        delivered
    }

    /// What a log cannot make good is told.
    fn tell_gap(&self, interest: Option<&Interest>, reason: GapReason, log: &mut GapLog) {
        // Any other happened to this worker alone.
        if interest.is_none() && reason == GapReason::Reconnected && !self.tells_all {
            return;
        }
        match interest {
            // The log has what is missing.
            Some(interest) if self.hub.recover(interest) => return,
            Some(interest) => {
                if let Some(watched) = self.hub.watched_by(interest) {
                    return self.doubt_retained(watched, reason, log);
                }
            }
            None => {
                self.hub.feeds().into_iter().for_each(|feeds| feeds.doubt_all());
                self.hub.retained().iter().for_each(|watched| watched.doubt());
            }
        }
        self.announce_gap(interest, reason, log);
    }

    fn announce_gap(&self, interest: Option<&Interest>, reason: GapReason, log: &mut GapLog) {
        self.metrics.gap(reason);
        if let Some(unlogged) = log.note(Instant::now()) {
            let (reason, channel) =
                (reason.as_str(), interest.map_or("any subscribed channel", Interest::as_str));
            tracing::warn!(reason, channel, unlogged, "messages may have been lost");
        }
        let gap = Gap::new(interest, reason);
        let tell = |outbox: &Outbox| {
            if let Pushed::Overflow { lost } = outbox.deliver(&gap.bytes_for(outbox), 0) {
                self.metrics.slow_client(lost);
            }
        };
        match interest {
            Some(interest) => {
                // The bus ended this one alone.
                if reason == GapReason::Reconnected {
                    self.hub.doubt(interest);
                }
                self.hub.subscribers().for_each(interest, |_, subscriber| tell(&subscriber.outbox));
            }
            // Who is not connected yet has nothing to miss.
            None => self.hub.for_each_connection(|outbox| {
                if outbox.info().is_some() {
                    tell(outbox);
                }
            }),
        }
    }
}

impl Touched {
    /// Writes what is queued, as far as the sockets take it.
    fn write(&mut self) {
        for outbox in self.outboxes.drain(..) {
            outbox.flush();
        }
        for (span, connections) in self.spans.drain(..) {
            span.delivered(connections);
        }
    }
}

impl GapLog {
    /// Whether another one is to be logged: with how many were not since the last.
    fn note(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < LOG_GAPS) {
            self.unlogged += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

fn is_plain(inbound: &Inbound, wanted: &Interest) -> bool {
    matches!(&inbound.event, BusEvent::Message { via, message }
        if via == wanted && message.options.is_none() && message.stored.is_none())
}

/// How many messages of the front make one block: without options, and by the same interest.
fn run_length(batch: &[Inbound], via: &Interest) -> usize {
    let mut bytes = 0;
    let run = batch.iter().take_while(|next| {
        let has_room = bytes < BLOCK_BYTES;
        if let BusEvent::Message { message, .. } = &next.event {
            bytes += message.data.len();
        }
        has_room && is_plain(next, via)
    });
    run.count().max(1)
}

fn messages(batch: &[Inbound]) -> impl Iterator<Item = &Message> + Clone {
    batch.iter().filter_map(|inbound| match &inbound.event {
        BusEvent::Message { message, .. } => Some(message),
        BusEvent::Gap { .. } => None,
    })
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// By what copies of one message are told from other messages.
#[derive(Debug, Clone, Copy)]
enum Print {
    /// No other message has it: the place in the log.
    Own(u64),
    /// Others may have it. Ids do not serve: what a service put on the bus without one gets a
    /// fresh id for each copy.
    Alike(u64),
}

impl Print {
    fn of(message: &Message) -> Self {
        let mut hasher = DefaultHasher::new();
        message.channel.hash(&mut hasher);
        if let Some(position) = message.position() {
            position.hash(&mut hasher);
            return Self::Own(hasher.finish());
        }
        message.event.hash(&mut hasher);
        match &message.data {
            broker_core::Data::Json(text) => text.as_bytes().hash(&mut hasher),
            broker_core::Data::Binary(bytes) => bytes.hash(&mut hasher),
        }
        Self::Alike(hasher.finish())
    }
}

#[cfg(test)]
mod instructions;
#[cfg(test)]
mod tests;

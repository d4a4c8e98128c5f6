//! What waits for one fan-out worker: messages and gaps in order, bounded in number and bytes.
//!
//! Messages are copied out of the read buffer into one block for each read and worker. So a
//! message that is kept keeps at most what came with it for the same worker, never the buffer, and
//! the bytes that wait are known.

use std::{
    collections::{HashSet, VecDeque},
    ops::Range,
    task::{Context, Poll, Waker},
};

use broker_core::{
    Interest,
    ports::{BusEvent, GapReason},
};
use bytes::Bytes;
use parking_lot::Mutex;

use super::wire::Delivery;

/// Bytes that wait for one worker; a single message may be larger.
const MAX_BYTES: usize = 64 << 20;
/// Interests with a gap that are told one by one; beyond, the gap is everywhere.
const MAX_GAPS: usize = 1024;

/// Messages that came together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    block: Vec<u8>,
    arrivals: Vec<Arrival>,
}

/// One message: what brought it, and where in the block it stands.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) interest: Interest,
    /// Empty for a channel, whose subject is known.
    pub(super) subject: Range<usize>,
    pub(super) headers: Range<usize>,
    pub(super) payload: Range<usize>,
}

impl Batch {
    pub(super) fn add(&mut self, interest: &Interest, delivery: &Delivery<'_>) {
        let subject = match interest {
            Interest::Channel(_) => &[],
            Interest::Pattern(_) => delivery.subject,
        };
        self.block.reserve(subject.len() + delivery.headers.len() + delivery.payload.len());
        let mut copy = |part: &[u8]| {
            let start = self.block.len();
            self.block.extend_from_slice(part);
            start..self.block.len()
        };
        self.arrivals.push(Arrival {
            interest: interest.clone(),
            subject: copy(subject),
            headers: copy(delivery.headers),
            payload: copy(delivery.payload),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }
}

/// What a worker takes at once: gaps, and the messages that came after them.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    pub(super) gaps: VecDeque<BusEvent>,
    pub(super) block: Bytes,
    pub(super) arrivals: VecDeque<Arrival>,
    /// What it takes of [`MAX_BYTES`].
    size: usize,
}

/// The queue of one worker. Nobody waits to fill it: what has no room is dropped, and told as a gap
/// in its place.
#[derive(Debug)]
pub(super) struct Mailbox {
    capacity: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    parcels: VecDeque<Parcel>,
    /// Messages and gaps in the parcels.
    events: usize,
    bytes: usize,
    /// Gaps after all parcels.
    gaps: Gaps,
    /// The last messages had no room.
    overrun: bool,
    closed: bool,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Gaps {
    reconnected: bool,
    overrun: bool,
    places: HashSet<(Interest, GapReason)>,
}

impl Mailbox {
    /// `capacity`: messages that may wait.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, queue: Mutex::default() }
    }

    /// Queues messages, and says how many had no room. After one had none, nothing has until the
    /// queue is half empty: else under overload a gap would be told before each few messages, which
    /// costs more than they do.
    pub(super) fn deliver(&self, batch: Batch) -> usize {
        self.put(|queue| {
            let Batch { block, arrivals } = batch;
            let mut arrivals = VecDeque::from(arrivals);
            let size = block.capacity();
            let dropped = arrivals.split_off(self.room(queue, size).min(arrivals.len()));
            queue.overrun = !dropped.is_empty();
            if !arrivals.is_empty() {
                let gaps = std::mem::take(&mut queue.gaps).into_events();
                queue.events += gaps.len() + arrivals.len();
                queue.bytes += size;
                queue.parcels.push_back(Parcel { gaps, block: block.into(), arrivals, size });
            }
            let count = dropped.len();
            for arrival in dropped {
                queue.gaps.note(arrival.interest, GapReason::Overrun);
            }
            count
        })
    }

    /// How many messages have room, if together they take `size` bytes.
    fn room(&self, queue: &Queue, size: usize) -> usize {
        let half_empty = queue.events <= self.capacity / 2 && queue.bytes <= MAX_BYTES / 2;
        let fits = queue.parcels.is_empty() || queue.bytes + size <= MAX_BYTES;
        if fits && (half_empty || !queue.overrun) {
            self.capacity.saturating_sub(queue.events)
        } else {
            0
        }
    }

    /// The connection was lost, and is there again.
    pub(super) fn reconnected(&self) {
        self.put(|queue| queue.gaps.reconnected = true);
    }

    /// The server stopped sending messages for one interest.
    pub(super) fn silenced(&self, interest: Interest) {
        self.put(|queue| queue.gaps.note(interest, GapReason::Reconnected));
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.put(|queue| queue.closed = true);
    }

    fn put<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let (outcome, waker) = {
            let mut queue = self.queue.lock();
            (change(&mut queue), queue.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        outcome
    }

    /// The next parcel; `None` when the bus was closed and all is taken.
    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Parcel>> {
        let mut queue = self.queue.lock();
        if let Some(parcel) = queue.parcels.pop_front() {
            queue.events -= parcel.gaps.len() + parcel.arrivals.len();
            queue.bytes -= parcel.size;
            return Poll::Ready(Some(parcel));
        }
        let gaps = std::mem::take(&mut queue.gaps).into_events();
        if !gaps.is_empty() {
            return Poll::Ready(Some(Parcel { gaps, ..Parcel::default() }));
        }
        if queue.closed {
            return Poll::Ready(None);
        }
        queue.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Gaps {
    fn note(&mut self, interest: Interest, reason: GapReason) {
        if self.places.len() < MAX_GAPS {
            self.places.insert((interest, reason));
        } else {
            // Whatever the reason: only the connection is lost for all workers at once.
            self.overrun = true;
        }
    }

    fn into_events(self) -> VecDeque<BusEvent> {
        let gap = |interest, reason| BusEvent::Gap { interest, reason };
        let reconnected = self.reconnected.then(|| gap(None, GapReason::Reconnected));
        let overrun = self.overrun.then(|| gap(None, GapReason::Overrun));
        let places = self.places.into_iter().map(|(interest, reason)| gap(Some(interest), reason));
        reconnected.into_iter().chain(overrun).chain(places).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn batch(channels: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for channel in channels {
            let (headers, payload) = (&b"NATS/1.0\r\n\r\n"[..], channel.as_bytes());
            let delivery = Delivery { number: 1, subject: b"any", headers, payload };
            batch.add(&interest(channel), &delivery);
        }
        batch
    }

    fn interest(channel: &str) -> Interest {
        Interest::Channel(channel.parse().unwrap())
    }

    /// Takes all that waits, as text.
    fn taken(mailbox: &Mailbox) -> Vec<String> {
        let cx = Context::from_waker(Waker::noop());
        let mut seen = Vec::new();
        while let Poll::Ready(Some(parcel)) = mailbox.poll_next(&cx) {
            seen.extend(parcel.gaps.iter().map(|gap| match gap {
                BusEvent::Gap { interest: Some(interest), reason } => {
                    format!("{interest} {}", reason.as_str())
                }
                BusEvent::Gap { interest: None, reason } => reason.as_str().to_owned(),
                BusEvent::Message { .. } => unreachable!("a message among the gaps"),
            }));
            for arrival in &parcel.arrivals {
                let payload = &parcel.block[arrival.payload.clone()];
                seen.push(String::from_utf8(payload.to_vec()).unwrap());
            }
        }
        seen
    }

    #[test]
    fn what_has_no_room_is_a_gap_in_its_place() {
        let mailbox = Mailbox::new(3);
        assert_eq!(mailbox.deliver(batch(&["a", "b"])), 0);
        assert_eq!(mailbox.deliver(batch(&["c", "d", "d"])), 2);
        assert_eq!(mailbox.deliver(batch(&["d"])), 1);
        assert_eq!(taken(&mailbox), ["a", "b", "c", "d bus_overrun"]);
        assert_eq!(mailbox.deliver(batch(&["d"; 4])), 1);
        mailbox.reconnected();
        assert_eq!(mailbox.deliver(batch(&["e"])), 1);
        assert_eq!(taken(&mailbox)[3], "bus_reconnected");
        mailbox.silenced(interest("f"));
        assert_eq!(mailbox.deliver(batch(&["g"])), 0);
        assert_eq!(taken(&mailbox), ["f bus_reconnected", "g"]);
    }

    #[test]
    fn after_an_overrun_nothing_has_room_until_half_is_taken() {
        let mailbox = Mailbox::new(4);
        let take = || mailbox.poll_next(&Context::from_waker(Waker::noop())).is_ready();
        for channel in ["a", "b", "c", "d"] {
            assert_eq!(mailbox.deliver(batch(&[channel])), 0);
        }
        assert_eq!(mailbox.deliver(batch(&["e"])), 1);
        assert!(take());
        assert_eq!(mailbox.deliver(batch(&["e"])), 1, "there is room for one, but not for half");
        assert!(take());
        assert_eq!(mailbox.deliver(batch(&["f"])), 0);
        assert_eq!(mailbox.deliver(batch(&["g"])), 1, "the gap of e takes room too");
        assert_eq!(taken(&mailbox), ["c", "d", "e bus_overrun", "f", "g bus_overrun"]);
    }

    #[test]
    fn too_many_gaps_are_one_everywhere() {
        let mailbox = Mailbox::new(0);
        let names: Vec<String> = (0..2000).map(|n| format!("a:{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(mailbox.deliver(batch(&names)), 2000);
        let told = taken(&mailbox);
        assert_eq!((told.len(), told[0].as_str()), (MAX_GAPS + 1, "bus_overrun"));
        names.iter().for_each(|name| mailbox.silenced(interest(name)));
        let told = taken(&mailbox);
        assert_eq!((told.len(), told[0].as_str()), (MAX_GAPS + 1, "bus_overrun"));
    }

    #[test]
    fn bytes_are_bounded_but_one_message_always_has_room() {
        let mailbox = Mailbox::new(100);
        let large = || {
            let mut large = batch(&["a"]);
            large.block.reserve(MAX_BYTES);
            large
        };
        assert_eq!(mailbox.deliver(large()), 0);
        assert_eq!(mailbox.deliver(large()), 1);
        assert_eq!(taken(&mailbox), ["a", "a bus_overrun"]);
        assert_eq!(mailbox.deliver(large()), 0);
    }
}

//! The client's own event loop: all connections, one thread, one buffer.
//!
//! Reading order: [`Fleet::turn`], `link.rs` (one connection), `recorder.rs` (the hot path), `pump.rs` (publishing).

use std::{io, mem, time::Duration};

use mio::{Events, Interest, Poll, Token};

use crate::{
    clock::Clock,
    failure::Failure,
    stamp::Stamp,
    target::{Channel, Client, Target},
};

mod dial;
mod inflate;
mod link;
mod pump;
mod recorder;
mod scanner;
mod timer;

pub(crate) use dial::Endpoint;
pub(crate) use link::{End, Refusals};
pub(crate) use pump::{Pace, Until};
pub(crate) use recorder::{Recorder, Stream, Tallies, latencies};

use inflate::Inflater;
use link::{Learned, Link, World};
use timer::Timer;

/// One read takes at most this much. Large enough that a burst is one call, small enough to stay in the cache.
const BUFFER: usize = 256 * 1024;

const EVENTS: usize = 1024;

const TIMER: Token = Token(usize::MAX);

/// A publisher's connection may hold this many bytes that the server does not take.
const MAX_UNSENT: usize = 64 << 20;

/// A place for a connection: who connects, where to, and what came.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) client: Client,
    /// Which of the endpoints.
    pub(crate) endpoint: usize,
    pub(crate) tallies: Tallies,
    /// Not read any more.
    is_stalled: bool,
    link: Option<Link>,
}

impl Slot {
    pub(crate) const fn new(client: Client, endpoint: usize, tallies: Tallies) -> Self {
        Self { client, endpoint, tallies, is_stalled: false, link: None }
    }

    /// Whether the server compresses what it sends here.
    pub(crate) fn is_compressed(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_compressed)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_live)
    }
}

/// What happened to a connection.
#[derive(Debug)]
pub(crate) enum Notice {
    /// It is connected, and subscribed if it was to be; `took` nanoseconds from dialling.
    Live { slot: usize, took: u64 },
    /// It is gone, and not by us.
    Ended { slot: usize, end: End },
}

/// All connections of a run.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) clock: Clock,
    pub(crate) slots: Vec<Slot>,
    pub(crate) streams: Vec<Stream>,
    pub(crate) recorder: Recorder,
    pub(crate) refusals: Refusals,
    pub(crate) bytes_received: u64,
    pub(crate) live: usize,
    pub(crate) opening: usize,
    /// Whether who comes back is owed all that it missed.
    pub(crate) recovers: bool,
    /// Subscriptions that the server said to have recovered.
    pub(crate) recovered: usize,
    /// Connections to which it said that something may be missing, each time.
    pub(crate) unrecovered: Vec<usize>,
    poll: Poll,
    events: Events,
    timer: Timer,
    buffer: Box<[u8]>,
    inflater: Inflater,
    targets: Vec<Target>,
    channels: Vec<Channel>,
    endpoints: Vec<Endpoint>,
    sources: u32,
    offers_deflate: bool,
    notices: Vec<Notice>,
    payload: Vec<u8>,
    scratch: Vec<u8>,
}

/// What a fleet is made of.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) streams: Vec<Stream>,
    /// How many loopback addresses to connect from.
    pub(crate) sources: u32,
    /// Whether to offer compression.
    pub(crate) offers_deflate: bool,
    /// Length of a message in bytes.
    pub(crate) payload: usize,
}

impl Fleet {
    pub(crate) fn new(plan: Plan, recorder: Recorder, clock: Clock) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(Failure::io("no epoll"))?;
        let timer = Timer::new(poll.registry(), TIMER, clock).map_err(Failure::io("no timer"))?;
        Ok(Self {
            clock,
            slots: plan.slots,
            streams: plan.streams,
            recorder,
            refusals: Refusals::default(),
            bytes_received: 0,
            live: 0,
            opening: 0,
            recovers: false,
            recovered: 0,
            unrecovered: Vec::new(),
            poll,
            events: Events::with_capacity(EVENTS),
            timer,
            buffer: vec![0; BUFFER].into(),
            inflater: Inflater::new(),
            targets: vec![plan.target],
            channels: plan.channels,
            endpoints: plan.endpoints,
            sources: plan.sources,
            offers_deflate: plan.offers_deflate,
            notices: Vec::new(),
            payload: vec![b'x'; plan.payload],
            scratch: Vec::new(),
        })
    }

    /// Makes known an endpoint where another protocol is spoken.
    pub(crate) fn add_endpoint(&mut self, endpoint: Endpoint, target: Target) -> usize {
        self.endpoints.push(Endpoint { target: self.targets.len(), ..endpoint });
        self.targets.push(target);
        self.endpoints.len() - 1
    }

    pub(crate) fn take_notices(&mut self) -> Vec<Notice> {
        mem::take(&mut self.notices)
    }

    /// Waits until something happens, at most until this time, and handles it.
    pub(crate) fn turn(&mut self, until: u64) -> Result<(), Failure> {
        let waits = self.timer.arm(until).map_err(Failure::io("the timer"))?;
        let timeout = (!waits).then_some(Duration::ZERO);
        let mut events = mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.poll.poll(&mut events, timeout);
        for event in &events {
            if event.token() != TIMER {
                let may_write = event.is_writable() || event.is_error();
                let is_over = event.is_read_closed() || event.is_error();
                let index = event.token().0;
                // Who does not read still sees that the server has closed.
                self.slots[index].is_stalled &= !is_over;
                self.handle(index, event.is_readable() || is_over, may_write);
            }
        }
        self.events = events;
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                Err(Failure::io("epoll")(error))
            }
            _ => Ok(()),
        }
    }

    fn handle(&mut self, index: usize, may_read: bool, may_write: bool) {
        let Slot { client, endpoint, tallies, is_stalled, link, .. } = &mut self.slots[index];
        let Some(connection) = link else { return };
        let was_live = connection.is_live();
        let mut world = World {
            target: &self.targets[self.endpoints[*endpoint].target],
            endpoint: &self.endpoints[*endpoint],
            offers_deflate: self.offers_deflate,
            recorder: &mut self.recorder,
            streams: &mut self.streams,
            refusals: &mut self.refusals,
            inflater: &mut self.inflater,
            now: self.clock.now(),
            recovers: self.recovers,
            learned: Learned::default(),
        };
        let mut outcome = Ok(0);
        if may_write {
            outcome = connection.writable(client, &world).map(|()| 0);
        }
        if may_read && outcome.is_ok() && !*is_stalled {
            outcome = connection.readable(&mut self.buffer, client, tallies, &mut world);
        }
        let is_live = connection.is_live();
        let learned = world.learned;
        self.recovered += usize::from(learned.recovered == Some(true));
        self.unrecovered.extend((learned.recovered == Some(false)).then_some(index));
        learned.teach(client);
        match outcome {
            Ok(length) => self.bytes_received += length as u64,
            Err(end) => return self.ended(index, end),
        }
        if is_live && !was_live {
            self.went_live(index);
        }
    }

    fn went_live(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let first = slot.tallies.first;
        let owed = if self.recovers { &mut [][..] } else { &mut slot.tallies.streams[..] };
        for (offset, tally) in owed.iter_mut().enumerate() {
            tally.owe_from(self.streams[first + offset].sent);
        }
        let dialled_at = slot.link.as_ref().map_or(0, |link| link.dialled_at);
        self.opening -= 1;
        self.live += 1;
        let took = self.clock.now().saturating_sub(dialled_at);
        self.notices.push(Notice::Live { slot: index, took });
    }

    fn ended(&mut self, index: usize, end: End) {
        if self.forget(index).is_some() {
            self.notices.push(Notice::Ended { slot: index, end });
        }
    }

    /// Takes the connection out; dropping it closes the socket.
    fn forget(&mut self, index: usize) -> Option<Link> {
        let link = self.slots[index].link.take()?;
        if link.is_live() {
            self.live -= 1;
        } else {
            self.opening -= 1;
        }
        Some(link)
    }

    /// Begins to connect.
    pub(crate) fn dial(&mut self, index: usize) -> Result<(), Failure> {
        let slot = &mut self.slots[index];
        let address = self.endpoints[slot.endpoint].address;
        let source = dial::source(index, self.sources);
        let mut stream = dial::connect(address, source)
            .map_err(Failure::io(format!("cannot connect to {address} as connection {index}")))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, Token(index), interest)
            .map_err(Failure::io("epoll"))?;
        slot.link = Some(Link::new(stream, self.clock.now()));
        self.opening += 1;
        Ok(())
    }

    /// Closes a connection as a client that has finished.
    pub(crate) fn leave(&mut self, index: usize) {
        if let Some(link) = self.forget(index) {
            link.close();
        }
    }

    /// Closes all.
    pub(crate) fn leave_all(&mut self) {
        (0..self.slots.len()).for_each(|index| self.leave(index));
    }

    /// Stops reading from a connection; the system may receive so many bytes for it. What it receives later counts
    /// in no latency.
    pub(crate) fn stall(&mut self, index: usize, buffer: usize) -> Result<(), Failure> {
        let slot = &mut self.slots[index];
        slot.is_stalled = true;
        slot.tallies.is_timed = false;
        slot.link.as_ref().map_or(Ok(()), |link| link.set_receive_buffer(buffer))
    }

    /// Goes on reading from a stalled connection: what is there makes no new event.
    pub(crate) fn resume(&mut self, index: usize) {
        self.slots[index].is_stalled = false;
        self.handle(index, true, false);
    }

    /// Adds the next message of a stream to its publisher's output; [`Self::flush`] sends it.
    fn publish(&mut self, number: usize, at: u64, audience: u64) -> Result<(), Failure> {
        self.stamp(number, at);
        let stream = &mut self.streams[number];
        stream.expected += audience;
        let Slot { client, endpoint, link, .. } = &mut self.slots[stream.publisher];
        let link = link.as_mut().filter(|link| link.is_live()).ok_or_else(publisher_gone)?;
        let channel = &self.channels[stream.channel as usize];
        let target = &self.targets[self.endpoints[*endpoint].target];
        link.publish(&mut self.scratch, target, (client, channel), &self.payload);
        if link.unsent() > MAX_UNSENT {
            return Err(Failure::Server("the server does not take what is published".to_owned()));
        }
        Ok(())
    }

    /// The next message of a stream, for somebody else to publish: subscribers are owed it from now on.
    pub(crate) fn stamp(&mut self, number: usize, at: u64) -> &[u8] {
        let stream = &mut self.streams[number];
        let stamp =
            Stamp { run: self.recorder.run(), stream: number as u32, sequence: stream.sent, at };
        stamp.write(&mut self.payload);
        stream.sent += 1;
        &self.payload
    }

    /// The channel that a stream is published to.
    pub(crate) fn channel_of(&self, number: usize) -> &str {
        &self.channels[self.streams[number].channel as usize].name
    }

    fn flush(&mut self, index: usize) {
        let flushed = self.slots[index].link.as_mut().map_or(Ok(()), Link::flush);
        if let Err(end) = flushed {
            self.ended(index, end);
        }
    }

    /// Whether each live subscriber has all that it is owed.
    pub(crate) fn is_complete(&self) -> bool {
        let mut awaited = self.slots.iter().filter(|slot| slot.is_live() && !slot.is_stalled);
        awaited.all(|slot| slot.tallies.is_complete(&self.streams))
    }
}

fn publisher_gone() -> Failure {
    Failure::Server("a publisher's connection ended".to_owned())
}

//! Publishing at a pace, and waiting for what was published.

use super::{Fleet, Notice};
use crate::{
    clock::{SECOND, nanoseconds},
    failure::Failure,
};

/// How often those who watch are asked while nothing else happens, in nanoseconds.
const TICK: u64 = SECOND / 20;

/// A schedule is caught up with in pieces of this many messages, so that what arrives is read in between.
const MAX_BURST: usize = 1024;

/// When the next message is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// Up to so many messages of a stream are on their way; when half of them have arrived, the rest follows.
    Window(u64),
    /// So many per second over all streams, whatever happens.
    Rate(f64),
}

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// After so many nanoseconds.
    Elapsed(u64),
    /// After so many messages over all streams.
    Messages(u64),
}

/// Called again and again while messages flow, with what happened to connections.
pub(crate) type Watch<'a> = dyn FnMut(&mut Fleet, Vec<Notice>) -> Result<(), Failure> + 'a;

impl Fleet {
    /// Publishes. Returns when all is sent, not when it has arrived.
    pub(crate) fn pump(
        &mut self,
        pace: Pace,
        until: Until,
        patience: u64,
        watch: &mut Watch<'_>,
    ) -> Result<(), Failure> {
        match pace {
            Pace::Window(window) => self.pump_window(window.max(1), until, patience, watch),
            Pace::Rate(rate) => self.pump_rate(rate, until, watch),
        }
    }

    fn pump_rate(&mut self, rate: f64, until: Until, watch: &mut Watch<'_>) -> Result<(), Failure> {
        let start = self.clock.now();
        let due = |number: u64| start + nanoseconds(number as f64 / rate);
        let messages = match until {
            Until::Messages(messages) => messages,
            Until::Elapsed(elapsed) => (rate * crate::clock::seconds(elapsed)).round() as u64,
        };
        let mut number = 0;
        while number < messages {
            let now = self.clock.now();
            let mut burst = 0;
            while number < messages && due(number) <= now && burst < MAX_BURST {
                let stream = (number % self.streams.len() as u64) as usize;
                self.publish(stream, due(number), 0)?;
                self.flush(self.streams[stream].publisher);
                (number, burst) = (number + 1, burst + 1);
            }
            self.turn(due(number).min(now + TICK))?;
            let notices = self.take_notices();
            watch(self, notices)?;
        }
        Ok(())
    }

    fn pump_window(
        &mut self,
        window: u64,
        until: Until,
        patience: u64,
        watch: &mut Watch<'_>,
    ) -> Result<(), Failure> {
        let start = self.clock.now();
        let mut left = match until {
            Until::Messages(messages) => messages,
            Until::Elapsed(_) => u64::MAX,
        };
        self.all_due();
        let mut last_sent = start;
        while left > 0 {
            let now = self.clock.now();
            if let Until::Elapsed(elapsed) = until
                && now - start >= elapsed
            {
                break;
            }
            if self.refill(window, now, &mut left)? > 0 {
                last_sent = now;
            }
            // A message that never comes must not stop the others.
            if now.saturating_sub(self.recorder.last_delivery.max(last_sent)) > patience {
                self.give_up_waiting();
            }
            self.turn(now + TICK)?;
            let notices = self.take_notices();
            watch(self, notices)?;
        }
        Ok(())
    }

    /// Fills the windows of the streams that have room, and says how many messages that were.
    fn refill(&mut self, window: u64, now: u64, left: &mut u64) -> Result<u64, Failure> {
        let due = std::mem::take(&mut self.recorder.due);
        let audience = self.audience();
        let mut sent = 0;
        for number in &due {
            let stream = &mut self.streams[*number];
            stream.is_due = false;
            let missing = stream.expected.saturating_sub(stream.received);
            let room = window.saturating_sub(missing.div_ceil(audience.max(1))).min(*left);
            for _ in 0..room {
                self.publish(*number, now, audience)?;
            }
            *left -= room;
            sent += room;
            let stream = &mut self.streams[*number];
            stream.refill_at = stream.expected.saturating_sub(window / 2 * audience);
        }
        let mut publishers: Vec<_> = due.iter().map(|it| self.streams[*it].publisher).collect();
        publishers.dedup();
        for publisher in publishers {
            self.flush(publisher);
        }
        Ok(sent)
    }

    /// How many subscribers a stream has: all of them that are live, or the one that its channel has.
    fn audience(&self) -> u64 {
        if self.channels.len() > 1 { 1 } else { self.live.saturating_sub(self.publishers()) as u64 }
    }

    fn publishers(&self) -> usize {
        self.slots.iter().filter(|slot| slot.client.channel.is_none() && slot.is_live()).count()
    }

    fn all_due(&mut self) {
        self.recorder.due = (0..self.streams.len()).collect();
        for stream in &mut self.streams {
            stream.is_due = true;
        }
    }

    fn give_up_waiting(&mut self) {
        for stream in &mut self.streams {
            stream.expected = stream.received;
        }
        self.all_due();
    }

    /// Waits until all that was published has arrived, or nothing has for as long as `patience`.
    pub(crate) fn settle(&mut self, patience: u64, watch: &mut Watch<'_>) -> Result<(), Failure> {
        let since = self.clock.now();
        while !self.is_complete() {
            let now = self.clock.now();
            if now.saturating_sub(self.recorder.last_delivery.max(since)) > patience {
                break;
            }
            self.turn(now + TICK)?;
            let notices = self.take_notices();
            watch(self, notices)?;
        }
        Ok(())
    }
}

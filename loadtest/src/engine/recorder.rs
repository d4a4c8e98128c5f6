//! Finds our messages in received frames and accounts for each: the hot path.

use hdrhistogram::Histogram;
use memchr::memmem::Finder;

use crate::{
    clock::SECOND,
    failure::Failure,
    stamp::{self, Stamp},
    tally::{Tally, Verdict},
};

/// The shortest latency told apart, in nanoseconds, and the longest, which stands for all above.
const LATENCIES: (u64, u64) = (100, 60 * SECOND);

/// Digits of a latency that are right.
const DIGITS: u8 = 3;

/// One sequence of messages: what is sent by one publisher to one channel.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) channel: u32,
    /// The slot that publishes it.
    pub(crate) publisher: usize,
    pub(crate) sent: u64,
    /// Deliveries that the messages sent ought to make.
    pub(super) expected: u64,
    pub(super) received: u64,
    /// When this many deliveries are in, more may be sent.
    pub(super) refill_at: u64,
    pub(super) is_due: bool,
}

impl Stream {
    pub(crate) const fn new(channel: u32, publisher: usize) -> Self {
        let (expected, received, refill_at) = (0, 0, 0);
        Self { channel, publisher, sent: 0, expected, received, refill_at, is_due: false }
    }
}

/// The streams that one subscriber gets: consecutive ones.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) first: usize,
    pub(crate) streams: Vec<Tally>,
    /// Whether its latencies count.
    pub(crate) is_timed: bool,
}

impl Tallies {
    pub(crate) fn new(first: usize, count: usize) -> Self {
        Self { first, streams: (0..count).map(|_| Tally::new()).collect(), is_timed: true }
    }

    /// Each with the number of its stream.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Tally)> {
        self.streams.iter().enumerate().map(|(index, tally)| (self.first + index, tally))
    }

    /// Deliveries owed of those before `end` of any stream.
    pub(crate) fn missing(&self, end: u64) -> u64 {
        self.streams.iter().map(|tally| tally.missing(end)).sum()
    }

    /// Another connection takes over.
    pub(crate) fn restart(&mut self) {
        self.streams.fill_with(Tally::new);
    }

    /// The connection ended by an outage.
    pub(crate) fn broke(&mut self) {
        self.streams.iter_mut().for_each(Tally::broke);
    }

    pub(crate) fn is_complete(&self, streams: &[Stream]) -> bool {
        self.iter().all(|(stream, tally)| tally.is_complete(streams[stream].sent))
    }
}

/// What all subscribers received.
#[derive(Debug)]
pub(crate) struct Recorder {
    run: u32,
    payload_length: usize,
    finder: Finder<'static>,
    /// Where the last stamp was in its frame: the next is most likely there too.
    usual_place: usize,
    /// Messages sent from this time on count in the histogram.
    pub(crate) measured_from: u64,
    pub(crate) latency: Histogram<u64>,
    pub(crate) deliveries: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) strays: u64,
    pub(crate) last_delivery: u64,
    /// Streams that may send more.
    pub(super) due: Vec<usize>,
}

impl Recorder {
    pub(crate) fn new(run: u32, payload_length: usize) -> Result<Self, Failure> {
        Ok(Self {
            run,
            payload_length,
            finder: Finder::new(stamp::MARKER),
            usual_place: 0,
            measured_from: 0,
            latency: latencies()?,
            deliveries: 0,
            duplicated: 0,
            reordered: 0,
            strays: 0,
            last_delivery: 0,
            due: Vec::new(),
        })
    }

    pub(crate) const fn run(&self) -> u32 {
        self.run
    }

    /// Starts the measured part; what was sent before stays out of the histogram.
    pub(crate) fn measure_from(&mut self, now: u64) {
        self.measured_from = now;
        self.latency.reset();
    }

    /// Accounts for each message in a frame and says how many there were.
    pub(super) fn take(
        &mut self,
        frame: &[u8],
        tallies: &mut Tallies,
        streams: &mut [Stream],
        now: u64,
    ) -> usize {
        let (mut place, mut found) = (0, 0);
        while let Some(next) = self.locate(frame, place) {
            let Some(stamp) = Stamp::read(&frame[next..]) else { break };
            found += 1;
            self.count(stamp, tallies, streams, now);
            place = next + self.payload_length.max(stamp::LENGTH);
        }
        found
    }

    fn locate(&mut self, frame: &[u8], from: usize) -> Option<usize> {
        let usual = self.usual_place..self.usual_place + stamp::MARKER.len();
        // Only where no whole message fits before it, so that none is overlooked.
        let is_first = from == 0 && self.usual_place < self.payload_length;
        if is_first && frame.get(usual) == Some(stamp::MARKER) {
            return Some(self.usual_place);
        }
        let place = from + self.finder.find(frame.get(from..)?)?;
        if from == 0 {
            self.usual_place = place;
        }
        Some(place)
    }

    fn count(&mut self, stamp: Stamp, tallies: &mut Tallies, streams: &mut [Stream], now: u64) {
        if tallies.streams.is_empty() {
            return; // a publisher that the server subscribed unasked
        }
        let number = stamp.stream as usize;
        let tally = number.checked_sub(tallies.first).and_then(|it| tallies.streams.get_mut(it));
        let (Some(tally), Some(stream)) = (tally, streams.get_mut(number)) else {
            self.strays += 1;
            return;
        };
        if stamp.run != self.run || stamp.sequence >= stream.sent {
            self.strays += 1;
            return;
        }
        match tally.receive(stamp.sequence) {
            Verdict::InOrder => {}
            Verdict::Reordered => self.reordered += 1,
            Verdict::Duplicated => {
                self.duplicated += 1;
                return;
            }
        }
        self.deliveries += 1;
        self.last_delivery = now;
        stream.received += 1;
        if stream.received >= stream.refill_at && !stream.is_due {
            stream.is_due = true;
            self.due.push(number);
        }
        if tallies.is_timed && stamp.at >= self.measured_from {
            self.latency.saturating_record(now.saturating_sub(stamp.at));
        }
    }
}

/// An empty histogram of nanoseconds.
pub(crate) fn latencies() -> Result<Histogram<u64>, Failure> {
    let (least, most) = LATENCIES;
    Histogram::new_with_bounds(least, most, DIGITS)
        .map_err(|error| Failure::Usage(format!("no histogram: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: usize = 50;

    fn message(run: u32, stream: u32, sequence: u64) -> Vec<u8> {
        let mut payload = vec![b'x'; PAYLOAD];
        Stamp { run, stream, sequence, at: 5_000 }.write(&mut payload);
        payload
    }

    fn streams() -> Vec<Stream> {
        (0..2).map(|channel| Stream { sent: 10, ..Stream::new(channel, 0) }).collect()
    }

    #[test]
    fn several_messages_of_a_frame_are_found_wherever_they_are() {
        let mut recorder = Recorder::new(7, PAYLOAD).unwrap();
        let (mut tallies, mut streams) = (Tallies::new(0, 1), streams());
        for (first, second, gap) in [(0, 1, "\"}\n{\""), (2, 3, ""), (4, 5, "\n")] {
            let frame =
                [b"{\"d\":\"", &message(7, 0, first)[..], gap.as_bytes(), &message(7, 0, second)];
            let found = recorder.take(&frame.concat(), &mut tallies, &mut streams, 9_000);
            assert_eq!(found, 2);
        }
        assert_eq!((recorder.deliveries, streams[0].received), (6, 6));
        assert_eq!(recorder.latency.len(), 6);
        assert!((3_936..=4_064).contains(&recorder.latency.max()));
        assert_eq!(recorder.take(b"{\"type\":\"pong\"}", &mut tallies, &mut streams, 0), 0);
    }

    #[test]
    fn what_nobody_sent_here_is_stray() {
        let mut recorder = Recorder::new(7, PAYLOAD).unwrap();
        let (mut tallies, mut streams) = (Tallies::new(0, 1), streams());
        for stray in [message(8, 0, 0), message(7, 1, 0), message(7, 9, 0), message(7, 0, 10)] {
            recorder.take(&stray, &mut tallies, &mut streams, 0);
        }
        assert_eq!((recorder.strays, recorder.deliveries), (4, 0));
    }
}

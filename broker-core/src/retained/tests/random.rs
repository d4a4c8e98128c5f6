//! Random lives of a namespace: its bus lags and loses messages, its log does not.

use std::collections::{BTreeMap, VecDeque};

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    Publish {
        channel: u64,
        lost: bool,
    },
    Arrive,
    /// While so many more are published.
    Compare {
        meanwhile: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u64, prop::bool::weighted(0.2))
            .prop_map(|(channel, lost)| Step::Publish { channel, lost }),
        4 => Just(Step::Arrive),
        1 => (0..3_u64).prop_map(|meanwhile| Step::Compare { meanwhile }),
    ]
}

/// A log, a bus, and somebody who is subscribed to everything since the values were loaded.
struct Life {
    values: LastValues,
    end: u64,
    newest: BTreeMap<String, u64>,
    bus: VecDeque<Message>,
    /// What the subscriber was given last of each channel, or its snapshot had.
    given: BTreeMap<String, u64>,
    /// Gaps that it was told.
    told: usize,
    /// How many these were when it was given the last message of a channel.
    told_before: BTreeMap<String, usize>,
    previous: BTreeMap<u64, Option<u64>>,
}

impl Life {
    fn new() -> Self {
        let mut values = LastValues::new(Bounds { channels: 10, bytes: 100_000 }, TTL);
        let began = values.begin();
        values.merge(began, &listing(0, &[]), Vec::new());
        Self {
            values,
            end: 0,
            newest: BTreeMap::new(),
            bus: VecDeque::new(),
            given: BTreeMap::new(),
            told: 0,
            told_before: BTreeMap::new(),
            previous: BTreeMap::new(),
        }
    }

    fn publish(&mut self, channel: u64, lost: bool) {
        self.end += 1;
        let name = format!("s:{channel}");
        let previous = self.newest.insert(name.clone(), self.end);
        self.previous.insert(self.end, previous);
        if !lost {
            self.bus.push_back(message(&name, self.end, previous));
        }
    }

    fn arrive(&mut self) {
        let Some(message) = self.bus.pop_front() else { return };
        match self.values.arrive(&message) {
            Arrival::Known => return,
            Arrival::AfterAHole => self.told += 1,
            Arrival::Next => {}
        }
        self.give_out(&message);
    }

    fn compare(&mut self, meanwhile: u64) {
        let began = self.values.begin();
        let names: Vec<String> = self.newest.keys().cloned().collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let listing = listing(self.end, &names);
        for channel in 0..meanwhile {
            self.publish(channel, false);
        }
        while !self.values.has_seen(listing.end) && !self.bus.is_empty() {
            self.arrive();
        }
        let read = if self.values.must_read(began, &listing) {
            names.iter().map(|name| message(name, self.newest[*name], None)).collect()
        } else {
            Vec::new()
        };
        let merged = self.values.merge(began, &listing, read);
        self.told += usize::from(merged.lost);
        merged.messages.iter().for_each(|message| self.give_out(message));
    }

    fn give_out(&mut self, message: &Message) {
        let (name, offset) = (message.channel.to_string(), message.stored.unwrap().offset.0);
        let last = self.given.insert(name.clone(), offset);
        assert!(last < Some(offset), "{name}: {offset} after {last:?}");
        let told_before = self.told_before.insert(name, self.told).unwrap_or(0);
        assert!(
            self.previous[&offset] == last || self.told > told_before,
            "{offset}: a silent hole"
        );
    }

    /// A snapshot that is taken now goes on with what is given out next.
    fn check(&self) {
        assert_eq!(shown(&self.values), self.given.clone().into_iter().collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn snapshots_and_live_messages_meet_without_seam(steps in vec(step(), 0..60)) {
        let mut life = Life::new();
        for step in steps {
            match step {
                Step::Publish { channel, lost } => life.publish(channel, lost),
                Step::Arrive => life.arrive(),
                Step::Compare { meanwhile } => life.compare(meanwhile),
            }
            life.check();
        }
        // In the end everybody has the last of each, whatever was lost.
        while !life.bus.is_empty() {
            life.arrive();
        }
        life.compare(0);
        life.check();
        prop_assert_eq!(&life.given, &life.newest);
        prop_assert_eq!(life.values.readiness(), Readiness::Ready);
    }
}

use std::collections::VecDeque;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::position::{Epoch, Fingerprint, Offset};

const ORIGIN: ConnectionId = ConnectionId(0xabc);
const NOW: Timestamp = Timestamp(5);

fn at(epoch: u64, offset: u64) -> Position {
    let fingerprint = Some(Fingerprint::of(&format!("m{offset}").parse().unwrap()));
    Position { epoch: Epoch(epoch), offset: Offset(offset), fingerprint }
}

fn channel(name: &str) -> Interest {
    Interest::Channel(name.parse().unwrap())
}

/// A client that is subscribed to these, all kept.
fn subscribed(names: &[&str]) -> Progress {
    let mut progress = Progress::new(ORIGIN);
    for name in names {
        progress.begin(&channel(name), Some(at(1, 0)));
        progress.go_live(&channel(name));
    }
    progress.written(progress.version);
    progress
}

fn recover(kept: &KeptSubscriptions, mark: &Mark) -> Result<Vec<(String, u64)>, Unrecoverable> {
    let progress = Progress::recover(ORIGIN, kept, Some(mark))?;
    let positions = progress.positions();
    Ok(positions.map(|(it, position)| (it.to_string(), position.offset.0)).collect())
}

#[test]
fn a_mark_is_read_as_it_is_written() {
    let stood = Position { fingerprint: None, ..at(2, 9) };
    for positions in [
        None,
        Some(vec![]),
        Some(vec![(0, at(1, 2)), (7, at(1, u64::MAX)), (8, stood), (9, at(1, 3))]),
    ] {
        let mark = Mark { session: 0xabc, positions };
        assert_eq!(mark.to_string().parse(), Ok(mark));
    }
    assert_eq!(Mark { session: 1, positions: None }.to_string(), "ff~1!");
    let short = Mark { session: 1, positions: Some(vec![(0, stood), (1, stood)]) };
    assert_eq!(short.to_string(), "ff~1~0:9@2~1:9");
    for foreign in
        ["", "42", "ff~", "ff~1!~0:1@1", "ff~1~0:1", "ff~x", "ff~1~0:+1@1", "ff~1~0:1.@1", "ff~1~"]
    {
        assert_eq!(foreign.parse::<Mark>(), Err(NotAMark), "{foreign}");
    }
    let long = format!("ff~1{}", "~0:1@1".repeat(1000));
    assert_eq!(long.parse::<Mark>(), Err(NotAMark));
}

#[test]
fn who_got_nothing_begins_where_it_was_to_begin() {
    let progress = subscribed(&["a:1", "a:2"]);
    let kept = progress.kept(NOW);
    let both = vec![("a:1".to_owned(), 0), ("a:2".to_owned(), 0)];
    assert_eq!(recover(&kept, &progress.mark()), Ok(both));
    let none = Progress::recover(ORIGIN, &kept, None).unwrap();
    assert_eq!(none.positions().count(), 2);
}

#[test]
fn a_mark_of_another_session_says_that_nothing_was_given_in_this_one() {
    let kept = subscribed(&["a:1"]).kept(NOW);
    let mark = Mark { session: 1, positions: Some(vec![(0, at(1, 9))]) };
    assert_eq!(recover(&kept, &mark), Ok(vec![("a:1".to_owned(), 0)]));
}

#[test]
fn who_is_where_it_cannot_be_told_where_it_stands_is_not_recovered() {
    let mut progress = subscribed(&["a:1"]);
    progress.begin(&channel("plain:1"), None);
    let kept = progress.kept(NOW);
    assert_eq!(recover(&kept, &progress.mark()), Err(Unrecoverable::NoPosition));
    progress.end(&channel("plain:1"));
    let kept = progress.kept(NOW);
    assert_eq!(recover(&kept, &progress.mark()).unwrap().len(), 1);
}

#[test]
fn only_so_many_channels_are_tracked() {
    let mut progress = Progress::new(ORIGIN);
    for number in 0..=MAX_TRACKED {
        let name = channel(&format!("a:{number}"));
        progress.begin(&name, Some(at(1, 0)));
        progress.advance(&name, at(1, 5));
    }
    let mark = progress.mark().to_string();
    assert_eq!(mark.matches('~').count(), MAX_TRACKED + 1);
    assert_eq!(recover(&progress.kept(NOW), &progress.mark()), Err(Unrecoverable::NoPosition));
}

#[test]
fn a_subscription_that_is_not_kept_cannot_be_told() {
    let mut progress = subscribed(&["a:1"]);
    let kept = progress.kept(NOW);
    progress.begin(&channel("a:2"), Some(at(1, 3)));
    assert!(progress.mark().positions.is_some(), "the client does not know of it yet");
    progress.go_live(&channel("a:2"));
    assert_eq!(recover(&kept, &progress.mark()), Err(Unrecoverable::NotKept));
    let kept = progress.kept(NOW);
    progress.written(kept.version);
    assert!(recover(&kept, &progress.mark()).is_ok());
}

/// Else what it missed could leave the log unnoticed while it comes back in vain.
#[test]
fn who_comes_back_has_missed_nothing_only_once_that_is_shown() {
    let before = subscribed(&["a:1"]).kept(Timestamp(100));
    let confirmed = |progress: &Progress, now| progress.kept(Timestamp(now)).confirmed.0;
    let mut progress = Progress::recover(ORIGIN, &before, None).unwrap();
    assert_eq!(confirmed(&progress, 9_000), 100);
    let again = Progress::recover(ORIGIN, &progress.kept(Timestamp(9_000)), None).unwrap();
    assert_eq!(confirmed(&again, 9_500), 100);
    progress.caught_up(Timestamp(10_000));
    assert_eq!(confirmed(&progress, 9_999), 100);
    assert_eq!(confirmed(&progress, 10_000), 10_000);
}

#[test]
fn what_was_left_comes_back_only_where_that_was_not_kept() {
    let mut progress = subscribed(&["a:1"]);
    progress.advance(&channel("a:1"), at(1, 4));
    let before = progress.kept(NOW);
    progress.end(&channel("a:1"));
    assert_eq!(recover(&before, &progress.mark()), Ok(vec![("a:1".to_owned(), 4)]));
    let after = progress.kept(NOW);
    progress.written(after.version);
    assert_eq!(progress.mark().to_string(), "ff~abc");
    assert_eq!(recover(&after, &progress.mark()), Ok(vec![]));
}

#[test]
fn numbers_are_not_used_again() {
    let mut progress = subscribed(&["a:1"]);
    progress.advance(&channel("a:1"), at(1, 4));
    let old = progress.mark();
    progress.end(&channel("a:1"));
    progress.begin(&channel("a:2"), Some(at(1, 1)));
    let recovered = Progress::recover(ORIGIN, &progress.kept(NOW), Some(&old)).unwrap();
    assert_eq!(recovered.positions().collect::<Vec<_>>(), [(&channel("a:2"), at(1, 1))]);
    assert_eq!(recovered.next, 2);
}

/// What happens to a client, its gateways and its channels.
#[derive(Debug, Clone, Copy)]
enum Event {
    Publish(usize),
    Subscribe(usize),
    Unsubscribe(usize),
    /// The client gets so many of the events that are on their way.
    Arrive(usize),
    /// The store is away, or comes back.
    Away(bool),
    /// What was not written is.
    Refresh,
    /// The log forgets all but the newest of a channel.
    Trim(usize),
    /// The connection breaks, or the gateway dies: all that it knew is gone.
    Break,
}

const CHANNELS: usize = 3;

fn events() -> impl Strategy<Value = Vec<Event>> {
    let channel = || 0..CHANNELS;
    let event = prop_oneof![
        8 => channel().prop_map(Event::Publish),
        3 => channel().prop_map(Event::Subscribe),
        1 => channel().prop_map(Event::Unsubscribe),
        6 => (1..4usize).prop_map(Event::Arrive),
        1 => any::<bool>().prop_map(Event::Away),
        1 => Just(Event::Refresh),
        1 => channel().prop_map(Event::Trim),
        2 => Just(Event::Break),
    ];
    vec(event, 0..120)
}

/// A log's messages have the numbers 1 to `top`; the older ones are forgotten.
#[derive(Debug, Default, Clone, Copy)]
struct Log {
    top: u64,
    first: u64,
}

/// What the client knows, and the world around it.
#[derive(Debug)]
struct World {
    logs: [Log; CHANNELS],
    progress: Progress,
    kept: KeptSubscriptions,
    away: bool,
    /// On their way: channel and number of a message, if it is one, and mark.
    wire: VecDeque<(Option<(usize, u64)>, String)>,
    mark: Option<String>,
    /// Of each channel that the client is subscribed to, as it was told, what it has to get next.
    expects: [Option<u64>; CHANNELS],
    /// Left, but that may come back.
    left: [bool; CHANNELS],
}

impl World {
    fn new() -> Self {
        let progress = Progress::new(ORIGIN);
        Self {
            kept: progress.kept(NOW),
            progress,
            logs: Default::default(),
            away: false,
            wire: Default::default(),
            mark: None,
            expects: [None; CHANNELS],
            left: [false; CHANNELS],
        }
    }

    fn name(index: usize) -> Interest {
        channel(&format!("a:{index}"))
    }

    fn write(&mut self) {
        if !self.away {
            self.kept = self.progress.kept(NOW);
            self.progress.written(self.kept.version);
            self.left = [false; CHANNELS];
        }
    }

    fn give(&mut self, index: usize, number: u64) {
        self.progress.advance(&Self::name(index), at(1, number));
        self.wire.push_back((Some((index, number)), self.progress.mark().to_string()));
    }

    fn get(&mut self) {
        let Some((message, mark)) = self.wire.pop_front() else { return };
        self.mark = Some(mark);
        let Some((index, number)) = message else { return };
        // What is still on its way when the client leaves is no concern.
        if let Some(expected) = &mut self.expects[index] {
            assert_eq!(number, *expected, "lost, twice or out of order");
            *expected += 1;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Publish(index) => {
                self.logs[index].top += 1;
                if self.expects[index].is_some() {
                    self.give(index, self.logs[index].top);
                }
            }
            Event::Subscribe(index) if self.expects[index].is_none() => {
                let top = self.logs[index].top;
                self.progress.begin(&Self::name(index), Some(at(1, top)));
                self.write();
                self.progress.go_live(&Self::name(index));
                if !self.progress.can_tell() {
                    // It is told so before it is told that it is subscribed.
                    self.wire.push_back((None, self.progress.mark().to_string()));
                }
                // What is on its way is of the subscription before.
                while !self.wire.is_empty() {
                    self.get();
                }
                self.expects[index] = Some(top + 1);
            }
            Event::Unsubscribe(index) if self.expects[index].take().is_some() => {
                self.progress.end(&Self::name(index));
                self.left[index] = true;
                self.write();
            }
            Event::Subscribe(_) | Event::Unsubscribe(_) => {}
            Event::Arrive(count) => (0..count).for_each(|_| self.get()),
            Event::Away(away) => self.away = away,
            Event::Refresh => self.write(),
            Event::Trim(index) => self.logs[index].first = self.logs[index].top,
            Event::Break if !self.away => self.come_back(),
            Event::Break => {}
        }
    }

    fn come_back(&mut self) {
        self.wire.clear();
        let mark = self.mark.as_ref().map(|mark| mark.parse().unwrap());
        let recovered = Progress::recover(ORIGIN, &self.kept, mark.as_ref());
        let is_there = |progress: &Progress| {
            progress.positions().all(|(it, position)| {
                let log = self.logs[index_of(it)];
                position.offset.0 >= log.first
            })
        };
        let Some(mut progress) = recovered.ok().filter(is_there) else {
            return *self = Self { logs: self.logs, ..Self::new() };
        };
        let positions: Vec<(Interest, Position)> =
            progress.positions().map(|(it, position)| (it.clone(), position)).collect();
        for (index, expected) in self.expects.iter_mut().enumerate() {
            let back = positions.iter().any(|(it, _)| index_of(it) == index);
            assert!(expected.is_none() || back, "a subscription was lost");
            assert!(!back || expected.is_some() || self.left[index], "one came from nowhere");
            if !back {
                *expected = None;
            }
        }
        std::mem::swap(&mut self.progress, &mut progress);
        self.write();
        for (interest, position) in positions {
            let index = index_of(&interest);
            let next = self.expects[index].get_or_insert(position.offset.0 + 1);
            assert_eq!(position.offset.0 + 1, *next, "lost, or twice");
            self.progress.go_live(&interest);
            for number in position.offset.0 + 1..=self.logs[index].top {
                self.give(index, number);
            }
        }
    }
}

fn index_of(interest: &Interest) -> usize {
    interest.as_str()[2..].parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Who is recovered gets everything that was missed, once, and in order, whatever happened.
    #[test]
    fn a_recovered_client_has_missed_nothing_and_has_nothing_twice(events in events()) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
    }
}

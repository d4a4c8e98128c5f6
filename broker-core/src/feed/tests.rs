//! Feeds on a made-up log and a bus that loses, swaps and repeats.
#![expect(clippy::disallowed_methods, reason = "a starting point for made-up times")]

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    history::{Rewind, Since},
    message::{Data, JsonText, Stored, Timestamp},
    ports::Backlog,
    position::{Epoch, Fingerprint},
};

mod astray;

const SIZE: usize = 8;
const TTL: Duration = Duration::from_secs(100);

fn history() -> History {
    History { size: SIZE, ttl: TTL }
}

fn message(epoch: u64, offset: u64, previous: Option<u64>) -> Message {
    Message {
        id: format!("m{epoch}-{offset}").parse().unwrap(),
        channel: "venue:1".parse().unwrap(),
        event: None,
        data: Data::Json(JsonText::from_checked("1".into())),
        time: Timestamp(offset),
        stored: Some(Stored {
            epoch: Epoch(epoch),
            offset: Offset(offset),
            previous: previous.map(Offset),
        }),
        options: None,
    }
}

fn at(instant: Instant, wall: u64) -> (Instant, Timestamp) {
    (instant, Timestamp(wall))
}

/// A log of one channel that shares its numbers with others.
struct Store {
    epoch: u64,
    end: u64,
    kept: Vec<(Instant, Message)>,
}

impl Store {
    fn publish(&mut self, now: Instant, others: u64) -> Message {
        self.end += 1 + others;
        let previous = self.kept.last().and_then(|(_, it)| it.stored).map(|it| it.offset.0);
        let message = message(self.epoch, self.end, previous);
        self.kept.push((now, message.clone()));
        if self.kept.len() > SIZE + 1 {
            self.kept.remove(0);
        }
        message
    }

    fn expire(&mut self, now: Instant) {
        self.kept.retain(|(at, _)| now.saturating_duration_since(*at) < TTL);
    }

    fn top(&self) -> Top {
        let newest = self.kept.last().and_then(|(_, it)| it.position());
        Top { epoch: Epoch(self.epoch), newest, end: Offset(self.end) }
    }

    fn read(&self, slice: Slice) -> Vec<Message> {
        let From::Offset(from) = slice.from else { panic!("{slice:?}") };
        let wanted = |it: &&Message| it.stored.is_some_and(|it| it.offset >= from);
        self.kept.iter().map(|(_, it)| it).filter(wanted).take(slice.messages).cloned().collect()
    }
}

/// A feed with its log, and what a subscriber has got that was there from the start.
struct World {
    now: Instant,
    store: Store,
    feed: Feed,
    /// Published, and on their way.
    live: Vec<Message>,
    published: Vec<Position>,
    /// Index into `published` of the next that the subscriber must get.
    next: usize,
    /// Whether catching up was asked for, and has not been done.
    behind: bool,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let store = Store { epoch: 1, end: 0, kept: Vec::new() };
        let feed = Feed::new(now);
        let mut world = Self {
            now,
            store,
            feed,
            live: Vec::new(),
            published: Vec::new(),
            next: 0,
            behind: true,
        };
        world.catch_up();
        world
    }

    fn publish(&mut self, others: u64) {
        let message = self.store.publish(self.now, others);
        self.published.extend(message.position());
        self.live.push(message);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.store.expire(self.now);
        // What is on its way longer than a moment is lost.
        self.live.clear();
    }

    fn arrive(&mut self, message: &Message) {
        match self.feed.arrive(self.now, message) {
            Arrival::Next => self.give(message, false),
            Arrival::Later => {}
            Arrival::CatchUp => self.behind = true,
        }
    }

    fn give(&mut self, message: &Message, mut lost: bool) {
        let position = message.position().unwrap();
        let index = self.published.iter().position(|it| *it == position).expect("was published");
        assert!(index >= self.next, "{position} again, or too late");
        assert!(index == self.next || mem::take(&mut lost), "a hole before {position}");
        self.next = index + 1;
    }

    fn catch_up(&mut self) {
        while mem::take(&mut self.behind) {
            let plan = self.feed.plan();
            let top = plan.known.unwrap_or_else(|| self.store.top());
            let read = plan.slice(&history(), &top).map_or(Vec::new(), |it| self.store.read(it));
            let CaughtUp { mut lost, messages, again } =
                self.feed.caught_up(self.now, &history(), &top, read);
            let told = lost;
            for message in &messages {
                self.give(message, lost);
                lost = false;
            }
            if told && messages.is_empty() {
                self.next = self.published.len();
            }
            self.behind = again;
        }
    }

    /// As a gateway does from time to time.
    fn check(&mut self) {
        self.catch_up();
        let top = self.store.top();
        self.behind |= self.feed.compare(self.now, &top);
        self.catch_up();
    }

    /// Somebody comes back who stood at this place of all that was published.
    fn resume(&mut self, stood: usize, age: Option<Duration>) {
        let position = self.published[stood];
        let since = Since { position: Some(position), age, rewind: None };
        if self.feed.need(Wanted::Since(&since)) == Need::CatchUp {
            self.behind |= self.feed.check();
            self.catch_up();
        }
        self.feed.stay(self.now, &history(), Wanted::Since(&since));
        if self.feed.need(Wanted::Since(&since)) == Need::Window {
            self.load_window();
        }
        let stands = self.feed.position();
        let now = at(self.now, self.store.end);
        let replay = self.feed.replay(now, &history(), Wanted::Since(&since)).unwrap();
        let got: Vec<Position> = replay.messages.iter().filter_map(|it| it.position()).collect();
        if replay.start.recovered == Some(true) {
            assert_eq!(
                got,
                self.published[stood + 1..self.next],
                "after {position}, at {stands:?}"
            );
            let expected = if got.is_empty() { stands.unwrap() } else { position };
            assert_eq!(replay.start.position, Some(expected));
        } else {
            assert_eq!((got, replay.start.position), (Vec::new(), stands));
        }
    }

    fn load_window(&mut self) {
        let slice = self.feed.begin_window(self.now, &history(), Wanted::Nothing).unwrap();
        let read = self.store.read(slice);
        assert_eq!(self.feed.fill_window(self.now, read), None);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish {
        others: u64,
    },
    /// One of those on their way arrives; it may come again.
    Arrive {
        index: prop::sample::Index,
        stays: bool,
    },
    Lose(prop::sample::Index),
    CatchUp,
    Check,
    Pass(u64),
    Resume {
        stood: prop::sample::Index,
        age: Option<u64>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (0..3u64).prop_map(|others| Step::Publish { others }),
        6 => (index(), prop::bool::weighted(0.1)).prop_map(|(index, stays)| Step::Arrive { index, stays }),
        1 => index().prop_map(Step::Lose),
        3 => Just(Step::CatchUp),
        1 => Just(Step::Check),
        1 => (1..60u64).prop_map(Step::Pass),
        2 => (index(), prop::option::of(0..120u64)).prop_map(|(stood, age)| Step::Resume { stood, age }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the bus does: each message once, in order; a hole only where it is told; and who
    /// is told to have recovered gets all.
    #[test]
    fn nothing_is_missing_in_silence(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Publish { others } => world.publish(others),
                Step::Arrive { index, stays } if !world.live.is_empty() => {
                    let index = index.index(world.live.len());
                    let message = if stays { world.live[index].clone() } else { world.live.remove(index) };
                    world.arrive(&message);
                }
                Step::Lose(index) if !world.live.is_empty() => {
                    world.live.remove(index.index(world.live.len()));
                }
                Step::CatchUp => world.catch_up(),
                Step::Check => world.check(),
                Step::Pass(seconds) => {
                    // A gateway looks at the top well before a message can become too old.
                    for _ in 0..seconds.div_ceil(25) {
                        world.pass(Duration::from_secs(25));
                        world.check();
                    }
                }
                Step::Resume { stood, age } if world.next > 0 => {
                    let stood = stood.index(world.next);
                    // Only who stood at the end can have been there lately.
                    let age = age.filter(|_| stood + 1 == world.next).map(Duration::from_secs);
                    world.resume(stood, age);
                }
                _ => {}
            }
        }
        world.check();
        prop_assert_eq!(world.next, world.published.len(), "something is missing at the end");
    }
}

#[test]
fn a_log_that_was_set_back_is_told_once_and_followed() {
    let mut world = World::new();
    for _ in 0..3 {
        world.publish(0);
    }
    let live = mem::take(&mut world.live);
    live.iter().for_each(|message| world.arrive(message));
    world.catch_up();
    // It loses its newest, and gives their numbers to others.
    world.store.kept.truncate(1);
    world.store.end = 1;
    world.published.truncate(1);
    world.next = 1;
    let mut other = world.store.publish(world.now, 0);
    other.id = "other".parse().unwrap();
    world.store.kept.last_mut().unwrap().1 = other.clone();
    world.published.extend(other.position());
    assert_eq!(world.feed.arrive(world.now, &other), Arrival::CatchUp);
    let top = world.store.top();
    let plan = world.feed.plan();
    let read = world.store.read(plan.slice(&history(), &top).unwrap());
    let caught_up = world.feed.caught_up(world.now, &history(), &top, read);
    assert!(caught_up.lost);
    assert_eq!(world.feed.position(), other.position());
    let stale = Since { position: message(1, 3, None).position(), age: None, rewind: None };
    assert_eq!(world.feed.need(Wanted::Since(&stale)), Need::CatchUp);
    let replay = world.feed.replay(at(world.now, 9), &history(), Wanted::Since(&stale)).unwrap();
    assert_eq!((replay.start.recovered, replay.messages), (Some(false), Vec::new()));
}

#[test]
fn another_epoch_is_told() {
    let mut world = World::new();
    world.publish(0);
    let first = world.live.remove(0);
    world.arrive(&first);
    world.catch_up();
    world.store = Store { epoch: 2, end: 0, kept: Vec::new() };
    let fresh = world.store.publish(world.now, 4);
    assert_eq!(world.feed.arrive(world.now, &fresh), Arrival::CatchUp);
    let plan = world.feed.plan();
    let top = world.store.top();
    assert_eq!(plan.known, None, "only the log can tell");
    let read = world.store.read(plan.slice(&history(), &top).unwrap());
    let caught_up = world.feed.caught_up(world.now, &history(), &top, read);
    assert_eq!((caught_up.lost, caught_up.messages), (true, vec![fresh]));
}

/// What the log had before it was restored is not given out again under its new numbers.
#[test]
fn a_restored_log_gives_out_only_what_is_new() {
    let mut world = World::new();
    for _ in 0..4 {
        world.publish(0);
    }
    for message in mem::take(&mut world.live) {
        world.arrive(&message);
    }
    world.catch_up();
    let renumbered = |time: u64, offset: u64, previous: Option<u64>| Message {
        time: Timestamp(time),
        ..message(2, offset, previous)
    };
    let fresh = renumbered(5, 3, Some(2));
    let kept = [renumbered(1, 1, None), renumbered(2, 2, Some(1)), fresh.clone()];
    world.store = Store { epoch: 2, end: 3, kept: kept.map(|it| (world.now, it)).into() };
    // Said to be of the epoch before, because nobody knew better when it came.
    let last = world.feed.position().unwrap();
    let early = message(last.epoch.0, last.offset.0 + 2, Some(last.offset.0 + 1));
    assert_eq!(world.feed.arrive(world.now, &early), Arrival::CatchUp);
    let top = world.store.top();
    let read = world.store.read(world.feed.plan().slice(&history(), &top).unwrap());
    let caught_up = world.feed.caught_up(world.now, &history(), &top, read);
    assert_eq!((caught_up.lost, caught_up.messages), (true, vec![fresh.clone()]));
    assert!(caught_up.again, "the early one may be of a later epoch");
    let caught_up = world.feed.caught_up(world.now, &history(), &top, Vec::new());
    assert_eq!(caught_up, CaughtUp::default());
    assert_eq!(world.feed.position(), fresh.position());
}

#[test]
fn the_latest_can_be_asked_for() {
    let mut world = World::new();
    for _ in 0..4 {
        world.publish(0);
    }
    world.check();
    world.load_window();
    let rewind = |rewind| Since { rewind: Some(rewind), ..Since::default() };
    let mut offsets = |since: &Since| {
        let replay = world.feed.replay(at(world.now, 4), &history(), Wanted::Since(since)).unwrap();
        let offsets: Vec<u64> =
            replay.messages.iter().filter_map(|it| it.stored).map(|it| it.offset.0).collect();
        (replay.start.recovered, offsets)
    };
    assert_eq!(offsets(&rewind(Rewind::Messages(2))), (None, vec![3, 4]));
    assert_eq!(offsets(&rewind(Rewind::Messages(9))), (None, vec![1, 2, 3, 4]));
    assert_eq!(offsets(&rewind(Rewind::For(Duration::from_millis(2)))), (None, vec![2, 3, 4]));
    let elsewhere = Position { epoch: Epoch(7), offset: Offset(1), fingerprint: None };
    let since = Since { position: Some(elsewhere), ..rewind(Rewind::Messages(1)) };
    assert_eq!(offsets(&since), (Some(false), vec![4]));
}

#[test]
fn more_than_can_be_held_is_read_instead() {
    let mut world = World::new();
    world.feed.check();
    world.behind = true;
    for _ in 0..MAX_HELD + 10 {
        world.publish(0);
        let message = world.live.remove(0);
        world.arrive(&message);
    }
    let lost = world.published.len() - SIZE - 1;
    world.next = lost;
    world.catch_up();
    assert_eq!(world.next, world.published.len());
}

#[test]
fn what_is_pending_is_given_from_the_first_on() {
    let mut world = World::new();
    for _ in 0..5 {
        world.publish(0);
    }
    world.check();
    let epoch = Epoch(1);
    let pending = |world: &mut World, after| {
        let backlog = Backlog { after, ..Backlog::default() };
        let wanted = Wanted::Pending(&backlog);
        if world.feed.need(wanted) == Need::Window {
            let slice = world.feed.begin_window(world.now, &history(), wanted).unwrap();
            let read = world.store.read(slice);
            assert_eq!(world.feed.fill_window(world.now, read), None);
        }
        let replay = world.feed.replay(at(world.now, 9), &history(), wanted).unwrap();
        replay.messages.iter().filter_map(|it| it.stored).map(|it| it.offset.0).collect::<Vec<_>>()
    };
    assert_eq!(pending(&mut world, Some((epoch, Offset(3)))), [4, 5]);
    assert_eq!(pending(&mut world, Some((epoch, Offset(1)))), [2, 3, 4, 5], "the window grows");
    assert_eq!(pending(&mut world, Some((epoch, Offset(5)))), [0; 0]);
    assert_eq!(pending(&mut world, Some((Epoch(9), Offset(5)))), [1, 2, 3, 4, 5]);
    assert_eq!(pending(&mut world, None), [1, 2, 3, 4, 5]);
}

/// What comes between the look at the end and the answer is not a reason to recover nothing.
#[test]
fn who_stands_at_the_end_gets_what_comes_meanwhile() {
    let mut world = World::new();
    world.publish(0);
    world.check();
    let since = Since { position: world.feed.position(), ..Since::default() };
    let wanted = Wanted::Since(&since);
    assert_eq!(world.feed.need(wanted), Need::Nothing);
    world.feed.stay(world.now, &history(), wanted);
    world.publish(0);
    let fresh = world.live.pop().unwrap();
    world.arrive(&fresh);
    let replay = world.feed.replay(at(world.now, 9), &history(), wanted).unwrap();
    assert_eq!((replay.start.recovered, replay.messages), (Some(true), vec![&fresh]));
    // Whoever wants older ones needs the log, and so does the first one, once too much has come.
    let rewind = Since { rewind: Some(Rewind::Messages(1)), ..Since::default() };
    assert_eq!(world.feed.need(Wanted::Since(&rewind)), Need::Window);
    assert_eq!(world.feed.need(wanted), Need::Nothing);
    for _ in 0..=SIZE {
        world.publish(0);
        let message = world.live.pop().unwrap();
        world.arrive(&message);
    }
    assert_eq!(world.feed.need(wanted), Need::Window);
    let replay = world.feed.replay(at(world.now, 9), &history(), wanted).unwrap();
    assert_eq!((replay.start.recovered, replay.messages), (Some(false), Vec::new()));
}

#[test]
fn an_unused_window_goes() {
    let mut world = World::new();
    world.publish(0);
    world.check();
    world.load_window();
    let since = Since { rewind: Some(Rewind::Messages(1)), ..Since::default() };
    assert_eq!(world.feed.need(Wanted::Since(&since)), Need::Nothing);
    // Not while somebody is about to make use of it.
    let later = |seconds| world.now + Duration::from_secs(seconds);
    world.feed.stay(later(9), &history(), Wanted::Since(&since));
    world.feed.tidy(later(11));
    assert_eq!(world.feed.need(Wanted::Since(&since)), Need::Nothing);
    world.feed.tidy(later(20));
    assert_eq!(world.feed.need(Wanted::Since(&since)), Need::Window);
    let fingerprint = Some(Fingerprint::of(&"m1-1".parse().unwrap()));
    assert_eq!(world.feed.position().unwrap().fingerprint, fingerprint);
}

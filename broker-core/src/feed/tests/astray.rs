//! What logs do that they should not, or that nobody saw.

use super::*;

/// Catches up for as long as that is asked for, which must come to an end.
fn settle(feed: &mut Feed, store: &Store, now: Instant) -> Vec<CaughtUp> {
    let mut rounds = Vec::new();
    while rounds.last().is_none_or(|last: &CaughtUp| last.again) {
        assert!(rounds.len() < 10, "it goes on for ever: {feed:?}");
        let plan = feed.plan();
        let top = plan.known.unwrap_or_else(|| store.top());
        let read = plan.slice(&history(), &top).map_or(Vec::new(), |slice| store.read(slice));
        rounds.push(feed.caught_up(now, &history(), &top, read));
    }
    rounds
}

#[test]
fn a_message_of_an_older_log_is_not_waited_for() {
    let now = Instant::now();
    let mut store = Store { epoch: 2, end: 0, kept: Vec::new() };
    let real = store.publish(now, 4);
    let mut feed = Feed::new(now);
    let older = Stored { epoch: Epoch(1), ..real.stored.unwrap() };
    assert_eq!(feed.arrive(now, &Message { stored: Some(older), ..real.clone() }), Arrival::Later);
    settle(&mut feed, &store, now);
    assert_eq!(feed.position(), real.position());
}

#[test]
fn messages_that_the_log_has_lost_are_not_waited_for() {
    let now = Instant::now();
    for survive in [0, 1] {
        let mut store = Store { epoch: 1, end: 0, kept: Vec::new() };
        store.publish(now, 0);
        let mut feed = Feed::new(now);
        settle(&mut feed, &store, now);
        store.publish(now, 0);
        let held = [store.publish(now, 0), store.publish(now, 0)];
        store.kept.truncate(survive);
        store.end = survive as u64;
        let arrivals = held.map(|message| feed.arrive(now, &message));
        assert_eq!(arrivals, [Arrival::CatchUp, Arrival::Later]);
        let rounds = settle(&mut feed, &store, now);
        assert!(rounds.iter().all(|it| it.messages.is_empty()), "{rounds:?}");
        assert_eq!(feed.position(), Some(store.top().position()));
        assert_eq!(rounds.iter().any(|it| it.lost), survive == 0, "{rounds:?}");
    }
}

#[test]
fn a_newest_message_that_cannot_be_decoded_is_read_once() {
    let now = Instant::now();
    let mut store = Store { epoch: 1, end: 0, kept: Vec::new() };
    let first = store.publish(now, 0);
    let mut feed = Feed::new(now);
    settle(&mut feed, &store, now);
    let undecodable = Position { fingerprint: None, ..store.publish(now, 0).position().unwrap() };
    let top = Top { newest: Some(undecodable), ..store.top() };
    assert!(feed.compare(now, &top));
    let caught_up = feed.caught_up(now, &history(), &top, vec![first.clone()]);
    assert_eq!(caught_up, CaughtUp::default());
    assert!(!feed.compare(now, &top), "read at every check");
    let since = Since { position: Some(undecodable), ..Since::default() };
    assert_eq!(feed.need(Wanted::Since(&since)), Need::Nothing, "it is the end");
    // What comes next follows it.
    assert_eq!(feed.arrive(now, &store.publish(now, 0)), Arrival::Next);
}

#[test]
fn what_comes_is_not_kept_for_a_window_that_was_abandoned() {
    let mut world = World::new();
    world.publish(0);
    world.check();
    let slice = world.feed.begin_window(world.now, &history(), Wanted::Nothing).unwrap();
    let read = world.store.read(slice);
    world.feed.abandon_window();
    assert!(world.feed.recording.is_none());
    world.feed.fill_window(world.now, read);
    assert!(world.feed.window.is_none(), "it may lack what came since");
}

/// A queue's log keeps more than is read at once, and than a window holds.
#[test]
fn of_a_long_log_the_newest_messages_are_replayed_without_hole() {
    const MANY: u64 = 25_000;
    const MOST: u64 = MAX_READ as u64 - 1;
    let now = Instant::now();
    let endless = History { size: usize::MAX, ttl: TTL };
    let mut feed = Feed::new(now);
    let log: Vec<Message> = (1..=MANY).map(|n| message(1, n, (n > 1).then(|| n - 1))).collect();
    let newest = log.last().and_then(Message::position);
    let top = Top { epoch: Epoch(1), newest, end: Offset(MANY) };
    feed.caught_up(now, &endless, &top, Vec::new());
    let backlog = Backlog { after: Some((Epoch(1), Offset(100))), ..Backlog::default() };
    let wanted = Wanted::Pending(&backlog);
    assert_eq!(feed.need(wanted), Need::Window);
    let (mut reads, mut next) = (Vec::new(), feed.begin_window(now, &endless, wanted));
    while let Some(Slice { from: From::Offset(from), messages, .. }) = next {
        reads.push(from.0);
        if reads.len() == 2 {
            let live = message(1, MANY + 1, Some(MANY));
            assert_eq!(feed.arrive(now, &live), Arrival::Next);
        }
        let start = usize::try_from(from.0).unwrap() - 1;
        next = feed.fill_window(now, log[start..].iter().take(messages).cloned().collect());
    }
    assert_eq!(reads, [101, 10_103, 20_105]);
    let replay = feed.replay(at(now, 0), &endless, wanted).unwrap();
    let given: Vec<u64> =
        replay.messages.iter().filter_map(|it| it.stored).map(|it| it.offset.0).collect();
    assert_eq!(given, Vec::from_iter(MANY + 2 - MOST..=MANY + 1));
}

#[test]
fn a_window_begins_behind_what_it_could_not_hold() {
    let mut world = World::new();
    world.publish(0);
    world.check();
    let slice = world.feed.begin_window(world.now, &history(), Wanted::Nothing).unwrap();
    let read = world.store.read(slice);
    for _ in 0..2 * SIZE {
        world.publish(0);
        let message = world.live.pop().unwrap();
        world.arrive(&message);
    }
    assert_eq!(world.feed.fill_window(world.now, read), None);
    for (after, need) in [(SIZE as u64 - 1, Need::Window), (SIZE as u64, Need::Nothing)] {
        let backlog = Backlog { after: Some((Epoch(1), Offset(after))), ..Backlog::default() };
        assert_eq!(world.feed.need(Wanted::Pending(&backlog)), need, "after {after}");
    }
}

#[test]
fn a_log_that_is_begun_anew_while_it_is_asked_is_asked_again() {
    let now = Instant::now();
    let mut feed = Feed::new(now);
    let first = message(1, 1, None);
    let top = |newest: &Message| {
        let newest = newest.position().unwrap();
        Top { epoch: newest.epoch, newest: Some(newest), end: newest.offset }
    };
    feed.caught_up(now, &history(), &top(&first), Vec::new());
    // It came in the old epoch still, and shows a hole.
    let held = message(1, 5, Some(4));
    assert_eq!(feed.arrive(now, &held), Arrival::CatchUp);
    let known = feed.plan().known.unwrap();
    let read = vec![message(2, 5, None), message(2, 6, Some(5))];
    let outcome = feed.caught_up(now, &history(), &known, read.clone());
    assert_eq!((outcome.again, outcome.messages.len()), (true, 0));
    assert_eq!(feed.plan().known, None, "only the log can tell");
    let outcome = feed.caught_up(now, &history(), &top(&read[1]), read);
    assert!(outcome.lost);
    assert_eq!(feed.position().unwrap().epoch, Epoch(2));
}

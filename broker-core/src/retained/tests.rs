//! Last values on a made-up log, and a bus that lags and loses.

mod random;

use super::*;
use crate::message::{Data, JsonText, Stored};

const BOUNDS: Bounds = Bounds { channels: 4, bytes: 4_000 };
const TTL: Duration = Duration::from_millis(1_000);

fn message(channel: &str, offset: u64, previous: Option<u64>) -> Message {
    of_epoch(1, channel, offset, previous)
}

fn of_epoch(epoch: u64, channel: &str, offset: u64, previous: Option<u64>) -> Message {
    Message {
        id: format!("m{epoch}-{offset}").parse().unwrap(),
        channel: channel.parse().unwrap(),
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

fn listing(end: u64, channels: &[&str]) -> Listing {
    let channels = channels.iter().map(|name| name.parse().unwrap()).collect();
    Listing { epoch: Epoch(1), end: Offset(end), channels }
}

/// Loaded with `s:1` at 3 and `s:2` at 5, where the log ends.
fn loaded() -> LastValues {
    let mut values = LastValues::new(BOUNDS, TTL);
    let began = values.begin();
    let listing = listing(5, &["s:1", "s:2"]);
    assert!(values.must_read(began, &listing));
    let read = vec![message("s:1", 3, None), message("s:2", 5, None)];
    assert_eq!(values.merge(began, &listing, read), Merged::default(), "nobody waits for it");
    assert_eq!(values.readiness(), Readiness::Ready);
    values
}

fn shown(values: &LastValues) -> Vec<(String, u64)> {
    let pattern = "s:**".parse().unwrap();
    let found = values.matching(&pattern, None, Timestamp(0));
    found.map(|it| (it.channel.to_string(), it.stored.unwrap().offset.0)).collect()
}

fn offsets(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|it| it.stored.unwrap().offset.0).collect()
}

#[test]
fn the_newest_of_each_channel_is_known() {
    let mut values = loaded();
    assert_eq!(values.arrive(&message("s:1", 6, Some(3))), Arrival::Next);
    assert_eq!(values.arrive(&message("s:3", 7, None)), Arrival::Next);
    assert_eq!(values.readiness(), Readiness::Ready);
    assert_eq!(shown(&values), [("s:1".into(), 6), ("s:2".into(), 5), ("s:3".into(), 7)]);
    values.arrive(&message("s:3", 8, Some(7)));
    let bytes = values.values.values().map(size_of).sum();
    assert_eq!(values.size(), Bounds { channels: 3, bytes });
}

/// The bus brings what was read already, since it lags behind the log.
#[test]
fn what_was_read_is_not_given_out_again() {
    let mut values = loaded();
    for late in [message("s:2", 4, None), message("s:2", 5, Some(4))] {
        assert_eq!(values.arrive(&late), Arrival::Known);
    }
    assert_eq!(values.readiness(), Readiness::Ready);
    // But numbers that were given out twice are looked at.
    assert_eq!(values.arrive(&message("s:2", 3, None)), Arrival::Known);
    assert_eq!(values.readiness(), Readiness::Loading);
}

#[test]
fn a_hole_in_a_channel_is_told_at_once() {
    let mut values = loaded();
    assert_eq!(values.arrive(&message("s:1", 7, Some(6))), Arrival::AfterAHole);
    assert!(values.is_doubted());
    let mut values = loaded();
    assert_eq!(values.arrive(&message("s:3", 7, Some(6))), Arrival::AfterAHole);
    let mut values = loaded();
    assert_eq!(values.arrive(&message("s:3", 6, Some(4))), Arrival::Next, "that one is gone");
}

/// The next message of any channel shows it.
#[test]
fn what_was_missed_is_given_out() {
    let mut values = loaded();
    assert_eq!(values.arrive(&message("s:2", 7, Some(5))), Arrival::Next);
    assert_eq!(values.readiness(), Readiness::Loading);
    let began = values.begin();
    assert!(!values.is_doubted() && values.readiness() == Readiness::Loading);
    let listing = listing(7, &["s:1", "s:2"]);
    assert!(values.must_read(began, &listing));
    let read = vec![message("s:1", 6, None), message("s:2", 7, None)];
    let merged = values.merge(began, &listing, read);
    assert_eq!((merged.lost, offsets(&merged.messages)), (true, vec![6]));
    assert_eq!(values.readiness(), Readiness::Ready);
}

/// A look at the log shows it, and also channels of which nothing was known.
#[test]
fn a_hole_at_the_end_is_filled() {
    let mut values = loaded();
    let began = values.begin();
    let listing = listing(7, &["s:1", "s:2", "s:3"]);
    assert!(!values.has_seen(listing.end) && values.must_read(began, &listing));
    let read = ["s:1", "s:2", "s:3"].into_iter().zip([3, 7, 6]);
    let read = read.map(|(name, offset)| message(name, offset, None)).collect();
    assert_eq!(offsets(&values.merge(began, &listing, read).messages), [6, 7]);
    assert_eq!(values.arrive(&message("s:3", 6, None)), Arrival::Known, "it was only late");
}

#[test]
fn what_is_on_its_way_is_not_taken_for_missed() {
    let mut values = loaded();
    let began = values.begin();
    values.doubt();
    values.begin();
    let read = vec![message("s:1", 3, None), message("s:2", 6, None)];
    let merged = values.merge(began, &listing(5, &["s:1", "s:2"]), read);
    assert_eq!(merged, Merged::default());
    assert_eq!(values.arrive(&message("s:2", 6, Some(5))), Arrival::Next);
}

#[test]
fn quiet_channels_are_not_read_again() {
    let mut values = loaded();
    let began = values.begin();
    assert!(!values.must_read(began, &listing(5, &["s:1", "s:2"])));
    // Of what the log has no more, nothing stays; of what came meanwhile, everything.
    values.arrive(&message("s:4", 6, None));
    assert_eq!(values.merge(began, &listing(5, &["s:2"]), Vec::new()), Merged::default());
    assert_eq!(shown(&values), [("s:2".into(), 5), ("s:4".into(), 6)]);
}

#[test]
fn another_log_replaces_everything() {
    let mut values = loaded();
    assert_eq!(values.arrive(&of_epoch(2, "s:1", 1, None)), Arrival::Next);
    assert_eq!(values.readiness(), Readiness::Loading);
    let began = values.begin();
    let listing = Listing { epoch: Epoch(2), ..listing(2, &["s:1", "s:3"]) };
    let read = vec![of_epoch(2, "s:1", 1, None), of_epoch(2, "s:3", 2, None)];
    let merged = values.merge(began, &listing, read);
    assert_eq!((merged.lost, offsets(&merged.messages)), (true, vec![2]), "1 came live");
    assert_eq!(shown(&values), [("s:1".into(), 1), ("s:3".into(), 2)]);
    assert_eq!(values.arrive(&of_epoch(2, "s:3", 3, Some(2))), Arrival::Next);
    assert_eq!(values.readiness(), Readiness::Ready);
}

#[test]
fn a_log_that_was_set_back_replaces_everything() {
    let mut values = loaded();
    let began = values.begin();
    let listing = listing(3, &["s:1"]);
    assert!(values.must_read(began, &listing));
    let merged = values.merge(began, &listing, vec![message("s:1", 3, None)]);
    assert!(merged.lost);
    assert_eq!(values.arrive(&message("s:2", 4, None)), Arrival::Next);
    assert_eq!(shown(&values), [("s:1".into(), 3), ("s:2".into(), 4)]);
}

#[test]
fn too_much_is_said_and_ends_by_itself() {
    let mut values = loaded();
    for offset in 6..9 {
        let arrival = values.arrive(&message(&format!("s:{offset}"), offset, None));
        assert_eq!(arrival, Arrival::Next);
    }
    assert_eq!((values.readiness(), values.size().channels), (Readiness::TooMuch, 0));
    assert_eq!(values.arrive(&message("s:6", 9, Some(6))), Arrival::Next, "it goes on live");
    let began = values.begin();
    assert!(values.must_read(began, &listing(9, &["s:1"])));
    assert!(!values.give_up(began, &listing(9, &["s:1"])));
    let began = values.begin();
    let read = vec![message("s:1", 3, None), message("s:6", 9, None)];
    assert_eq!(values.merge(began, &listing(9, &["s:1", "s:6"]), read), Merged::default());
    assert_eq!(shown(&values), [("s:1".into(), 3), ("s:6".into(), 9)]);
}

#[test]
fn a_snapshot_has_what_matches_and_is_not_too_old() {
    let mut values = loaded();
    values.arrive(&message("s:1:x", 6, None));
    let names = |pattern: &str, after: Option<&str>, now: u64| {
        let pattern = pattern.parse().unwrap();
        let found = values.matching(&pattern, after, Timestamp(now));
        found.map(|it| it.channel.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("s:*", None, 0), ["s:1", "s:2"]);
    assert_eq!(names("s:**", None, 0), ["s:1", "s:1:x", "s:2"]);
    assert_eq!(names("s:**", Some("s:1"), 0), ["s:1:x", "s:2"]);
    assert_eq!(names("s:**", Some("a"), 0), ["s:1", "s:1:x", "s:2"]);
    assert_eq!(names("s:*:x", None, 0), ["s:1:x"]);
    assert_eq!(names("s:**", Some("z"), 0), [""; 0]);
    assert_eq!(names("s:**", None, 1_004), ["s:1:x", "s:2"]);
}

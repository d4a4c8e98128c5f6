//! The laws of [`Log`], and of [`Bus`](broker_core::ports::Bus) where
//! there is history.
//!
//! The first gateway given listens, the last one publishes; the log is the listener's.

use std::{sync::Arc, time::Duration};

use broker_core::{
    ChannelName, ConnectionId, Epoch, History, Message, Namespace, Offset, Position, Timestamp,
    history::{From, Slice, Top},
    message::{Options, Publisher},
    ports::{Accepted, Log, LogError},
    position::Fingerprint,
};

use super::{
    Gateway, PATIENCE,
    bus::{channel_name, interest, message, service},
};
use crate::eventually;

/// Makes a test of each law; `$make` is a future that gives a [`Logged`] whose namespaces have
/// the history of [`histories`].
#[macro_export]
macro_rules! log_contract {
    ($make:expr) => {
        $crate::__laws! { $crate::contract::log, $make;
            offsets_increase_within_an_epoch
            publishes_are_stored_in_the_order_of_the_calls
            the_same_id_again_changes_nothing
            another_publisher_or_channel_has_ids_of_its_own
            what_arrives_says_what_came_before_it
            what_is_read_is_what_arrived
            the_top_counts_all_that_was_acknowledged
            a_channel_without_messages_has_a_top
            many_tops_come_in_their_order
            what_was_acknowledged_can_be_read
            reading_starts_where_it_is_told
            the_channels_of_a_namespace_are_listed
            the_newest_of_many_channels_is_read
            a_long_log_is_read_whole
            more_than_the_size_is_dropped_oldest_first
            messages_leave_when_they_are_old
            without_history_nothing_is_stored
        }
    };
}

/// The namespaces of the suite that have history: `room` keeps [`SIZE`] messages, `long` many,
/// `brief` keeps its messages for a second.
///
/// # Panics
/// Never.
#[must_use]
pub fn histories() -> [(Namespace, History); 3] {
    let history = |name: &str, size, seconds| {
        let ttl = Duration::from_secs(seconds);
        (name.parse().expect("a namespace"), History { size, ttl })
    };
    [history("room", SIZE, 600), history("long", 2000, 600), history("brief", 10, 1)]
}

/// How many messages of each channel `room` keeps at least.
pub const SIZE: usize = 5;

/// Gateways, and a log that they share.
#[derive(Debug)]
pub struct Logged {
    /// The gateways.
    pub gateways: Vec<Gateway>,
    /// The log, as the first gateway sees it.
    pub log: Arc<dyn Log>,
}

impl Logged {
    fn listener(&self) -> &Gateway {
        self.gateways.first().expect("a fixture has gateways")
    }

    fn publisher(&self) -> &Gateway {
        self.gateways.last().expect("a fixture has gateways")
    }

    /// Publishes for a service, and says where it is stored.
    pub async fn publish(&self, channel: &str, id: &str) -> Position {
        self.publish_all(message(channel, id, "1"), service()).await.0
    }

    async fn publish_all(&self, message: Message, publisher: Publisher) -> (Position, bool) {
        let accepted = self.publisher().bus.publish(message, publisher).await;
        let Accepted { position, duplicate } = accepted.expect("publishes");
        (position.expect("is stored"), duplicate)
    }

    async fn listen(&self, text: &str) {
        self.listener().bus.subscribe(interest(text)).await.expect("subscribes");
    }

    /// Everything that is kept of the channel, which ends at `until` at least.
    pub async fn read(&self, channel: &str, until: Offset) -> Vec<Message> {
        self.read_from(channel, From::Offset(Offset(0)), until, 10_000).await
    }

    async fn read_from(
        &self,
        channel: &str,
        from: From,
        until: Offset,
        messages: usize,
    ) -> Vec<Message> {
        let slice = Slice { from, until, messages };
        self.log.read(channel_name(channel), slice).await.expect("reads")
    }

    /// Where the channel's log ends.
    pub async fn top(&self, channel: &str) -> Top {
        self.log.top(channel_name(channel)).await.expect("a top")
    }
}

fn user(name: &str) -> Publisher {
    Publisher::User(name.parse().expect("a user"))
}

fn positions(messages: &[Message]) -> Vec<Position> {
    messages.iter().filter_map(Message::position).collect()
}

fn ids(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.id.as_str()).collect()
}

/// All channels of a namespace share the epoch and the numbers.
pub async fn offsets_increase_within_an_epoch(logged: &Logged) {
    let mut last: Option<Position> = None;
    for n in 0..20 {
        let id = format!("m{n}");
        let position = logged.publish(&format!("room:{}", n % 3), &id).await;
        assert_eq!(position.fingerprint, Some(Fingerprint::of(&id.parse().expect("an id"))));
        if let Some(last) = last {
            assert_eq!(position.epoch, last.epoch);
            assert!(position.offset > last.offset, "{position} after {last}");
        }
        last = Some(position);
    }
    assert_ne!(last.map(|last| last.epoch), Some(Epoch(0)));
}

/// Order: one publisher's calls decide, not who polls which future when; and others do not have
/// to wait for it.
pub async fn publishes_are_stored_in_the_order_of_the_calls(logged: &Logged) {
    logged.listen("long:1").await;
    let by = [user("ann"), user("bob"), Publisher::Connection(ConnectionId(7)), service()];
    let mut calls = Vec::new();
    for n in 0..100 {
        for (index, publisher) in by.iter().enumerate() {
            let message = message("long:1", &format!("{index}-{n}"), "1");
            calls.push(logged.publisher().bus.publish(message, publisher.clone()));
        }
    }
    let mut accepted = Vec::new();
    for call in calls.into_iter().rev() {
        accepted.push(call.await.expect("publishes").position.expect("is stored"));
    }
    accepted.reverse();
    let live = logged.listener().wait_for(&channel_name("long:1"), accepted.len()).await;
    let live: Vec<Message> = live.into_iter().map(|(_, message)| message).collect();
    let end = accepted.iter().map(|it| it.offset).max().expect("there are some");
    let read = logged.read("long:1", end).await;
    assert_eq!(ids(&read), ids(&live));
    for index in 0..by.len() {
        let own = accepted.iter().skip(index).step_by(by.len());
        assert!(own.is_sorted_by_key(|position| position.offset));
        let own: Vec<_> = (0..100).map(|n| format!("{index}-{n}")).collect();
        let read: Vec<_> =
            ids(&read).into_iter().filter(|id| id.starts_with(&format!("{index}-"))).collect();
        assert_eq!(read, own);
    }
}

/// A repeated publish has the answer of the first, and arrives once.
pub async fn the_same_id_again_changes_nothing(logged: &Logged) {
    logged.listen("room:1").await;
    let first = logged.publish_all(message("room:1", "a", "1"), user("ann")).await;
    let again = logged.publish_all(message("room:1", "a", "2"), user("ann")).await;
    assert_eq!((first.1, again), (false, (first.0, true)));
    let next = logged.publish("room:1", "b").await;
    logged.listener().wait_for(&channel_name("room:1"), 2).await;
    assert_eq!(positions(&logged.read("room:1", next.offset).await), [first.0, next]);
    let arrived = logged.listener().messages(&channel_name("room:1"));
    assert_eq!(arrived.len(), 2);
}

/// Ids are each publisher's own, and each channel's.
pub async fn another_publisher_or_channel_has_ids_of_its_own(logged: &Logged) {
    let by = [user("7"), service(), Publisher::Connection(ConnectionId(7)), user("8")];
    for publisher in by {
        for channel in ["room:1", "room:2", "room"] {
            let sent = message(channel, "a", "1");
            let (_, duplicate) = logged.publish_all(sent.clone(), publisher.clone()).await;
            assert!(!duplicate, "{publisher:?} on {channel}");
            let (_, duplicate) = logged.publish_all(sent, publisher.clone()).await;
            assert!(duplicate, "{publisher:?} on {channel}");
        }
    }
}

/// Live messages form a chain, whichever interest brings them.
pub async fn what_arrives_says_what_came_before_it(logged: &Logged) {
    logged.listen("room:1").await;
    logged.listen("room:*").await;
    let mut accepted = Vec::new();
    for n in 0..10 {
        accepted.push(logged.publish("room:1", &format!("m{n}")).await);
        logged.publish("room:2", &format!("m{n}")).await;
    }
    let arrived = logged.listener().wait_for(&channel_name("room:1"), 20).await;
    for way in [interest("room:1"), interest("room:*")] {
        let by_way: Vec<Message> = arrived
            .iter()
            .filter(|(via, _)| *via == way)
            .map(|(_, message)| message.clone())
            .collect();
        assert_eq!(positions(&by_way), accepted);
        let previous: Vec<_> =
            by_way.iter().map(|message| message.stored.and_then(|it| it.previous)).collect();
        let before: Vec<_> = std::iter::once(None)
            .chain(accepted.iter().map(|position| Some(position.offset)))
            .take(accepted.len())
            .collect();
        assert_eq!(previous, before);
    }
}

/// With all that a message has.
pub async fn what_is_read_is_what_arrived(logged: &Logged) {
    logged.listen("room:é.1").await;
    let options = Options {
        expires: Some(Timestamp(1_900_000_000_000)),
        trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        ..Options::default()
    };
    let sent = [
        message("room:é.1", "plain", r#"{"a":1}"#),
        Message {
            event: Some(" 100 %, or not ".parse().expect("an event")),
            options: Some(Box::new(options)),
            ..message("room:é.1", "full/1,2", "null")
        },
    ];
    for message in &sent {
        logged.publish_all(message.clone(), user("ann")).await;
    }
    let live = logged.listener().wait_for(&channel_name("room:é.1"), sent.len()).await;
    let live: Vec<Message> = live.into_iter().map(|(_, message)| message).collect();
    let end = live.last().and_then(Message::position).expect("is stored").offset;
    let read = logged.read("room:é.1", end).await;
    assert_eq!(positions(&read), positions(&live));
    let bare = |messages: &[Message]| -> Vec<Message> {
        messages.iter().map(|message| Message { stored: None, ..message.clone() }).collect()
    };
    assert_eq!((bare(&read), bare(&live)), (sent.to_vec(), sent.to_vec()));
    for (message, before) in read.iter().skip(1).zip(&read) {
        let previous = message.stored.and_then(|it| it.previous);
        assert_eq!(previous, before.stored.map(|it| it.offset));
    }
}

/// Also right after the acknowledgement, and for all who ask at once.
pub async fn the_top_counts_all_that_was_acknowledged(logged: &Logged) {
    for n in 0..50 {
        let stored = logged.publish("room:1", &format!("m{n}")).await;
        let (one, other) = tokio::join!(logged.top("room:1"), logged.top("room:1"));
        assert_eq!((one.newest, one.position()), (Some(stored), stored));
        assert!(one.epoch == stored.epoch && one.end >= stored.offset);
        assert_eq!(other.newest, Some(stored));
    }
}

/// Whoever subscribes to it stands behind all that is on other channels.
pub async fn a_channel_without_messages_has_a_top(logged: &Logged) {
    let empty = logged.top("room:1").await;
    assert_eq!((empty.newest, empty.position().offset), (None, Offset(0)));
    let stored = logged.publish("room:2", "a").await;
    let top = logged.top("room:1").await;
    assert_eq!((top.epoch, top.newest), (stored.epoch, None));
    let position = Position { fingerprint: None, ..stored };
    assert_eq!(top.position(), position);
    assert_eq!(logged.read("room:1", top.end).await, []);
}

/// Some with messages, some without; also more than one question can ask for.
pub async fn many_tops_come_in_their_order(logged: &Logged) {
    let channels: Vec<ChannelName> =
        (0..1500).map(|n| channel_name(&format!("room:{n}:{:0100}", 0))).collect();
    let mut stored = vec![None; channels.len()];
    for n in [0, 7, 8, 700, 1499] {
        for id in ["a", "b"] {
            stored[n] = Some(logged.publish(channels[n].as_str(), id).await);
        }
    }
    let tops = eventually("all of them are known", PATIENCE, async || {
        let tops = logged.log.tops(channels.clone()).await.expect("tops");
        let newest: Vec<_> = tops.iter().map(|top| top.newest).collect();
        (newest == stored).then_some(tops)
    })
    .await;
    let epoch = stored.iter().flatten().next().map(|position| position.epoch);
    assert!(tops.iter().all(|top| Some(top.epoch) == epoch));
    assert!(tops.iter().all(|top| top.newest.is_none_or(|newest| newest.offset <= top.end)));
    let silent = logged.log.tops(vec![channels[1].clone()]).await.expect("tops");
    assert_eq!(silent[0].newest, None);
    assert_eq!(logged.log.tops(Vec::new()).await, Ok(Vec::new()));
}

/// At once, not only after a while.
pub async fn what_was_acknowledged_can_be_read(logged: &Logged) {
    for n in 0..50 {
        let stored = logged.publish("room:1", &format!("m{n}")).await;
        let from = From::Offset(stored.offset);
        let read = logged.read_from("room:1", from, stored.offset, 10).await;
        assert_eq!(positions(&read), [stored]);
    }
}

/// All that have messages, with where the log ends.
pub async fn the_channels_of_a_namespace_are_listed(logged: &Logged) {
    let listed = async |name: &str| {
        let namespace = name.parse().expect("a namespace");
        let mut listing = logged.log.channels(namespace).await.expect("lists");
        listing.channels.sort();
        let names: Vec<_> = listing.channels.iter().map(ToString::to_string).collect();
        (names, listing.epoch, listing.end)
    };
    assert_eq!(listed("room").await.0, [""; 0]);
    logged.publish("room:1:%*.x", "a").await;
    logged.publish("room", "a").await;
    let last = logged.publish("room:2", "a").await;
    let names = ["room", "room:1:%*.x", "room:2"].map(str::to_owned).to_vec();
    assert_eq!(listed("room").await, (names, last.epoch, last.offset));
    logged.publish("brief:1", "a").await;
    eventually("it is gone", PATIENCE, async || listed("brief").await.0.is_empty().then_some(()))
        .await;
    let venue = "venue".parse().expect("a namespace");
    assert_eq!(logged.log.channels(venue).await, Err(LogError::NoHistory));
}

/// At once, also more than one answer can hold; of those without messages, nothing.
pub async fn the_newest_of_many_channels_is_read(logged: &Logged) {
    let body = format!(r#""{:060000}""#, 0);
    let mut stored = Vec::new();
    for id in ["a", "b"] {
        stored.clear();
        for n in 0..30 {
            let sent = message(&format!("room:{n}"), id, &body);
            stored.push(logged.publish_all(sent, service()).await.0);
        }
    }
    let mut channels: Vec<_> = (0..30).map(|n| channel_name(&format!("room:{n}"))).collect();
    channels.push(channel_name("room:none"));
    let newest = async |channels: &[ChannelName]| {
        let until = stored[29].offset;
        let mut read = logged.log.newest(channels.to_vec(), until).await.expect("reads");
        read.sort_by_key(|message| message.stored.map(|stored| stored.offset));
        read
    };
    let read = newest(&channels).await;
    assert_eq!(positions(&read), stored);
    assert!(read.iter().all(|message| message.data.len() == body.len()));
    assert_eq!(newest(&channels[30..]).await, []);
    assert_eq!(newest(&[]).await, []);
}

/// By offset or time, up to a number, and beyond what was to be reached.
pub async fn reading_starts_where_it_is_told(logged: &Logged) {
    let mut stored = Vec::new();
    for n in 0..4 {
        stored.push(logged.publish("room:1", &format!("m{n}")).await);
        logged.publish("room:2", &format!("m{n}")).await;
    }
    let end = stored[3].offset;
    let all = logged.read("room:1", end).await;
    assert_eq!(positions(&all), stored);
    let read = async |from, messages| {
        let read = logged.read_from("room:1", from, end, messages).await;
        positions(&read)
    };
    assert_eq!(read(From::Offset(stored[2].offset), 10).await, stored[2..]);
    let between = Offset(stored[1].offset.0 + 1);
    assert_eq!(read(From::Offset(between), 10).await, stored[2..]);
    assert_eq!(read(From::Offset(between), 1).await, stored[2..3]);
    assert_eq!(read(From::Offset(Offset(end.0 + 1)), 10).await, []);
    assert_eq!(read(From::Offset(Offset(0)), 0).await, []);
    assert_eq!(read(From::Time(Timestamp(0)), 2).await, stored[..2]);
    assert_eq!(read(From::Time(Timestamp(u64::MAX)), 2).await, []);
    let beyond = logged.read("room:1", stored[1].offset).await;
    assert_eq!(positions(&beyond), stored, "there is no reason to hold back what there is");
    let never = logged.read("room:1", Offset(u64::MAX)).await;
    assert_eq!(positions(&never), stored, "what there never was is not waited for");
}

/// Page by page, none twice and none left out.
pub async fn a_long_log_is_read_whole(logged: &Logged) {
    let body = format!(r#""{:03000}""#, 0);
    let calls: Vec<_> = (0..1000)
        .map(|n| {
            let publisher = user(&format!("user-{}", n % 50));
            let message = message("long:1", &format!("m{n}"), &body);
            logged.publisher().bus.publish(message, publisher)
        })
        .collect();
    let mut stored = Vec::new();
    for call in calls {
        stored.push(call.await.expect("publishes").position.expect("is stored"));
    }
    stored.sort_by_key(|position| position.offset);
    let read = logged.read("long:1", stored[999].offset).await;
    assert_eq!(positions(&read), stored);
    let part =
        logged.read_from("long:1", From::Offset(stored[100].offset), stored[999].offset, 600).await;
    assert_eq!(positions(&part), stored[100..700]);
}

/// One more than the size is kept, so that whoever has that one knows that nothing is missing.
pub async fn more_than_the_size_is_dropped_oldest_first(logged: &Logged) {
    let mut stored = vec![logged.publish("room:2", "other").await];
    for n in 0..20 {
        stored.push(logged.publish("room:1", &format!("m{n}")).await);
    }
    let end = stored[20].offset;
    assert_eq!(positions(&logged.read("room:1", end).await), stored[20 - SIZE..]);
    assert_eq!(positions(&logged.read("room:2", stored[0].offset).await), stored[..1]);
}

/// With them, what is known of the channel's newest goes, but not how far the log went.
pub async fn messages_leave_when_they_are_old(logged: &Logged) {
    let first = logged.publish("brief:1", "a").await;
    let stored = logged.publish("brief:1", "b").await;
    eventually("they are gone", PATIENCE, async || {
        logged.top("brief:1").await.newest.is_none().then_some(())
    })
    .await;
    let top = logged.top("brief:1").await;
    assert_eq!(top.position(), Position { fingerprint: None, ..stored });
    assert_eq!(logged.read("brief:1", stored.offset).await, []);
    let later = logged.publish("brief:1", "c").await;
    assert!(later.epoch == first.epoch && later.offset > stored.offset);
    assert_eq!(positions(&logged.read("brief:1", later.offset).await), [later]);
}

/// Other namespaces are as they were.
pub async fn without_history_nothing_is_stored(logged: &Logged) {
    logged.listen("venue:1").await;
    for _ in 0..2 {
        let sent = message("venue:1", "a", "1");
        let accepted = logged.publisher().bus.publish(sent, service()).await;
        assert_eq!(accepted, Ok(Accepted::default()));
    }
    let arrived = logged.listener().wait_for(&channel_name("venue:1"), 2).await;
    assert!(arrived.iter().all(|(_, message)| message.stored.is_none()));
    let venue = || channel_name("venue:1");
    assert_eq!(logged.log.top(venue()).await, Err(LogError::NoHistory));
    assert_eq!(logged.log.tops(vec![venue()]).await, Err(LogError::NoHistory));
    let slice = Slice { from: From::Offset(Offset(0)), until: Offset(0), messages: 1 };
    assert_eq!(logged.log.read(venue(), slice).await, Err(LogError::NoHistory));
}

//! Channels with history, on a log and a queue that can go away.

use broker_backends::{BusStats, Histories};
use broker_core::{
    ChannelName, Epoch, History, Namespace, Offset, Position, UserId,
    feed::Wanted,
    history::{Queue, Rewind, Since, Slice, Top},
    message::Publisher,
    ports::{
        Backlog, BoxFuture, Bus, BusError, Log, LogError, OfflineQueue, QueueFigures, Queued,
        StoreError,
    },
    retained::Listing,
};
use futures_util::{
    FutureExt as _,
    future::{join_all, ready},
};
use parking_lot::Mutex;

use super::*;
use crate::hub::feeds::{ChannelFeed, Feeds, NotGiven};

const HISTORY: History = History { size: 100, ttl: Duration::from_secs(3600) };
const QUEUE: Queue = Queue { size: 100, ttl: Duration::from_secs(3600) };
/// How long a log that is away is waited for.
const DEADLINE: Duration = Duration::from_secs(2);
/// Longer than a window stays that nobody uses.
const LONG: Duration = Duration::from_secs(60);

/// The embedded log, which for some channels can go away.
#[derive(Debug)]
struct FlakyLog {
    log: Arc<dyn Log>,
    /// How their names begin.
    away: Mutex<Option<&'static str>>,
}

impl FlakyLog {
    fn reach<T: Send + 'static>(
        &self,
        channel: &ChannelName,
        call: BoxFuture<'static, Result<T, LogError>>,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        if self.away.lock().is_some_and(|away| channel.as_str().starts_with(away)) {
            return time::sleep(DEADLINE).map(|()| Err(LogError::Unavailable)).boxed();
        }
        call
    }
}

impl Log for FlakyLog {
    fn top(&self, channel: ChannelName) -> BoxFuture<'static, Result<Top, LogError>> {
        self.reach(&channel, self.log.top(channel.clone()))
    }

    fn tops(&self, channels: Vec<ChannelName>) -> BoxFuture<'static, Result<Vec<Top>, LogError>> {
        let first = channels[0].clone();
        self.reach(&first, self.log.tops(channels))
    }

    fn read(
        &self,
        channel: ChannelName,
        slice: Slice,
    ) -> BoxFuture<'static, Result<Vec<Message>, LogError>> {
        self.reach(&channel, self.log.read(channel.clone(), slice))
    }

    fn channels(&self, namespace: Namespace) -> BoxFuture<'static, Result<Listing, LogError>> {
        self.log.channels(namespace)
    }

    fn newest(
        &self,
        channels: Vec<ChannelName>,
        until: Offset,
    ) -> BoxFuture<'static, Result<Vec<Message>, LogError>> {
        self.log.newest(channels, until)
    }
}

/// The embedded queue, which can go away for those who read it.
#[derive(Debug)]
struct FlakyQueue {
    queue: Arc<dyn OfflineQueue>,
    away: Mutex<bool>,
}

impl OfflineQueue for FlakyQueue {
    fn enqueue(&self, messages: Vec<Queued>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.queue.enqueue(messages)
    }

    fn backlog(&self, user: UserId) -> BoxFuture<'_, Result<Backlog, StoreError>> {
        if *self.away.lock() {
            return ready(Err(StoreError::Unavailable)).boxed();
        }
        self.queue.backlog(user)
    }

    fn acknowledge(
        &self,
        acknowledged: Vec<(UserId, Epoch, Offset)>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.queue.acknowledge(acknowledged)
    }

    fn sweep(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.queue.sweep(now)
    }

    fn pending(
        &self,
        user: UserId,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Epoch, Offset)>, StoreError>> {
        self.queue.pending(user, limit)
    }

    fn purge(&self, user: UserId) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.queue.purge(user)
    }

    fn figures(&self) -> BoxFuture<'_, Result<QueueFigures, StoreError>> {
        self.queue.figures()
    }
}

/// A gateway with history in `room`, `chat` and `user`, and a queue.
struct World {
    bus: Arc<dyn Bus>,
    log: Arc<FlakyLog>,
    queue: Arc<FlakyQueue>,
    feeds: Arc<Feeds>,
    fanout: Arc<Fanout>,
}

impl World {
    async fn new() -> Self {
        let mut histories: Histories =
            ["room", "chat"].map(|name| (name.parse().unwrap(), HISTORY)).into();
        histories.insert("user".parse().unwrap(), QUEUE.history());
        let options = EmbeddedOptions {
            histories: histories.clone(),
            queue: Some(QUEUE),
            ..EmbeddedOptions::default()
        };
        let mut backends = broker_backends::embedded(&options).await;
        let log = Arc::new(FlakyLog { log: backends.log, away: Mutex::default() });
        let queue = backends.queue.unwrap();
        let queue = Arc::new(FlakyQueue { queue, away: Mutex::default() });
        let feeds = Feeds::new(Arc::clone(&log) as Arc<dyn Log>, histories)
            .with_queue(Arc::clone(&queue) as Arc<dyn OfflineQueue>, QUEUE.ttl);
        let feeds = Arc::new(feeds);
        let hub = Hub::new(Arc::clone(&backends.bus), Duration::ZERO);
        let fanout = Fanout { hub: Arc::new(hub.with_feeds(Arc::clone(&feeds))), ..fanout().await };
        let fanout = Arc::new(fanout);
        tokio::spawn(run(backends.events.remove(0), Arc::clone(&fanout)));
        for namespace in feeds.namespaces().cloned() {
            tokio::spawn(catch_up(Arc::clone(&feeds), Arc::clone(&fanout), namespace));
        }
        Self { bus: backends.bus, log, queue, feeds, fanout }
    }

    async fn publish(&self, channel: &str, data: &str) -> Position {
        let publisher = Publisher::Service("test".into());
        let accepted = self.bus.publish(message(channel, data, None), publisher).await.unwrap();
        accepted.position.unwrap()
    }

    /// Somebody comes, and is given what is pending; they are not told of what comes.
    async fn come(&self, channel: &str) -> (Arc<ChannelFeed>, Option<Backlog>) {
        let interest = interest(channel);
        self.fanout.hub.join(&interest, None).await.unwrap();
        let feed = self.fanout.hub.feed(&interest).unwrap();
        let given = feed.give_backlog(&feed.lock());
        (feed, given)
    }

    /// Publishes while nobody is there, and waits until the feed knows of it and has forgotten it.
    async fn publish_to_nobody(&self, feed: &ChannelFeed, data: &str) -> Position {
        let position = self.publish(feed.channel.as_str(), data).await;
        // The clock stands still until everybody else waits.
        time::sleep(Duration::from_millis(1)).await;
        assert_eq!(feed.lock().position(), Some(position));
        feed.lock().tidy(clock::now().instant + LONG);
        position
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_away_is_in_nobody_elses_way() {
    let world = World::new().await;
    *world.log.away.lock() = Some("room:bad");
    let join = |channel: &str| world.fanout.hub.join(&interest(channel), None);
    for n in 0..100 {
        tokio::spawn(join(&format!("room:bad-{n}")));
    }
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(join("chat:1").await, Ok(()));
    // It may have to wait, but not for ever.
    assert!(matches!(join("room:good").await, Ok(()) | Err(BusError::Unavailable)));
    time::sleep(LONG).await;
    assert_eq!(join("room:good").await, Ok(()));
    assert_eq!(join("room:bad-1").await, Err(BusError::Unavailable));
    *world.log.away.lock() = None;
    time::sleep(LONG).await;
    assert_eq!(join("room:bad-1").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_was_pending_when_the_store_was_away_is_not_acknowledged_before_it_was_given() {
    let world = World::new().await;
    let (feed, given) = world.come("user:kim").await;
    assert!(given.is_some());
    let position = world.publish_to_nobody(&feed, "m1").await;
    *world.queue.away.lock() = true;
    assert_eq!(world.come("user:kim").await.1, None);
    assert_eq!(feed.acknowledge(position), Err(NotGiven::Unreachable));
    let client = Client::new(&world.fanout, 1, &["user:kim"]);
    let look_after = async || {
        world.fanout.look_after(&world.feeds, Arc::clone(&feed), Duration::ZERO).await;
        client.got("m1")
    };
    assert_eq!(look_after().await, 0);
    *world.queue.away.lock() = false;
    *world.log.away.lock() = Some("user:");
    assert_eq!(look_after().await, 0);
    assert_eq!(feed.acknowledge(position), Err(NotGiven::Unreachable));
    *world.log.away.lock() = None;
    assert_eq!(look_after().await, 1);
    assert_eq!(feed.acknowledge(position), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_went_before_it_was_given_is_not_acknowledged() {
    let world = World::new().await;
    let (feed, _) = world.come("user:kim").await;
    let position = world.publish_to_nobody(&feed, "m1").await;
    let joined = world.fanout.hub.join(&interest("user:kim"), None);
    joined.await.unwrap();
    feed.lock().tidy(clock::now().instant + LONG);
    assert_eq!(feed.give_backlog(&feed.lock()), None);
    assert_eq!(feed.acknowledge(position), Err(NotGiven::Unreachable));
}

#[tokio::test(start_paused = true)]
async fn a_doubt_that_could_not_be_looked_into_stays() {
    let world = World::new().await;
    let (feed, _) = world.come("room:1").await;
    // It passes by this gateway.
    world.bus.unsubscribe(&interest("room:1"));
    let missed = world.publish("room:1", "missed").await;
    *world.log.away.lock() = Some("room:");
    let feeds = Arc::clone(&world.feeds);
    tokio::spawn(async move { feeds.watch().await });
    world.feeds.doubt_all();
    time::sleep(DEADLINE * 2).await;
    assert_ne!(feed.lock().position(), Some(missed));
    *world.log.away.lock() = None;
    assert!(feed.history.check_every() > DEADLINE * 4);
    time::sleep(DEADLINE * 3).await;
    assert_eq!(feed.lock().position(), Some(missed));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever_for_a_turn_to_read_a_window() {
    let world = World::new().await;
    let (feed, _) = world.come("room:1").await;
    *world.log.away.lock() = Some("room:");
    let since = Since { rewind: Some(Rewind::Messages(1)), ..Since::default() };
    let wanted = Wanted::Since(&since);
    let began = Instant::now();
    let reads = (0..10).map(|_| world.feeds.prepare_window(&feed, wanted));
    let outcomes = join_all(reads).await;
    assert_eq!(outcomes, [Err(LogError::Unavailable); 10]);
    assert!(began.elapsed() < DEADLINE * 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_the_last_has_gone_is_counted() {
    let world = World::new().await;
    world.bus.subscribe(interest("room:1")).await.unwrap();
    world.publish("room:1", "late").await;
    time::sleep(Duration::from_millis(1)).await;
    let Fanout { hub, metrics, .. } = &*world.fanout;
    let text = String::from_utf8(metrics.render(hub, &BusStats::default()).unwrap()).unwrap();
    assert!(text.contains(r#"fanfare_messages_dropped_total{reason="unwanted"} 1"#), "{text}");
}

#[tokio::test(start_paused = true)]
async fn who_was_told_of_losses_is_asked_to_acknowledge_them() {
    let world = World::new().await;
    world.publish("user:kim", "gone").await;
    assert_eq!(world.queue.purge("kim".parse().unwrap()).await, Ok(1));
    let (feed, backlog) = world.come("user:kim").await;
    assert_eq!(backlog.unwrap().evicted, 1);
    let now = clock::now().instant;
    assert!(feed.unacknowledged_for(now).is_some(), "so that its transport is");
    let position = feed.lock().position().unwrap();
    assert_eq!(feed.acknowledge(position), Ok(()));
    assert_eq!(feed.unacknowledged_for(now), None);
}

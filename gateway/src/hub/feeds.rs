//! The feeds of channels with history: open for as long as the bus is asked for the channel.
//!
//! Whoever gives out a channel's messages, or starts a subscription, holds the feed's lock: so
//! nothing comes between what a new subscriber is given of the past and what it gets live.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use broker_core::{
    ChannelName, History, Message, Namespace, Position, Timestamp,
    feed::{Feed, Need, Wanted},
    history::Top,
    ports::{Backlog, Log, LogError, OfflineQueue},
};
use dashmap::DashMap;
use futures_util::future::join_all;
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{self, MissedTickBehavior},
};

use super::behind::Behind;
use crate::clock;

/// Longest wait for a feed to open, or to catch up with what a subscriber has seen elsewhere.
const PATIENCE: Duration = Duration::from_secs(3);
/// Windows that are read at once.
const READS: usize = 64;
/// How often feeds are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Tops that are asked for at once, of one namespace.
const TOPS: usize = 256;

/// Why an acknowledgement does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotGiven {
    /// There is no queue.
    NoQueue,
    /// What is pending was not known when the user connected, or not at hand, and so not given.
    Unreachable,
    /// There was no such message.
    Unknown,
}

/// All feeds of a gateway.
#[derive(Debug)]
pub(crate) struct Feeds {
    log: Arc<dyn Log>,
    histories: BTreeMap<Namespace, Arc<History>>,
    feeds: DashMap<ChannelName, Arc<ChannelFeed>>,
    behind: Behind,
    reads: Semaphore,
    queue: Option<Arc<dyn OfflineQueue>>,
    /// How long a message waits in the queue; the log keeps it longer.
    queue_ttl: Duration,
    /// Set when messages of any channel may have been missed.
    doubted: Notify,
}

/// The feed of one channel.
#[derive(Debug)]
pub(crate) struct ChannelFeed {
    pub(crate) channel: ChannelName,
    pub(crate) history: Arc<History>,
    feed: Mutex<Feed>,
    /// How often it has caught up.
    caught_up: watch::Sender<u64>,
    /// Whether a message may have been missed, and the log could not yet be asked.
    doubted: AtomicBool,
    /// Held by the one who reads a window; others wait for it, and find the window.
    reading: tokio::sync::Mutex<()>,
    /// What is known of the offline queue, if the channel is a user's that has one.
    queue: Option<Mutex<Standing>>,
    queue_ttl: Duration,
}

/// Where a user's offline queue stands, as far as this gateway knows.
#[derive(Debug, Default)]
struct Standing {
    /// What is pending, as the store said last.
    backlog: Option<Backlog>,
    /// Whether that was given, and all that came since: only then acknowledgements count.
    given: bool,
    /// What was acknowledged here.
    acknowledged: Option<Position>,
    /// Since when some message waits for its acknowledgement.
    waiting: Option<Instant>,
}

/// A window's read under way. However it ends, the feed records nothing for it any longer.
struct WindowRead<'a>(&'a ChannelFeed);

impl Drop for WindowRead<'_> {
    fn drop(&mut self) {
        self.0.lock().abandon_window();
    }
}

impl ChannelFeed {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Feed> {
        self.feed.lock()
    }

    /// Whether a message has waited in the user's queue for as long as it may, and is counted as
    /// expired there.
    pub(crate) fn has_waited_out(&self, message: &Message, now: Timestamp) -> bool {
        let ttl = u64::try_from(self.queue_ttl.as_millis()).unwrap_or(u64::MAX);
        self.queue.is_some() && message.time.0.saturating_add(ttl) <= now.0
    }

    /// What is pending for the user, who is given it now, by whoever holds the feed's lock. `None`
    /// where there is no queue, or not all of it is at hand: from then on acknowledgements do not
    /// count, until it was given.
    pub(crate) fn give_backlog(&self, feed: &Feed) -> Option<Backlog> {
        let mut standing = self.queue.as_ref()?.lock();
        let is_at_hand = |it: &Backlog| feed.need(Wanted::Pending(it)) == Need::Nothing;
        standing.backlog = standing.backlog.filter(is_at_hand);
        standing.given = standing.backlog.is_some();
        standing.backlog
    }

    /// Whether the user was given what was pending, and all that came since.
    pub(crate) fn was_given(&self) -> bool {
        self.queue.as_ref().is_some_and(|standing| standing.lock().given)
    }

    /// After what a subscription begins that begins now; `None`, where the user has something pending
    /// before that.
    pub(crate) fn beginning(&self) -> Option<Position> {
        let position = self.lock().position()?;
        let Some(standing) = &self.queue else { return Some(position) };
        let is_behind = |(epoch, after)| epoch == position.epoch && after >= position.offset;
        let backlog = standing.lock().backlog?;
        // Without a message there, the channel is empty.
        let nothing = position.fingerprint.is_none() || backlog.after.is_some_and(is_behind);
        nothing.then_some(position)
    }

    /// What is to be given to the user; `None`: it is not known, and an acknowledgement of what
    /// comes live must not cover it.
    pub(crate) fn note_backlog(&self, backlog: Option<Backlog>) {
        if let Some(standing) = &self.queue {
            standing.lock().backlog = backlog;
        }
    }

    /// The user has taken everything in up to here. Says whether that is so for all that the user
    /// was given: only then does it count.
    pub(crate) fn acknowledge(&self, position: Position) -> Result<(), NotGiven> {
        let given = self.lock().position();
        let standing = self.queue.as_ref().ok_or(NotGiven::NoQueue)?;
        let mut standing = standing.lock();
        if !standing.given {
            return Err(NotGiven::Unreachable);
        }
        let known = given.is_some_and(|given| {
            let is_before = given.epoch == position.epoch && given.offset > position.offset;
            given == position || is_before
        });
        if !known {
            return Err(NotGiven::Unknown);
        }
        standing.acknowledged = Some(position);
        standing.waiting = None;
        Ok(())
    }

    /// How long messages have waited for their acknowledgement; `None` where none do.
    pub(crate) fn unacknowledged_for(&self, now: Instant) -> Option<Duration> {
        // Without a message there, the channel is empty.
        let given = self.lock().position().filter(|given| given.fingerprint.is_some())?;
        let mut standing = self.queue.as_ref()?.lock();
        let done = standing
            .acknowledged
            .is_some_and(|done| done.epoch == given.epoch && done.offset >= given.offset);
        // Who was told of losses acknowledges that, too.
        let behind = standing
            .backlog
            .filter(|backlog| backlog.evicted + backlog.expired == 0)
            .and_then(|backlog| backlog.after)
            .is_some_and(|after| after.0 == given.epoch && after.1 >= given.offset);
        if done || behind {
            standing.waiting = None;
            return None;
        }
        Some(now.saturating_duration_since(*standing.waiting.get_or_insert(now)))
    }

    /// What was not acknowledged was given once more.
    pub(crate) fn wait_anew(&self, now: Instant) {
        if let Some(standing) = &self.queue {
            standing.lock().waiting = Some(now);
        }
    }

    /// Nothing up to here waits any more: it was acknowledged elsewhere, or is too old.
    pub(crate) fn settle(&self, position: Position) {
        if let Some(standing) = &self.queue {
            standing.lock().acknowledged = Some(position);
        }
    }

    /// Everything that was to be given out is.
    pub(crate) fn note_caught_up(&self) {
        self.caught_up.send_modify(|count| *count += 1);
    }
}

impl Feeds {
    pub(crate) fn new(log: Arc<dyn Log>, histories: BTreeMap<Namespace, History>) -> Self {
        let behind = Behind::of(histories.keys().cloned());
        let histories = histories.into_iter().map(|(name, history)| (name, Arc::new(history)));
        Self {
            log,
            histories: histories.collect(),
            feeds: DashMap::new(),
            behind,
            reads: Semaphore::new(READS),
            queue: None,
            queue_ttl: Duration::ZERO,
            doubted: Notify::new(),
        }
    }

    /// The same, with an offline queue for users' channels.
    pub(crate) fn with_queue(self, queue: Arc<dyn OfflineQueue>, ttl: Duration) -> Self {
        Self { queue: Some(queue), queue_ttl: ttl, ..self }
    }

    pub(crate) fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    /// Whether the channel has history.
    pub(super) fn keeps(&self, channel: &ChannelName) -> bool {
        self.histories.contains_key(channel.namespace())
    }

    /// The channel's feed, while it is open.
    pub(super) fn get(&self, channel: &ChannelName) -> Option<Arc<ChannelFeed>> {
        self.feeds.get(channel).map(|feed| Arc::clone(&feed))
    }

    /// Opens the channel's feed, where it has history, and has at hand what is wanted of the past.
    /// The bus must have been asked before: what it brings from then on belongs to the feed.
    pub(super) async fn prepare(
        &self,
        channel: &ChannelName,
        wanted: Wanted<'_>,
    ) -> Result<(), LogError> {
        let Some(history) = self.histories.get(channel.namespace()) else { return Ok(()) };
        let feed = self.open(channel, history);
        let backlog = self.read_backlog(&feed).await;
        // Who says where it stands wants what is pending as well: only then its acknowledgements
        // count.
        let pending = backlog.as_ref().map(Wanted::Pending);
        let (wanted, beside) = match wanted {
            Wanted::Since(since) if since.position.is_some() => (wanted, pending),
            _ => (pending.unwrap_or(wanted), None),
        };
        let mut caught_up = feed.caught_up.subscribe();
        wait_until(&mut caught_up, 1).await?;
        let look = self.look_for(&feed, wanted, &mut caught_up);
        time::timeout(PATIENCE, look).await.unwrap_or(Err(LogError::Unavailable))?;
        self.prepare_window(&feed, wanted).await?;
        if let Some(pending) = beside {
            self.prepare_window(&feed, pending).await?;
        }
        feed.note_backlog(backlog);
        Ok(())
    }

    /// Looks at the log for a subscriber that has seen more than the feed.
    async fn look_for(
        &self,
        feed: &Arc<ChannelFeed>,
        wanted: Wanted<'_>,
        caught_up: &mut watch::Receiver<u64>,
    ) -> Result<(), LogError> {
        // The look that is under way may be from before the subscriber was there, and the next may
        // be content with what the bus brought: the third asks the log itself.
        for turn in 0..3 {
            let (need, last) = {
                let feed = feed.lock();
                (feed.need(wanted), feed.position())
            };
            let other_log = wanted.position().map(|at| at.epoch) != last.map(|last| last.epoch);
            if need != Need::CatchUp || turn > 0 && other_log {
                break;
            }
            let times = *caught_up.borrow();
            self.check(feed);
            wait_until(caught_up, times + 1).await?;
        }
        Ok(())
    }

    /// Has at hand what is wanted of the past of an open feed.
    pub(crate) async fn prepare_window(
        &self,
        feed: &ChannelFeed,
        wanted: Wanted<'_>,
    ) -> Result<(), LogError> {
        let need = {
            let mut feed_now = feed.lock();
            feed_now.stay(clock::now().instant, &feed.history, wanted);
            feed_now.need(wanted)
        };
        if need != Need::Window {
            return Ok(());
        }
        // Many may wait for their turn at a log that is slow.
        let read = time::timeout(PATIENCE, self.read_window(feed, wanted)).await;
        read.unwrap_or(Err(LogError::Unavailable))
    }

    /// Users' channels with messages that wait for their acknowledgement, and for how long.
    pub(crate) fn unacknowledged(&self, now: Instant) -> Vec<(Arc<ChannelFeed>, Duration)> {
        let waiting = self.feeds.iter().filter_map(|feed| {
            let age = feed.unacknowledged_for(now)?;
            Some((Arc::clone(&feed), age))
        });
        waiting.collect()
    }

    fn open(&self, channel: &ChannelName, history: &Arc<History>) -> Arc<ChannelFeed> {
        let entry = self.feeds.entry(channel.clone()).or_insert_with(|| {
            let feed = Arc::new(ChannelFeed {
                channel: channel.clone(),
                history: Arc::clone(history),
                feed: Mutex::new(Feed::new(clock::now().instant)),
                caught_up: watch::Sender::new(0),
                doubted: AtomicBool::new(false),
                reading: tokio::sync::Mutex::default(),
                queue: self.queue.as_ref().and_then(|_| channel.user()).map(|_| Mutex::default()),
                queue_ttl: self.queue_ttl,
            });
            self.push_behind(Arc::clone(&feed));
            feed
        });
        Arc::clone(&entry)
    }

    /// What is pending for the user whose channel it is. Without the store, the user gets what
    /// comes live, and the rest once the store is back.
    pub(crate) async fn read_backlog(&self, feed: &ChannelFeed) -> Option<Backlog> {
        let (queue, user) = (self.queue.as_ref()?, feed.channel.user()?);
        match queue.backlog(user).await {
            Ok(backlog) => Some(backlog),
            Err(error) => {
                tracing::debug!(channel = %feed.channel, %error, "a user's queue is not in reach");
                None
            }
        }
    }

    async fn read_window(&self, feed: &ChannelFeed, wanted: Wanted<'_>) -> Result<(), LogError> {
        let _turn = feed.reading.lock().await;
        if feed.lock().need(wanted) != Need::Window {
            return Ok(());
        }
        let _permit = self.reads.acquire().await.map_err(|_| LogError::Unavailable)?;
        let now = || clock::now().instant;
        let mut next = feed.lock().begin_window(now(), &feed.history, wanted);
        let _under_way = WindowRead(feed);
        while let Some(slice) = next {
            let read = self.log.read(feed.channel.clone(), slice).await?;
            next = feed.lock().fill_window(now(), read);
        }
        Ok(())
    }

    /// The bus is asked for the channel no longer.
    pub(super) fn close(&self, channel: &ChannelName) {
        self.feeds.remove(channel);
    }

    /// Whether this is still the channel's feed.
    pub(crate) fn is_open(&self, feed: &Arc<ChannelFeed>) -> bool {
        self.feeds.get(&feed.channel).is_some_and(|open| Arc::ptr_eq(&open, feed))
    }

    /// Messages of any channel may have been missed.
    pub(crate) fn doubt_all(&self) {
        self.doubted.notify_one();
    }

    /// A message of the channel may have been missed.
    pub(super) fn check(&self, feed: &Arc<ChannelFeed>) {
        if feed.lock().check() {
            self.push_behind(Arc::clone(feed));
        }
    }

    /// It has to catch up; for whoever was told so, once each time.
    pub(crate) fn push_behind(&self, feed: Arc<ChannelFeed>) {
        self.behind.push(feed);
    }

    /// The next of a namespace that has to catch up, for one task each; `None` of a namespace
    /// without history. May be cancelled without loss.
    pub(crate) async fn next_behind(&self, namespace: &Namespace) -> Option<Arc<ChannelFeed>> {
        self.behind.next(namespace).await
    }

    /// Those with history.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.histories.keys()
    }

    /// Looks at the tops of quiet channels, and lets unused windows go. Runs until dropped.
    pub(crate) async fn watch(&self) {
        let mut ticks = time::interval(WATCH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let all = tokio::select! {
                _ = ticks.tick() => false,
                () = self.doubted.notified() => true,
            };
            let due = self.due(clock::now().instant, all);
            join_all(due.values().map(|due| self.look_at_namespace(due))).await;
        }
    }

    /// What a failure leaves out stays due.
    async fn look_at_namespace(&self, due: &[Arc<ChannelFeed>]) {
        for some in due.chunks(TOPS) {
            if let Err(error) = self.look_at_tops(some).await {
                return tracing::debug!(%error, "channels could not be checked");
            }
        }
    }

    /// Feeds whose log is to be looked at, by namespace.
    fn due(&self, now: Instant, all: bool) -> BTreeMap<String, Vec<Arc<ChannelFeed>>> {
        let mut due: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for entry in &self.feeds {
            let mut feed = entry.lock();
            feed.tidy(now);
            let age = now.saturating_duration_since(feed.confirmed());
            if all {
                entry.doubted.store(true, Ordering::Relaxed);
            }
            if entry.doubted.load(Ordering::Relaxed) || age >= entry.history.check_every() {
                let namespace = entry.channel.namespace().to_owned();
                due.entry(namespace).or_default().push(Arc::clone(&entry));
            }
        }
        due
    }

    async fn look_at_tops(&self, feeds: &[Arc<ChannelFeed>]) -> Result<(), LogError> {
        let asked = clock::now().instant;
        let channels = feeds.iter().map(|feed| feed.channel.clone()).collect();
        let tops: Vec<Top> = self.log.tops(channels).await?;
        for (feed, top) in feeds.iter().zip(tops) {
            feed.doubted.store(false, Ordering::Relaxed);
            if feed.lock().compare(asked, &top) {
                self.push_behind(Arc::clone(feed));
            }
        }
        Ok(())
    }
}

async fn wait_until(caught_up: &mut watch::Receiver<u64>, times: u64) -> Result<(), LogError> {
    match time::timeout(PATIENCE, caught_up.wait_for(|count| *count >= times)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(LogError::Unavailable),
    }
}

#[cfg(test)]
mod tests;

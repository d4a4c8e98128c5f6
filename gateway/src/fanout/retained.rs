//! Messages of retained namespaces to patterns, and how their newest ones are kept known.

use std::{sync::Arc, time::Duration};

use broker_backends::Inbound;
use broker_core::{
    Interest, Message,
    ports::{GapReason, Log, LogError},
    retained::{Arrival, Bounds, Listing, Readiness, size_of},
};
use tokio::time;

use super::{Fanout, GapLog, Touched, messages};
use crate::{hub::retained::Watched, telemetry::Load};

/// Channels that are read at once.
const PAGE: usize = 256;
/// Longest wait for the bus to bring what the log has already, and how often that is looked at.
const ARRIVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(20));
/// Between two looks at the log because something may be missing.
const CALM: Duration = Duration::from_millis(500);
/// Pauses between attempts while the log is away: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// By how much rarer the log is looked at while it has more than is kept.
const TOO_MUCH: u32 = 10;

/// Keeps known what a retained namespace has. Runs until dropped.
pub(crate) async fn keep_retained(watched: Arc<Watched>, log: Arc<dyn Log>, fanout: Arc<Fanout>) {
    let (mut pause, longest) = PAUSES;
    let mut held = false;
    loop {
        // Asked for each time, once kept: the bus may have ended it.
        let joined = fanout.hub.hold(&watched.all).await;
        if held || joined.is_err() {
            fanout.hub.let_go(&watched.all);
        }
        held |= joined.is_ok();
        let outcome = match joined {
            Ok(()) => compare(&watched, &*log, &fanout).await,
            Err(_) => Err(LogError::Unavailable),
        };
        if let Err(error) = outcome {
            fanout.metrics.retained.loaded(Load::Failed);
            tracing::debug!(namespace = %watched.namespace, %error, "no snapshots yet");
            watched.lock().fail();
            time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(longest);
            continue;
        }
        pause = PAUSES.0;
        time::sleep(CALM).await;
        let too_much = watched.lock().readiness() == Readiness::TooMuch;
        let next = watched.check_every * if too_much { TOO_MUCH } else { 1 };
        // Whichever it was, the log is looked at.
        drop(time::timeout(next, watched.doubted()).await);
    }
}

/// Compares what is known with the log, and reads what is not.
async fn compare(watched: &Watched, log: &dyn Log, fanout: &Fanout) -> Result<(), LogError> {
    let (began, first) = {
        let mut values = watched.lock();
        let began = values.begin();
        watched.note(&values);
        (began, !values.is_loaded())
    };
    let mut listing = log.channels(watched.namespace.clone()).await?;
    listing.channels.retain(|channel| watched.all.matches(channel));
    if !first {
        wait_for_arrival(watched, &listing).await;
    }
    let read = if watched.lock().must_read(began, &listing) {
        let read = read_newest(watched, log, &listing).await?;
        let outcome = if read.is_some() { Load::Done } else { Load::TooMuch };
        fanout.metrics.retained.loaded(outcome);
        read
    } else {
        Some(Vec::new())
    };
    let mut values = watched.lock();
    let (lost, missed) = match read {
        Some(read) => {
            let merged = values.merge(began, &listing, read);
            (merged.lost, merged.messages)
        }
        None => (values.give_up(began, &listing), Vec::new()),
    };
    if values.readiness() == Readiness::TooMuch {
        let (namespace, channels) = (&watched.namespace, listing.channels.len());
        tracing::warn!(%namespace, channels, "no snapshots: the namespace has more than history.retained_channels or history.retained_bytes allow");
    }
    if lost {
        fanout.announce_to_patterns(watched, GapReason::Lost, &mut GapLog::default());
    }
    let mut touched = Touched::default();
    for message in &missed {
        fanout.give_to_patterns(message, &mut touched);
    }
    touched.write();
    watched.note(&values);
    Ok(())
}

/// What is on its way is not taken for lost.
async fn wait_for_arrival(watched: &Watched, listing: &Listing) {
    let (patience, every) = ARRIVAL;
    let arrived = async {
        while !watched.lock().has_seen(listing.end) {
            time::sleep(every).await;
        }
    };
    drop(time::timeout(patience, arrived).await);
}

/// `None`: that is more than is kept.
async fn read_newest(
    watched: &Watched,
    log: &dyn Log,
    listing: &Listing,
) -> Result<Option<Vec<Message>>, LogError> {
    let (mut read, mut bytes) = (Vec::new(), 0);
    for channels in listing.channels.chunks(PAGE) {
        let size = Bounds { channels: listing.channels.len(), bytes };
        if watched.lock().exceeds(size) {
            return Ok(None);
        }
        let page = log.newest(channels.to_vec(), listing.end).await?;
        bytes += page.iter().map(size_of).sum::<usize>();
        read.extend(page);
    }
    let size = Bounds { channels: read.len(), bytes };
    Ok((!watched.lock().exceeds(size)).then_some(read))
}

impl Fanout {
    /// Messages that came one after the other of a retained namespace.
    pub(super) fn deliver_retained(
        &self,
        watched: &Watched,
        run: &[Inbound],
        touched: &mut Touched,
    ) -> u64 {
        let mut delivered = 0;
        let mut values = watched.lock();
        for message in messages(run) {
            match values.arrive(message) {
                Arrival::Known => continue,
                Arrival::AfterAHole => {
                    self.metrics.history.holes.inc();
                    self.announce_to_patterns(watched, GapReason::Lost, &mut touched.gaps);
                }
                Arrival::Next => {}
            }
            delivered += self.give_to_patterns(message, touched);
        }
        watched.note(&values);
        delivered
    }

    /// The bus may have lost messages of a retained namespace.
    pub(super) fn doubt_retained(&self, watched: &Watched, reason: GapReason, log: &mut GapLog) {
        if reason == GapReason::Reconnected {
            self.hub.doubt(&watched.all);
        }
        watched.doubt();
        self.announce_to_patterns(watched, reason, log);
    }

    fn announce_to_patterns(&self, watched: &Watched, reason: GapReason, log: &mut GapLog) {
        for pattern in self.hub.subscribers().patterns_of(watched.namespace.as_str()) {
            self.announce_gap(Some(&Interest::Pattern(pattern)), reason, log);
        }
    }

    /// The caller holds the lock of the namespace's values.
    fn give_to_patterns(&self, message: &Message, touched: &mut Touched) -> u64 {
        let mut patterns = self.hub.subscribers().patterns_of(message.channel.namespace());
        patterns.retain(|pattern| pattern.matches(&message.channel));
        let to = |pattern| self.give_out(&Interest::Pattern(pattern), &[message], touched);
        patterns.into_iter().map(to).sum()
    }
}

//! The retained namespaces: the newest message of each of their channels, for snapshots.
//!
//! Of such a namespace the gateway asks the bus for all channels at once, for as long as it runs,
//! and serves every pattern over them from that. Whoever gives out a message to patterns, or starts
//! such a subscription, holds the lock: so nothing comes between a snapshot and what follows it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use broker_core::{
    ChannelPattern, ErrorCode, History, Interest, Namespace,
    ports::LogError,
    retained::{Bounds, LastValues, Readiness},
    session::Failure,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Notify, watch},
    time,
};

/// Longest wait for the log to be read.
const PATIENCE: Duration = Duration::from_secs(3);

/// All retained namespaces of a gateway.
#[derive(Debug, Default)]
pub(crate) struct Retained(BTreeMap<Namespace, Arc<Watched>>);

/// One retained namespace.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) namespace: Namespace,
    /// All of its channels, but the one that has the namespace's own name.
    pub(crate) all: Interest,
    /// How often it is compared with the log.
    pub(crate) check_every: Duration,
    values: Mutex<LastValues>,
    /// What others may know without the lock.
    state: watch::Sender<State>,
    doubted: Notify,
    /// By [`Refusal`].
    refusals: [AtomicU64; Refusal::ALL.len()],
}

/// Why somebody did not get a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The log could not be read in time.
    Loading,
    /// The namespace has more than this gateway keeps.
    Bounds,
    /// It is more than the connection's queue takes.
    Queue,
}

impl Refusal {
    pub(crate) const ALL: [Self; 3] = [Self::Loading, Self::Bounds, Self::Queue];

    /// As it stands in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Bounds => "bounds",
            Self::Queue => "queue",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    loaded: bool,
    readiness: Readiness,
}

impl State {
    fn of(values: &LastValues) -> Self {
        Self { loaded: values.is_loaded(), readiness: values.readiness() }
    }
}

impl Retained {
    /// `bounds` hold for each of the namespaces.
    pub(crate) fn new<'a>(
        namespaces: impl Iterator<Item = (&'a Namespace, &'a History)>,
        bounds: Bounds,
    ) -> Self {
        let watched = namespaces.filter_map(|(namespace, history)| {
            let values = LastValues::new(bounds, history.ttl);
            let watched = Watched {
                namespace: namespace.clone(),
                all: Interest::Pattern(format!("{namespace}:**").parse().ok()?),
                check_every: history.check_every(),
                state: watch::Sender::new(State::of(&values)),
                values: Mutex::new(values),
                doubted: Notify::new(),
                refusals: Default::default(),
            };
            Some((namespace.clone(), Arc::new(watched)))
        });
        Self(watched.collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Watched>> {
        self.0.values()
    }

    pub(super) fn of(&self, namespace: &str) -> Option<&Arc<Watched>> {
        self.0.get(namespace)
    }
}

impl Watched {
    pub(crate) fn lock(&self) -> MutexGuard<'_, LastValues> {
        self.values.lock()
    }

    /// Tells others what has become of the values. The caller holds the lock.
    pub(crate) fn note(&self, values: &LastValues) {
        let state = State::of(values);
        self.state.send_if_modified(|known| std::mem::replace(known, state) != state);
        if values.is_doubted() {
            self.doubted.notify_one();
        }
    }

    /// Messages may have been missed.
    pub(crate) fn doubt(&self) {
        let mut values = self.lock();
        values.doubt();
        self.note(&values);
    }

    /// Resolves once somebody doubts. For one task.
    pub(crate) async fn doubted(&self) {
        self.doubted.notified().await;
    }

    /// Waits until the log was read once; for a `snapshot`, until nothing is in doubt. Whether
    /// there is too much for one is said by the values.
    ///
    /// # Errors
    /// When that takes too long.
    pub(crate) async fn ready(&self, snapshot: bool) -> Result<(), LogError> {
        let mut state = self.state.subscribe();
        let ready =
            state.wait_for(|it| it.loaded && (!snapshot || it.readiness != Readiness::Loading));
        match time::timeout(PATIENCE, ready).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                if snapshot {
                    self.refused(Refusal::Loading);
                }
                Err(LogError::Unavailable)
            }
        }
    }

    /// Somebody asked for a snapshot and did not get it.
    pub(crate) fn refused(&self, why: Refusal) {
        self.refusals[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was so.
    pub(crate) fn refusals(&self, why: Refusal) -> u64 {
        self.refusals[why as usize].load(Ordering::Relaxed)
    }
}

/// There are no snapshots of a namespace that has more than the gateway keeps.
pub(crate) fn too_much(pattern: &ChannelPattern) -> Failure {
    let text = format!(
        "the namespace of `{pattern}` has more channels or bytes than the operator lets a gateway \
         keep (`history.retained_channels`, `history.retained_bytes`)"
    );
    Failure::new(ErrorCode::SnapshotTooLarge, text)
}

//! The streams of the namespaces with history: that they are there, and which life of each it is.
//!
//! A stream that was deleted and created anew starts again from number 1. Its epoch, the time of
//! its creation, is read whenever the connection was made anew, and whenever something looks as
//! if it were not the same any more.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use broker_core::{Epoch, Namespace, Offset};
use serde_json::json;
use tokio::{
    select,
    sync::{Notify, Semaphore},
    time::{Instant, sleep, timeout_at},
};

use super::{
    api::{Api, ApiError},
    dial::pause_before,
    link::Link,
    place,
    reconcile::{self, Config, Info, Mode, NOT_FOUND, Unsettled},
    rounds::Rounds,
    subject::Subjects,
};
use crate::options::{ConnectError, Histories, NatsOptions};

/// How long JetStream may take to be ready at the start.
const START: Duration = Duration::from_secs(10);
/// Between two looks at the streams because somebody doubts that they are there.
const CALM: Duration = Duration::from_secs(1);

/// All streams of the gateway.
#[derive(Debug)]
pub(super) struct Streams {
    link: Link,
    by_namespace: HashMap<Namespace, Arc<Stream>>,
    states: Arc<Rounds<Namespace, Result<State, ApiError>>>,
    doubted: Notify,
}

/// One namespace's stream.
#[derive(Debug)]
pub(super) struct Stream {
    namespace: Namespace,
    pub(super) name: String,
    wanted: Config,
    /// 0 until it is known.
    epoch: AtomicU64,
    /// An offset that was given already, in this epoch.
    given: AtomicU64,
    /// Publishes that may be under way.
    pub(super) window: Semaphore,
}

/// A stream as its leader knew it a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) epoch: Epoch,
    /// Nothing had a larger offset yet.
    pub(super) end: Offset,
}

impl Stream {
    /// Which life of the stream it is; `None` until the server was asked.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        match self.epoch.load(Ordering::Acquire) {
            0 => None,
            epoch => Some(Epoch(epoch)),
        }
    }

    /// Some offset that was given already: what is stored from now on has a larger one.
    pub(super) fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    pub(super) fn note_given(&self, offset: Offset) {
        self.given.fetch_max(offset.0, Ordering::Relaxed);
    }

    pub(super) fn learn(&self, info: &Info) -> Result<State, ApiError> {
        let epoch = place::nanoseconds(&info.created).ok_or(ApiError::Unreadable)?;
        let before = self.epoch.swap(epoch, Ordering::AcqRel);
        if before != epoch {
            self.given.store(0, Ordering::Relaxed);
        }
        if before != epoch && before != 0 {
            tracing::warn!(stream = self.name, "the stream was created anew");
        }
        Ok(State { epoch: Epoch(epoch), end: Offset(info.state.last) })
    }
}

impl Streams {
    pub(super) fn new(
        link: Link,
        options: &NatsOptions,
        histories: &Histories,
        subjects: &Subjects,
    ) -> Self {
        let stream = |(namespace, history): (&Namespace, _)| {
            let name = reconcile::name(&options.prefix, namespace);
            let stream = Stream {
                namespace: namespace.clone(),
                wanted: reconcile::wanted(&name, namespace, history, subjects, &options.streams),
                name,
                epoch: AtomicU64::new(0),
                given: AtomicU64::new(0),
                window: Semaphore::new(options.streams.window.max(1)),
            };
            (namespace.clone(), Arc::new(stream))
        };
        Self {
            link,
            by_namespace: histories.iter().map(stream).collect(),
            states: Arc::default(),
            doubted: Notify::new(),
        }
    }

    pub(super) fn of(&self, namespace: &str) -> Option<&Arc<Stream>> {
        self.by_namespace.get(namespace)
    }

    /// Asks the stream's leader, together with all who ask meanwhile.
    pub(super) async fn state(
        &self,
        stream: &Arc<Stream>,
        end: Instant,
    ) -> Result<State, ApiError> {
        let (link, asked) = (self.link.clone(), Arc::clone(stream));
        let answer = self.states.ask(&self.link, &stream.namespace, move || {
            Box::pin(state(link.clone(), Arc::clone(&asked)))
        });
        let state = timeout_at(end, answer).await;
        let state = state.ok().and_then(Result::ok).unwrap_or(Err(ApiError::Silent));
        state.inspect_err(|error| self.note(error))
    }

    /// An error may mean that a stream is gone.
    pub(super) fn note(&self, error: &ApiError) {
        if matches!(error, ApiError::Nobody | ApiError::Refused { number: NOT_FOUND, .. }) {
            self.doubt();
        }
    }

    /// Has the streams looked at anew.
    pub(super) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Makes all streams as configured, as long as JetStream may take at the start.
    pub(super) async fn prepare(&self) -> Result<(), ConnectError> {
        let last = Instant::now() + START;
        for attempt in 1.. {
            match self.settle(Mode::Apply).await {
                Ok(()) => break,
                Err(Unsettled::Wrong(error)) => return Err(error),
                Err(Unsettled::Away(error)) if Instant::now() >= last => {
                    return Err(ConnectError::Nats(error.to_string()));
                }
                Err(Unsettled::Away(_)) => sleep(pause_before(attempt)).await,
            }
        }
        Ok(())
    }

    /// Looks at all streams, also behind one with which something is wrong.
    async fn settle(&self, mode: Mode) -> Result<(), Unsettled> {
        let mut outcome = Ok(());
        for stream in self.by_namespace.values() {
            let api = Api { link: &self.link, end: Instant::now() + self.link.shared.deadline };
            let settled = reconcile::settle(&api, &stream.wanted, mode).await;
            let learnt = settled.and_then(|info| stream.learn(&info).map_err(Unsettled::Away));
            outcome = outcome.and(learnt.map(drop));
        }
        outcome
    }

    /// Looks at the streams whenever the connection was made anew, or somebody doubts. `mode`: for
    /// the first time.
    pub(super) async fn keep(self: Arc<Self>, mut mode: Mode) {
        let mut home = self.link.shared.home.subscribe();
        let mut failed = 0;
        while home.wait_for(Option::is_some).await.is_ok() {
            match self.settle(mode).await {
                Ok(()) => {
                    (mode, failed) = (Mode::Restore, 0);
                    sleep(CALM).await;
                    select! {
                        changed = home.changed() => if changed.is_err() { return },
                        () = self.doubted.notified() => {}
                    }
                }
                Err(error) => {
                    if failed == 0 {
                        tracing::error!(%error, "the streams are not as they should be");
                    }
                    // What cannot be changed is used as it is.
                    if matches!(error, Unsettled::Wrong(_)) {
                        mode = Mode::Restore;
                    }
                    failed += 1;
                    sleep(pause_before(failed)).await;
                }
            }
        }
    }
}

async fn state(link: Link, stream: Arc<Stream>) -> Result<State, ApiError> {
    let api = Api { link: &link, end: Instant::now() + link.shared.deadline };
    let info = api.call::<Info>("STREAM.INFO", &stream.name, &json!({})).await?;
    stream.learn(&info)
}

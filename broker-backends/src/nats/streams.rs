//! The streams of the namespaces with history: that they are there, and which life of each it is.
//!
//! A stream that was deleted and created anew starts again from number 1, one that was restored
//! from a backup from the number after its last. Its epoch says which life of it it is, and is read
//! whenever the connection was made anew, and whenever something looks as if it were not the same
//! any more. Created anew, it has another one, its creation's time; restored, it has the same or an
//! earlier one, and a lower end than was known: the gateway that notices writes a new epoch into
//! the stream. Until then, the stream is not used.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use broker_core::{Epoch, Namespace, Offset};
use parking_lot::Mutex;
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
use crate::{
    clock,
    options::{ConnectError, Histories, NatsOptions},
};

/// How long JetStream may take to be ready at the start.
const START: Duration = Duration::from_secs(10);
/// Between two looks at the streams because somebody doubts that they are there.
const CALM: Duration = Duration::from_secs(1);
/// For how long a stream must look set back: a server that hung answers with what was, until it
/// hears that it leads no more.
const CERTAIN: Duration = Duration::from_secs(1);

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
    /// 0 while it is not known.
    epoch: AtomicU64,
    /// An offset that was given already, in this epoch.
    given: AtomicU64,
    life: Mutex<Life>,
    /// Publishes that may be under way.
    pub(super) window: Semaphore,
}

/// Which life of a stream was known last.
#[derive(Debug, Default)]
struct Life {
    epoch: Option<Epoch>,
    /// Since when the stream looks older than it was.
    set_back: Option<Instant>,
    /// It has given a number twice: it does not only look so.
    proven: bool,
}

/// A stream as its leader knew it a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) epoch: Epoch,
    /// Nothing had a larger offset yet.
    pub(super) end: Offset,
}

impl Stream {
    /// Which life of the stream it is; `None` until the server was asked, and while it looks set
    /// back.
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

    pub(super) fn note_given(&self, epoch: Epoch, offset: Offset) {
        if self.epoch() == Some(epoch) {
            self.given.fetch_max(offset.0, Ordering::Relaxed);
        }
    }

    /// In this epoch, a number was given a second time.
    pub(super) fn note_given_again(&self, epoch: Epoch) {
        let mut life = self.life.lock();
        if life.epoch == Some(epoch) {
            self.epoch.store(0, Ordering::Release);
            life.proven = true;
        }
    }

    /// Takes over what the leader says; `given` was given before it was asked.
    pub(super) fn learn(&self, info: &Info, given: u64) -> Result<State, ApiError> {
        let epoch = info.epoch().ok_or(ApiError::Unreadable)?;
        let end = Offset(info.state.last);
        let mut life = self.life.lock();
        let earlier = life.epoch.is_some_and(|known| epoch.0 < known.0);
        if earlier || (life.epoch == Some(epoch) && (end.0 < given || life.proven)) {
            self.epoch.store(0, Ordering::Release);
            life.set_back.get_or_insert_with(Instant::now);
            return Err(ApiError::SetBack);
        }
        if life.epoch != Some(epoch) {
            if life.epoch.is_some() {
                tracing::warn!(stream = self.name, "the stream was created anew, or restored");
            }
            // What is noted of the epoch before must not count in this one.
            self.epoch.store(0, Ordering::Release);
            self.given.store(0, Ordering::Release);
        }
        *life = Life { epoch: Some(epoch), ..Life::default() };
        self.epoch.store(epoch.0, Ordering::Release);
        self.note_given(epoch, end);
        Ok(State { epoch, end })
    }

    /// The epoch to begin with: the stream was set back, or has looked so for long enough.
    fn next_epoch(&self) -> Option<Epoch> {
        let life = self.life.lock();
        life.set_back.filter(|since| life.proven || since.elapsed() >= CERTAIN)?;
        let now = clock::now().0.saturating_mul(place::NANOS_PER_MS);
        Some(Epoch(now.max(life.epoch?.0.saturating_add(1))))
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
                life: Mutex::default(),
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
        let missing = matches!(error, ApiError::Refused { number: NOT_FOUND, .. });
        if missing || matches!(error, ApiError::Nobody | ApiError::SetBack) {
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
            outcome = outcome.and(self.settle_one(stream, mode).await);
        }
        outcome
    }

    async fn settle_one(&self, stream: &Stream, mode: Mode) -> Result<(), Unsettled> {
        let api = Api { link: &self.link, end: Instant::now() + self.link.shared.deadline };
        let given = stream.given();
        let found = reconcile::settle(&api, &stream.wanted, mode).await?;
        let mut learnt = stream.learn(&found, given);
        if let (Err(ApiError::SetBack), Some(epoch)) = (&learnt, stream.next_epoch()) {
            let begun = reconcile::begin_anew(&api, found, epoch).await?;
            tracing::error!(stream = stream.name, "the stream has lost its newest messages");
            learnt = stream.learn(&begun, given);
        }
        learnt.map(drop).map_err(Unsettled::Away)
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
    let given = stream.given();
    let info = api.call::<Info>("STREAM.INFO", &stream.name, &json!({})).await?;
    stream.learn(&info, given)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const CREATED: &str = "2026-11-21T11:00:28Z";

    /// Of which 12 numbers were given, as far as this gateway knows.
    fn stream() -> (Stream, Epoch) {
        let stream = Stream {
            namespace: "room".parse().unwrap(),
            name: "fanfare=room".into(),
            wanted: Config::new(),
            epoch: AtomicU64::new(0),
            given: AtomicU64::new(0),
            life: Mutex::default(),
            window: Semaphore::new(1),
        };
        let epoch = stream.learn(&info(None, 10), 0).unwrap().epoch;
        stream.note_given(epoch, Offset(12));
        (stream, epoch)
    }

    fn info(epoch: Option<Epoch>, last: u64) -> Info {
        let metadata = epoch.map(|epoch| json!({ "fanfare_epoch": epoch.0.to_string() }));
        let config = json!({ "metadata": metadata.unwrap_or_default() });
        let info = json!({ "config": config, "created": CREATED, "state": { "last_seq": last } });
        serde_json::from_value(info).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_once_with_what_was_may_have_hung() {
        let (stream, epoch) = stream();
        assert_eq!(stream.learn(&info(None, 10), stream.given()), Err(ApiError::SetBack));
        assert_eq!((stream.epoch(), stream.next_epoch()), (None, None));
        let state = stream.learn(&info(None, 12), stream.given());
        assert_eq!(state, Ok(State { epoch, end: Offset(12) }));
        advance(2 * CERTAIN).await;
        assert_eq!((stream.epoch(), stream.next_epoch()), (Some(epoch), None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_set_back_begins_anew() {
        let (stream, before) = stream();
        for _ in 0..2 {
            assert_eq!(stream.learn(&info(None, 10), stream.given()), Err(ApiError::SetBack));
            advance(CERTAIN).await;
        }
        let next = stream.next_epoch().unwrap();
        assert!(next.0 > before.0);
        let state = stream.learn(&info(Some(next), 10), stream.given());
        assert_eq!(state, Ok(State { epoch: next, end: Offset(10) }));
        assert_eq!((stream.epoch(), stream.given()), (Some(next), 10));
        // The same backup once more.
        assert_eq!(stream.learn(&info(None, 10), stream.given()), Err(ApiError::SetBack));
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_given_twice_is_proof() {
        let (stream, epoch) = stream();
        stream.note_given_again(Epoch(epoch.0 + 1));
        assert_eq!(stream.epoch(), Some(epoch), "nothing is known of that epoch");
        stream.note_given_again(epoch);
        assert_eq!(stream.learn(&info(None, 13), stream.given()), Err(ApiError::SetBack));
        assert!(stream.next_epoch().is_some());
    }
}

//! What services ask single clients, and the clients' acknowledgements.
//!
//! Only clients of Socket.IO can be asked: an event with an id goes out, and whoever asked waits
//! for the packet that acknowledges it. A connection that is asked nothing costs nothing.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use broker_core::{ConnectionId, Data, EventName};
use broker_protocol::socketio::{AckId, Args};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time};

use crate::{
    outbox::{Outbox, Pushed},
    telemetry::Metrics,
};

/// What is counted where there was an acknowledgement.
const ANSWERED: &str = "answered";
/// Questions that wait for an acknowledgement at a time; further ones are refused.
const CAPACITY: usize = 10_000;

/// Questions that wait for clients of this gateway.
#[derive(Debug)]
pub(crate) struct Asks {
    next: AtomicU64,
    waiting: Mutex<BTreeMap<Key, oneshot::Sender<Args>>>,
    metrics: Arc<Metrics>,
}

/// Which connection was asked, and with which id.
type Key = (ConnectionId, AckId);

/// What a client is asked.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) event: EventName,
    /// Its argument, if it has one.
    pub(crate) data: Option<Data>,
    /// How long the client may take.
    pub(crate) timeout: Duration,
}

/// Why there is no acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unanswered {
    /// What the client speaks has no acknowledgements.
    Unable,
    /// Nothing was asked: too many wait already.
    Overloaded,
    /// Nothing was asked: the client is not let in yet, or its connection is ending.
    Closed,
    /// The connection ended before.
    Ended,
    /// It did not come in time.
    TimedOut,
}

impl Unanswered {
    const ALL: [Self; 5] =
        [Self::Unable, Self::Overloaded, Self::Closed, Self::Ended, Self::TimedOut];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Unable => "unable",
            Self::Overloaded => "overloaded",
            Self::Closed => "closed",
            Self::Ended => "ended",
            Self::TimedOut => "timed_out",
        }
    }
}

impl Asks {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        for outcome in Unanswered::ALL.map(Unanswered::as_str).into_iter().chain([ANSWERED]) {
            metrics.client_requests.with_label_values(&[outcome]);
        }
        Self { next: AtomicU64::new(0), waiting: Mutex::default(), metrics }
    }

    /// Asks a client, and waits for what it says.
    pub(crate) async fn ask(
        &self,
        outbox: &Outbox,
        question: &Question,
    ) -> Result<Args, Unanswered> {
        let outcome = self.put(outbox, question).await;
        let label = outcome.as_ref().map_or_else(|unanswered| unanswered.as_str(), |_| ANSWERED);
        self.metrics.client_requests.with_label_values(&[label]).inc();
        outcome
    }

    async fn put(&self, outbox: &Outbox, question: &Question) -> Result<Args, Unanswered> {
        if outbox.info().is_none() {
            // Its client is not let in.
            return Err(Unanswered::Closed);
        }
        let (waiting, answer) = self.wait(outbox.id())?;
        let (_, id) = waiting.key;
        let encoding = outbox.encoding();
        let frames = encoding
            .question(id, &question.event, question.data.as_slice())
            .ok_or(Unanswered::Unable)?;
        match outbox.deliver(&frames, 0) {
            Pushed::Taken | Pushed::Unwritten => {}
            Pushed::Closed => return Err(Unanswered::Closed),
            Pushed::Overflow { lost } => {
                self.metrics.slow_client(lost);
                return Err(Unanswered::Closed);
            }
        }
        match time::timeout(question.timeout, answer).await {
            Ok(Ok(args)) => Ok(args),
            Ok(Err(_)) => Err(Unanswered::Ended),
            Err(_) => Err(Unanswered::TimedOut),
        }
    }

    fn wait(
        &self,
        connection: ConnectionId,
    ) -> Result<(Waiting<'_>, oneshot::Receiver<Args>), Unanswered> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = AckId::new(number % AckId::MAX).unwrap_or(AckId::MIN);
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if waiting.len() >= CAPACITY {
            return Err(Unanswered::Overloaded);
        }
        waiting.insert((connection, id), sender);
        Ok((Waiting { asks: self, key: (connection, id) }, answer))
    }

    /// A client acknowledges something. What nobody asked, or nobody waits for any more, is passed
    /// over.
    pub(crate) fn answered(&self, connection: ConnectionId, id: AckId, args: Args) {
        if let Some(waiting) = self.waiting.lock().remove(&(connection, id)) {
            // Whoever asked may have gone.
            drop(waiting.send(args));
        }
    }

    /// The connection has ended: whoever waits for it is told.
    pub(crate) fn ended(&self, connection: ConnectionId) {
        let mut waiting = self.waiting.lock();
        while let Some((key, _)) = waiting.range((connection, AckId::MIN)..).next()
            && key.0 == connection
        {
            let key = *key;
            waiting.remove(&key);
        }
    }
}

/// Somebody who waits; dropped, they do so no longer.
struct Waiting<'a> {
    asks: &'a Asks,
    key: Key,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.asks.waiting.lock().remove(&self.key);
    }
}

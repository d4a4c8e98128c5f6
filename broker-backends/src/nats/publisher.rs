//! The task that publishes: batches in the order of the calls, each closed by a barrier.
//!
//! A publish that fails may be tried again, and must then not find itself behind one that was
//! called after it, by somebody who did not know yet. So a failure takes with it all that was
//! called before it was told (see [`Gate`]), and what a lost connection took is told of before
//! anything is written to the next one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_nats::message::OutboundMessage;
use broker_core::ports::PublishError;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};

use super::link::{Link, NotSent, Stamp};

/// Messages before a barrier.
const BATCH: usize = 256;
/// Batches that wait for their barrier at once. With [`BATCH`], this bounds what can still be sent
/// after its publisher was told that its fate is unknown.
const FLIGHTS: u32 = 8;

type Outcome = Result<(), PublishError>;

/// Takes messages, in the order of the calls.
#[derive(Debug)]
pub(super) struct Publisher {
    queue: mpsc::Sender<Publish>,
    gate: Arc<Gate>,
}

/// A message on its way, and who waits for its fate.
#[derive(Debug)]
struct Publish {
    message: OutboundMessage,
    called: Instant,
    pass: Pass,
    done: oneshot::Sender<Outcome>,
}

/// Closed by a failure, opened again when all that was queued is refused.
#[derive(Debug, Default)]
struct Gate {
    /// Odd: closed. Grows with each change.
    state: AtomicU64,
    closed: Notify,
}

/// The gate as it stood at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pass(u64);

impl Gate {
    fn pass(&self) -> Option<Pass> {
        let state = self.state.load(Ordering::Acquire);
        state.is_multiple_of(2).then_some(Pass(state))
    }

    /// Whether nothing failed since the call.
    fn lets(&self, pass: Pass) -> bool {
        self.pass() == Some(pass)
    }

    fn close(&self) {
        self.state.fetch_or(1, Ordering::AcqRel);
        self.closed.notify_one();
    }

    /// Ends [`Gate::close`]; the publishing task's alone, when its queue is empty.
    fn open(&self) {
        self.state.fetch_add(1, Ordering::AcqRel);
    }
}

pub(super) fn start(link: &Link, capacity: usize) -> Publisher {
    let (sender, queue) = mpsc::channel(capacity);
    let gate = Arc::<Gate>::default();
    let task = Task {
        link: link.clone(),
        gate: Arc::clone(&gate),
        flights: Arc::new(Semaphore::new(FLIGHTS as usize)),
        written_to: None,
    };
    link.spawn(task.run(queue));
    Publisher { queue: sender, gate }
}

impl Publisher {
    /// Queues the message; its fate follows, and what is refused at once was not published.
    pub(super) fn publish(
        &self,
        message: OutboundMessage,
    ) -> Result<oneshot::Receiver<Outcome>, PublishError> {
        let pass = self.gate.pass().ok_or(PublishError::Unavailable)?;
        let (done, outcome) = oneshot::channel();
        let publish = Publish { message, called: Instant::now(), pass, done };
        self.queue.try_send(publish).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => PublishError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => PublishError::Unavailable,
        })?;
        Ok(outcome)
    }
}

struct Task {
    link: Link,
    gate: Arc<Gate>,
    flights: Arc<Semaphore>,
    /// The connection that the last batch went to.
    written_to: Option<Stamp>,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Publish>) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Ok(permit) = Arc::clone(&self.flights).acquire_owned().await {
            tokio::select! {
                biased;
                () = self.gate.closed.notified() => {}
                taken = queue.recv_many(&mut batch, BATCH) => if taken == 0 { return },
            }
            if !batch.is_empty() {
                self.launch(batch.drain(..), permit).await;
            }
            if self.gate.pass().is_none() {
                self.clear(&mut queue);
            }
        }
    }

    /// Hands a batch over, and leaves the wait for its barrier to a task of its own.
    async fn launch(&mut self, batch: impl Iterator<Item = Publish>, permit: OwnedSemaphorePermit) {
        let stamp = self.connection().await;
        let (link, start) = (&self.link, Instant::now());
        // Later than this, the server would not be left the time to confirm.
        let hand_over = start + link.shared.deadline / 4;
        let (mut waiting, mut oldest) = (Vec::new(), start);
        for Publish { message, called, pass, done } in batch {
            let in_time = start - called < link.shared.deadline / 2 && Instant::now() < hand_over;
            let stands = stamp.is_some() && link.stamp() == stamp;
            let sent = if in_time && stands && self.gate.lets(pass) {
                link.send(message, hand_over).await
            } else {
                Err(NotSent::Unavailable)
            };
            match sent {
                Ok(()) => {
                    oldest = oldest.min(called);
                    waiting.push(done);
                }
                Err(NotSent::TooLarge) => settle(link, [done], Err(PublishError::TooLarge)),
                Err(NotSent::Unavailable) => self.refuse(done),
            }
        }
        let Some(stamp) = stamp.filter(|_| !waiting.is_empty()) else { return };
        let end = oldest + link.shared.deadline;
        let barrier = link.barrier(stamp, end).await;
        let (flight, gate) = (link.clone(), Arc::clone(&self.gate));
        link.shared.tasks.spawn(async move {
            let confirmed = match barrier {
                Ok(barrier) => flight.confirmed(barrier, end).await,
                Err(unconfirmed) => Err(unconfirmed),
            };
            settle(&flight, waiting, confirmed.map_err(|_| PublishError::Unknown));
            if confirmed.is_err() {
                gate.close();
            }
            // Last: whoever waits for all flights finds the gate as they left it.
            drop(permit);
        });
    }

    /// The connection to write to: a new one only when it is told what became of all that the one
    /// before was given.
    async fn connection(&mut self) -> Option<Stamp> {
        let stamp = self.link.stamp()?;
        if self.written_to.replace(stamp) != Some(stamp) {
            // All but the permit of the batch that is to be written.
            drop(self.flights.acquire_many(FLIGHTS - 1).await);
        }
        Some(stamp)
    }

    /// Refuses all that was called before the gate closed, and opens it.
    fn clear(&self, queue: &mut mpsc::Receiver<Publish>) {
        while let Ok(publish) = queue.try_recv() {
            self.refuse(publish.done);
        }
        self.gate.open();
    }

    fn refuse(&self, done: oneshot::Sender<Outcome>) {
        settle(&self.link, [done], Err(PublishError::Unavailable));
        self.gate.close();
    }
}

fn settle(
    link: &Link,
    waiting: impl IntoIterator<Item = oneshot::Sender<Outcome>>,
    outcome: Outcome,
) {
    for done in waiting {
        link.shared.stats.note_publish(outcome);
        // Nobody may wait any more: the publisher's connection may be gone.
        done.send(outcome).unwrap_or_default();
    }
}

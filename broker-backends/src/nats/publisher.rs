//! The task that publishes: batches in the order of the calls, each closed by a barrier.

use std::sync::Arc;

use async_nats::message::OutboundMessage;
use broker_core::ports::PublishError;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};

use super::link::{Link, NotSent};

/// Messages before a barrier.
const BATCH: usize = 256;
/// Batches that wait for their barrier at once. With [`BATCH`], this bounds what can still be sent
/// after its publisher was told that its fate is unknown.
const FLIGHTS: usize = 8;

/// A message on its way, and who waits for its fate.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) message: OutboundMessage,
    pub(super) called: Instant,
    pub(super) done: oneshot::Sender<Result<(), PublishError>>,
}

pub(super) fn start(link: &Link, capacity: usize) -> mpsc::Sender<Publish> {
    let (sender, queue) = mpsc::channel(capacity);
    link.spawn(run(link.clone(), queue));
    sender
}

async fn run(link: Link, mut queue: mpsc::Receiver<Publish>) {
    let flights = Arc::new(Semaphore::new(FLIGHTS));
    let mut batch = Vec::with_capacity(BATCH);
    while let Ok(permit) = Arc::clone(&flights).acquire_owned().await {
        if queue.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        launch(&link, batch.drain(..), permit).await;
    }
}

type Waiting = Vec<oneshot::Sender<Result<(), PublishError>>>;

/// Hands a batch over, and leaves the wait for its barrier to a task of its own.
async fn launch(link: &Link, batch: impl Iterator<Item = Publish>, permit: OwnedSemaphorePermit) {
    let start = Instant::now();
    // Later than this, the server would not be left the time to confirm.
    let hand_over = start + link.shared.deadline / 4;
    let stamp = link.stamp();
    let (mut waiting, mut oldest) = (Waiting::new(), start);
    for Publish { message, called, done } in batch {
        let in_time = start - called < link.shared.deadline / 2 && Instant::now() < hand_over;
        let sent = match stamp {
            Some(_) if in_time => link.send(message, hand_over).await,
            _ => Err(NotSent::Unavailable),
        };
        match sent {
            Ok(()) => {
                oldest = oldest.min(called);
                waiting.push(done);
            }
            Err(NotSent::TooLarge) => settle(link, [done], Err(PublishError::TooLarge)),
            Err(NotSent::Unavailable) => settle(link, [done], Err(PublishError::Unavailable)),
        }
    }
    let Some(stamp) = stamp.filter(|_| !waiting.is_empty()) else { return };
    let end = oldest + link.shared.deadline;
    let Ok(barrier) = link.barrier(stamp, end).await else {
        return settle(link, waiting, Err(PublishError::Unknown));
    };
    let flight = link.clone();
    link.shared.tasks.spawn(async move {
        let outcome = flight.confirmed(barrier, end).await.map_err(|_| PublishError::Unknown);
        settle(&flight, waiting, outcome);
        drop(permit);
    });
}

fn settle(
    link: &Link,
    waiting: impl IntoIterator<Item = oneshot::Sender<Result<(), PublishError>>>,
    outcome: Result<(), PublishError>,
) {
    for done in waiting {
        link.shared.stats.note_publish(outcome);
        // Nobody may wait any more: the publisher's connection may be gone.
        done.send(outcome).unwrap_or_default();
    }
}

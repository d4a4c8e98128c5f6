//! The gateway's end of the offline queue: acknowledgements on their way to it, and messages that
//! are still not acknowledged though their user is connected.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use broker_core::{
    Epoch, Offset, Position, UserId,
    ports::{OfflineQueue, StoreError},
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{self, MissedTickBehavior},
};

use crate::{clock, telemetry::Metrics};

/// How long acknowledgements are gathered.
const GATHER: Duration = Duration::from_millis(20);
/// Acknowledgements in one call to the store.
const BATCH: usize = 1000;
/// How long after a failure the store is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often messages that are too old are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// What was acknowledged here and the store does not know yet: of each user the latest.
#[derive(Debug)]
pub(crate) struct Acknowledgements {
    queue: Arc<dyn OfflineQueue>,
    waiting: Mutex<HashMap<UserId, (Epoch, Offset)>>,
    wake: Notify,
    metrics: Arc<Metrics>,
}

impl Acknowledgements {
    pub(crate) fn new(queue: Arc<dyn OfflineQueue>, metrics: Arc<Metrics>) -> Self {
        Self { queue, waiting: Mutex::default(), wake: Notify::new(), metrics }
    }

    /// All of the user's messages up to this one were taken in.
    pub(crate) fn note(&self, user: &UserId, position: Position) {
        self.keep(user.clone(), position.epoch, position.offset);
        self.wake.notify_one();
    }

    fn keep(&self, user: UserId, epoch: Epoch, offset: Offset) {
        match self.waiting.lock().entry(user) {
            Entry::Vacant(place) => drop(place.insert((epoch, offset))),
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                if known.0 != epoch || known.1 < offset {
                    *known = (epoch, offset);
                }
            }
        }
    }

    /// Tells the store. Runs until dropped.
    pub(crate) async fn run(&self) {
        loop {
            self.wake.notified().await;
            time::sleep(GATHER).await;
            while self.tell_some().await {}
        }
    }

    /// Says whether there may be more.
    async fn tell_some(&self) -> bool {
        let batch: Vec<(UserId, Epoch, Offset)> = {
            let mut waiting = self.waiting.lock();
            let users: Vec<UserId> = waiting.keys().take(BATCH).cloned().collect();
            let taken = users.into_iter().filter_map(|user| waiting.remove_entry(&user));
            taken.map(|(user, (epoch, offset))| (user, epoch, offset)).collect()
        };
        if batch.is_empty() {
            return false;
        }
        let outcome = self.queue.acknowledge(batch.clone()).await;
        if self.note_outcome(&outcome) {
            return true;
        }
        for (user, epoch, offset) in batch {
            // What was acknowledged since is later.
            if !self.waiting.lock().contains_key(&user) {
                self.keep(user, epoch, offset);
            }
        }
        time::sleep(RETRY).await;
        true
    }

    /// Has what is too old expire. Runs until dropped.
    pub(crate) async fn sweep(&self) {
        let mut ticks = time::interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let outcome = self.queue.sweep(clock::wall()).await;
            self.note_outcome(&outcome.map(drop));
        }
    }

    fn note_outcome(&self, outcome: &Result<(), StoreError>) -> bool {
        if let Err(error) = outcome {
            tracing::debug!(%error, "the offline queue is not in reach");
            self.metrics.store_error();
        }
        outcome.is_ok()
    }
}

//! One timer for all connections: a wheel of slots, each a tick wide.
//!
//! A connection has one entry at a time and costs eight bytes here; a timer of the runtime for
//! each would cost more than the rest of an idle connection.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{self, Instant, MissedTickBehavior};

use crate::outbox::Outbox;

/// Precision of all connection timers.
const TICK: Duration = Duration::from_millis(100);
/// Slots of the wheel: 102 s ahead. What lies further fires early, and is put in again.
const SLOTS: usize = 1024;

/// Tells connections when their next deadline is due.
#[derive(Debug)]
pub(crate) struct Wheel {
    started: Instant,
    /// The last tick whose slot was emptied, or is being emptied.
    turned: AtomicUsize,
    slots: Box<[Mutex<Vec<Weak<Outbox>>>]>,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        let turned = AtomicUsize::new(0);
        Self {
            started: Instant::now(),
            turned,
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Has the connection told at the deadline or a tick later; for a far deadline, before it.
    pub(crate) fn schedule(&self, deadline: Instant, outbox: &Arc<Outbox>) {
        let now = self.tick_of(Instant::now());
        let tick = (self.tick_of(deadline) + 1).clamp(now + 1, now + SLOTS - 2);
        self.slots[tick % SLOTS].lock().push(Arc::downgrade(outbox));
        if self.turned.load(Ordering::SeqCst) >= tick {
            outbox.tell(|notices| notices.due = true);
        }
    }

    /// Turns the wheel. Runs until dropped.
    pub(crate) async fn turn(&self) {
        let mut ticks = time::interval_at(self.started, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = 0;
        loop {
            ticks.tick().await;
            let now = self.tick_of(Instant::now());
            while next <= now {
                self.turned.store(next, Ordering::SeqCst);
                let due = std::mem::take(&mut *self.slots[next % SLOTS].lock());
                for outbox in due.iter().filter_map(Weak::upgrade) {
                    outbox.tell(|notices| notices.due = true);
                }
                next += 1;
            }
        }
    }

    fn tick_of(&self, at: Instant) -> usize {
        let ticks = at.saturating_duration_since(self.started).as_millis() / TICK.as_millis();
        usize::try_from(ticks).unwrap_or(usize::MAX - SLOTS)
    }
}

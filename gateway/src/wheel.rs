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
pub(crate) const TICK: Duration = Duration::from_millis(100);
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
    /// Returns the moment before which it is not told.
    pub(crate) fn schedule(&self, deadline: Instant, outbox: &Arc<Outbox>) -> Instant {
        let soonest = self.tick_of(Instant::now()) + 1;
        // A slot further ahead would be emptied a round too early.
        let furthest = self.turned.load(Ordering::SeqCst) + SLOTS - 1;
        let tick = (self.tick_of(deadline) + 1).max(soonest).min(furthest);
        self.slots[tick % SLOTS].lock().push(Arc::downgrade(outbox));
        // The slot may have been emptied meanwhile.
        if self.turned.load(Ordering::SeqCst) >= tick {
            outbox.tell(|notices| notices.due = true);
        }
        self.started + TICK.saturating_mul(u32::try_from(tick).unwrap_or(u32::MAX))
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

#[cfg(test)]
mod tests {
    use broker_core::ConnectionId;

    use super::*;
    use crate::socket::FakeSocket;

    fn outbox() -> Arc<Outbox> {
        Arc::new(Outbox::new(ConnectionId(1), Box::<FakeSocket>::default(), 1))
    }

    fn turning() -> Arc<Wheel> {
        let wheel = Arc::new(Wheel::new());
        let turned = Arc::clone(&wheel);
        tokio::spawn(async move { turned.turn().await });
        wheel
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_told_at_its_time_or_a_tick_later() {
        let (wheel, outbox, start) = (turning(), outbox(), Instant::now());
        for wait in [0, 1, 99, 100, 101, 5_000, 60_000] {
            let deadline = Instant::now() + Duration::from_millis(wait);
            let told = wheel.schedule(deadline, &outbox);
            assert!(told > deadline && told <= deadline + TICK + TICK, "{wait}");
            time::sleep_until(told - Duration::from_millis(1)).await;
            assert!(!outbox.take_notices().due, "{wait}");
            time::sleep_until(told + TICK).await;
            assert!(outbox.take_notices().due, "{wait}, {:?}", start.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_far_deadline_is_told_early_and_never_before_it_was_said() {
        let (wheel, outbox) = (turning(), outbox());
        let told = wheel.schedule(Instant::now() + Duration::from_secs(3600), &outbox);
        assert!(told < Instant::now() + TICK * u32::try_from(SLOTS).unwrap());
        time::sleep_until(told - Duration::from_millis(1)).await;
        assert!(!outbox.take_notices().due);
        time::sleep_until(told + TICK).await;
        assert!(outbox.take_notices().due);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wheel_that_was_held_up_forgets_nobody() {
        let (wheel, outbox) = (Arc::new(Wheel::new()), outbox());
        time::advance(Duration::from_secs(300)).await;
        let told = wheel.schedule(Instant::now() + Duration::from_secs(1), &outbox);
        let turned = Arc::clone(&wheel);
        tokio::spawn(async move { turned.turn().await });
        time::sleep(Duration::from_secs(2)).await;
        assert!(told <= Instant::now() && outbox.take_notices().due);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_gone_costs_nothing() {
        let (wheel, outbox) = (turning(), outbox());
        wheel.schedule(Instant::now() + TICK, &outbox);
        assert_eq!(Arc::strong_count(&outbox), 1);
        time::sleep(TICK * 4).await;
        assert_eq!(Arc::weak_count(&outbox), 0);
    }
}

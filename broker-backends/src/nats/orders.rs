//! What is to be subscribed to, in the order of the calls.

use std::collections::VecDeque;

use broker_core::{Interest, ports::BusError};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

/// Orders that are carried out together.
const BATCH: usize = 1024;
/// Subscribes that wait to be handed over.
const CAPACITY: usize = 65_536;

pub(super) type Done = oneshot::Sender<Result<(), BusError>>;

/// A queue of orders. An unsubscribe is never refused: there are at most as many as there were
/// subscribes.
#[derive(Debug, Default)]
pub(super) struct Orders {
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    orders: VecDeque<Order>,
    /// Nobody carries orders out any more.
    closed: bool,
}

#[derive(Debug)]
pub(super) enum Order {
    Subscribe(Interest, Done, Instant),
    Unsubscribe(Interest),
}

impl Orders {
    pub(super) fn subscribe(&self, interest: Interest) -> oneshot::Receiver<Result<(), BusError>> {
        let (done, subscribed) = oneshot::channel();
        let mut queue = self.queue.lock();
        if !queue.closed && queue.orders.len() < CAPACITY {
            queue.orders.push_back(Order::Subscribe(interest, done, Instant::now()));
            self.filled.notify_one();
        } else {
            settle(done, Err(BusError::Unavailable));
        }
        subscribed
    }

    pub(super) fn unsubscribe(&self, interest: Interest) {
        let mut queue = self.queue.lock();
        if !queue.closed {
            queue.orders.push_back(Order::Unsubscribe(interest));
            self.filled.notify_one();
        }
    }

    /// Refuses what waits, and whatever comes.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        // With an order, its sender goes: whoever waits is told so.
        queue.orders.clear();
    }

    /// The next orders, as soon as there are any.
    pub(super) async fn next(&self) -> Vec<Order> {
        loop {
            let batch: Vec<Order> = {
                let orders = &mut self.queue.lock().orders;
                let ready = orders.len().min(BATCH);
                orders.drain(..ready).collect()
            };
            if !batch.is_empty() {
                return batch;
            }
            self.filled.notified().await;
        }
    }

    /// Those in front that were called before `limit`, or come before one that was.
    pub(super) fn overdue(&self, limit: Instant) -> Vec<Order> {
        let orders = &mut self.queue.lock().orders;
        let late = |order: &Order| matches!(order, Order::Subscribe(.., called) if *called < limit);
        let count = orders.iter().rposition(late).map_or(0, |last| last + 1);
        orders.drain(..count).collect()
    }
}

pub(super) fn settle(done: Done, outcome: Result<(), BusError>) {
    // Whoever asked may be gone.
    done.send(outcome).unwrap_or_default();
}

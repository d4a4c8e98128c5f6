//! The task that subscribes: orders in the order of the calls, each batch closed by a barrier.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
};

use broker_core::{Interest, ports::BusError};
use futures_util::{future::AbortHandle, stream::Abortable};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    feed::Feed,
    link::{Link, Stamp, Subscribed},
    subject::Subjects,
};
use crate::arrivals::worker_of;

/// Orders before a barrier.
const BATCH: usize = 1024;
/// Subscribes that wait to be handed over.
const CAPACITY: usize = 65_536;

type Done = oneshot::Sender<Result<(), BusError>>;

/// What is to be subscribed to, in order. An unsubscribe is never refused: there are at most as
/// many as there were subscribes.
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
enum Order {
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
    fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        // With an order, its sender goes: whoever waits is told so.
        queue.orders.clear();
    }

    async fn next(&self) -> Vec<Order> {
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
}

pub(super) fn start(link: &Link, subjects: Arc<Subjects>, first_number: u64) -> Arc<Orders> {
    let orders = Arc::new(Orders::default());
    let subscriber = Subscriber {
        link: link.clone(),
        subjects,
        known: Arc::default(),
        next_number: first_number,
        orders: Arc::clone(&orders),
    };
    link.spawn(subscriber.run());
    orders
}

struct Subscriber {
    link: Link,
    orders: Arc<Orders>,
    subjects: Arc<Subjects>,
    known: Known,
    /// What async-nats calls the next subscription. It counts; nobody else subscribes.
    next_number: u64,
}

type Known = Arc<Mutex<HashMap<Interest, Entry>>>;

#[derive(Debug)]
struct Entry {
    number: u64,
    end: AbortHandle,
    /// Whether the server ever confirmed it.
    confirmed: bool,
    /// How many barriers it waits for.
    waiting: u32,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.orders.close();
    }
}

impl Subscriber {
    async fn run(mut self) {
        loop {
            let batch = self.orders.next().await;
            let stamp = self.link.stamp();
            let mut waiting = Vec::new();
            for order in batch {
                match order {
                    Order::Unsubscribe(interest) => self.forget(&interest),
                    Order::Subscribe(interest, done, called) => {
                        match self.subscribe(interest, stamp, called).await {
                            Ok(subscribed) => waiting.push((subscribed, done, called)),
                            Err(error) => settle(done, Err(error)),
                        }
                    }
                }
            }
            self.note_size();
            if let (Some(stamp), false) = (stamp, waiting.is_empty()) {
                self.confirm(stamp, waiting).await;
            }
        }
    }

    fn forget(&self, interest: &Interest) {
        let entry = self.known.lock().remove(interest);
        if let Some(entry) = entry {
            end(&self.link, &entry);
        }
    }

    /// Sees to it that the subscription is handed over.
    async fn subscribe(
        &mut self,
        interest: Interest,
        stamp: Option<Stamp>,
        called: Instant,
    ) -> Result<(Interest, u64), BusError> {
        let limit = called + self.link.shared.deadline / 2;
        if stamp.is_none() || Instant::now() > limit {
            return Err(BusError::Unavailable);
        }
        let existing = self.known.lock().get_mut(&interest).map(|entry| {
            entry.waiting += 1;
            entry.number
        });
        let number = match existing {
            Some(number) => number,
            None => self.hand_over(&interest, limit).await?,
        };
        Ok((interest, number))
    }

    async fn hand_over(&mut self, interest: &Interest, limit: Instant) -> Result<u64, BusError> {
        let shared = &self.link.shared;
        let client = self.link.client().ok_or(BusError::Unavailable)?;
        let worker = worker_of(interest, shared.mailboxes.len());
        let number = self.next_number;
        self.next_number += 1;
        shared
            .subscriptions
            .lock()
            .insert(number, Subscribed::Interest { interest: interest.clone(), worker });
        let subject = self.subjects.of_interest(interest);
        let subscribed = timeout_at(limit, client.subscribe(subject)).await;
        let Ok(Ok(subscriber)) = subscribed else {
            shared.subscriptions.lock().remove(&number);
            return Err(BusError::Unavailable);
        };
        let (end, registration) = AbortHandle::new_pair();
        let entry = Entry { number, end, confirmed: false, waiting: 1 };
        self.known.lock().insert(interest.clone(), entry);
        let subscriber = Abortable::new(subscriber, registration);
        shared.mailboxes[worker].add_feed(Feed { interest: interest.clone(), subscriber });
        Ok(number)
    }

    /// Leaves the wait for the barrier to a task of its own.
    async fn confirm(&self, stamp: Stamp, waiting: Vec<((Interest, u64), Done, Instant)>) {
        let oldest = waiting.iter().map(|(_, _, called)| *called).min();
        let end = oldest.unwrap_or_else(Instant::now) + self.link.shared.deadline;
        let barrier = self.link.barrier(stamp, end).await;
        let (link, known) = (self.link.clone(), Arc::clone(&self.known));
        self.link.shared.tasks.spawn(async move {
            let outcome = match barrier {
                Ok(barrier) => link.confirmed(barrier, end).await,
                Err(unconfirmed) => Err(unconfirmed),
            };
            let outcome = outcome.map_err(|_| BusError::Timeout);
            for ((interest, number), done, _) in waiting {
                conclude(&link, &known, &interest, number, outcome.is_ok());
                settle(done, outcome);
            }
        });
    }

    fn note_size(&self) {
        let size = self.known.lock().len() as u64;
        self.link.shared.stats.subscriptions.store(size, Ordering::Relaxed);
    }
}

/// Notes a barrier's outcome; what nobody was promised is ended.
fn conclude(link: &Link, known: &Known, interest: &Interest, number: u64, confirmed: bool) {
    let mut known = known.lock();
    let Some(entry) = known.get_mut(interest).filter(|entry| entry.number == number) else {
        return;
    };
    entry.waiting -= 1;
    entry.confirmed |= confirmed;
    if !entry.confirmed && entry.waiting == 0 {
        end(link, entry);
        known.remove(interest);
        link.shared.stats.subscriptions.store(known.len() as u64, Ordering::Relaxed);
    }
}

fn end(link: &Link, entry: &Entry) {
    link.shared.subscriptions.lock().remove(&entry.number);
    entry.end.abort();
}

fn settle(done: Done, outcome: Result<(), BusError>) {
    // Whoever asked may be gone.
    done.send(outcome).unwrap_or_default();
}

//! What comes back to this gateway: answers to its requests and publishes, and its own barriers.
//!
//! One subscription for all. async-nats could do requests itself, but keeps what it notes of each
//! one that is never answered, for ever.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

/// Who waits for what.
#[derive(Debug)]
pub(super) struct Returns {
    prefix: String,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiter>>,
}

#[derive(Debug)]
enum Waiter {
    One(oneshot::Sender<Message>),
    Many(mpsc::Sender<Message>),
}

/// A place for answers; they are thrown away once it is dropped.
#[derive(Debug)]
pub(super) struct Ticket<R> {
    returns: Arc<Returns>,
    number: u64,
    pub(super) answers: R,
}

impl Returns {
    pub(super) fn new(prefix: String) -> Self {
        // From a random number on, so that nobody guesses what is waited for.
        Self { prefix, next: AtomicU64::new(rand::random()), waiting: Mutex::default() }
    }

    /// What to subscribe to.
    pub(super) fn pattern(&self) -> String {
        format!("{}.*", self.prefix)
    }

    pub(super) fn one(self: &Arc<Self>) -> Ticket<oneshot::Receiver<Message>> {
        let (sender, answers) = oneshot::channel();
        self.ticket(Waiter::One(sender), answers)
    }

    /// A place for several answers; more than `capacity` that wait to be taken are thrown away.
    pub(super) fn many(self: &Arc<Self>, capacity: usize) -> Ticket<mpsc::Receiver<Message>> {
        let (sender, answers) = mpsc::channel(capacity);
        self.ticket(Waiter::Many(sender), answers)
    }

    fn ticket<R>(self: &Arc<Self>, waiter: Waiter, answers: R) -> Ticket<R> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().insert(number, waiter);
        Ticket { returns: Arc::clone(self), number, answers }
    }

    /// Ends every wait: what was sent may be lost.
    pub(super) fn give_up(&self) {
        self.waiting.lock().clear();
    }

    /// Hands out what comes.
    pub(super) async fn run(self: Arc<Self>, mut arrivals: Subscriber) {
        while let Some(message) = arrivals.next().await {
            self.hand_out(message);
        }
    }

    fn hand_out(&self, message: Message) {
        let token = message.subject.strip_prefix(&self.prefix);
        let token = token.and_then(|rest| rest.strip_prefix('.'));
        let Some(number) = token.and_then(|hex| u64::from_str_radix(hex, 16).ok()) else { return };
        let mut waiting = self.waiting.lock();
        match waiting.remove(&number) {
            // Whoever waited may be gone; more answers than expected are not wanted.
            Some(Waiter::One(sender)) => drop(sender.send(message)),
            Some(Waiter::Many(sender)) => {
                drop(sender.try_send(message));
                waiting.insert(number, Waiter::Many(sender));
            }
            None => {}
        }
    }
}

impl<R> Ticket<R> {
    /// Where answers must be sent.
    pub(super) fn subject(&self) -> String {
        format!("{}.{:x}", self.returns.prefix, self.number)
    }
}

impl<R> Drop for Ticket<R> {
    fn drop(&mut self) {
        self.returns.waiting.lock().remove(&self.number);
    }
}

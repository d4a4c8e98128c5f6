//! What the gateway is subscribed to, and what it waits to have confirmed. No input or output:
//! orders, answers and times go in, lines for the server come out.
//!
//! The server handles lines in order, so the answer to a `PING` confirms all `SUB`s before it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use broker_core::{Interest, ports::BusError};
use tokio::time::Instant;

use super::{
    orders::{Done, Order, settle},
    subject::Subjects,
};
use crate::{
    arrivals::worker_of,
    stats::{BusStats, add},
};

/// Bytes that wait to be written, beyond which nothing is added but what ends a subscription.
const MAX_WRITE: usize = 65_536;

#[derive(Debug)]
pub(super) struct Subscriptions {
    subjects: Arc<Subjects>,
    stats: Arc<BusStats>,
    deadline: Duration,
    workers: usize,
    by_number: HashMap<u64, Subscription>,
    numbers: HashMap<Interest, u64>,
    /// Never given twice: what still comes for an ended subscription is nobody's.
    next_number: u64,
    /// Lines for the server.
    pub(super) output: Vec<u8>,
    /// What is still to be asked for again on a new connection, and whether that is confirmed.
    again: std::vec::IntoIter<u64>,
    restoring: bool,
    /// `PING`s without answer, in order.
    flights: VecDeque<Flight>,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) interest: Interest,
    pub(super) worker: usize,
    /// Whether the server ever confirmed it.
    confirmed: bool,
    /// The server ended it on this connection.
    silenced: bool,
    /// How many flights it waits for.
    waiting: u32,
}

/// A `PING`, and what its answer confirms.
#[derive(Debug)]
struct Flight {
    sent: Instant,
    awaits: Awaits,
}

#[derive(Debug)]
enum Awaits {
    Life,
    Restored,
    Subscribed(Vec<Asked>),
    /// Those who asked for these were told that it took too long.
    Expired(Vec<u64>),
}

#[derive(Debug)]
struct Asked {
    number: u64,
    done: Done,
    end: Instant,
}

/// What follows from something the server refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nothing, or who asked is told.
    Handled,
    /// Nothing arrives any more for what was once confirmed.
    Silenced { interest: Interest, worker: usize },
    /// It is not known what is missing: only a new connection helps.
    Fatal,
}

impl Subscriptions {
    pub(super) fn new(
        subjects: Arc<Subjects>,
        stats: Arc<BusStats>,
        deadline: Duration,
        workers: usize,
    ) -> Self {
        Self {
            subjects,
            stats,
            deadline,
            workers,
            by_number: HashMap::new(),
            numbers: HashMap::new(),
            next_number: 1,
            output: Vec::new(),
            again: Vec::new().into_iter(),
            restoring: false,
            flights: VecDeque::new(),
        }
    }

    pub(super) fn get(&self, number: u64) -> Option<&Subscription> {
        self.by_number.get(&number)
    }

    /// Whether orders can be carried out: all before them is written, or nearly so.
    pub(super) fn has_room(&self) -> bool {
        self.again.as_slice().is_empty() && self.output.len() < MAX_WRITE
    }

    /// A new connection stands: everything is asked for again.
    pub(super) fn restore(&mut self, now: Instant) {
        self.by_number.values_mut().for_each(|subscription| subscription.silenced = false);
        self.again = self.by_number.keys().copied().collect::<Vec<_>>().into_iter();
        self.restoring = true;
        self.write_more(now);
    }

    /// Adds to the output what has room.
    pub(super) fn write_more(&mut self, now: Instant) {
        if !self.restoring || self.flights.iter().any(|it| matches!(it.awaits, Awaits::Restored)) {
            return;
        }
        while self.output.len() < MAX_WRITE {
            let Some(number) = self.again.next() else {
                self.ping(now, Awaits::Restored);
                return;
            };
            if let Some(subscription) = self.by_number.get(&number) {
                write_subscribe(&mut self.output, &self.subjects, &subscription.interest, number);
            }
        }
    }

    /// The connection is gone, and with it what it had not confirmed.
    pub(super) fn forget_connection(&mut self) {
        for flight in std::mem::take(&mut self.flights) {
            self.fail(flight.awaits, BusError::Unavailable);
        }
        (self.again, self.restoring) = (Vec::new().into_iter(), false);
        self.output = Vec::new();
    }

    /// Asks for a sign of life.
    pub(super) fn ask_for_life(&mut self, now: Instant) {
        self.ping(now, Awaits::Life);
    }

    /// Since when the server owes an answer.
    pub(super) fn oldest_ping(&self) -> Option<Instant> {
        self.flights.front().map(|flight| flight.sent)
    }

    /// Carries orders out, in their order; without a connection, subscribes are refused.
    pub(super) fn carry_out(&mut self, orders: Vec<Order>, now: Instant, connected: bool) {
        let mut asked = Vec::new();
        for order in orders {
            match order {
                Order::Unsubscribe(interest) => {
                    if let Some(number) = self.numbers.get(&interest) {
                        self.end(*number, connected);
                    }
                }
                // Later than this, the server would not be left the time to confirm.
                Order::Subscribe(_, done, called)
                    if !connected || now > called + self.deadline / 2 =>
                {
                    settle(done, Err(BusError::Unavailable));
                }
                Order::Subscribe(interest, done, called) => {
                    let number = self.subscribe(interest);
                    asked.push(Asked { number, done, end: called + self.deadline });
                }
            }
        }
        if !asked.is_empty() {
            self.ping(now, Awaits::Subscribed(asked));
        }
        self.note_size();
    }

    fn subscribe(&mut self, interest: Interest) -> u64 {
        if let Some(&number) = self.numbers.get(&interest) {
            match self.by_number.get_mut(&number) {
                Some(known) if !known.silenced => {
                    known.waiting += 1;
                    return number;
                }
                // The server does not know it any more: there is nothing to end.
                _ => self.end(number, false),
            }
        }
        let number = self.next_number;
        self.next_number += 1;
        self.numbers.insert(interest.clone(), number);
        write_subscribe(&mut self.output, &self.subjects, &interest, number);
        let worker = worker_of(&interest, self.workers);
        let subscription =
            Subscription { interest, worker, confirmed: false, silenced: false, waiting: 1 };
        self.by_number.insert(number, subscription);
        number
    }

    fn end(&mut self, number: u64, connected: bool) {
        if let Some(subscription) = self.by_number.remove(&number) {
            self.numbers.remove(&subscription.interest);
            if connected {
                self.output.extend_from_slice(format!("UNSUB {number}\r\n").as_bytes());
            }
        }
    }

    fn ping(&mut self, now: Instant, awaits: Awaits) {
        self.output.extend_from_slice(b"PING\r\n");
        self.flights.push_back(Flight { sent: now, awaits });
    }

    /// The server answered a `PING`; says whether now everything is subscribed again.
    pub(super) fn handle_pong(&mut self) -> bool {
        match self.flights.pop_front().map(|flight| flight.awaits) {
            Some(Awaits::Restored) => {
                self.restoring = false;
                return true;
            }
            Some(Awaits::Subscribed(asked)) => {
                for Asked { number, done, .. } in asked {
                    // One that is not there any more was refused.
                    let mut outcome = Err(BusError::Unavailable);
                    if let Some(subscription) = self.by_number.get_mut(&number) {
                        subscription.waiting -= 1;
                        if !subscription.silenced {
                            (subscription.confirmed, outcome) = (true, Ok(()));
                        }
                    }
                    settle(done, outcome);
                }
            }
            Some(Awaits::Life | Awaits::Expired(_)) | None => {}
        }
        false
    }

    /// The server refused something, in its words.
    pub(super) fn handle_refusal(&mut self, words: &str) -> Refusal {
        let denied = words.strip_prefix("Permissions Violation for Subscription to \"");
        if let Some(subject) = denied.and_then(|rest| rest.split('"').next()) {
            add(&self.stats.subscribes_denied, 1);
            return self.deny(subject);
        }
        if self.restoring {
            return Refusal::Fatal;
        }
        // Not said of what: it may be any that was not confirmed before.
        let numbers = match self.flights.front().map(|flight| &flight.awaits) {
            Some(Awaits::Subscribed(asked)) => numbers_of(asked),
            Some(Awaits::Expired(numbers)) => numbers.clone(),
            Some(Awaits::Life | Awaits::Restored) | None => Vec::new(),
        };
        for number in numbers {
            if self.by_number.get(&number).is_some_and(|it| !it.confirmed) {
                self.end(number, true);
            }
        }
        self.note_size();
        Refusal::Handled
    }

    fn deny(&mut self, subject: &str) -> Refusal {
        let number = self.subjects.interest(subject).and_then(|it| self.numbers.get(&it).copied());
        let Some(number) = number else { return Refusal::Handled };
        let Some(known) = self.by_number.get_mut(&number) else { return Refusal::Handled };
        if known.confirmed {
            known.silenced = true;
            // Whoever waits for messages cannot be told; the next connection may be allowed again.
            return Refusal::Silenced { interest: known.interest.clone(), worker: known.worker };
        }
        // The server does not know it: there is nothing to end.
        self.end(number, false);
        self.note_size();
        Refusal::Handled
    }

    /// Fails what the server did not confirm in time.
    pub(super) fn expire(&mut self, now: Instant) {
        for index in 0..self.flights.len() {
            let awaits = &mut self.flights[index].awaits;
            if let Awaits::Subscribed(asked) = awaits
                && asked.iter().any(|it| it.end <= now)
            {
                // The server may still refuse them.
                let expired = Awaits::Expired(numbers_of(asked));
                let late = std::mem::replace(awaits, expired);
                self.fail(late, BusError::Timeout);
            }
        }
        self.note_size();
    }

    /// Tells those who asked, and ends what nobody was promised.
    fn fail(&mut self, awaits: Awaits, error: BusError) {
        let Awaits::Subscribed(asked) = awaits else { return };
        for Asked { number, done, .. } in asked {
            if let Some(subscription) = self.by_number.get_mut(&number) {
                subscription.waiting -= 1;
                if !subscription.confirmed && subscription.waiting == 0 {
                    self.end(number, true);
                }
            }
            settle(done, Err(error));
        }
        self.note_size();
    }

    fn note_size(&self) {
        self.stats.subscriptions.store(self.by_number.len() as u64, Ordering::Relaxed);
    }
}

fn numbers_of(asked: &[Asked]) -> Vec<u64> {
    asked.iter().map(|asked| asked.number).collect()
}

fn write_subscribe(output: &mut Vec<u8>, subjects: &Subjects, interest: &Interest, number: u64) {
    let line = format!("SUB {} {number}\r\n", subjects.of_interest(interest));
    output.extend_from_slice(line.as_bytes());
}

#[cfg(test)]
mod tests;

//! Any calls, against a model that keeps everything and thinks of nothing.

use std::collections::BTreeMap;

use broker_core::{
    Offset, Timestamp,
    ports::{Backlog, OfflineQueue, QueueFigures},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseResult, TestRunner},
};
use tokio::{runtime::Handle, task::block_in_place};

use super::{EPOCH, Fixture, SIZE, User};

/// Messages of a case: few, so that many of them come twice.
const MESSAGES: u64 = 20;
/// Until then, all of them have expired.
const LAST: u64 = 100;

#[derive(Debug, Clone)]
enum Call {
    Enqueue(Vec<u64>),
    Acknowledge(u64),
    Sweep(u64),
    Purge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Delivered,
    Evicted,
    Expired,
}

#[derive(Debug, Default)]
struct Model {
    messages: BTreeMap<u64, State>,
    acknowledged: u64,
    evicted: u64,
    lost: (u64, u64),
}

/// Whatever the order and however often, every message ends in one state and is counted there.
pub async fn any_calls_do_as_the_model<K>((queue, _): &Fixture<K>) {
    let runtime = Handle::current();
    let case = |calls: Vec<Call>| block_in_place(|| runtime.block_on(agrees(&**queue, &calls)));
    let config = Config { cases: 100, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(call(), 1..30), case);
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

fn call() -> impl Strategy<Value = Call> {
    let offset = 1..=MESSAGES;
    prop_oneof![
        4 => prop::collection::vec(offset.clone(), 1..8).prop_map(Call::Enqueue),
        2 => (0..=MESSAGES + 1).prop_map(Call::Acknowledge),
        2 => (0..=LAST / 2).prop_map(Call::Sweep),
        1 => Just(Call::Purge),
    ]
}

/// In no order.
fn expiry(offset: u64) -> u64 {
    offset * 37 % LAST
}

async fn agrees(queue: &dyn OfflineQueue, calls: &[Call]) -> TestCaseResult {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let id = format!("case-{number}").parse().expect("a user id");
    let user = User { queue, id };
    let outcome = agrees_for(&user, calls).await;
    // The next case counts from here.
    user.purge().await;
    outcome
}

async fn agrees_for(user: &User<'_>, calls: &[Call]) -> TestCaseResult {
    let mut model = Model::default();
    let before = user.queue.figures().await.expect("answers");
    for call in calls {
        let (told, expected) = match call {
            Call::Enqueue(offsets) => {
                for offset in offsets {
                    user.enqueue_until(*offset, Timestamp(expiry(*offset))).await;
                    model.enqueue(*offset);
                }
                (0, 0)
            }
            Call::Acknowledge(offset) => {
                user.acknowledge(*offset).await;
                (0, model.acknowledge(*offset))
            }
            Call::Sweep(now) => {
                let told = user.queue.sweep(Timestamp(*now)).await.expect("sweeps");
                (told, model.expire(*now))
            }
            Call::Purge => (user.purge().await, model.evict_beyond(0)),
        };
        prop_assert_eq!(told, expected, "{:?}", call);
        prop_assert_eq!(user.pending().await, model.in_state(State::Pending), "{:?}", call);
        prop_assert_eq!(user.backlog().await, model.backlog(), "{:?}", call);
    }
    prop_assert_eq!(user.queue.figures().await.expect("answers"), model.figures(before));
    Ok(())
}

impl Model {
    fn in_state(&self, wanted: State) -> Vec<u64> {
        let messages = self.messages.iter().filter(|(_, state)| **state == wanted);
        messages.map(|(offset, _)| *offset).collect()
    }

    fn enqueue(&mut self, offset: u64) {
        if self.messages.contains_key(&offset) {
            return;
        }
        let state = match offset {
            _ if offset <= self.acknowledged => State::Delivered,
            _ if offset <= self.evicted => State::Evicted,
            _ => State::Pending,
        };
        self.lost.0 += u64::from(state == State::Evicted);
        self.messages.insert(offset, state);
        self.evict_beyond(SIZE);
    }

    fn acknowledge(&mut self, offset: u64) -> u64 {
        if offset > self.acknowledged {
            (self.acknowledged, self.lost) = (offset, (0, 0));
            for (_, state) in self.messages.range_mut(..=offset) {
                if *state == State::Pending {
                    *state = State::Delivered;
                }
            }
        }
        0
    }

    fn expire(&mut self, now: u64) -> u64 {
        let due: Vec<u64> = self.in_state(State::Pending);
        let due: Vec<u64> = due.into_iter().filter(|offset| expiry(*offset) <= now).collect();
        self.messages.extend(due.iter().map(|offset| (*offset, State::Expired)));
        self.lost.1 += due.len() as u64;
        due.len() as u64
    }

    fn evict_beyond(&mut self, size: usize) -> u64 {
        let pending = self.in_state(State::Pending);
        let evicted = &pending[..pending.len().saturating_sub(size)];
        self.messages.extend(evicted.iter().map(|offset| (*offset, State::Evicted)));
        self.evicted = evicted.last().copied().unwrap_or(self.evicted);
        self.lost.0 += evicted.len() as u64;
        evicted.len() as u64
    }

    fn backlog(&self) -> Backlog {
        let floor = self.acknowledged.max(self.evicted);
        let after = (floor > 0).then_some((EPOCH, Offset(floor)));
        Backlog { after, evicted: self.lost.0, expired: self.lost.1 }
    }

    fn figures(&self, before: QueueFigures) -> QueueFigures {
        let count = |state| self.in_state(state).len() as u64;
        QueueFigures {
            pending: before.pending + count(State::Pending),
            delivered: before.delivered + count(State::Delivered),
            evicted: before.evicted + count(State::Evicted),
            expired: before.expired + count(State::Expired),
        }
    }
}

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::ready,
    mem,
    time::Duration,
};

use broker_core::{
    Epoch, Offset, Timestamp, UserId,
    history::Queue,
    ports::{Backlog, BoxFuture, OfflineQueue, QueueFigures, Queued, StoreError},
};
use parking_lot::Mutex;

use crate::{
    clock,
    queue::{SETTLED, after, keep},
};

/// The queues of one process; they end with it.
#[derive(Debug)]
pub(crate) struct MemoryQueue {
    size: usize,
    keep: Duration,
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    records: HashMap<UserId, Record>,
    /// When each record is to be looked at: a message expires, or nobody needs it any more.
    due: BTreeSet<(Timestamp, UserId)>,
    figures: QueueFigures,
}

/// What is known of one user's messages. All that are pending are behind both floors.
#[derive(Debug)]
struct Record {
    epoch: Epoch,
    due: Timestamp,
    /// All up to here were acknowledged.
    acknowledged: Offset,
    /// All others up to here were evicted.
    evicted: Offset,
    pending: BTreeMap<Offset, Timestamp>,
    /// The latest that are not pending any more, so that none of them is counted again.
    settled: BTreeSet<Offset>,
    /// None up to here is counted again.
    forgotten: Offset,
    lost: Lost,
}

/// What was lost since the last acknowledgement.
#[derive(Debug, Clone, Copy, Default)]
struct Lost {
    evicted: u64,
    expired: u64,
}

impl MemoryQueue {
    pub(crate) fn new(queue: &Queue) -> Self {
        Self { size: queue.size, keep: keep(queue), users: Mutex::default() }
    }

    pub(super) fn note(&self, message: Queued) {
        let forget_at = self.forget_at(clock::now());
        let mut users = self.users.lock();
        let Queued { user, epoch, offset, expires } = message;
        users.change(&user, Some(epoch), forget_at, |record, figures| {
            if record.epoch != epoch {
                record.begin(epoch, figures);
            }
            record.enqueue(offset, expires, figures);
            while record.pending.len() > self.size {
                record.evict_oldest(figures);
            }
        });
    }

    fn forget_at(&self, now: Timestamp) -> Timestamp {
        after(now, self.keep)
    }

    fn expire(&self, now: Timestamp) -> u64 {
        let mut users = self.users.lock();
        let mut expired = 0;
        while users.due.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, user)) = users.due.pop_first() else { break };
            if users.records.get(&user).is_some_and(|record| record.pending.is_empty()) {
                users.records.remove(&user);
                continue;
            }
            let forget_at = self.forget_at(now);
            let gone = users.change(&user, None, forget_at, |it, figures| it.expire(now, figures));
            expired += gone.unwrap_or_default();
        }
        expired
    }
}

impl OfflineQueue for MemoryQueue {
    fn enqueue(&self, messages: Vec<Queued>) -> BoxFuture<'_, Result<(), StoreError>> {
        messages.into_iter().for_each(|message| self.note(message));
        Box::pin(ready(Ok(())))
    }

    fn backlog(&self, user: UserId) -> BoxFuture<'_, Result<Backlog, StoreError>> {
        let backlog = self.users.lock().records.get(&user).map(Record::backlog);
        Box::pin(ready(Ok(backlog.unwrap_or_default())))
    }

    fn acknowledge(
        &self,
        acknowledged: Vec<(UserId, Epoch, Offset)>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let forget_at = self.forget_at(clock::now());
        let mut users = self.users.lock();
        for (user, epoch, offset) in acknowledged {
            users.change(&user, Some(epoch), forget_at, |record, figures| {
                record.acknowledge(epoch, offset, figures);
            });
        }
        Box::pin(ready(Ok(())))
    }

    fn sweep(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(ready(Ok(self.expire(now))))
    }

    fn pending(
        &self,
        user: UserId,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Epoch, Offset)>, StoreError>> {
        let users = self.users.lock();
        let list = |record: &Record| {
            record.pending.keys().take(limit).map(|offset| (record.epoch, *offset)).collect()
        };
        let pending = users.records.get(&user).map(list);
        Box::pin(ready(Ok(pending.unwrap_or_default())))
    }

    fn purge(&self, user: UserId) -> BoxFuture<'_, Result<u64, StoreError>> {
        let forget_at = self.forget_at(clock::now());
        let mut users = self.users.lock();
        let purged = users.change(&user, None, forget_at, Record::purge);
        Box::pin(ready(Ok(purged.unwrap_or_default())))
    }

    fn figures(&self) -> BoxFuture<'_, Result<QueueFigures, StoreError>> {
        Box::pin(ready(Ok(self.users.lock().figures)))
    }
}

impl Users {
    /// Changes a user's record; without one, a new one of the epoch, if that is given.
    fn change<T>(
        &mut self,
        user: &UserId,
        new: Option<Epoch>,
        forget_at: Timestamp,
        change: impl FnOnce(&mut Record, &mut QueueFigures) -> T,
    ) -> Option<T> {
        if let Some(epoch) = new.filter(|_| !self.records.contains_key(user)) {
            self.records.insert(user.clone(), Record::new(epoch));
        }
        let record = self.records.get_mut(user)?;
        let outcome = change(record, &mut self.figures);
        self.due.remove(&(record.due, user.clone()));
        record.due = record.pending.values().min().copied().unwrap_or(forget_at);
        self.due.insert((record.due, user.clone()));
        Some(outcome)
    }
}

impl Record {
    fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            due: Timestamp(0),
            acknowledged: Offset(0),
            evicted: Offset(0),
            pending: BTreeMap::new(),
            settled: BTreeSet::new(),
            forgotten: Offset(0),
            lost: Lost::default(),
        }
    }

    /// Another log has begun: what was pending in the one before is lost.
    fn begin(&mut self, epoch: Epoch, figures: &mut QueueFigures) {
        self.purge(figures);
        *self = Self { due: self.due, lost: self.lost, ..Self::new(epoch) };
    }

    fn enqueue(&mut self, offset: Offset, expires: Timestamp, figures: &mut QueueFigures) {
        let is_known = self.pending.contains_key(&offset) || self.settled.contains(&offset);
        if is_known || offset <= self.forgotten {
            return;
        }
        if offset <= self.acknowledged {
            figures.delivered += 1;
            self.settle(offset);
        } else if offset <= self.evicted {
            figures.evicted += 1;
            self.lost.evicted += 1;
            self.settle(offset);
        } else {
            figures.pending += 1;
            self.pending.insert(offset, expires);
        }
    }

    fn acknowledge(&mut self, epoch: Epoch, offset: Offset, figures: &mut QueueFigures) {
        if epoch != self.epoch && self.pending.is_empty() {
            self.begin(epoch, figures);
        }
        // Of another log, it says nothing about what is pending in this one.
        if epoch != self.epoch || offset <= self.acknowledged {
            return;
        }
        self.acknowledged = offset;
        self.lost = Lost::default();
        let later = self.pending.split_off(&Offset(offset.0.saturating_add(1)));
        for offset in mem::replace(&mut self.pending, later).into_keys() {
            figures.pending -= 1;
            figures.delivered += 1;
            self.settle(offset);
        }
    }

    fn expire(&mut self, now: Timestamp, figures: &mut QueueFigures) -> u64 {
        let (expired, rest) =
            mem::take(&mut self.pending).into_iter().partition(|(_, expires)| *expires <= now);
        self.pending = rest;
        let expired: BTreeMap<Offset, Timestamp> = expired;
        let count = expired.len() as u64;
        figures.pending -= count;
        figures.expired += count;
        self.lost.expired += count;
        expired.into_keys().for_each(|offset| self.settle(offset));
        count
    }

    /// Evicts all; says how many that were.
    fn purge(&mut self, figures: &mut QueueFigures) -> u64 {
        let count = self.pending.len();
        for _ in 0..count {
            self.evict_oldest(figures);
        }
        count as u64
    }

    fn evict_oldest(&mut self, figures: &mut QueueFigures) {
        let Some((offset, _)) = self.pending.pop_first() else { return };
        figures.pending -= 1;
        figures.evicted += 1;
        self.lost.evicted += 1;
        self.evicted = offset;
        self.settle(offset);
    }

    fn settle(&mut self, offset: Offset) {
        self.settled.insert(offset);
        if self.settled.len() > SETTLED
            && let Some(oldest) = self.settled.pop_first()
        {
            self.forgotten = self.forgotten.max(oldest);
        }
    }

    fn backlog(&self) -> Backlog {
        let after = self.acknowledged.max(self.evicted);
        let Lost { evicted, expired } = self.lost;
        Backlog { after: (after > Offset(0)).then_some((self.epoch, after)), evicted, expired }
    }
}

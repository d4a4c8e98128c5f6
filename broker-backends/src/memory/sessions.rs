use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    future::ready,
    time::Duration,
};

use broker_core::{
    ConnectionId,
    ports::{Begun, BoxFuture, Sessions, StoreError},
    resume::{KeptSession, SessionKey},
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::kept::Kept;

/// Keys of repeatable requests, and sessions, within one process.
#[derive(Debug)]
pub(crate) struct MemorySessions {
    state: Mutex<State>,
    kept: Mutex<Kept>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<String, Entry>,
    /// When to look at which key; an entry that was renewed since stays.
    ends: BinaryHeap<Reverse<(Instant, String)>>,
}

#[derive(Debug)]
struct Entry {
    fingerprint: u64,
    answer: Option<Bytes>,
    end: Instant,
}

impl State {
    fn put(&mut self, key: String, entry: Entry) {
        self.ends.push(Reverse((entry.end, key.clone())));
        self.entries.insert(key, entry);
    }

    fn forget_expired(&mut self, now: Instant) {
        while self.ends.peek().is_some_and(|Reverse((end, _))| *end <= now) {
            let Some(Reverse((_, key))) = self.ends.pop() else { return };
            if self.entries.get(&key).is_some_and(|entry| entry.end <= now) {
                self.entries.remove(&key);
            }
        }
    }
}

impl MemorySessions {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), kept: Mutex::default(), capacity }
    }

    fn begin_now(&self, key: String, fingerprint: u64, ttl: Duration) -> Result<Begun, StoreError> {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.forget_expired(now);
        if let Some(entry) = state.entries.get(&key) {
            return Ok(match &entry.answer {
                _ if entry.fingerprint != fingerprint => Begun::Conflict,
                Some(answer) => Begun::Done(answer.clone()),
                None => Begun::Running,
            });
        }
        // An abandoned key leaves its end behind, and a finished one has two.
        if state.entries.len() >= self.capacity || state.ends.len() >= 2 * self.capacity {
            return Err(StoreError::Refused("too many keys are remembered".into()));
        }
        state.put(key, Entry { fingerprint, answer: None, end: now + ttl });
        Ok(Begun::New)
    }
}

impl Sessions for MemorySessions {
    fn begin(
        &self,
        key: String,
        fingerprint: u64,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Begun, StoreError>> {
        Box::pin(ready(self.begin_now(key, fingerprint, ttl)))
    }

    fn finish(
        &self,
        key: String,
        fingerprint: u64,
        answer: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let end = Instant::now() + ttl;
        self.state.lock().put(key, Entry { fingerprint, answer: Some(answer), end });
        Box::pin(ready(Ok(())))
    }

    fn abandon(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        self.state.lock().entries.remove(&key);
        Box::pin(ready(Ok(())))
    }

    fn keep(
        &self,
        sessions: Vec<KeptSession>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Vec<SessionKey>, StoreError>> {
        let kept = self.kept.lock().keep(sessions, Instant::now() + ttl, self.capacity);
        Box::pin(ready(kept))
    }

    fn take(
        &self,
        key: SessionKey,
        remembered: Duration,
    ) -> BoxFuture<'_, Result<Option<KeptSession>, StoreError>> {
        let now = Instant::now();
        Box::pin(ready(Ok(self.kept.lock().take(key, now, remembered))))
    }

    fn pass(
        &self,
        key: SessionKey,
        to: ConnectionId,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Option<KeptSession>, StoreError>> {
        Box::pin(ready(Ok(self.kept.lock().pass(key, to, Instant::now() + ttl))))
    }
}

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use broker_core::{
    ports::StoreError,
    resume::{KeptSession, SessionKey},
};
use tokio::time::Instant;

/// Sessions that may be resumed within one process.
#[derive(Debug, Default)]
pub(super) struct Kept {
    entries: HashMap<SessionKey, Entry>,
    /// When which entry ends; one for each entry.
    ends: BTreeSet<(Instant, [u8; 32])>,
}

#[derive(Debug)]
struct Entry {
    /// `None`: it was taken.
    session: Option<KeptSession>,
    end: Instant,
}

impl Kept {
    /// Says which of them were taken.
    pub(super) fn keep(
        &mut self,
        sessions: Vec<KeptSession>,
        end: Instant,
        capacity: usize,
    ) -> Result<Vec<SessionKey>, StoreError> {
        self.forget_expired(Instant::now());
        let new = sessions.iter().filter(|it| !self.entries.contains_key(&it.key)).count();
        if self.entries.len() + new > capacity {
            return Err(StoreError::Refused("too many sessions are kept".into()));
        }
        let mut taken = Vec::new();
        for session in sessions {
            match self.entries.get(&session.key) {
                Some(Entry { session: None, .. }) => taken.push(session.key),
                _ => self.put(session.key, Entry { session: Some(session), end }),
            }
        }
        Ok(taken)
    }

    pub(super) fn take(
        &mut self,
        key: SessionKey,
        now: Instant,
        remembered: Duration,
    ) -> Option<KeptSession> {
        self.forget_expired(now);
        let session = self.entries.get_mut(&key)?.session.take()?;
        self.put(key, Entry { session: None, end: now + remembered });
        Some(session)
    }

    fn put(&mut self, key: SessionKey, entry: Entry) {
        self.ends.insert((entry.end, key.0));
        if let Some(before) = self.entries.insert(key, entry)
            && self.entries[&key].end != before.end
        {
            self.ends.remove(&(before.end, key.0));
        }
    }

    fn forget_expired(&mut self, now: Instant) {
        while let Some((end, key)) = self.ends.first().copied()
            && end <= now
        {
            self.ends.pop_first();
            self.entries.remove(&SessionKey(key));
        }
    }
}

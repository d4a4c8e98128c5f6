use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use broker_core::{
    ConnectionId,
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
            let key = session.key;
            let latest = match self.entries.get(&key) {
                None => session,
                Some(Entry { session: Some(there), .. })
                    if there.connection == session.connection =>
                {
                    if version(there) > version(&session) { there.clone() } else { session }
                }
                Some(_) => {
                    taken.push(key);
                    continue;
                }
            };
            self.put(key, Entry { session: Some(latest), end });
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

    pub(super) fn pass(
        &mut self,
        key: SessionKey,
        to: ConnectionId,
        end: Instant,
    ) -> Option<KeptSession> {
        self.forget_expired(Instant::now());
        let session = self.entries.get(&key)?.session.clone()?;
        let passed = KeptSession { connection: to, ..session.clone() };
        self.put(key, Entry { session: Some(passed), end });
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

fn version(session: &KeptSession) -> u64 {
    session.subscriptions.as_ref().map_or(0, |subscriptions| subscriptions.version)
}

use std::time::Duration;

use broker_core::{
    ConnectionId,
    ports::{Begun, BoxFuture, Sessions, StoreError},
    resume::{KeptSession, SessionKey},
};
use bytes::Bytes;
use fred::{
    interfaces::KeysInterface,
    types::{Expiration, SetOptions},
};

use super::{kept, record::millis, store::Store};

/// Keys of repeatable requests, and sessions, shared by all gateways.
#[derive(Debug)]
pub(crate) struct RedisSessions {
    store: Store,
}

impl RedisSessions {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    async fn begin_now(
        &self,
        key: &str,
        fingerprint: u64,
        ttl: Duration,
    ) -> Result<Begun, StoreError> {
        let (client, key) = (self.store.client()?, self.store.keys.request(key));
        // What is there may expire between the two steps; then the key is free, once more.
        for _ in 0..2 {
            let claim = write(b'r', fingerprint, b"");
            let (expiry, unless_there) = (expiry(ttl), Some(SetOptions::NX));
            let claimed: Option<String> =
                self.store.step(client.set(&key, claim, expiry, unless_there, false)).await?;
            if claimed.is_some() {
                return Ok(Begun::New);
            }
            let there: Option<Bytes> = self.store.step(client.get(&key)).await?;
            if let Some(there) = there {
                return read(&there, fingerprint);
            }
        }
        Ok(Begun::Running)
    }
}

impl Sessions for RedisSessions {
    fn begin(
        &self,
        key: String,
        fingerprint: u64,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Begun, StoreError>> {
        Box::pin(async move { self.begin_now(&key, fingerprint, ttl).await })
    }

    fn finish(
        &self,
        key: String,
        fingerprint: u64,
        answer: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let (client, key) = (self.store.client()?, self.store.keys.request(&key));
            let done = write(b'd', fingerprint, &answer);
            self.store.step(client.set(key, done, expiry(ttl), None, false)).await
        })
    }

    fn abandon(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let (client, key) = (self.store.client()?, self.store.keys.request(&key));
            self.store.step(client.del(key)).await
        })
    }

    fn keep(
        &self,
        sessions: Vec<KeptSession>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Vec<SessionKey>, StoreError>> {
        Box::pin(kept::keep(&self.store, sessions, ttl))
    }

    fn take(
        &self,
        key: SessionKey,
        remembered: Duration,
    ) -> BoxFuture<'_, Result<Option<KeptSession>, StoreError>> {
        Box::pin(kept::take(&self.store, key, remembered))
    }

    fn pass(
        &self,
        key: SessionKey,
        to: ConnectionId,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Option<KeptSession>, StoreError>> {
        Box::pin(kept::pass(&self.store, key, to, ttl))
    }
}

pub(super) fn expiry(ttl: Duration) -> Option<Expiration> {
    Some(Expiration::PX(i64::try_from(millis(ttl)).unwrap_or(i64::MAX)))
}

/// State (`r`unning or `d`one), the fingerprint in hex, the answer.
fn write(state: u8, fingerprint: u64, answer: &[u8]) -> Bytes {
    let mut value = vec![state];
    value.extend_from_slice(format!("{fingerprint:016x}").as_bytes());
    value.extend_from_slice(answer);
    value.into()
}

fn read(value: &Bytes, fingerprint: u64) -> Result<Begun, StoreError> {
    let unreadable = || StoreError::Refused("the key holds something else".into());
    let (state, hex) = (value.first().copied(), value.get(1..17));
    let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
    let known = hex.and_then(|hex| u64::from_str_radix(hex, 16).ok()).ok_or_else(unreadable)?;
    match state {
        Some(b'r' | b'd') if known != fingerprint => Ok(Begun::Conflict),
        Some(b'r') => Ok(Begun::Running),
        Some(b'd') => Ok(Begun::Done(value.slice(17..))),
        _ => Err(unreadable()),
    }
}

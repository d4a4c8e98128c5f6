//! Sessions that may be resumed on any gateway.

use std::time::Duration;

use broker_core::{
    ConnectionId,
    ports::StoreError,
    resume::{KeptSession, SessionKey},
};
use bytes::Bytes;
use fred::{interfaces::KeysInterface, types::SetOptions};
use futures_util::future::try_join_all;

use super::{
    record::{millis, read_session, write_session},
    script::{KEEP, PASS},
    sessions::expiry,
    store::Store,
};

/// Says which of the sessions were taken.
pub(super) async fn keep(
    store: &Store,
    sessions: Vec<KeptSession>,
    ttl: Duration,
) -> Result<Vec<SessionKey>, StoreError> {
    let client = store.client()?;
    let ttl = millis(ttl);
    let each = sessions.iter().map(|session| async move {
        let keys = vec![store.keys.session(&session.key)];
        let version = session.subscriptions.as_ref().map_or(0, |all| all.version);
        let arguments = vec![
            write_session(session).into(),
            ttl.to_string().into(),
            session.connection.to_string().into(),
            version.to_string().into(),
        ];
        let was_taken: bool = KEEP.run(client, keys, arguments).await?;
        Ok(was_taken.then_some(session.key))
    });
    // All at once: fred puts them into one write.
    let taken = store.step(try_join_all(each)).await?;
    Ok(taken.into_iter().flatten().collect())
}

/// In place of the session, an empty record says that it was taken.
pub(super) async fn take(
    store: &Store,
    key: SessionKey,
    remembered: Duration,
) -> Result<Option<KeptSession>, StoreError> {
    let (client, place) = (store.client()?, store.keys.session(&key));
    let if_there = Some(SetOptions::XX);
    let record: Option<Bytes> =
        store.step(client.set(place, "", expiry(remembered), if_there, true)).await?;
    Ok(record.and_then(|record| read_session(key, &record)))
}

pub(super) async fn pass(
    store: &Store,
    key: SessionKey,
    to: ConnectionId,
    ttl: Duration,
) -> Result<Option<KeptSession>, StoreError> {
    let client = store.client()?;
    let keys = vec![store.keys.session(&key)];
    let arguments = vec![to.to_string().into(), millis(ttl).to_string().into()];
    let record: Option<Bytes> = store.step(PASS.run(client, keys, arguments)).await?;
    Ok(record.and_then(|record| read_session(key, &record)))
}

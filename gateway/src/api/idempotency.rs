//! `Idempotency-Key`: a request that is repeated is carried out once.

use std::{future::Future, sync::Arc, time::Duration};

use axum::http::StatusCode;
use broker_core::{
    ErrorCode, MessageId,
    ports::{Begun, Sessions},
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::problem::Problem;

/// How long an answer is kept, and how long a request may be under way.
const WINDOW: Duration = Duration::from_secs(120);
/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// One request of one caller, however often it is sent.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// What the store knows it by.
    name: String,
    /// Of the body, to tell a repetition from another request under the same key.
    digest: [u8; 32],
}

impl Key {
    /// `caller` keeps the keys of different API keys apart.
    pub(super) fn new(caller: &str, key: &str, body: &[u8]) -> Result<Self, Problem> {
        let fits = (1..=MAX_KEY_BYTES).contains(&key.len());
        if !fits || !key.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            let text =
                format!("an idempotency key has 1 to {MAX_KEY_BYTES} printable ASCII characters");
            return Err(Problem::bad_request(text));
        }
        let name =
            Sha256::new().chain_update(caller).chain_update([0]).chain_update(key).finalize();
        let name = u128::from_be_bytes(first_bytes(&name.into()));
        Ok(Self { name: format!("publish:{name:032x}"), digest: Sha256::digest(body).into() })
    }

    /// The id of the request's message with this index: the same whenever it is repeated, so that
    /// what became of it the first time need not be known.
    pub(super) fn message_id(&self, index: usize) -> MessageId {
        let id = Sha256::new()
            .chain_update(&self.name)
            .chain_update(self.digest)
            .chain_update((index as u64).to_be_bytes())
            .finalize();
        MessageId::random(u128::from_be_bytes(first_bytes(&id.into())))
    }

    fn fingerprint(&self) -> u64 {
        u64::from_be_bytes(first_bytes(&self.digest))
    }
}

fn first_bytes<const N: usize>(digest: &[u8; 32]) -> [u8; N] {
    std::array::from_fn(|index| digest[index])
}

/// A request that was carried out, if not in every part.
#[derive(Debug)]
pub(super) struct Answer {
    /// JSON.
    pub(super) body: Bytes,
    /// Whether repeating the request could make no part of it better.
    pub(super) definitive: bool,
}

/// The answer to a request under a key.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) body: Bytes,
    /// Whether it was given before.
    pub(super) replayed: bool,
}

/// Carries out `work`, unless that was done before; then says what the answer was.
///
/// Only answers that a repetition could not better are kept. Otherwise the key is free again, and
/// a repetition publishes everything anew, under the same message ids.
///
/// It ends in a task of its own: a caller who hangs up must not leave the key claimed. The task
/// ends by itself, since bus and store have deadlines.
pub(super) async fn once(
    sessions: &Arc<dyn Sessions>,
    key: Key,
    work: impl Future<Output = Result<Answer, Problem>> + Send + 'static,
) -> Result<Kept, Problem> {
    let sessions = Arc::clone(sessions);
    let task = tokio::spawn(async move {
        match begin(&*sessions, &key).await? {
            Some(body) => Ok(Kept { body, replayed: true }),
            None => end(&*sessions, key, work.await).await,
        }
    });
    match task.await {
        Ok(kept) => kept,
        Err(error) => {
            tracing::error!(%error, "a publish under an idempotency key broke off");
            Err(Problem::new(ErrorCode::Internal, "a fault of the server"))
        }
    }
}

/// The answer, if there is one already.
async fn begin(sessions: &dyn Sessions, key: &Key) -> Result<Option<Bytes>, Problem> {
    match sessions.begin(key.name.clone(), key.fingerprint(), WINDOW).await {
        Ok(Begun::New) => Ok(None),
        Ok(Begun::Done(body)) => Ok(Some(body)),
        Ok(Begun::Running) => {
            let text = "a request with this idempotency key is under way: repeat this one later";
            Err(Problem::new(ErrorCode::Conflict, text).retryable())
        }
        Ok(Begun::Conflict) => {
            let text = "this idempotency key was used for another body";
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Err(Problem::new(ErrorCode::Conflict, text).with_status(status))
        }
        Err(error) => {
            let text = format!(
                "{error}, so a repetition would not be known as one; nothing was published"
            );
            Err(Problem::new(ErrorCode::Unavailable, text))
        }
    }
}

async fn end(
    sessions: &dyn Sessions,
    key: Key,
    outcome: Result<Answer, Problem>,
) -> Result<Kept, Problem> {
    let fingerprint = key.fingerprint();
    let stored = match &outcome {
        Ok(Answer { body, definitive: true }) => {
            sessions.finish(key.name, fingerprint, body.clone(), WINDOW).await
        }
        _ => sessions.abandon(key.name).await,
    };
    if let Err(error) = stored {
        tracing::warn!(%error, "the outcome under an idempotency key was not kept; repetitions are refused for two minutes");
    }
    outcome.map(|answer| Kept { body: answer.body, replayed: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_caller_key_body_and_index() {
        let key = |caller, key, body: &str| Key::new(caller, key, body.as_bytes()).unwrap();
        let id = key("a", "k", "{}").message_id(0);
        assert_eq!(id, key("a", "k", "{}").message_id(0));
        for other in [
            key("b", "k", "{}").message_id(0),
            key("a", "l", "{}").message_id(0),
            key("a", "k", "[]").message_id(0),
            key("a", "k", "{}").message_id(1),
        ] {
            assert_ne!(id, other);
        }
        assert_ne!(key("ab", "c", "").name, key("a", "bc", "").name);
    }

    #[test]
    fn keys_are_printable_and_short() {
        for bad in ["", "\n", "é", &"x".repeat(256)] {
            assert!(Key::new("a", bad, b"").is_err(), "{bad:?}");
        }
    }
}

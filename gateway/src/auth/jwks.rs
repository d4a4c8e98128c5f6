//! Keys that are fetched from the issuer of the tokens (JWKS, RFC 7517).

use std::{sync::Arc, time::Duration};

use jsonwebtoken::jwk::{Jwk, JwkSet};
use parking_lot::Mutex;
use tokio::time::Instant;
use url::Url;

use super::keys::VerifyingKey;

/// Longest time that one fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest key set, in bytes.
const MAX_SET_BYTES: usize = 256 << 10;
/// Most keys of a set that are used.
const MAX_KEYS: usize = 64;
/// First wait after a failed fetch; it doubles up to the shortest time between two fetches.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The key set of one issuer.
#[derive(Debug)]
pub(super) struct Jwks {
    url: Url,
    client: reqwest::Client,
    refresh: Duration,
    min_refresh: Duration,
    state: Mutex<State>,
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// The last good set, kept while the issuer cannot be reached.
    keys: Option<Arc<[VerifyingKey]>>,
    attempted: Option<Instant>,
    /// Whether the last attempt failed, so that the set may be out of date.
    stale: bool,
}

/// What is known of the key that a token wants.
pub(super) enum Lookup {
    /// These may be it.
    Found(Arc<[VerifyingKey]>),
    /// It is not there, and the set may be fetched now.
    Fetch,
    /// It is not there.
    Absent,
    /// Nobody knows: the issuer cannot be reached.
    Unreachable,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    #[error("the key set has more than {MAX_SET_BYTES} bytes")]
    TooLarge,
    #[error("not a key set: {0}")]
    Form(#[from] serde_json::Error),
    #[error("the key set holds no key for verifying tokens")]
    Empty,
}

impl Jwks {
    /// The key set at this address; nothing is fetched yet.
    pub(super) fn new(
        url: Url,
        refresh: Duration,
        min_refresh: Duration,
    ) -> Result<Self, reqwest::Error> {
        super::ensure_tls_provider();
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .https_only(url.scheme() == "https")
            .build()?;
        Ok(Self {
            url,
            client,
            refresh,
            min_refresh,
            state: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// The same, with the keys that another has fetched, if they are of the same issuer.
    pub(super) fn after(self, before: &Self) -> Self {
        if self.url == before.url {
            *self.state.lock() = before.state.lock().clone();
        }
        self
    }

    /// Looks among the keys that were fetched. `may_fetch` is whether the caller would wait.
    pub(super) fn look_up(
        &self,
        wanted: impl Fn(&VerifyingKey) -> bool,
        may_fetch: bool,
    ) -> Lookup {
        let state = self.state.lock().clone();
        match state.keys {
            Some(keys) if keys.iter().any(wanted) => Lookup::Found(keys),
            _ if may_fetch && self.may_fetch(state.attempted) => Lookup::Fetch,
            Some(_) if !state.stale => Lookup::Absent,
            _ => Lookup::Unreachable,
        }
    }

    /// Fetches the set, unless that was done a moment ago; of several callers, one does.
    pub(super) async fn fetch_if_due(&self) {
        let _alone = self.fetching.lock().await;
        if self.may_fetch(self.state.lock().attempted) {
            self.fetch().await;
        }
    }

    /// Keeps the set fresh, for ever.
    pub(super) async fn keep_fresh(&self) {
        let mut retry = FIRST_RETRY;
        loop {
            let alone = self.fetching.lock().await;
            let fetched = self.fetch().await;
            drop(alone);
            let wait = if fetched { self.refresh } else { retry };
            retry = if fetched { FIRST_RETRY } else { (retry * 2).min(self.min_refresh) };
            tokio::time::sleep(wait).await;
        }
    }

    fn may_fetch(&self, attempted: Option<Instant>) -> bool {
        attempted.is_none_or(|at| at.elapsed() >= self.min_refresh)
    }

    async fn fetch(&self) -> bool {
        let result = self.download().await;
        let mut state = self.state.lock();
        // Not before: who comes while a fetch is under way is to wait for its outcome.
        state.attempted = Some(Instant::now());
        state.stale = result.is_err();
        match result {
            Ok(keys) => {
                state.keys = Some(keys);
                true
            }
            Err(error) => {
                let error = error.to_string();
                tracing::warn!(url = %self.url, error, "cannot fetch the key set for tokens");
                false
            }
        }
    }

    async fn download(&self) -> Result<Arc<[VerifyingKey]>, FetchError> {
        let request = self.client.get(self.url.clone());
        let mut response = request.send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_SET_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        parse(&body)
    }
}

/// Keys of unknown kinds are left out: an issuer may add some.
fn parse(body: &[u8]) -> Result<Arc<[VerifyingKey]>, FetchError> {
    #[derive(serde::Deserialize)]
    struct Loose {
        keys: Vec<serde_json::Value>,
    }
    let Loose { keys } = serde_json::from_slice(body)?;
    let known = keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let set = JwkSet { keys: known.collect() };
    let keys: Arc<[VerifyingKey]> =
        set.keys.iter().filter_map(VerifyingKey::fetched).take(MAX_KEYS).collect();
    if keys.is_empty() { Err(FetchError::Empty) } else { Ok(keys) }
}

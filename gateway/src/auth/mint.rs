//! Tokens for development and for services that have no library for it.

use std::time::Duration;

use jsonwebtoken::{
    EncodingKey, Header, dangerous::insecure_decode, encode, get_current_timestamp,
};
use serde_json::{Map, Value, json};

use super::keys;
use crate::config::{Algorithm, Key, Secret};

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MintError {
    /// A public key cannot sign.
    #[error("{0:?} needs a private key, which Fanfare never has: use an HS256 secret")]
    NoSecret(Algorithm),
    /// The library refuses.
    #[error("the token cannot be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// A token with these claims that expires after `ttl`, unless they say when.
pub(crate) fn mint(
    key: &Key,
    mut claims: Map<String, Value>,
    ttl: Duration,
) -> Result<Secret, MintError> {
    if !key.algorithm.is_symmetric() {
        return Err(MintError::NoSecret(key.algorithm));
    }
    let now = get_current_timestamp();
    claims.entry("iat").or_insert_with(|| now.into());
    claims.entry("exp").or_insert_with(|| now.saturating_add(ttl.as_secs()).into());
    let mut header = Header::new(keys::jwa(key.algorithm));
    header.kid.clone_from(&key.kid);
    let key = EncodingKey::from_secret(key.material.reveal().as_bytes());
    Ok(Secret::new(encode(&header, &claims, &key)?))
}

/// Header and claims of a token, which nobody has verified; `None` if it is not one.
pub(crate) fn inspect(token: &str) -> Option<Value> {
    let data = insecure_decode::<Map<String, Value>>(token).ok()?;
    Some(json!({ "header": data.header, "claims": data.claims }))
}

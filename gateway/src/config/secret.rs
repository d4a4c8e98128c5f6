//! Values that are never shown.

use std::{borrow::Cow, fmt};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// What is written in place of a secret.
pub(crate) const REDACTED: &str = "<redacted>";

/// A secret of the configuration. Neither debug output nor serialisation shows it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// Wraps the secret.
    #[must_use]
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// 256 random bits as URL-safe text.
    ///
    /// # Panics
    ///
    /// Where the operating system has no randomness: nothing safe can be done then.
    #[must_use]
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the operating system provides random bytes");
        Self(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// A new API key.
    #[must_use]
    pub(crate) fn api_key() -> Self {
        Self(format!("ffk_{}", Self::random().reveal()))
    }

    /// The secret itself, for the one place that uses it.
    #[must_use]
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        REDACTED.serialize(serializer)
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

/// The SHA-256 of an API key, written `sha256:` and 64 hex digits.
///
/// API keys are 256 random bits, so that a plain hash is enough: there is nothing to guess.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash(pub(crate) [u8; 32]);

impl KeyHash {
    /// The hash of this key.
    #[must_use]
    pub(crate) fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why text is not the hash of an API key.
#[derive(Debug, thiserror::Error)]
#[error("write `sha256:` and 64 hex digits, as `fanfare api-key generate` prints them")]
pub(crate) struct KeyHashError;

impl std::str::FromStr for KeyHash {
    type Err = KeyHashError;

    fn from_str(text: &str) -> Result<Self, KeyHashError> {
        let digits = text.strip_prefix("sha256:").ok_or(KeyHashError)?;
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(KeyHashError);
        }
        let mut hash = [0; 32];
        for (index, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16)
                .map_err(|_| KeyHashError)?;
        }
        Ok(Self(hash))
    }
}

/// A key that requests to a service are signed with, written as Standard Webhooks have it:
/// `whsec_` and base64.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SigningKey(Vec<u8>);

impl SigningKey {
    /// The key itself, for the one place that uses it.
    #[must_use]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Why text is no signing key.
#[derive(Debug, thiserror::Error)]
#[error(
    "write `whsec_` and 24 to 64 bytes in base64: \
     `echo whsec_$(openssl rand -base64 32)` makes a secret"
)]
pub(crate) struct SigningKeyError;

impl std::str::FromStr for SigningKey {
    type Err = SigningKeyError;

    fn from_str(text: &str) -> Result<Self, SigningKeyError> {
        let bytes = text.strip_prefix("whsec_").and_then(|text| BASE64_STANDARD.decode(text).ok());
        bytes.filter(|bytes| (24..=64).contains(&bytes.len())).map(Self).ok_or(SigningKeyError)
    }
}

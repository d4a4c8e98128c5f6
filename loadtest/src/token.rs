//! Tokens: HS256 JSON Web Tokens, one per user.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::{clock::unix_seconds, failure::Failure};

/// How long a token is good, in seconds: longer than any run.
const LIFETIME: u64 = 24 * 3600;

/// Who says who the users are.
#[derive(Debug)]
pub(crate) enum Tokens {
    /// Everybody is anonymous.
    None,
    /// Everybody has the same one.
    Shared(String),
    /// Everybody has their own, signed with this.
    Signed(Hmac<Sha256>),
}

impl Tokens {
    pub(crate) fn signed(secret: &[u8]) -> Result<Self, Failure> {
        Hmac::new_from_slice(secret)
            .map(Self::Signed)
            .map_err(|error| Failure::Usage(format!("the secret is no key: {error}")))
    }

    pub(crate) fn of(&self, user: &str) -> Option<String> {
        match self {
            Self::None => None,
            Self::Shared(token) => Some(token.clone()),
            Self::Signed(key) => Some(sign(key, user)),
        }
    }
}

fn sign(key: &Hmac<Sha256>, user: &str) -> String {
    let now = unix_seconds();
    let claims = serde_json::json!({ "sub": user, "iat": now, "exp": now + LIFETIME });
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed =
        format!("{}.{}", encode(r#"{"alg":"HS256","typ":"JWT"}"#), encode(&claims.to_string()));
    let signature = key.clone().chain_update(&signed).finalize().into_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_the_user_and_a_signature_of_the_secret() {
        let token = Tokens::signed(b"secret").unwrap().of("alice").unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let key = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        key.chain_update(signed).verify_slice(&signature).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(signed.rsplit_once('.').unwrap().1).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["sub"], "alice");
        assert!(claims["exp"].as_u64().unwrap() > unix_seconds());
    }
}

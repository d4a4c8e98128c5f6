//! `[auth]`

use std::{path::PathBuf, time::Duration};

use broker_core::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::tickets::Tickets;
use crate::config::{
    problems::Checks,
    secret::{KeyHash, Secret},
    text::{self, Text},
};

const MAX_LEEWAY: Duration = Duration::from_secs(60);

/// Who may connect: JSON Web Tokens (JWT) for clients, API keys for services.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawAuth {
    /// Whether clients may connect without a token, as nobody. Only rules with `anyone` let them
    /// do anything then.
    pub(crate) anonymous: bool,
    /// Secret of HS256 tokens, shared with whoever makes them; at least 32 bytes. Also:
    /// environment variable `JWT_SECRET`. For other algorithms, and for several keys, see
    /// `auth.keys`.
    pub(crate) hmac_secret: Option<Secret>,
    /// File that holds `hmac_secret`; a final line break is ignored.
    pub(crate) hmac_secret_file: Option<PathBuf>,
    /// Keys that tokens may be signed with, as tables `[[auth.keys]]`: `algorithm` (HS256, HS384,
    /// HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA), one of
    /// `public_key` (PEM), `public_key_file`, `secret` and `secret_file` (the last two for HS),
    /// and `kid`, if tokens name the key. To change a key, list the old and the new one until the
    /// tokens of the old one have expired.
    pub(crate) keys: Vec<RawKey>,
    /// URL of a JSON Web Key Set with further public keys; `https`, or `http` to this host.
    pub(crate) jwks_url: Option<String>,
    /// How often the key set is fetched.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) jwks_refresh: Duration,
    /// Shortest time between two fetches, when tokens name keys that are not in the set.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) jwks_min_refresh: Duration,
    /// What the token's `iss` must be. Without it, `iss` is not looked at.
    pub(crate) issuer: Option<String>,
    /// What the token's `aud` must be or hold, one of these. Empty: `aud` is not looked at.
    pub(crate) audience: Vec<String>,
    /// By how much the clocks of issuer and gateway may differ: tokens are valid this much before
    /// `nbf` and after `exp`. At most 60 s.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) leeway: Duration,
    /// Whether tokens without `exp` are refused. A token without end can only be revoked by
    /// changing the key.
    pub(crate) require_exp: bool,
    /// How long before its token expires a client is told to send a fresh one.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) expiry_warning: Duration,
    /// Which claims of the token say what.
    pub(crate) claims: Claims,
    /// Tickets with which users connect once.
    pub(crate) tickets: Tickets,
    /// Keys of services for the HTTP API, as tables `[[auth.api_keys]]`: `id` (for logs), `hash`
    /// (`sha256:` and hex digits; `fanfare api-key generate` makes a key and its hash) and
    /// `scopes`, of `publish` (send messages, read presence), `tickets` (let any user connect,
    /// with any role), `connect` (be a client, without a user, where a profile's `auth.api_key`
    /// lets it) and `admin` (everything). Clients that connect with the key have its `roles`. The
    /// environment variable `API_KEYS` takes plain keys with commas, for the scopes `publish` and
    /// `connect`.
    pub(crate) api_keys: Vec<RawApiKey>,
}

impl Default for RawAuth {
    fn default() -> Self {
        Self {
            anonymous: false,
            hmac_secret: None,
            hmac_secret_file: None,
            keys: Vec::new(),
            jwks_url: None,
            jwks_refresh: Duration::from_secs(300),
            jwks_min_refresh: Duration::from_secs(30),
            issuer: None,
            audience: Vec::new(),
            leeway: Duration::from_secs(30),
            require_exp: true,
            expiry_warning: Duration::from_secs(30),
            claims: Claims::default(),
            tickets: Tickets::default(),
            api_keys: Vec::new(),
        }
    }
}

/// A key that tokens may be signed with.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawKey {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<String>,
    pub(crate) algorithm: Algorithm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) public_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) public_key_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret_file: Option<PathBuf>,
}

/// Which claims of a token say what.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Claims {
    /// Claims that may hold the user's id: the first that the token has counts.
    pub(crate) user: Vec<String>,
    /// Claims that may hold the roles: the first that the token has counts. A list, or text with
    /// commas or spaces.
    pub(crate) role: Vec<String>,
    /// Further claims for the rules of `namespaces` and the templates of `connect.channels`.
    pub(crate) keep: Vec<String>,
    /// Claim with what the token itself grants, for rules with the term `granted`: an object such
    /// as `{"subscribe": ["venue:42"], "wildcard": ["orders:*"], "publish": [], "request": [],
    /// "members": []}`.
    pub(crate) grants: String,
}

impl Default for Claims {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            user: list(&["sub", "userId"]),
            role: list(&["role", "roles"]),
            keep: Vec::new(),
            grants: "fanfare".to_owned(),
        }
    }
}

/// The key of a service.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawApiKey {
    pub(crate) id: String,
    pub(crate) hash: Text<KeyHash>,
    pub(crate) scopes: Vec<Scope>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) roles: Vec<Text<Role>>,
}

/// A signature algorithm of RFC 7518 or RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// Whether one secret both signs and verifies.
    #[must_use]
    pub(crate) const fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

/// What an API key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Scope {
    Publish,
    Tickets,
    Connect,
    Admin,
}

/// Who may connect.
#[derive(Debug, Clone)]
pub(crate) struct Auth {
    /// Whether clients may connect without a token.
    pub(crate) anonymous: bool,
    /// Keys that tokens may be signed with, `hmac_secret` among them.
    pub(crate) keys: Vec<Key>,
    /// Where further keys are fetched from.
    pub(crate) jwks_url: Option<Url>,
    /// How often.
    pub(crate) jwks_refresh: Duration,
    /// At most how often, for keys that are not in the set.
    pub(crate) jwks_min_refresh: Duration,
    /// What `iss` must be.
    pub(crate) issuer: Option<String>,
    /// What `aud` must hold, one of these; empty: anything.
    pub(crate) audience: Vec<String>,
    /// By how much clocks may differ.
    pub(crate) leeway: Duration,
    /// Whether tokens need `exp`.
    pub(crate) require_exp: bool,
    /// How long before expiry a client is warned.
    pub(crate) expiry_warning: Duration,
    /// Which claims say what.
    pub(crate) claims: Claims,
    /// Tickets with which users connect once.
    pub(crate) tickets: Tickets,
    /// Keys of services.
    pub(crate) api_keys: Vec<ApiKeyEntry>,
}

/// A key that tokens may be signed with.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// How tokens name it, if they do.
    pub(crate) kid: Option<String>,
    /// The one algorithm that it is used with.
    pub(crate) algorithm: Algorithm,
    /// The secret of HS algorithms, the PEM of the public key for others.
    pub(crate) material: Secret,
}

/// The key of a service.
#[derive(Debug, Clone)]
pub(crate) struct ApiKeyEntry {
    /// Its name in logs.
    pub(crate) id: String,
    /// Its hash.
    pub(crate) hash: KeyHash,
    /// What it is good for.
    pub(crate) scopes: Vec<Scope>,
    /// Which roles clients have that connect with it.
    pub(crate) roles: Vec<Role>,
}

impl RawAuth {
    pub(in crate::config) fn resolve(self, checks: &mut Checks<'_>) -> Auth {
        if self.leeway > MAX_LEEWAY {
            checks.fail("auth.leeway", "write at most \"60s\"");
        }
        checks.positive("auth.jwks_refresh", self.jwks_refresh);
        checks.positive("auth.jwks_min_refresh", self.jwks_min_refresh);
        let secret = checks.file_or(
            ("auth.hmac_secret", self.hmac_secret),
            ("auth.hmac_secret_file", self.hmac_secret_file),
        );
        let mut keys: Vec<Key> = secret
            .into_iter()
            .map(|material| Key { kid: None, algorithm: Algorithm::HS256, material })
            .collect();
        for (index, key) in self.keys.into_iter().enumerate() {
            keys.extend(key.resolve(&format!("auth.keys[{index}]"), checks));
        }
        if keys.iter().any(|key| key.algorithm.is_symmetric() && key.material.reveal().is_empty()) {
            checks.fail("auth", "a secret is empty: anybody could sign tokens with it");
        }
        let jwks_url = self.jwks_url.and_then(|url| jwks_url(&url, checks));
        self.tickets.check(checks);
        let api_keys = self.api_keys.into_iter().enumerate();
        let api_keys = api_keys
            .map(|(index, key)| key.resolve(&format!("auth.api_keys[{index}]"), checks))
            .collect();
        Auth {
            anonymous: self.anonymous,
            keys,
            jwks_url,
            jwks_refresh: self.jwks_refresh,
            jwks_min_refresh: self.jwks_min_refresh,
            issuer: self.issuer,
            audience: self.audience,
            leeway: self.leeway,
            require_exp: self.require_exp,
            expiry_warning: self.expiry_warning,
            claims: self.claims,
            tickets: self.tickets,
            api_keys,
        }
    }
}

impl RawApiKey {
    fn resolve(self, at: &str, checks: &mut Checks<'_>) -> ApiKeyEntry {
        let connects = self.scopes.iter().any(|it| matches!(it, Scope::Connect | Scope::Admin));
        if !self.roles.is_empty() && !connects {
            let wanted = "roles are those of clients: add the scope `connect`, or leave them out";
            checks.fail(&format!("{at}.roles"), wanted);
        }
        let roles = self.roles.into_iter().map(|role| role.value).collect();
        ApiKeyEntry { id: self.id, hash: self.hash.value, scopes: self.scopes, roles }
    }
}

impl RawKey {
    fn resolve(self, at: &str, checks: &mut Checks<'_>) -> Option<Key> {
        let name = |key: &str| format!("{at}.{key}");
        let public = self.public_key.map(Secret::new);
        let public = checks.file_or(
            (&name("public_key"), public),
            (&name("public_key_file"), self.public_key_file),
        );
        let secret = checks
            .file_or((&name("secret"), self.secret), (&name("secret_file"), self.secret_file));
        let material = match (self.algorithm.is_symmetric(), public, secret) {
            (true, None, Some(material)) | (false, Some(material), None) => material,
            (true, ..) => {
                checks.fail(at, "this algorithm needs `secret` or `secret_file`, and nothing else");
                return None;
            }
            (false, ..) => {
                checks.fail(at, "this algorithm needs `public_key` or `public_key_file` (PEM)");
                return None;
            }
        };
        Some(Key { kid: self.kid, algorithm: self.algorithm, material })
    }
}

/// Keys that come over plain HTTP from elsewhere could be anybody's.
fn jwks_url(text: &str, checks: &mut Checks<'_>) -> Option<Url> {
    let url = Url::parse(text).ok();
    let safe = url.as_ref().is_some_and(|url| match url.scheme() {
        "https" => url.has_host(),
        "http" => text::is_this_host(url),
        _ => false,
    });
    if !safe {
        checks.fail("auth.jwks_url", "write an https URL (http only to localhost)");
    }
    url
}

//! A token becomes an identity, or a failure that says what is wrong with it.

use std::{future, time::Duration};

use broker_core::{
    ErrorCode, Identity,
    session::{Failure, Token},
};
use jsonwebtoken::{
    Algorithm as Jwa, Header, Validation, decode, decode_header, errors::ErrorKind,
};
use serde_json::{Map, Value};

use super::{
    claims,
    jwks::{Jwks, Lookup},
    keys::{self, VerifyingKey},
};
use crate::config::{Auth, Claims};

/// Longest key id that is looked up, in bytes.
const MAX_KID_BYTES: usize = 128;

/// Why tokens cannot be verified with this configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    /// A configured key is not one.
    #[error("the key {0} of the configuration cannot be read: {1}")]
    Key(String, jsonwebtoken::errors::Error),
    /// There is no client to fetch keys with.
    #[error("keys cannot be fetched: {0}")]
    Client(#[from] reqwest::Error),
}

/// Verifies tokens.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Vec<VerifyingKey>,
    jwks: Option<Jwks>,
    validations: Vec<(Jwa, Validation)>,
    leeway: Duration,
    claims: Claims,
}

/// What a look at a token gives.
enum Look {
    Done(Result<Identity, Failure>),
    /// Its key may be in the key set, which has to be fetched.
    Fetch,
}

impl Verifier {
    /// For this configuration. Nothing is fetched yet: see [`Verifier::keep_fresh`].
    pub(crate) fn new(config: &Auth) -> Result<Self, AuthError> {
        let mut keys = Vec::new();
        for (index, key) in config.keys.iter().enumerate() {
            let name = || key.kid.clone().unwrap_or_else(|| format!("number {}", index + 1));
            keys.push(VerifyingKey::configured(key).map_err(|e| AuthError::Key(name(), e))?);
        }
        let jwks = match &config.jwks_url {
            Some(url) => {
                Some(Jwks::new(url.clone(), config.jwks_refresh, config.jwks_min_refresh)?)
            }
            None => None,
        };
        Ok(Self {
            keys,
            jwks,
            validations: keys::ALGORITHMS.map(|jwa| (jwa, validation(jwa, config))).into(),
            leeway: config.leeway,
            claims: config.claims.clone(),
        })
    }

    /// The same, with the keys that another has fetched.
    pub(crate) fn after(self, before: &Self) -> Self {
        let jwks = match (self.jwks, &before.jwks) {
            (Some(jwks), Some(before)) => Some(jwks.after(before)),
            (jwks, _) => jwks,
        };
        Self { jwks, ..self }
    }

    /// Verifies the token; fetches the key set where that may help.
    pub(crate) async fn verify(&self, token: &Token) -> Result<Identity, Failure> {
        if let Look::Done(outcome) = self.look(token, true) {
            return outcome;
        }
        if let Some(jwks) = &self.jwks {
            jwks.fetch_if_due().await;
        }
        match self.look(token, false) {
            Look::Done(outcome) => outcome,
            Look::Fetch => Err(unreachable()),
        }
    }

    /// Verifies the token with the keys at hand; `None` where the key set has to be fetched first.
    pub(crate) fn verify_now(&self, token: &Token) -> Option<Result<Identity, Failure>> {
        match self.look(token, true) {
            Look::Done(outcome) => Some(outcome),
            Look::Fetch => None,
        }
    }

    /// Keeps the key set fresh, for ever; to be run by whoever owns the verifier.
    pub(crate) async fn keep_fresh(&self) {
        match &self.jwks {
            Some(jwks) => jwks.keep_fresh().await,
            None => future::pending().await,
        }
    }

    fn look(&self, token: &Token, may_fetch: bool) -> Look {
        let header = match header(token) {
            Ok(header) => header,
            Err(failure) => return Look::Done(Err(failure)),
        };
        let fits = |key: &VerifyingKey| key.may_sign(header.alg, header.kid.as_deref());
        if let Some(outcome) = self.try_keys(token, self.keys.iter().filter(|key| fits(key))) {
            return Look::Done(outcome);
        }
        // Secrets are never published, so a fetch cannot help a token that is signed with one.
        let published = self.jwks.as_ref().filter(|_| !keys::is_symmetric(header.alg));
        let Some(jwks) = published else { return Look::Done(Err(forged())) };
        match jwks.look_up(fits, may_fetch) {
            Lookup::Found(keys) => {
                let outcome = self.try_keys(token, keys.iter().filter(|key| fits(key)));
                Look::Done(outcome.unwrap_or_else(|| Err(forged())))
            }
            Lookup::Fetch => Look::Fetch,
            Lookup::Absent => Look::Done(Err(forged())),
            Lookup::Unreachable => Look::Done(Err(unreachable())),
        }
    }

    /// The outcome with the key that signed the token; `None` if none of them did.
    fn try_keys<'a>(
        &self,
        token: &Token,
        keys: impl Iterator<Item = &'a VerifyingKey>,
    ) -> Option<Result<Identity, Failure>> {
        for key in keys {
            let (_, validation) = self.validations.iter().find(|(jwa, _)| *jwa == key.algorithm)?;
            match decode::<Map<String, Value>>(token.reveal(), &key.key, validation) {
                Ok(data) => {
                    let identity = claims::identity(&data.claims, &self.claims, self.leeway);
                    return Some(identity.map_err(|error| unauthorized(error.to_string())));
                }
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                Err(error) => return Some(Err(refused(error.kind()))),
            }
        }
        None
    }
}

/// What the token says of itself. It is used to look a key up, and believed in nothing.
fn header(token: &Token) -> Result<Header, Failure> {
    let header = decode_header(token.reveal())
        .map_err(|_| unauthorized("the token is not a JSON Web Token of a known algorithm"))?;
    if header.jku.is_some() || header.jwk.is_some() || header.x5u.is_some() {
        return Err(unauthorized("the token brings its own key (jku, jwk, x5u)"));
    }
    if header.crit.is_some() {
        return Err(unauthorized("the token asks for extensions (crit) that are not known"));
    }
    if header.kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
        return Err(unauthorized("the token's key id (kid) is too long"));
    }
    Ok(header)
}

fn validation(algorithm: Jwa, config: &Auth) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = config.leeway.as_secs();
    validation.validate_nbf = true;
    validation.validate_aud = !config.audience.is_empty();
    validation.required_spec_claims.clear();
    if config.require_exp {
        validation.required_spec_claims.insert("exp".to_owned());
    }
    if let Some(issuer) = &config.issuer {
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.insert("iss".to_owned());
    }
    if !config.audience.is_empty() {
        validation.set_audience(&config.audience);
        validation.required_spec_claims.insert("aud".to_owned());
    }
    validation
}

fn refused(error: &ErrorKind) -> Failure {
    match error {
        ErrorKind::ExpiredSignature => {
            Failure::new(ErrorCode::TokenExpired, "the token has expired")
        }
        ErrorKind::ImmatureSignature => unauthorized("the token is not valid yet (nbf)"),
        ErrorKind::InvalidIssuer => unauthorized("the token is of another issuer (iss)"),
        ErrorKind::InvalidAudience => unauthorized("the token is for another audience (aud)"),
        ErrorKind::MissingRequiredClaim(claim) => {
            unauthorized(format!("the token lacks the claim `{claim}`"))
        }
        ErrorKind::InvalidClaimFormat(claim) => {
            unauthorized(format!("the token's claim `{claim}` is not of its type"))
        }
        _ => unauthorized("the token is malformed"),
    }
}

fn forged() -> Failure {
    unauthorized("no known key has signed the token: key id (kid), algorithm and key must match")
}

fn unreachable() -> Failure {
    Failure::new(ErrorCode::Unavailable, "the keys for tokens cannot be fetched now")
}

fn unauthorized(text: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(ErrorCode::Unauthorized, text)
}

//! Who may use the HTTP API: services, by their API keys, and clients, by their tokens.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use broker_core::{
    ErrorCode, Identity,
    session::{Failure, Token},
};

use super::{Deps, history::Reader};
use crate::{config::Scope, problem::Problem};

/// What to send, to whom sends nothing.
const ANONYMOUS: &str = r#"Bearer realm="fanfare""#;
/// The same, to whom sends something else.
const UNKNOWN: &str = r#"Bearer realm="fanfare", error="invalid_token""#;

/// A service that may publish.
#[derive(Debug)]
pub(super) struct Publisher {
    /// The name of its API key.
    pub(super) key_id: String,
}

/// A service that may let users connect.
#[derive(Debug)]
pub(super) struct Issuer;

/// An operator.
#[derive(Debug)]
pub(super) struct Admin;

/// Who asks where services may, and perhaps clients.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A service, by the name of its API key.
    Service(String),
    /// A client.
    Client(Identity),
}

impl Asker {
    /// Who sent these headers: a service whose key has this scope.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn service(deps: &Deps, headers: &HeaderMap, scope: Scope) -> Result<Self, Problem> {
        authorize(deps, headers, scope).map(|key| Self::Service(key.to_owned()))
    }

    /// Who sent these headers: a client, or a service whose key has this scope.
    ///
    /// # Errors
    /// It is neither.
    pub(crate) async fn client_or_service(
        deps: &Deps,
        headers: &HeaderMap,
        scope: Scope,
    ) -> Result<Self, Problem> {
        match presented(headers) {
            None if deps.rules.anonymous => Ok(Self::Client(Identity::default())),
            None => {
                let text = "a token or an API key is needed: send `Authorization: Bearer …`";
                Err(Problem::new(ErrorCode::Unauthorized, text)
                    .with_header(header::WWW_AUTHENTICATE, ANONYMOUS))
            }
            Some(text) if is_token(text) && deps.authenticator.api_keys.find(text).is_none() => {
                let identity =
                    deps.authenticator.verifier.verify(&Token::new(text.to_owned())).await;
                identity.map(Self::Client).map_err(refused)
            }
            Some(_) => Self::service(deps, headers, scope),
        }
    }
}

impl FromRequestParts<Arc<Deps>> for Publisher {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, deps: &Arc<Deps>) -> Result<Self, Problem> {
        let key_id = authorize(deps, &parts.headers, Scope::Publish)?;
        Ok(Self { key_id: key_id.to_owned() })
    }
}

impl FromRequestParts<Arc<Deps>> for Issuer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, deps: &Arc<Deps>) -> Result<Self, Problem> {
        authorize(deps, &parts.headers, Scope::Tickets).map(|_| Self)
    }
}

impl FromRequestParts<Arc<Deps>> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, deps: &Arc<Deps>) -> Result<Self, Problem> {
        authorize(deps, &parts.headers, Scope::Admin).map(|_| Self)
    }
}

impl FromRequestParts<Arc<Deps>> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, deps: &Arc<Deps>) -> Result<Self, Problem> {
        let asker = Asker::client_or_service(deps, &parts.headers, Scope::Admin).await?;
        Ok(match asker {
            Asker::Client(identity) => Self::Client(identity),
            Asker::Service(_) => Self::Operator,
        })
    }
}

/// Whether it has the form of a JSON Web Token.
fn is_token(text: &str) -> bool {
    text.split('.').count() == 3
}

fn refused(failure: Failure) -> Problem {
    let problem = Problem::from(failure);
    if problem.status == StatusCode::UNAUTHORIZED {
        return problem.with_header(header::WWW_AUTHENTICATE, UNKNOWN);
    }
    problem
}

/// The name of the key that the request presents, if it is good for this.
fn authorize<'a>(deps: &'a Deps, headers: &HeaderMap, scope: Scope) -> Result<&'a str, Problem> {
    let Some(presented) = presented(headers) else {
        let text = "an API key is needed: send `Authorization: Bearer <key>` or `X-API-Key: <key>`";
        return Err(Problem::new(ErrorCode::Unauthorized, text)
            .with_header(header::WWW_AUTHENTICATE, ANONYMOUS));
    };
    let Some(key) = deps.authenticator.api_keys.find(presented) else {
        return Err(Problem::new(ErrorCode::Unauthorized, "this API key is not known")
            .with_header(header::WWW_AUTHENTICATE, UNKNOWN));
    };
    if key.may(scope) {
        return Ok(&key.id);
    }
    let (needed, challenge) = match scope {
        Scope::Publish => {
            ("publish", r#"Bearer realm="fanfare", error="insufficient_scope", scope="publish""#)
        }
        Scope::Tickets => {
            ("tickets", r#"Bearer realm="fanfare", error="insufficient_scope", scope="tickets""#)
        }
        Scope::Connect => {
            ("connect", r#"Bearer realm="fanfare", error="insufficient_scope", scope="connect""#)
        }
        Scope::Admin => {
            ("admin", r#"Bearer realm="fanfare", error="insufficient_scope", scope="admin""#)
        }
    };
    let text = format!("the API key `{}` lacks the scope `{needed}`", key.id);
    Err(Problem::new(ErrorCode::Forbidden, text).with_header(header::WWW_AUTHENTICATE, challenge))
}

fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key")?.to_str().ok()).filter(|key| !key.is_empty())
}

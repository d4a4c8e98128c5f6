//! What a client has said of itself with its first request.

use std::collections::HashMap;

use axum::{
    extract::{Query, Request},
    http::HeaderMap,
};
use broker_core::{JsonText, session::Token};

use super::Mount;
use crate::{
    connection::{Client, Transport},
    profile::{Face, Input},
};

/// For all namespaces that the client comes to.
#[derive(Debug)]
pub(super) struct Handshake {
    token: Option<Token>,
    client: Client,
    /// What faces may want to know of it.
    given: Vec<(Input, Token)>,
}

impl Handshake {
    pub(super) fn new(mount: &Mount, request: &Request, transport: Transport) -> Self {
        let headers = request.headers();
        let query = Query::<HashMap<String, String>>::try_from_uri(request.uri());
        let query = query.map(|Query(query)| query).unwrap_or_default();
        let query = if mount.admission.query_token { query } else { HashMap::new() };
        let mut given: Vec<(Input, Token)> = Vec::new();
        for input in mount.faces().flat_map(|face| &face.auth.token) {
            let text = match input {
                Input::Auth(_) => None,
                Input::Query(name) => query.get(name).cloned(),
                Input::Header(name) => header(headers, name),
            };
            if let (Some(text), false) = (text, given.iter().any(|(known, _)| known == input)) {
                given.push((input.clone(), Token::new(text)));
            }
        }
        let token = mount.admission.token(headers, request.uri());
        Self { token, client: Client::of(headers, transport), given }
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// By which the client comes to a namespace: from the first place that its face names and that
    /// holds one, or as it is given to the native protocol.
    pub(super) fn token(&self, face: &Face, auth: Option<&JsonText>) -> Option<Token> {
        let auth: HashMap<String, serde_json::Value> =
            auth.and_then(|auth| serde_json::from_slice(auth.as_bytes()).ok()).unwrap_or_default();
        let found = face.auth.token.iter().find_map(|input| match input {
            Input::Auth(name) => match auth.get(name)? {
                serde_json::Value::String(text) => Some(Token::new(text.clone())),
                _ => None,
            },
            other => {
                self.given.iter().find(|(known, _)| known == other).map(|(_, token)| token.clone())
            }
        });
        found.or_else(|| self.token.clone())
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    Some(text.strip_prefix("Bearer ").unwrap_or(text).to_owned())
}

//! What a client has said of itself with its first request.

use axum::http::HeaderMap;
use broker_core::{JsonText, session::Token};
use serde::Deserialize;

use crate::connection::{Client, Transport};

/// For all namespaces that the client comes to.
#[derive(Debug)]
pub(super) struct Handshake {
    token: Option<Token>,
    client: Client,
}

/// Of what applications let clients say in `CONNECT`, what concerns the server.
#[derive(Deserialize)]
struct Auth {
    token: Option<serde_json::Value>,
}

impl Handshake {
    pub(super) fn new(headers: &HeaderMap, transport: Transport, token: Option<Token>) -> Self {
        Self { token, client: Client::of(headers, transport) }
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// By which the client comes to a namespace: the one it names there, or the request's.
    pub(super) fn token(&self, auth: Option<&JsonText>) -> Option<Token> {
        let auth = auth.and_then(|auth| serde_json::from_slice::<Auth>(auth.as_bytes()).ok());
        match auth.and_then(|auth| auth.token) {
            Some(serde_json::Value::String(token)) => Some(Token::new(token)),
            _ => self.token.clone(),
        }
    }
}

//! By what a client says who it is: all that comes with its first request is read here.

use std::collections::HashMap;

use axum::{
    extract::{Query, Request},
    http::HeaderMap,
};
use broker_core::{JsonText, session::Token};
use bytes::BytesMut;
use serde_json::{Map, Value};

use super::Admission;
use crate::profile::{Face, Input};

/// What came with the first request, for the faces that the client may be shown.
#[derive(Debug)]
pub(crate) struct Credentials {
    token: Option<Token>,
    /// What faces may want to know of it.
    given: Vec<(Input, Token)>,
    /// The parameters of the URL, where a face asks for the handshake.
    query: Option<Box<JsonText>>,
}

impl Credentials {
    pub(crate) fn new<'a>(
        admission: &Admission,
        faces: impl Iterator<Item = &'a Face>,
        request: &Request,
    ) -> Self {
        let headers = request.headers();
        let query = Query::<HashMap<String, String>>::try_from_uri(request.uri());
        let query = query.map(|Query(query)| query).unwrap_or_default();
        let mut given: Vec<(Input, Token)> = Vec::new();
        let mut asked = false;
        let inputs = faces.flat_map(|face| {
            asked |= face.asks_for_handshake;
            face.auth.token.iter().chain(&face.auth.api_key)
        });
        for input in inputs {
            let text = match input {
                Input::Auth(_) => None,
                Input::Query(name) => query.get(name).filter(|_| admission.query_token).cloned(),
                Input::Header(name) => header(headers, name),
            };
            if let (Some(text), false) = (text, given.iter().any(|(known, _)| known == input)) {
                given.push((input.clone(), Token::new(text)));
            }
        }
        let token = admission.token(headers, request.uri());
        let query = asked.then(|| Box::new(text_of(&query)));
        Self { token, given, query }
    }

    /// What the client said when it came, where the face asks for that. `auth` is what it said of
    /// itself.
    pub(crate) fn handshake(&self, face: &Face, auth: Option<&JsonText>) -> Option<JsonText> {
        let query = self.query.as_ref().filter(|_| face.asks_for_handshake)?;
        let mut text = BytesMut::from(&b"{\"query\":"[..]);
        text.extend_from_slice(query.as_bytes());
        text.extend_from_slice(b",\"auth\":");
        text.extend_from_slice(auth.map_or(b"{}", |auth| auth.as_bytes()));
        text.extend_from_slice(b"}");
        Some(JsonText::from_checked(text.freeze()))
    }

    /// By which the client is shown a face: a ticket, or a token from the first place that this
    /// names and that holds one, or what is given to the native protocol, or an API key. `auth` is
    /// what the client said of itself.
    pub(crate) fn token(&self, face: &Face, auth: Option<&JsonText>) -> Option<Token> {
        let said = said(auth);
        let first = |places: &[Input]| places.iter().find_map(|input| self.find(input, &said));
        text_in(&said, "ticket")
            .map(Token::ticket)
            .or_else(|| first(&face.auth.token).map(Token::new))
            .or_else(|| self.token.clone())
            .or_else(|| first(&face.auth.api_key).map(Token::api_key))
    }

    fn find(&self, input: &Input, said: &Said) -> Option<String> {
        if let Input::Auth(name) = input {
            return text_in(said, name);
        }
        let (_, given) = self.given.iter().find(|(known, _)| known == input)?;
        Some(given.reveal().to_owned())
    }
}

fn text_of(query: &HashMap<String, String>) -> JsonText {
    let query: Map<String, Value> =
        query.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    JsonText::from_checked(Value::from(query).to_string().into())
}

/// What a client said of itself, by name.
type Said = HashMap<String, Value>;

/// What is no object says nothing.
fn said(auth: Option<&JsonText>) -> Said {
    auth.and_then(|auth| serde_json::from_slice(auth.as_bytes()).ok()).unwrap_or_default()
}

/// The same, for a client that says it in a message, behind its request: from the places that the
/// face names, or from `token`.
pub(super) fn token_said(face: &Face, auth: Option<&JsonText>) -> Option<Token> {
    let said = said(auth);
    let first = |places: &[Input]| {
        places.iter().find_map(|input| match input {
            Input::Auth(name) => text_in(&said, name),
            Input::Query(_) | Input::Header(_) => None,
        })
    };
    let token = || first(&face.auth.token).or_else(|| text_in(&said, "token"));
    text_in(&said, "ticket")
        .map(Token::ticket)
        .or_else(|| token().map(Token::new))
        .or_else(|| first(&face.auth.api_key).map(Token::api_key))
}

fn text_in(said: &Said, name: &str) -> Option<String> {
    said.get(name)?.as_str().map(ToOwned::to_owned)
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    Some(text.strip_prefix("Bearer ").unwrap_or(text).to_owned())
}

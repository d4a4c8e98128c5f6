//! What clients say.

use std::borrow::Cow;

use broker_core::JsonText;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{MAX_DEPTH, fits_depth};

/// Longest id of a client's, in bytes: it is repeated in the answer.
pub const MAX_ID: usize = 128;
/// Longest type, in bytes.
pub const MAX_TYPE: usize = 255;

/// One event of a client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What the client calls it; without one, what came of it is not told.
    pub id: Option<Id>,
    /// Its `type`.
    pub event: Box<str>,
    /// Its `payload`, unless that is absent or null.
    pub payload: Option<JsonText>,
}

/// What a client calls its envelope: 1 to [`MAX_ID`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(Box<str>);

/// A text that is no envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Its id, wherever that is readable.
    pub id: Option<Id>,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is something else, or a member comes twice.
    #[error("a frame is one JSON object: {{id, type, payload, timestamp}}")]
    Form,
    /// The id is something else.
    #[error("`id` is a text of 1 to {MAX_ID} bytes")]
    Id,
    /// The type is missing, or something else.
    #[error("`type` is a text of 1 to {MAX_TYPE} bytes")]
    Type,
    /// The payload nests too deep.
    #[error("`payload` nests at most {MAX_DEPTH} levels")]
    Depth,
}

/// Members before any of them is judged. Others, `timestamp` among them, mean nothing.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

impl Envelope {
    /// Reads a text frame.
    ///
    /// # Errors
    /// It is no envelope; nothing of it counts.
    pub fn decode(text: &str) -> Result<Self, Malformed> {
        // serde takes a list for a struct, too.
        let object = text.trim_start().starts_with('{');
        let members: Option<Members<'_>> =
            object.then(|| serde_json::from_str(text).ok()).flatten();
        let members = members.ok_or(Malformed { id: None, problem: Problem::Form })?;
        let id = match members.id.map(|raw| text_of(raw, MAX_ID)) {
            None => None,
            Some(Some(id)) => Some(Id(id)),
            Some(None) => return Err(Malformed { id: None, problem: Problem::Id }),
        };
        let Some(event) = members.event.and_then(|raw| text_of(raw, MAX_TYPE)) else {
            return Err(Malformed { id, problem: Problem::Type });
        };
        let payload = members.payload.map(RawValue::get);
        if payload.is_some_and(|json| !fits_depth(json)) {
            return Err(Malformed { id, problem: Problem::Depth });
        }
        let payload =
            payload.map(|json| JsonText::from_checked(Bytes::copy_from_slice(json.as_bytes())));
        Ok(Self { id, event, payload })
    }
}

impl Id {
    /// As the client wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn text_of(raw: &RawValue, longest: usize) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    let Text(text) = serde_json::from_str(raw.get()).ok()?;
    (1..=longest).contains(&text.len()).then(|| text.into())
}

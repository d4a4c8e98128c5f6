//! What the server says, and what of it the ways in need to know.

use std::borrow::Cow;

use axum::http::header;
use broker_core::{ErrorCode, Position};
use serde::{Deserialize, Deserializer};

use crate::problem::Problem;

/// An object, with the members that count here; the rest is the client's to read.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Object {
    /// All of it.
    #[serde(skip)]
    pub(super) json: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Of the command that it answers.
    pub(super) id: Option<u64>,
    pub(super) channel: Option<String>,
    /// What the server has subscribed the connection to.
    #[serde(default)]
    pub(super) channels: Vec<String>,
    #[serde(default, deserialize_with = "position")]
    pub(super) position: Option<Position>,
    pub(super) after: Option<u64>,
    code: Option<String>,
    text: Option<String>,
}

fn position<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Position>, D::Error> {
    let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

impl Object {
    /// # Errors
    /// That the text is no object of the server's.
    pub(super) fn read(json: String) -> Result<Self, String> {
        let object: Self = serde_json::from_str(&json).map_err(|error| error.to_string())?;
        Ok(Self { json, ..object })
    }

    /// An error that ends a request.
    pub(super) fn problem(self) -> Problem {
        let code = self.code.as_deref().unwrap_or_default();
        let known = ErrorCode::ALL.iter().find(|known| known.as_str() == code);
        let code = known.copied().unwrap_or(ErrorCode::Internal);
        let problem = Problem::new(code, self.text.unwrap_or_default());
        match code {
            ErrorCode::Unauthorized | ErrorCode::TokenExpired => {
                problem.with_header(header::WWW_AUTHENTICATE, r#"Bearer realm="fanfare""#)
            }
            _ => problem,
        }
    }
}

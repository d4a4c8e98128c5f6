//! How clients say who they are, and what they hear if that does not convince.

use std::{str::FromStr, sync::Arc};

use broker_core::Data;

use super::{
    emission::EmissionTemplate,
    require::Require,
    template::{RenderError, Scope, Text, Tree},
};

/// Where something that a client says of itself may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// A field of what a Socket.IO client gives as `auth`.
    Auth(String),
    /// A parameter of the URL.
    Query(String),
    /// A header of the opening request, in small letters.
    Header(String),
}

/// Where an input may stand, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write `auth.NAME`, `query.NAME` or `header.NAME`")]
pub(crate) struct NoInput;

impl FromStr for Input {
    type Err = NoInput;

    fn from_str(text: &str) -> Result<Self, NoInput> {
        let (place, name) = text.split_once('.').ok_or(NoInput)?;
        let name = name.to_owned();
        match place {
            _ if name.is_empty() => Err(NoInput),
            "auth" => Ok(Self::Auth(name)),
            "query" => Ok(Self::Query(name)),
            "header" => Ok(Self::Header(name.to_ascii_lowercase())),
            _ => Err(NoInput),
        }
    }
}

/// The words of a refusal, with holes.
#[derive(Debug)]
pub(super) struct RefusalTemplate {
    pub(super) message: Text,
    pub(super) data: Option<Tree>,
}

/// The words of a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For people.
    pub(crate) message: String,
    /// For programs.
    pub(crate) data: Option<Data>,
}

impl RefusalTemplate {
    /// # Errors
    /// A hole has no value, or none for its place.
    pub(super) fn render(&self, scope: &Arc<Scope>) -> Result<Refusal, RenderError> {
        let data = self.data.as_ref().map(|data| data.render(scope)).transpose()?.flatten();
        Ok(Refusal { message: self.message.render(scope)?.unwrap_or_default(), data })
    }
}

/// How clients say who they are.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    /// Where a token may stand; the first that is there counts.
    pub(crate) token: Vec<Input>,
    /// Where an API key may stand, for clients that come without a token.
    pub(crate) api_key: Vec<Input>,
    /// Who is let in, of those whose token or key is good.
    pub(crate) require: Require,
    /// How the refusal of a connection is worded; `None`: as the code is.
    pub(super) refusal: Option<RefusalTemplate>,
    /// What a client is told that is not let in; `None` refuses the connection.
    pub(crate) failure: Option<EmissionTemplate>,
}

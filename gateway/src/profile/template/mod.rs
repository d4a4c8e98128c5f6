//! Templates: texts and payloads with holes, `{{ … }}`, checked when they are read.
//!
//! 1. [`text`]: a text with holes; [`tree`]: a payload whose texts have holes; [`channel`]: a
//!    channel name with holes.
//! 2. [`expression`]: what stands in a hole; [`language`]: the words it may use.
//! 3. [`scope`]: the variables; [`node`]: JSON that is only read where a hole looks into it.
//! 4. [`mod@write`]: values as JSON, of bounded size.

pub(super) mod channel;
pub(super) mod expression;
mod language;
pub(super) mod node;
pub(super) mod scope;
pub(super) mod text;
pub(super) mod tree;
mod write;

pub(super) use channel::ChannelTemplate;
pub(super) use expression::Expression;
pub(super) use node::Node;
pub(super) use scope::{Scope, Var, iso};
pub(super) use text::Text;
pub(super) use tree::Tree;
pub(super) use write::quote;

use broker_core::{ErrorCode, name::NameError};

/// The names of filters and tests, for the documentation's sake.
#[cfg(test)]
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    language::FILTERS.into_iter().chain(language::TESTS)
}

/// Why a template is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct TemplateError(pub(super) String);

/// Why a template gave nothing, in words for whoever sent what it was filled with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenderError {
    /// A hole without a value.
    #[error("`{0}` has no value")]
    Missing(Box<str>),
    /// A hole in a text, or in a name, that holds a list, an object, bytes or nothing.
    #[error("`{0}` is not text, a number or a boolean")]
    NotText(Box<str>),
    /// A hole that holds what JSON has no form for.
    #[error("`{0}` cannot be written as JSON")]
    NotJson(Box<str>),
    /// An expression that cannot be evaluated with these values.
    #[error("`{0}`: {1}")]
    Failed(Box<str>, Box<str>),
    /// The values make no name.
    #[error("`{0}` is no name for this: {1}")]
    Name(Box<str>, NameError),
    /// A value would be more than the one segment that it stands for.
    #[error("`{0}` would be more than one segment of a channel name")]
    Segment(Box<str>),
    /// More would be made than bounds allow.
    #[error("what would be made of this is too large")]
    TooLarge,
}

impl RenderError {
    /// The code for the wire.
    #[must_use]
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::Name(..) | Self::Segment(_) => ErrorCode::InvalidName,
            Self::TooLarge => ErrorCode::MessageTooLarge,
            Self::Missing(_) | Self::NotText(_) | Self::NotJson(_) | Self::Failed(..) => {
                ErrorCode::BadRequest
            }
        }
    }
}

//! Channel patterns that name what they find: `screen:{screen}`.

use broker_core::{
    ChannelName, Interest,
    access::SERVER_NAMESPACES,
    name::{ChannelPattern, NameError},
};

/// A pattern over channels whose segments can have names.
#[derive(Debug)]
pub(super) struct Pattern {
    interest: Interest,
    /// The names, by the number of the segment.
    names: Vec<(usize, String)>,
}

/// Why a pattern is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    #[error(
        "a variable stands for a whole segment and has a name of letters, digits and `_`: `{{name}}`"
    )]
    Variable,
    #[error("this matches no channel: {0}")]
    Name(#[from] NameError),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn compile(source: &str) -> Result<Self, PatternError> {
        let mut names = Vec::new();
        let mut segments = Vec::new();
        for (index, segment) in source.split(':').enumerate() {
            if let Some(name) = variable(segment)? {
                names.push((index, name.to_owned()));
                segments.push("*");
            } else {
                segments.push(segment);
            }
        }
        let text = segments.join(":");
        let wild = segments.iter().any(|segment| matches!(*segment, "*" | "**"));
        let interest = if wild {
            Interest::Pattern(text.parse::<ChannelPattern>()?)
        } else {
            Interest::Channel(text.parse()?)
        };
        Ok(Self { interest, names })
    }

    /// The same without names.
    #[must_use]
    pub(super) fn interest(&self) -> &Interest {
        &self.interest
    }

    /// The names, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(_, name)| name.as_str())
    }

    /// What the names stand for in this channel; `None` where it does not match. Ids of users and
    /// roles come without their escapes.
    #[must_use]
    pub(super) fn find(&self, channel: &ChannelName) -> Option<Vec<(String, String)>> {
        if !self.interest.matches(channel) {
            return None;
        }
        let escaped = SERVER_NAMESPACES.contains(&channel.namespace());
        let value = |index: usize| {
            let segment = channel.segments().nth(index).unwrap_or_default();
            if escaped { unescape(segment) } else { segment.to_owned() }
        };
        Some(self.names.iter().map(|(index, name)| (name.clone(), value(*index))).collect())
    }
}

/// The name in `{name}`; `None` where the segment is none.
pub(super) fn variable(segment: &str) -> Result<Option<&str>, PatternError> {
    if !segment.contains(['{', '}']) {
        return Ok(None);
    }
    let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let name = name.filter(|name| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    name.map(Some).ok_or(PatternError::Variable)
}

/// Undoes `escape_segment`.
fn unescape(segment: &str) -> String {
    segment.replace("%3A", ":").replace("%2A", "*").replace("%25", "%")
}

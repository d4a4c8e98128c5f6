//! Channel names with holes.

use std::sync::Arc;

use broker_core::{
    ChannelName, Interest,
    access::SERVER_NAMESPACES,
    name::{NameError, escape_segment},
};

use super::{RenderError, Scope, TemplateError, Text, text::Part};

/// A channel name or pattern with holes, such as `venue:{{ data.id }}`. What fills a hole stays
/// within its segment, unless it comes through the filter `segments`.
#[derive(Debug)]
pub(in crate::profile) struct ChannelTemplate {
    text: Text,
    source: Box<str>,
    /// Wildcards of the template itself.
    wildcards: usize,
    /// Whether ids may hold colons, which are then escaped, as the server does for its own.
    escaped: bool,
}

impl ChannelTemplate {
    /// Reads a name with holes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::profile) fn compile(source: &str) -> Result<Self, TemplateError> {
        let text = Text::compile(source)?;
        let mut sample = String::new();
        for part in text.parts() {
            match part {
                Part::Literal(literal) if literal.contains(['{', '}']) => {
                    let why = "a variable stands in double braces, such as `{{ data.id }}`";
                    return Err(TemplateError(why.to_owned()));
                }
                Part::Literal(literal) => sample.push_str(literal),
                Part::Hole(_) => sample.push('x'),
            }
        }
        if let Err(error) = interest(&sample) {
            return Err(TemplateError(format!("this makes no channel name: {error}")));
        }
        let escaped = SERVER_NAMESPACES
            .iter()
            .any(|name| source.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')));
        Ok(Self { text, source: source.into(), wildcards: wildcards(&sample), escaped })
    }

    /// The holes and what is between them.
    #[must_use]
    pub(in crate::profile) fn text(&self) -> &Text {
        &self.text
    }

    /// Whether a pattern can come of it.
    #[must_use]
    pub(in crate::profile) fn is_pattern(&self) -> bool {
        self.wildcards > 0
    }

    /// The channel.
    ///
    /// # Errors
    /// A hole has no value, one that breaks out of its segment, or the name is none.
    pub(in crate::profile) fn channel(
        &self,
        scope: &Arc<Scope>,
    ) -> Result<ChannelName, RenderError> {
        match self.interest(scope)? {
            Interest::Channel(name) => Ok(name),
            Interest::Pattern(pattern) => {
                Err(RenderError::Name(pattern.as_str().into(), NameError::Wildcard))
            }
        }
    }

    /// The channel or pattern.
    ///
    /// # Errors
    /// As of [`Self::channel`].
    pub(in crate::profile) fn interest(&self, scope: &Arc<Scope>) -> Result<Interest, RenderError> {
        let mut free = false;
        let name = self.text.fill(scope, |inset| {
            free |= inset.segments;
            match &*inset.text {
                text if self.escaped && !inset.segments => Ok(escape_segment(text).into()),
                text if text.contains(':') && !inset.segments => {
                    Err(RenderError::Segment(text.into()))
                }
                _ => Ok(inset.text),
            }
        })?;
        let name = name.ok_or_else(|| RenderError::Missing(self.source.clone()))?;
        if !free && wildcards(&name) != self.wildcards {
            return Err(RenderError::Segment(name.into()));
        }
        interest(&name).map_err(|error| RenderError::Name(name.into(), error))
    }
}

fn wildcards(name: &str) -> usize {
    name.split(':').filter(|segment| matches!(*segment, "*" | "**")).count()
}

fn interest(name: &str) -> Result<Interest, NameError> {
    if wildcards(name) > 0 {
        name.parse().map(Interest::Pattern)
    } else {
        name.parse().map(Interest::Channel)
    }
}

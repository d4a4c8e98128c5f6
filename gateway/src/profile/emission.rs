//! Events, as clients are told them.

use std::sync::Arc;

use broker_core::{Data, EventName};

use super::template::{RenderError, Scope, Text, Tree};

/// An event with its arguments, for one client or many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Emission {
    /// The event.
    pub(crate) event: EventName,
    /// Its arguments: JSON texts or bytes.
    pub(crate) args: Vec<Data>,
}

/// An event with holes.
#[derive(Debug)]
pub(crate) struct EmissionTemplate {
    pub(super) event: Text,
    pub(super) args: Vec<Tree>,
}

impl EmissionTemplate {
    /// The event with its holes filled. An argument that wants to be left out is.
    ///
    /// # Errors
    /// A hole has no value, or none for its place.
    pub(super) fn render(&self, scope: &Arc<Scope>) -> Result<Emission, RenderError> {
        let event = self.event.render(scope)?.unwrap_or_default();
        let event = event.parse().map_err(|error| RenderError::Name(event.into(), error))?;
        let mut args = Vec::with_capacity(self.args.len());
        for tree in &self.args {
            args.extend(tree.render(scope)?);
        }
        Ok(Emission { event, args })
    }
}

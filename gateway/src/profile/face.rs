//! What clients can say and what they are told.

use std::{collections::HashMap, sync::Arc};

use broker_core::{ErrorCode, Message, Timestamp};

use super::{
    auth::{Auth, Refusal},
    emission::Emission,
    outgoing::{Outgoing, Rules},
    step::{self, Action, Step, error},
    template::{RenderError, Scope},
    verb::{Context, Failure, Verb},
};

/// What clients can say and what they are told: their side of an application.
#[derive(Debug)]
pub(crate) struct Face {
    /// Its name.
    pub(crate) name: String,
    /// How clients say who they are.
    pub(crate) auth: Auth,
    pub(super) on_connect: Vec<Step>,
    pub(super) verbs: HashMap<Box<str>, Verb>,
    pub(super) fallback: Option<Verb>,
    pub(super) outgoing: Rules,
    /// Whether templates look at what a client's first request said.
    pub(crate) asks_for_handshake: bool,
}

impl Face {
    /// What happens when a client sends this event; `None`: it is refused.
    #[must_use]
    pub(crate) fn verb(&self, event: &str) -> Option<&Verb> {
        self.verbs.get(event).or(self.fallback.as_ref())
    }

    /// What is done when a client has connected. Here, joining is the server's doing.
    ///
    /// # Errors
    /// The token lacks what the profile asks for.
    pub(crate) fn on_connect(&self, context: &Context<'_>) -> Result<Vec<Action>, Failure> {
        Ok(step::evaluate(&self.on_connect, &Arc::new(context.scope()))?)
    }

    /// What a client is told that is not let in; `None`: its connection is refused.
    #[must_use]
    pub(crate) fn failure(&self, now: Timestamp, code: ErrorCode, text: &str) -> Option<Emission> {
        self.auth.failure.as_ref()?.render(&why(now, code, text)).ok()
    }

    /// How it is refused, in the profile's words; `None`: it has none.
    #[must_use]
    pub(crate) fn refusal(&self, now: Timestamp, code: ErrorCode, text: &str) -> Option<Refusal> {
        self.auth.refusal.as_ref()?.render(&why(now, code, text)).ok()
    }

    /// What clients are told of the message.
    ///
    /// # Errors
    /// The message is not of the form that the profile expects.
    pub(crate) fn outgoing(&self, message: &Message) -> Result<Outgoing, RenderError> {
        self.outgoing.apply(message)
    }
}

fn why(now: Timestamp, code: ErrorCode, text: &str) -> Arc<Scope> {
    let mut scope = Scope::default();
    scope.set_now(now);
    scope.set("error", error(code, text));
    Arc::new(scope)
}

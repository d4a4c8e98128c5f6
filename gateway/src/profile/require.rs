//! Who may do something that is no matter of a channel.

use broker_core::{
    Identity,
    access::{Term, Value},
};

/// Terms of which one is enough; without any, everyone may.
#[derive(Debug, Default)]
pub(crate) struct Require(pub(super) Vec<Term>);

/// None of the terms holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("for this you need {0}")]
pub(crate) struct Unmet(String);

impl Require {
    /// Whether this identity may.
    ///
    /// # Errors
    /// What it would need.
    pub(crate) fn check(&self, identity: &Identity) -> Result<(), Unmet> {
        if self.0.is_empty() || self.0.iter().any(|term| holds(term, identity)) {
            return Ok(());
        }
        let terms: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        Err(Unmet(terms.join(" or ")))
    }
}

/// Whether the term means something where there is no channel.
pub(super) fn is_plain(term: &Term) -> bool {
    let needs_channel = matches!(
        term,
        Term::Granted | Term::User(Value::Segment(_)) | Term::Claim(_, Value::Segment(_))
    );
    !needs_channel
}

fn holds(term: &Term, identity: &Identity) -> bool {
    match term {
        Term::Anyone => true,
        Term::Authenticated => identity.is_authenticated(),
        Term::Role(role) => identity.roles.contains(role),
        Term::User(Value::Text(user)) => {
            identity.user.as_ref().is_some_and(|held| held.as_str() == user)
        }
        Term::Claim(name, Value::Text(value)) => {
            identity.claims.get(name).is_some_and(|held| held.contains(value))
        }
        Term::User(Value::Segment(_)) | Term::Claim(_, Value::Segment(_)) | Term::Granted => false,
    }
}

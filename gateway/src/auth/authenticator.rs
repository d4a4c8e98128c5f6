//! Whatever a client shows becomes an identity, or a failure.

use std::sync::Arc;

use broker_core::{
    Identity,
    ports::Sessions,
    session::{Failure, Token, TokenKind},
};

use super::{ApiKeys, Tickets, Verifier, tickets::is_ticket, verifier::AuthError};
use crate::{config::Auth, telemetry::Metrics};

/// Finds out who clients are, and which services may do what.
#[derive(Debug, Clone)]
pub(crate) struct Authenticator {
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) api_keys: Arc<ApiKeys>,
}

impl Authenticator {
    /// `store`: where tickets are kept; `before`: what was used until now, if there was something.
    ///
    /// # Errors
    /// Tokens cannot be verified with this configuration.
    pub(crate) fn new(
        config: &Auth,
        store: Arc<dyn Sessions>,
        metrics: Arc<Metrics>,
        before: Option<&Self>,
    ) -> Result<Self, AuthError> {
        let mut verifier = Verifier::new(config)?;
        if let Some(before) = before {
            verifier = verifier.after(&before.verifier);
        }
        Ok(Self {
            verifier: Arc::new(verifier),
            tickets: Arc::new(Tickets::new(store, metrics, config.tickets)),
            api_keys: Arc::new(ApiKeys::new(&config.api_keys)),
        })
    }

    /// Who it is, where nobody has to be asked; `None` where somebody has.
    pub(crate) fn identify_now(&self, token: &Token) -> Option<Result<Identity, Failure>> {
        match token.kind() {
            TokenKind::ApiKey => Some(self.api_keys.client(token.reveal())),
            TokenKind::Ticket => None,
            TokenKind::Bearer if is_ticket(token) => None,
            TokenKind::Bearer => self.verifier.verify_now(token),
        }
    }

    /// Who it is. A ticket is used up by this.
    ///
    /// # Errors
    /// What it shows is not good, or it cannot be told now.
    pub(crate) async fn identify(&self, token: &Token) -> Result<Identity, Failure> {
        match token.kind() {
            TokenKind::ApiKey => self.api_keys.client(token.reveal()),
            TokenKind::Ticket => self.tickets.take(token).await,
            TokenKind::Bearer if is_ticket(token) => self.tickets.take(token).await,
            TokenKind::Bearer => self.verifier.verify(token).await,
        }
    }
}

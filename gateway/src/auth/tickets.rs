//! Tickets: a service asks for one, and a client of its user connects with it, once, at any
//! gateway.
//!
//! A ticket is kept as a session is that can be resumed, and taking it is all that is done with
//! it: so the store sees to it that of several clients one gets it.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use broker_core::{
    ConnectionId, ErrorCode, Identity, Timestamp,
    ports::{Sessions, StoreError},
    resume::{KeptSession, SessionKey},
    session::{Failure, Token},
};
use sha2::{Digest as _, Sha256};

use crate::{clock, config, telemetry::Metrics};

/// By which a ticket is told from a token.
const PREFIX: &str = "fft_";
/// Bytes of a secret; nobody guesses one.
const SECRET_BYTES: usize = 32;
/// Characters of a ticket.
const LENGTH: usize = PREFIX.len() + (SECRET_BYTES * 4).div_ceil(3);
/// How long the store remembers that a ticket was taken. Nobody keeps one a second time, so there
/// is no need to.
const REMEMBERED: Duration = Duration::from_secs(1);

/// Makes tickets, and takes them.
#[derive(Debug)]
pub(crate) struct Tickets {
    store: Arc<dyn Sessions>,
    metrics: Arc<Metrics>,
    times: config::Tickets,
}

/// A ticket for a service to hand on.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) secret: Token,
    pub(crate) expires: Timestamp,
}

impl Tickets {
    pub(crate) fn new(
        store: Arc<dyn Sessions>,
        metrics: Arc<Metrics>,
        times: config::Tickets,
    ) -> Self {
        Self { store, metrics, times }
    }

    /// A ticket with which one client can be this, for so long.
    ///
    /// # Errors
    /// The store is away, or has no room.
    pub(crate) async fn issue(
        &self,
        identity: Identity,
        ttl: Option<Duration>,
    ) -> Result<Ticket, Failure> {
        let (secret, ttl) = (new_secret(), ttl.unwrap_or(self.times.ttl));
        let nobody = ConnectionId(rand::random());
        let session = KeptSession {
            key: key_of(&secret),
            connection: nobody,
            origin: nobody,
            identity: Arc::new(identity),
            subscriptions: None,
        };
        let expires = later(ttl);
        let kept = self.store.keep(vec![session], ttl).await;
        self.metrics.tickets.count(if kept.is_ok() { "issued" } else { "not_issued" });
        kept.map_err(|error| self.away(&error))?;
        Ok(Ticket { secret, expires })
    }

    /// Takes a ticket: nobody else can. Who came with it may stay until it says.
    ///
    /// # Errors
    /// There is no such ticket any more, or the store is away; then it may be used up.
    pub(crate) async fn take(&self, ticket: &Token) -> Result<Identity, Failure> {
        let outcome = self.look_up(ticket).await;
        self.metrics.tickets.count(match &outcome {
            Ok(_) => "used",
            Err(failure) if failure.code == ErrorCode::Unavailable => "unavailable",
            Err(_) => "refused",
        });
        let mut identity = outcome?;
        identity.expires = Some(later(self.times.connection_ttl));
        Ok(identity)
    }

    async fn look_up(&self, ticket: &Token) -> Result<Identity, Failure> {
        if !is_ticket(ticket) {
            return Err(Failure::new(ErrorCode::Unauthorized, "this is not a ticket"));
        }
        let taken = self.store.take(key_of(ticket), REMEMBERED).await;
        let session = taken.map_err(|error| self.away(&error))?.ok_or_else(|| {
            // As with a token that has expired, another one is what helps.
            let text = "this ticket was used before, or has expired: ask for another";
            Failure::new(ErrorCode::TokenExpired, text)
        })?;
        Ok(Arc::unwrap_or_clone(session.identity))
    }

    fn away(&self, error: &StoreError) -> Failure {
        self.metrics.store_error();
        Failure::new(ErrorCode::Unavailable, format!("{error}: ask for another ticket later"))
    }
}

/// Whether it has the form of a ticket, which no token has.
pub(crate) fn is_ticket(token: &Token) -> bool {
    token.reveal().starts_with(PREFIX) && token.reveal().len() == LENGTH
}

fn new_secret() -> Token {
    let bytes: [u8; SECRET_BYTES] = rand::random();
    Token::ticket(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// Not the key that a session with this secret would have, so that neither is taken for the other.
fn key_of(ticket: &Token) -> SessionKey {
    SessionKey(
        Sha256::new().chain_update("ticket:").chain_update(ticket.reveal()).finalize().into(),
    )
}

fn later(after: Duration) -> Timestamp {
    let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    Timestamp(clock::wall().0.saturating_add(after))
}

#[cfg(test)]
mod tests;

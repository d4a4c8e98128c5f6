//! What is kept of a session, so that it can be resumed on any gateway after its connection broke.
//!
//! Positions and subscriptions travel with the client; only for one that cannot bring them are they
//! in it ([`crate::recovery`]).

use std::{fmt, sync::Arc};

use crate::{access::Identity, id::ConnectionId, recovery::KeptSubscriptions};

/// Under which a session is kept: the SHA-256 of the secret that resumes it.
///
/// A ticket is kept in the same way, as a session that no connection has had yet.
///
/// Who reads the store cannot resume anything. Nothing is compared when a secret is looked up, so
/// there is no comparison whose time could tell something.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey(pub [u8; 32]);

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A session in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSession {
    /// Its key.
    pub key: SessionKey,
    /// The connection that has it, to be closed once another one resumes it.
    pub connection: ConnectionId,
    /// The session's first connection: what is excluded for the session is excluded for this one.
    pub origin: ConnectionId,
    /// Who the client is.
    pub identity: Arc<Identity>,
    /// What it is subscribed to, if the server sees to that.
    pub subscriptions: Option<Box<KeptSubscriptions>>,
}

/// What a connection takes over with a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// The session's first connection.
    pub origin: ConnectionId,
    /// Who the client is.
    pub identity: Identity,
}

//! What sessions go by.

use std::time::{Duration, Instant};

use crate::{access::Namespaces, message::Timestamp};

/// What a connection may use, and how long things may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Subscriptions of one connection, those made by the server included.
    pub subscriptions: usize,
    /// Largest body of a publish or request, in bytes.
    pub message_bytes: usize,
    /// Commands of one connection that wait for an outcome.
    pub in_flight: usize,
    /// From the opening of the connection to its `connect`; as long again for its outcome.
    pub connect_timeout: Duration,
    /// Silence of the client after which it is pinged.
    pub ping_interval: Duration,
    /// From a ping to the client's next sign of life.
    pub pong_timeout: Duration,
    /// How long before its token expires a client is warned.
    pub expiry_warning: Duration,
    /// Longest that a request to a service may take.
    pub request_timeout: Duration,
}

/// What all connections of a gateway go by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Who may do what.
    pub namespaces: Namespaces,
    /// How much, and how long.
    pub limits: Limits,
    /// Whether a client may connect without a token, as nobody.
    pub anonymous: bool,
}

/// The two clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For timers.
    pub instant: Instant,
    /// For the times of messages and tokens.
    pub wall: Timestamp,
}

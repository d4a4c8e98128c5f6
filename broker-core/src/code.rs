//! Every code on the wire, and what a client should do about it.

use std::fmt;

/// Whether trying the same again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same request fails again until somebody changes something.
    No,
    /// The same request may succeed later: wait and repeat it, with the same message id.
    Later,
    /// It may or may not have happened: repeat it with the same message id.
    Unknown,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $retry:ident;)*) => {
        /// Why a command or an API call failed. The text is stable; clients decide by it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// All codes, for documentation and metrics.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as it stands on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether trying again can help.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $(Self::$name => Retry::$retry,)* }
            }
        }
    };
}

error_codes! {
    /// The frame is not JSON, or not of the form of a command.
    BadRequest = "bad_request", No;
    /// No such command.
    UnknownCommand = "unknown_command", No;
    /// A channel name, pattern, event or id is not of its form.
    InvalidName = "invalid_name", No;
    /// The channel's namespace is not declared in the configuration.
    UnknownNamespace = "unknown_namespace", No;
    /// The command needs `connect` first.
    NotConnected = "not_connected", No;
    /// `connect` was sent twice.
    AlreadyConnected = "already_connected", No;
    /// There is no token where one is needed, or it is forged, malformed or of a wrong kind.
    Unauthorized = "unauthorized", No;
    /// The token has expired: get a fresh one.
    TokenExpired = "token_expired", No;
    /// The session cannot be resumed any more: connect with a token.
    SessionLost = "session_lost", No;
    /// The rules do not allow it; the message says which rule.
    Forbidden = "forbidden", No;
    /// The connection is subscribed to this already.
    AlreadySubscribed = "already_subscribed", No;
    /// The connection is not subscribed to this.
    NotSubscribed = "not_subscribed", No;
    /// The channel's past is asked for, but its namespace keeps none.
    NoHistory = "no_history", No;
    /// The snapshot does not fit; the message says what to do.
    SnapshotTooLarge = "snapshot_too_large", No;
    /// An acknowledgement, but the connection's user has no offline queue.
    NoQueue = "no_queue", No;
    /// The connection has as many subscriptions as it may.
    TooManySubscriptions = "too_many_subscriptions", No;
    /// The message is larger than the limit.
    MessageTooLarge = "message_too_large", No;
    /// An earlier publish on this connection and channel failed or is unknown; retry it with its
    /// id, or give it up, before later ones.
    PublishBlocked = "publish_blocked", No;
    /// No such connection, user or channel.
    NotFound = "not_found", No;
    /// The id or key was used for another request.
    Conflict = "conflict", No;
    /// No service answers this request.
    NoService = "no_service", Later;
    /// The service did not answer in time.
    ServiceTimeout = "service_timeout", Unknown;
    /// The service answered that it refuses; the message is the service's own.
    ServiceRefused = "service_refused", No;
    /// The client did not acknowledge in time, or went away.
    ClientTimeout = "client_timeout", Unknown;
    /// What the client speaks has no acknowledgements.
    Unanswerable = "unanswerable", No;
    /// Too much is asked at once.
    Overloaded = "overloaded", Later;
    /// The log has no room; nothing was done.
    StoreFull = "store_full", Later;
    /// A part that this needs is away; nothing was done.
    Unavailable = "unavailable", Later;
    /// The answer was lost: it may or may not have been done.
    Unknown = "unknown", Unknown;
    /// A fault of the server.
    Internal = "internal", Later;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $reason:literal;)*) => {
        /// Why the server ended a connection (RFC 6455, section 7.4).
        ///
        /// 1000 to 1011 as the RFC says; 1012, 1013 and 4000 to 4499: come back, with backoff;
        /// 4500 to 4999: do not come back until something has changed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CloseCode {
            $($(#[$doc])* $name,)*
        }

        impl CloseCode {
            /// All codes, for documentation and metrics.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The number in the close frame.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }

            /// The reason text in the close frame.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }
        }
    };
}

close_codes! {
    /// The client asked to end it, or ended it.
    Normal = 1000, "";
    /// The client broke RFC 6455.
    Protocol = 1002, "protocol error";
    /// Text that is not UTF-8.
    InvalidText = 1007, "invalid UTF-8";
    /// A client that sends too many control frames or fragments.
    Policy = 1008, "policy violation";
    /// A message over the limit.
    TooBig = 1009, "message too big";
    /// A fault of the server.
    Internal = 1011, "internal error";
    /// The gateway is going away; another one is there.
    ServiceRestart = 1012, "service restart";
    /// The gateway has no room, or cannot reach the bus.
    TryAgainLater = 1013, "try again later";
    /// The client did not read what was sent: its queue was full.
    Slow = 4000, "slow consumer";
    /// The client did not answer a ping.
    Stale = 4001, "no answer to ping";
    /// The client did not send `connect` in time.
    ConnectTimeout = 4002, "no connect in time";
    /// The token expired: come back with a fresh one.
    TokenExpired = 4003, "token expired";
    /// An operator or a service asked the client to reconnect.
    Reconnect = 4004, "reconnect";
    /// The token was refused.
    Unauthorized = 4500, "unauthorized";
    /// An operator or a service ended the connection.
    Disconnected = 4501, "disconnected";
    /// The client speaks another protocol.
    BadProtocol = 4502, "bad protocol";
    /// Another connection has resumed this one's session.
    Superseded = 4503, "superseded";
}

impl CloseCode {
    /// Whether a client should come back by itself.
    #[must_use]
    pub const fn reconnect(self) -> bool {
        matches!(self.number(), 1011..=1013 | 4000..=4499)
    }
}

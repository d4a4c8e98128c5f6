//! What a client can ask for, whatever dialect it speaks.

use std::{fmt, sync::Arc, time::Duration};

use super::{effect::RequestId, present::MembersQuery};
use crate::{
    history::Since,
    id::MessageId,
    message::Data,
    name::{ChannelName, EventName, Interest},
    position::Position,
};

/// A command with the number that its answer will carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The client's number for it; without one, the answer carries none.
    pub id: RequestId,
    /// What is asked for.
    pub command: Command,
}

/// What a client can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Say who it is; first of all, and once.
    Connect {
        /// The token; without one, the client is anonymous, where that is allowed.
        token: Option<Token>,
        /// Who says which messages to the user were taken in.
        acks: Acks,
        /// Whether its session can be resumed.
        session: Resumption,
    },
    /// Go on with a fresh token.
    Refresh {
        /// The token.
        token: Token,
    },
    /// Receive messages of a channel, or of all channels that match.
    Subscribe {
        /// Which.
        interest: Interest,
        /// What of the past, where the channel has history; `None`: nothing.
        since: Option<Box<Since>>,
    },
    /// Receive them no longer.
    Unsubscribe {
        /// Which.
        interest: Interest,
    },
    /// Send a message to a channel.
    Publish(Publish),
    /// Give up a publish that failed, so that later ones to its channel may pass.
    Abandon {
        /// The channel.
        channel: ChannelName,
    },
    /// Say that all messages to the user were taken in, up to this one.
    Acknowledge {
        /// The last one's.
        position: Position,
    },
    /// Ask a service.
    Call(ServiceCall),
    /// Ask who is in a channel.
    Members(MembersQuery),
    /// Ask for a sign of life.
    Ping,
}

impl Command {
    /// What the command is called, on the wire and in metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Refresh { .. } => "refresh",
            Self::Subscribe { .. } => "subscribe",
            Self::Unsubscribe { .. } => "unsubscribe",
            Self::Publish(_) => "publish",
            Self::Abandon { .. } => "abandon",
            Self::Acknowledge { .. } => "ack",
            Self::Call(_) => "request",
            Self::Members(_) => "presence",
            Self::Ping => "ping",
        }
    }
}

/// Who says which messages to its user a client has taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Acks {
    /// The client, by [`Command::Acknowledge`].
    Client,
    /// The transport: what was written before a ping that was answered.
    #[default]
    Transport,
}

/// Whether a session can be resumed after its connection broke.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Resumption {
    /// It cannot, and costs nothing.
    #[default]
    Never,
    /// It can, by a secret that the answer holds.
    Offered,
    /// It takes over the session that has this secret, and can be resumed itself.
    From(Token),
    /// It can be recovered, with all its subscriptions, by a secret that stays the same. Where one
    /// is given, it goes on with what is kept under it, if that is the same user's and nothing is
    /// lost; otherwise it begins anew. The token is asked for all the same.
    Recoverable(Option<Token>),
}

/// A client's publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Where to.
    pub channel: ChannelName,
    /// What kind of thing it says.
    pub event: Option<EventName>,
    /// The body.
    pub data: Data,
    /// The client's id for the message.
    pub id: Option<MessageId>,
    /// Whether the sender gets it too, if it is subscribed.
    pub echo: bool,
    /// W3C trace context.
    pub trace: Option<Arc<str>>,
}

/// A client's request to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCall {
    /// The service's address.
    pub address: ChannelName,
    /// What kind of request it is.
    pub event: Option<EventName>,
    /// The body.
    pub data: Data,
    /// How long to wait; never longer than the server's limit.
    pub timeout: Option<Duration>,
    /// W3C trace context.
    pub trace: Option<Arc<str>>,
}

/// What a client shows to prove who it is, not yet verified. Never shown, not even in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    kind: TokenKind,
    text: String,
}

/// What a [`Token`] was presented as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A bearer token, or whatever else was put in its place.
    Bearer,
    /// A ticket, and nothing else.
    Ticket,
    /// An API key, and nothing else.
    ApiKey,
}

impl Token {
    /// Wraps what a client sent as its token.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self { kind: TokenKind::Bearer, text }
    }

    /// Wraps what a client sent as its ticket.
    #[must_use]
    pub fn ticket(text: String) -> Self {
        Self { kind: TokenKind::Ticket, text }
    }

    /// Wraps what a client sent as its API key.
    #[must_use]
    pub fn api_key(text: String) -> Self {
        Self { kind: TokenKind::ApiKey, text }
    }

    /// What it was presented as.
    #[must_use]
    pub const fn kind(&self) -> TokenKind {
        self.kind
    }

    /// The secret itself, for its verification.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

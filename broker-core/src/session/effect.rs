//! What a session wants done, and what it says to its client.

use std::{borrow::Cow, time::Duration};

use super::{
    command::Token,
    present::{MembersQuery, Present},
};
use crate::{
    access::Denied,
    code::{CloseCode, ErrorCode},
    history::{Since, Start},
    id::{ConnectionId, MessageId},
    message::{Data, Message, Publisher, Timestamp},
    name::{Interest, UserId},
    ports::{Accepted, BusError, PublishError, RequestError, ServiceRequest, StoreError},
    position::Position,
};

/// The client's number for a command, if it gave one.
pub type RequestId = Option<u64>;

/// Ties an outcome to what asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpId(pub(super) u32);

/// Something to be done, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write this to the client.
    Send(Reply),
    /// Write a ping of the transport to the client.
    Ping,
    /// Verify the token; then `handle_verified`.
    Verify {
        /// For the outcome.
        op: OpId,
        /// What to verify.
        token: Token,
    },
    /// Take the client as anonymous; then `handle_verified` with the identity of nobody.
    Admit {
        /// For the outcome.
        op: OpId,
    },
    /// Take the session that has this secret, from whoever has it; then `handle_resumed`.
    Resume {
        /// For the outcome.
        op: OpId,
        /// Its secret.
        secret: Token,
    },
    /// Have this session kept under a secret of its own; then `handle_kept`.
    Keep {
        /// For the outcome.
        op: OpId,
    },
    /// The identity of a session that is kept has changed.
    KeepAnew,
    /// Take over what is kept under this secret, with the subscriptions, if it is the same user's;
    /// then `handle_recovered`.
    Recover {
        /// For the outcome.
        op: OpId,
        /// Its secret.
        secret: Token,
    },
    /// Write what was missed of these, all or nothing; then `handle_caught_up`. They go on behind
    /// that, with their [`Effect::Deliver`].
    CatchUp {
        /// For the outcome.
        op: OpId,
        /// Which, and since when.
        subscriptions: Vec<(Interest, Box<Since>)>,
    },
    /// The session is not recovered: forget where it stood. What it is subscribed to now begins.
    BeginAnew,
    /// The client is connected: note it in the directory.
    Opened,
    /// Ask the bus for what matches; then `handle_joined`. Each is followed by one
    /// [`Effect::Leave`], or the interest is among `Session::interests` at the end.
    Join {
        /// For the outcome.
        op: OpId,
        /// What to ask for.
        interest: Interest,
        /// What of the past will be wanted, to have it at hand.
        since: Option<Box<Since>>,
    },
    /// Write to this connection, in this order: [`Outgoing::Subscribed`], if that answers a
    /// command; what is wanted of the past; and from now on messages that match. A snapshot may not
    /// fit: then `handle_refused`, and nothing is written.
    Deliver {
        /// Which.
        interest: Interest,
        /// The command that is answered, if it is one.
        answers: Option<RequestId>,
        /// What of the past.
        since: Option<Box<Since>>,
    },
    /// Messages to the user were taken in up to here: answer the command, and tell the queue.
    Acknowledge {
        /// The command that is answered.
        answers: RequestId,
        /// The last message's.
        position: Position,
    },
    /// Write them no longer, and let the bus go where nobody else wants them. Comes without an
    /// [`Effect::Deliver`] before it where the bus refused.
    Leave {
        /// Which.
        interest: Interest,
    },
    /// Hand the message to the bus; then `handle_published`. Where the bus refuses at once, hand
    /// that in before the next effect is taken: later messages on the channel are then held back.
    Publish {
        /// For the outcome.
        op: OpId,
        /// The message.
        message: Message,
        /// Who publishes it.
        publisher: Publisher,
    },
    /// Ask a service; then `handle_answered`.
    Call {
        /// For the outcome.
        op: OpId,
        /// What to ask.
        request: ServiceRequest,
    },
    /// Look up who is in a channel; then `handle_members`.
    Members {
        /// For the outcome.
        op: OpId,
        /// What to look up.
        query: MembersQuery,
    },
    /// Write what is queued, then end the connection. Nothing follows.
    Close(CloseCode),
}

/// Something said to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The number of the command that it answers; `None` for a notice.
    pub id: RequestId,
    /// What is said.
    pub body: Outgoing,
}

/// What can be said to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// `connect` succeeded.
    Connected(Box<Connected>),
    /// The token was replaced.
    Refreshed {
        /// When the fresh one expires.
        expires: Option<Timestamp>,
    },
    /// The subscription is live: what is published from now on arrives.
    Subscribed {
        /// Which.
        interest: Interest,
        /// Where it starts, if the channel has history.
        start: Option<Start>,
    },
    /// The subscription has ended.
    Unsubscribed {
        /// Which.
        interest: Interest,
    },
    /// The message was accepted.
    Published {
        /// Under which id.
        message: MessageId,
        /// Where, if it is stored.
        accepted: Accepted,
    },
    /// Later publishes to the channel may pass.
    Abandoned,
    /// The acknowledgement was taken.
    Acknowledged,
    /// Messages to the user are not in its queue any more, though nobody acknowledged them.
    Evicted {
        /// Because there were too many.
        evicted: u64,
        /// Because they were too old.
        expired: u64,
        /// Who acknowledges this has heard of it, and has settled nothing that is pending.
        position: Position,
    },
    /// A service answered.
    Answer {
        /// What.
        data: Data,
    },
    /// Who is in a channel.
    Present(Box<Present>),
    /// A sign of life.
    Pong,
    /// The token expires soon.
    Expiring {
        /// In how long.
        left: Duration,
    },
    /// The connection will be closed: reconnect.
    Reconnect {
        /// After how long.
        after: Duration,
    },
    /// A command failed.
    Error(Failure),
}

/// What a client learns when it is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The connection's id.
    pub connection: ConnectionId,
    /// The user.
    pub user: Option<UserId>,
    /// When the token expires.
    pub expires: Option<Timestamp>,
    /// What the server subscribed it to.
    pub channels: Vec<Interest>,
    /// After how much silence the server pings.
    pub ping_interval: Duration,
    /// The largest body that it may send, in bytes.
    pub message_bytes: usize,
    /// Whether it goes on with a session.
    pub resumed: bool,
    /// The secret that resumes its session, once.
    pub session: Option<Token>,
}

/// Why something failed, for the client: a stable code, and a sentence on what was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The stable code.
    pub code: ErrorCode,
    /// For people.
    pub text: Cow<'static, str>,
    /// The message that it is about, to retry with the same id.
    pub message: Option<MessageId>,
}

impl Failure {
    /// A failure that is about no message.
    pub fn new(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into(), message: None }
    }

    /// The same, about this message.
    #[must_use]
    pub fn about(mut self, message: MessageId) -> Self {
        self.message = Some(message);
        self
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Self::new(denied.code(), denied.to_string())
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let code = match error {
            PublishError::Unavailable => ErrorCode::Unavailable,
            PublishError::Overloaded => ErrorCode::Overloaded,
            PublishError::TooLarge => ErrorCode::MessageTooLarge,
            PublishError::Full => ErrorCode::StoreFull,
            PublishError::Unknown => ErrorCode::Unknown,
        };
        Self::new(code, error.to_string())
    }
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        Self::new(ErrorCode::Unavailable, error.to_string())
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let code = match error {
            RequestError::NoService => ErrorCode::NoService,
            RequestError::Timeout => ErrorCode::ServiceTimeout,
            RequestError::Unavailable => ErrorCode::Unavailable,
            RequestError::Overloaded => ErrorCode::Overloaded,
            RequestError::Lost => ErrorCode::Unknown,
            RequestError::Refused { .. } => ErrorCode::ServiceRefused,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(ErrorCode::Unavailable, error.to_string())
    }
}

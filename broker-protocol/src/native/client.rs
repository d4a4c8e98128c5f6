//! The client's side, for programs in Rust: the CLI, the load test, tests.
//!
//! As every client should, it ignores members that it does not know, and hands out frames of
//! unknown type as [`ServerFrame::Unknown`].

use std::time::Duration;

use broker_core::{
    Data, EventName, Interest, Message, MessageId, Position, Timestamp,
    code::Retry,
    history::Start,
    ports::Accepted,
    session::{
        Acks, Command, Connected, MembersQuery, Present, Publish, Request, RequestId, Resumption,
        Rewind, ServiceCall, Since,
    },
};
use bytes::{Bytes, BytesMut};

use super::payload::{self, Object};
use crate::ws::Opcode;

mod wire;

pub use wire::BadFrame;

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerFrame {
    /// `connect` succeeded, or the token of the opening handshake was accepted.
    Connected {
        /// The command's number.
        id: RequestId,
        /// Who the client now is, and what it may use.
        connected: Box<Connected>,
        /// The version of the dialect.
        version: u32,
    },
    /// The token was replaced.
    Refreshed {
        /// The command's number.
        id: RequestId,
        /// When the fresh token expires.
        expires: Option<Timestamp>,
    },
    /// The subscription is live.
    Subscribed {
        /// The command's number.
        id: RequestId,
        /// Which.
        interest: Interest,
        /// Where it starts, if the channel has history.
        start: Option<Start>,
    },
    /// The subscription has ended; without a number, by the server.
    Unsubscribed {
        /// The command's number.
        id: RequestId,
        /// Which.
        interest: Interest,
    },
    /// The message was accepted.
    Published {
        /// The command's number.
        id: RequestId,
        /// The message's id.
        message: MessageId,
        /// Where it is stored, if it is.
        accepted: Accepted,
    },
    /// Later publishes to the channel may pass.
    Abandoned {
        /// The command's number.
        id: RequestId,
    },
    /// The acknowledgement was taken.
    Acked {
        /// The command's number.
        id: RequestId,
    },
    /// Messages to the user left its queue, though nobody acknowledged them.
    Evicted {
        /// How many because there were too many.
        evicted: u64,
        /// How many because they were too old.
        expired: u64,
        /// What to acknowledge, so that it is not told again.
        position: Position,
    },
    /// A service answered.
    Reply {
        /// The command's number.
        id: RequestId,
        /// What.
        data: Data,
    },
    /// Who is in a channel.
    Present {
        /// The command's number.
        id: RequestId,
        /// Who.
        present: Box<Present>,
    },
    /// The server lives.
    Pong {
        /// The command's number.
        id: RequestId,
    },
    /// A command failed; without a number, no command could be read, or it is a notice.
    Error(ServerError),
    /// A message of a subscribed channel. It has no options: they stay with the server.
    Message(Message),
    /// Messages may have been lost.
    Gap {
        /// Of which subscription; `None` means any of them.
        interest: Option<Interest>,
        /// Why.
        reason: String,
    },
    /// The token expires soon.
    Expiring {
        /// In how long.
        left: Duration,
    },
    /// The connection will be closed.
    Reconnect {
        /// How long to wait before coming back.
        after: Duration,
    },
    /// A frame that this client is too old for.
    Unknown {
        /// Its type.
        kind: String,
    },
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The command's number.
    pub id: RequestId,
    /// The stable code; text, because a newer server may know more of them.
    pub code: String,
    /// For people.
    pub text: String,
    /// Whether trying again can help.
    pub retry: Retry,
    /// The message that it is about, to retry with the same id.
    pub message: Option<MessageId>,
}

impl ServerFrame {
    /// The number of the command that the frame answers.
    #[must_use]
    pub const fn id(&self) -> RequestId {
        match self {
            Self::Connected { id, .. }
            | Self::Refreshed { id, .. }
            | Self::Subscribed { id, .. }
            | Self::Unsubscribed { id, .. }
            | Self::Published { id, .. }
            | Self::Abandoned { id }
            | Self::Acked { id }
            | Self::Reply { id, .. }
            | Self::Present { id, .. }
            | Self::Pong { id }
            | Self::Error(ServerError { id, .. }) => *id,
            Self::Message(_)
            | Self::Gap { .. }
            | Self::Evicted { .. }
            | Self::Expiring { .. }
            | Self::Reconnect { .. }
            | Self::Unknown { .. } => None,
        }
    }
}

/// Reads a text message from the server.
///
/// # Errors
/// What the server would have to have done wrong.
pub fn parse_text(frame: &str) -> Result<ServerFrame, BadFrame> {
    wire::parse(frame, None)
}

/// Reads a binary message from the server.
///
/// # Errors
/// What the server would have to have done wrong.
pub fn parse_binary(frame: &[u8]) -> Result<ServerFrame, BadFrame> {
    let (json, data) = payload::split(frame)?;
    wire::parse(json, Some(data))
}

/// The payload of the frame that asks for this, and whether the frame is text or binary; see
/// [`crate::ws::frame::client_frame`].
#[must_use]
pub fn encode_request(request: &Request) -> (Opcode, Bytes) {
    let mut out = BytesMut::new();
    let opcode = put_request(request, &mut out);
    (opcode, out.freeze())
}

fn put_request(request: &Request, out: &mut BytesMut) -> Opcode {
    let id = request.id;
    let mut plain = |kind, members: &dyn Fn(&mut Object<'_>)| {
        payload::write(out, kind, None, |object| members(object.maybe_number("id", id)))
    };
    match &request.command {
        Command::Connect { token, acks, session } => plain("connect", &|object| {
            object.maybe_text("token", token.as_ref().map(|token| token.reveal()));
            if *acks == Acks::Client {
                object.text("acks", "client");
            }
            match session {
                // What the server sees to, native clients do themselves.
                Resumption::Never | Resumption::Recoverable(_) => {}
                Resumption::Offered => drop(object.flag("session", true)),
                Resumption::From(secret) => drop(object.text("session", secret.reveal())),
            }
        }),
        Command::Acknowledge { position } => plain("ack", &|object| {
            object.maybe_position(Some(position));
        }),
        Command::Refresh { token } => plain("refresh", &|object| {
            object.text("token", token.reveal());
        }),
        Command::Subscribe { interest, since } => plain("subscribe", &|object| {
            object.interest(interest);
            if let Some(since) = since {
                put_since(since, object);
            }
        }),
        Command::Unsubscribe { interest } => plain("unsubscribe", &|object| {
            object.interest(interest);
        }),
        Command::Abandon { channel } => plain("abandon", &|object| {
            object.text("channel", channel.as_str());
        }),
        Command::Members(query) => plain("presence", &|object| put_query(query, object)),
        Command::Ping => plain("ping", &|_| {}),
        Command::Publish(publish) => put_publish(id, publish, out),
        Command::Call(call) => put_call(id, call, out),
    }
}

fn put_since(since: &Since, object: &mut Object<'_>) {
    object
        .maybe_position(since.position.as_ref())
        .maybe_number("age", since.age.map(payload::millis));
    match since.rewind {
        None => {}
        Some(Rewind::Messages(count)) => drop(object.number("rewind", count as u64)),
        Some(Rewind::For(time)) => drop(object.number("rewind_time", payload::millis(time))),
        Some(Rewind::Snapshot) => drop(object.flag("snapshot", true)),
    }
}

fn put_query(query: &MembersQuery, object: &mut Object<'_>) {
    object
        .text("channel", query.channel.as_str())
        .maybe_text("cursor", query.cursor.as_deref())
        .number("limit", query.limit as u64);
}

fn put_publish(id: RequestId, publish: &Publish, out: &mut BytesMut) -> Opcode {
    payload::write(out, "publish", Some(&publish.data), |object| {
        object
            .maybe_number("id", id)
            .text("channel", publish.channel.as_str())
            .maybe_text("event", publish.event.as_ref().map(EventName::as_str))
            .maybe_text("message", publish.id.as_ref().map(MessageId::as_str))
            .maybe_text("trace", publish.trace.as_deref());
        if !publish.echo {
            object.raw("echo", b"false");
        }
    })
}

fn put_call(id: RequestId, call: &ServiceCall, out: &mut BytesMut) -> Opcode {
    payload::write(out, "request", Some(&call.data), |object| {
        object
            .maybe_number("id", id)
            .text("service", call.address.as_str())
            .maybe_text("event", call.event.as_ref().map(EventName::as_str))
            .maybe_number("timeout", call.timeout.map(payload::millis))
            .maybe_text("trace", call.trace.as_deref());
    })
}

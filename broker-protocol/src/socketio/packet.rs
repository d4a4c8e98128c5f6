//! What clients say.

use broker_core::JsonText;
use bytes::Bytes;

use super::{
    Malformed,
    args::{Args, check_placeholders},
    name::{AckId, Namespace},
};
use crate::json::{Token, Tokens, unescaped};

/// Longest name of an event, in bytes.
pub const MAX_EVENT_NAME: usize = 255;

/// Names that have a meaning of their own in the reference's clients and servers.
const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// A whole packet of a client's, attachments included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Where it belongs.
    pub namespace: Namespace,
    /// What it says.
    pub body: Body,
}

/// What a packet says (§ Exchange protocol). Binary events and acknowledgements are no types of
/// their own: their arguments have attachments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The client wants to be in the namespace (§ Connection to a namespace).
    Connect {
        /// An object, whatever the application makes of it; if there is none, `{}` is meant. A
        /// client that had a session before adds `pid` and `offset` to it.
        auth: Option<JsonText>,
    },
    /// The client leaves the namespace (§ Disconnection from a namespace).
    Disconnect,
    /// § Sending and receiving data.
    Event {
        /// The name: its text, or the digits of a number.
        name: Box<str>,
        /// If the client wants an acknowledgement: its id.
        id: Option<AckId>,
        /// What follows the name.
        args: Args,
    },
    /// The answer to an event of the server's (§ Acknowledgement).
    Ack {
        /// The id that the event had.
        id: AckId,
        /// What it was answered with.
        args: Args,
    },
}

/// The types of §Exchange protocol, without the binary ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Connect,
    Disconnect,
    Event,
    Ack,
}

impl Body {
    /// `payload` is JSON that was checked, without white space around it, of a packet that has so
    /// many attachments; they are still to come.
    pub(super) fn new(
        kind: Kind,
        id: Option<AckId>,
        payload: Option<Bytes>,
        attachments: usize,
    ) -> Result<Self, Malformed> {
        match (kind, payload) {
            (Kind::Connect, None) if attachments == 0 => Ok(Self::Connect { auth: None }),
            (Kind::Connect, Some(object)) if attachments == 0 && object.starts_with(b"{") => {
                Ok(Self::Connect { auth: Some(JsonText::from_checked(object)) })
            }
            (Kind::Disconnect, None) => Ok(Self::Disconnect),
            (Kind::Event, Some(array)) if array.starts_with(b"[") => {
                let (name, end) = event_name(&array)?;
                check_attachments(&array, attachments)?;
                Ok(Self::Event { name, id, args: Args::of_array(&array, end) })
            }
            (Kind::Ack, Some(array)) if array.starts_with(b"[") => {
                let id = id.ok_or(Malformed::AckId)?;
                check_attachments(&array, attachments)?;
                Ok(Self::Ack { id, args: Args::of_array(&array, 1) })
            }
            _ => Err(Malformed::Payload),
        }
    }

    pub(super) fn attach(&mut self, attachment: Bytes) {
        match self {
            Self::Event { args, .. } | Self::Ack { args, .. } => args.attach(attachment),
            Self::Connect { .. } | Self::Disconnect => {}
        }
    }
}

/// Without attachments, nobody reads placeholders: they are data like any other.
fn check_attachments(array: &[u8], attachments: usize) -> Result<(), Malformed> {
    if attachments == 0 { Ok(()) } else { check_placeholders(array, attachments) }
}

/// The name that an event's array begins with, and where it ends.
fn event_name(array: &[u8]) -> Result<(Box<str>, usize), Malformed> {
    let mut tokens = Tokens::new(&array[1..]);
    let name = match tokens.next() {
        Some(Token::String(quoted)) => unescaped(quoted),
        Some(Token::Plain(number @ [b'-' | b'0'..=b'9', ..])) => String::from_utf8_lossy(number),
        _ => return Err(Malformed::EventName),
    };
    if name.len() > MAX_EVENT_NAME {
        return Err(Malformed::EventName);
    }
    if RESERVED_EVENTS.contains(&&*name) {
        return Err(Malformed::ReservedEvent);
    }
    Ok((name.into(), 1 + tokens.position()))
}

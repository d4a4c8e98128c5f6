//! What the server says.

use broker_core::JsonText;
use bytes::Bytes;

use super::{args::Args, name::AckId};

/// One packet of the server's (§ Exchange protocol).
#[derive(Debug, Clone, Copy)]
pub enum Outgoing<'a> {
    /// The client is in the namespace (§ Connection to a namespace).
    Connect {
        /// The public id of the client in this namespace.
        sid: &'a str,
        /// The secret by which the client may go on where its connection broke.
        pid: Option<&'a str>,
    },
    /// The client may not be in the namespace; it does not try again by itself.
    ConnectError {
        /// Why, for people.
        message: &'a str,
        /// Why, for programs.
        data: Option<&'a JsonText>,
    },
    /// The client is no longer in the namespace; it does not come back by itself
    /// (§ Disconnection from a namespace).
    Disconnect,
    /// § Sending and receiving data.
    Event {
        /// Its name. Names that clients must not use are the caller's to avoid.
        name: &'a str,
        /// An id, if an acknowledgement is wanted.
        id: Option<AckId>,
        /// What follows the name.
        args: Arguments<'a>,
        /// An additional last argument: what a client shows to go on after this event.
        offset: Option<&'a str>,
    },
    /// The answer to an event (§ Acknowledgement).
    Ack {
        /// The id that the event had.
        id: AckId,
        /// What it is answered with.
        args: Arguments<'a>,
    },
}

/// The arguments of an event or acknowledgement of the server's.
#[derive(Debug, Clone, Copy)]
pub enum Arguments<'a> {
    /// Values, which go to clients as they are.
    Json(&'a [JsonText]),
    /// One argument: bytes.
    Binary(&'a Bytes),
    /// What a client sent, unchanged.
    Same(&'a Args),
}

impl<'a> Arguments<'a> {
    pub(super) fn attachments(self) -> &'a [Bytes] {
        match self {
            Arguments::Json(_) => &[],
            Arguments::Binary(bytes) => std::slice::from_ref(bytes),
            Arguments::Same(args) => args.attachments(),
        }
    }

    /// Length of what is text in the default parser, in bytes, up to some for each value.
    fn text_len(self) -> usize {
        match self {
            Arguments::Json(values) => values.iter().map(|value| value.as_bytes().len() + 1).sum(),
            Arguments::Binary(_) => 0,
            Arguments::Same(args) => args.values().len(),
        }
    }
}

impl<'a> Outgoing<'a> {
    pub(super) fn attachments(&self) -> &'a [Bytes] {
        match self {
            Outgoing::Event { args, .. } | Outgoing::Ack { args, .. } => args.attachments(),
            Outgoing::Connect { .. } | Outgoing::ConnectError { .. } | Outgoing::Disconnect => &[],
        }
    }

    /// A guess at the length of the texts in it, in bytes.
    pub(super) fn text_len(&self) -> usize {
        match *self {
            Outgoing::Connect { sid, pid } => sid.len() + pid.map_or(0, str::len),
            Outgoing::ConnectError { message, data } => {
                message.len() + data.map_or(0, |data| data.as_bytes().len())
            }
            Outgoing::Disconnect => 0,
            Outgoing::Event { name, args, offset, .. } => {
                name.len() + args.text_len() + offset.map_or(0, str::len)
            }
            Outgoing::Ack { args, .. } => args.text_len(),
        }
    }
}

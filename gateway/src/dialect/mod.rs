//! How what a session says, and the messages it is given, become frames.

mod calls;
mod faced;
mod framing;
mod rates;
mod returning;

use std::sync::Arc;

use broker_core::{CloseCode, Data, EventName, Identity, Message, session::Reply};
use broker_protocol::{native, socketio::AckId, ws};
use bytes::{Bytes, BytesMut};

use crate::profile::RenderError;
pub(crate) use calls::Event;
pub(crate) use faced::{Faced, Taken, closes_transport};
pub(crate) use framing::{Form, Framing, ReplyTo, Shown, Space};
pub(crate) use returning::Offset;

/// What is in a ping whose answer acknowledges all that was written before it.
pub(crate) const PROBE: &[u8] = b"ack";

/// What a client speaks.
#[derive(Debug)]
pub(crate) enum Dialect {
    /// Fanfare's own, over WebSocket; with compression, if it was negotiated.
    Native { compressed: bool },
    /// An application's own, by a face of its profile: over Socket.IO, in one namespace, or in
    /// envelopes.
    Faced(Box<Faced>),
}

/// Which frames of a message a connection is given. All that have the same get the same bytes.
#[derive(Debug, Clone, Default)]
pub(crate) enum Encoding {
    #[default]
    Plain,
    Deflated,
    Framed(Arc<Framing>),
}

impl Encoding {
    /// Asks for an acknowledgement with this id; `None` where there is no such thing.
    pub(crate) fn question(&self, id: AckId, event: &EventName, args: &[Data]) -> Option<Bytes> {
        match self {
            Self::Framed(framing) => framing.question(id, event, args),
            Self::Plain | Self::Deflated => None,
        }
    }
}

impl Dialect {
    pub(crate) fn encoding(&self) -> Encoding {
        match self {
            Self::Native { compressed: true } => Encoding::Deflated,
            Self::Native { compressed: false } => Encoding::Plain,
            Self::Faced(faced) => Encoding::Framed(Arc::clone(faced.framing())),
        }
    }

    /// Whether its client may be recovered.
    pub(crate) fn recovers(&self) -> bool {
        matches!(self, Self::Faced(faced) if faced.framing().recovery().is_some())
    }

    /// Whether a few bytes of the client may become a long message.
    pub(crate) const fn is_compressed(&self) -> bool {
        matches!(self, Self::Native { compressed: true })
    }

    pub(crate) fn encode_reply(&mut self, reply: &Reply, identity: &Identity, out: &mut BytesMut) {
        match self {
            Self::Native { .. } => native::encode_reply(reply, out),
            Self::Faced(faced) => faced.encode_reply(reply, identity, out),
        }
    }

    /// With where its client stands then, if it is told that.
    ///
    /// # Errors
    /// The message is not of the form that the client's face expects; nothing is written.
    pub(crate) fn encode_message(
        &self,
        message: &Message,
        (identity, mark): (&Identity, Option<&str>),
        out: &mut BytesMut,
    ) -> Result<(), RenderError> {
        match self {
            Self::Native { .. } => native::encode_message(message, out),
            Self::Faced(faced) => return faced.encode_message(message, (identity, mark), out),
        }
        Ok(())
    }

    /// Asks for a sign of life.
    pub(crate) fn ping(&self, out: &mut BytesMut) {
        match self {
            Self::Native { .. } => out.extend_from_slice(&ws::frame::ping_frame(b"")),
            Self::Faced(faced) => faced.ping(out),
        }
    }

    /// Asks for a sign that says what was taken in; `None` where the transport is to ask.
    pub(crate) fn probe(&mut self) -> Option<Bytes> {
        match self {
            Self::Native { .. } => Some(ws::frame::ping_frame(PROBE)),
            Self::Faced(faced) => faced.probe(),
        }
    }

    /// The last word to a client whose connection is closed; the code has a reason of its own.
    pub(crate) fn last_frame(&self, code: CloseCode, reason: Option<&str>) -> Bytes {
        match self {
            Self::Native { .. } => {
                ws::frame::close_frame(code.number(), reason.unwrap_or(code.reason()))
            }
            Self::Faced(faced) => faced.last_frame(code, reason),
        }
    }
}

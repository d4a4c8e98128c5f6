//! How what a session says, and the messages it is given, become frames.

mod calls;
mod rates;
mod socketio;

use std::sync::Arc;

use broker_core::{CloseCode, Data, EventName, Identity, Message, session::Reply};
use broker_protocol::{native, socketio::AckId, ws};
use bytes::{Bytes, BytesMut};

use crate::profile::RenderError;
pub(crate) use calls::Event;
pub(crate) use socketio::{Framing, SocketIo, closes_transport};

/// What is in a ping whose answer acknowledges all that was written before it.
pub(crate) const PROBE: &[u8] = b"ack";

/// What a client speaks.
#[derive(Debug)]
pub(crate) enum Dialect {
    /// Fanfare's own, over WebSocket; with compression, if it was negotiated.
    Native { compressed: bool },
    /// Socket.IO, in one namespace.
    SocketIo(Box<SocketIo>),
}

/// Which frames of a message a connection is given. All that have the same get the same bytes.
#[derive(Debug, Clone, Default)]
pub(crate) enum Encoding {
    #[default]
    Plain,
    Deflated,
    SocketIo(Arc<Framing>),
}

impl Encoding {
    /// Asks for an acknowledgement with this id; `None` where there is no such thing.
    pub(crate) fn question(&self, id: AckId, event: &EventName, data: &Data) -> Option<Bytes> {
        match self {
            Self::SocketIo(framing) => Some(framing.question(id, event, data)),
            Self::Plain | Self::Deflated => None,
        }
    }
}

impl Dialect {
    pub(crate) fn encoding(&self) -> Encoding {
        match self {
            Self::Native { compressed: true } => Encoding::Deflated,
            Self::Native { compressed: false } => Encoding::Plain,
            Self::SocketIo(socket) => Encoding::SocketIo(Arc::clone(socket.framing())),
        }
    }

    /// Whether a few bytes of the client may become a long message.
    pub(crate) const fn is_compressed(&self) -> bool {
        matches!(self, Self::Native { compressed: true })
    }

    pub(crate) fn encode_reply(&mut self, reply: &Reply, identity: &Identity, out: &mut BytesMut) {
        match self {
            Self::Native { .. } => native::encode_reply(reply, out),
            Self::SocketIo(socket) => socket.encode_reply(reply, identity, out),
        }
    }

    /// # Errors
    /// The message is not of the form that the client's face expects; nothing is written.
    pub(crate) fn encode_message(
        &self,
        message: &Message,
        identity: &Identity,
        out: &mut BytesMut,
    ) -> Result<(), RenderError> {
        match self {
            Self::Native { .. } => native::encode_message(message, out),
            Self::SocketIo(socket) => return socket.encode_message(message, identity, out),
        }
        Ok(())
    }

    /// Asks for a sign of life.
    pub(crate) fn ping(&self, out: &mut BytesMut) {
        match self {
            Self::Native { .. } => out.extend_from_slice(&ws::frame::ping_frame(b"")),
            // The transport has its own.
            Self::SocketIo(_) => {}
        }
    }

    /// Asks for a sign that says what was taken in.
    pub(crate) fn probe(&mut self) -> Option<Bytes> {
        match self {
            Self::Native { .. } => Some(ws::frame::ping_frame(PROBE)),
            Self::SocketIo(socket) => {
                socket.probe();
                None
            }
        }
    }

    /// The last word to a client whose connection is closed.
    pub(crate) fn last_frame(&self, code: CloseCode) -> Bytes {
        match self {
            Self::Native { .. } => ws::frame::close_frame(code.number(), code.reason()),
            Self::SocketIo(socket) => socket.last_frame(code),
        }
    }
}

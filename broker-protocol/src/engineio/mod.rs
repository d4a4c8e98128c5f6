//! Engine.IO v4 (`EIO=4`), the transport below Socket.IO, as pure functions.
//!
//! Sections (§) are those of the [protocol]'s document. Whatever the server says is written as
//! finished WebSocket frames, to be shared by all who get it; [`Payload`] makes bodies for HTTP
//! long-polling of what is in them. Reading order: [`Packet`] (what clients send), [`Open`],
//! [`decode_payload`], [`Payload`].
//!
//! [protocol]: https://github.com/socketio/socket.io/blob/main/docs/engine.io-protocol/v4-current.md

mod packet;
mod payload;

pub use packet::{
    CLOSE, Malformed, NOOP, Open, PING_FRAME, PROBE_PONG_FRAME, Packet, encode_binary, encode_open,
    encode_text,
};
pub use payload::{Packets, Payload, decode_payload};

/// What a ping and its pong carry that probe a WebSocket before an upgrade to it (§ Upgrade).
pub const PROBE: &str = "probe";

#[cfg(test)]
mod tests;

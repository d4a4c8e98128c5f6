//! The native JSON dialect, `fanfare.v1`; `docs/protocol.md` is its specification.
//!
//! Reading order: [`decode_text`] (what clients send), [`encode_message`] (the hot path out),
//! [`client`] (the other side, for programs in Rust). The golden frames in `fixtures/native.json`
//! are also for authors of other clients.

mod decode;
mod encode;
mod nearest;
mod payload;
mod textual;
mod wire;

pub mod client;

pub use decode::{MAX_COMMANDS, MAX_MEMBERS, Malformed, decode_binary, decode_text};
pub use encode::{encode_gap, encode_message, encode_reply};
pub use textual::{append_text, text_of_binary};

/// The WebSocket sub-protocol that a client offers and the server selects.
pub const SUBPROTOCOL: &str = "fanfare.v1";

/// What precedes a token that rides as a second sub-protocol offer. The server never selects it.
pub const TOKEN_PREFIX: &str = "fanfare.token.";

/// The version that `connected` names.
pub const VERSION: u32 = 1;

#[cfg(test)]
mod tests;

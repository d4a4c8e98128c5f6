//! `{id, type, payload, timestamp}`: events as JSON objects, one in each text frame, as pure
//! functions. `docs/envelope.md` has it for people.
//!
//! Reading order: [`Envelope`] (what clients say), [`Outgoing`] (what the server says). Payloads
//! are not interpreted: their JSON is passed on as it came.

mod decode;
mod encode;

pub use decode::{Envelope, Id, MAX_ID, MAX_TYPE, Malformed, Problem};
pub use encode::Outgoing;

/// The sub-protocol of the WebSocket.
pub const SUBPROTOCOL: &str = "fanfare.envelope.v1";

#[cfg(test)]
mod tests;

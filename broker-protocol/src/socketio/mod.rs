//! Socket.IO v5 (Socket.IO v3 and v4, over Engine.IO v4), as pure functions.
//!
//! Sections (§) are those of the [protocol]'s document. Reading order: [`Packet`] (what clients
//! say), [`Decoder`] (the hot path in), [`Outgoing`] (what the server says), [`Parser::encode`] (the
//! hot path out). Arguments of events are not interpreted: their JSON is passed on as it came.
//!
//! [protocol]: https://github.com/socketio/socket.io/blob/main/docs/socket.io-protocol/v5-current.md

mod args;
mod decode;
mod malformed;
mod msgpack;
mod name;
mod outgoing;
mod packet;
mod parser;
mod text;

pub use args::{Arg, Args, MAX_ATTACHMENTS};
pub use decode::Decoder;
pub use malformed::Malformed;
pub use name::{AckId, MAX_NAMESPACE, Namespace};
pub use outgoing::{Arguments, Outgoing};
pub use packet::{Body, MAX_EVENT_NAME, Packet};
pub use parser::Parser;

#[cfg(test)]
mod tests;

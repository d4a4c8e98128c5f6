//! WebSocket (RFC 6455) as pure functions: bytes in, messages out; no socket, no clock.
//!
//! Both roles are here, because the gateway's load-test client speaks through the same code.
//! Reading order: [`Decoder`] (the hot path in), [`frame`] (the hot path out), [`handshake`], [`deflate`].

mod decode;
pub mod deflate;
mod error;
pub mod frame;
pub mod handshake;
mod incoming;
mod mask;

pub use decode::{Decoder, Role};
pub use error::WsError;
pub use frame::{FrameHeader, Opcode};
pub use incoming::{CloseFrame, Incoming};
pub use mask::apply_mask;

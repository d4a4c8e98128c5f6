//! Single packets (§ Protocol, § Packet encoding).

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{
    json::{put_number, put_string},
    ws::{Opcode, frame},
};

/// What precedes a binary message that travels as base64 text (§ HTTP long-polling).
pub(super) const BASE64_PREFIX: u8 = b'b';

/// The type digit of a message.
const MESSAGE: u8 = b'4';

/// `2`: the server asks whether the client is still there (§ Heartbeat).
pub const PING_FRAME: &[u8] = b"\x81\x012";
/// `3probe`: the WebSocket that a client wants to change to works (§ Upgrade).
pub const PROBE_PONG_FRAME: &[u8] = b"\x81\x063probe";
/// Ends a poll without saying anything (§ Upgrade).
pub const NOOP: &[u8] = b"6";
/// Ends a session over long-polling. Over WebSocket, clients take no notice of it: close the
/// socket instead.
pub const CLOSE: &[u8] = b"1";

/// One packet of a client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0`: what a client begins with on transports that have no handshake of their own.
    Open,
    /// `1`: the client is leaving.
    Close,
    /// `2`, and what it carries: [`PROBE`](super::PROBE) before an upgrade.
    Ping(&'a str),
    /// `3`: the client is still there.
    Pong(&'a str),
    /// `4`: a text message.
    Text(&'a str),
    /// A binary message.
    Binary(Bytes),
    /// `5`: the client has changed to this transport.
    Upgrade,
    /// `6`: nothing.
    Noop,
}

impl<'a> Packet<'a> {
    /// Reads a WebSocket text message, or one packet of a payload. A binary WebSocket message is a
    /// [`Packet::Binary`] as it is.
    ///
    /// What follows the type of a packet that carries nothing is ignored, as the reference does.
    ///
    /// # Errors
    /// The text is empty, its first character is no type, or the base64 after `b` is malformed.
    pub fn decode(text: &'a str) -> Result<Self, Malformed> {
        let kind = *text.as_bytes().first().ok_or(Malformed::Empty)?;
        // What follows a character of one byte is a whole string; other types are refused below.
        let rest = text.get(1..).unwrap_or_default();
        Ok(match kind {
            b'0' => Self::Open,
            b'1' => Self::Close,
            b'2' => Self::Ping(rest),
            b'3' => Self::Pong(rest),
            MESSAGE => Self::Text(rest),
            b'5' => Self::Upgrade,
            b'6' => Self::Noop,
            BASE64_PREFIX => {
                let bytes = BASE64_STANDARD.decode(rest).map_err(|_| Malformed::Base64)?;
                Self::Binary(bytes.into())
            }
            _ => return Err(Malformed::Type),
        })
    }
}

/// Why something that a client sent is no Engine.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No type at all: an empty body, or two separators in a row.
    #[error("empty packet")]
    Empty,
    /// The first character is no packet type.
    #[error("unknown packet type")]
    Type,
    /// A binary message that is not base64, with its padding.
    #[error("binary packet is not base64")]
    Base64,
    /// The body of a POST is not UTF-8.
    #[error("payload is not UTF-8")]
    Utf8,
    /// The body of a POST has more packets than are taken at once.
    #[error("payload has more than {limit} packets")]
    TooManyPackets {
        /// The limit in force.
        limit: usize,
    },
}

/// What the server says first (§ Handshake).
#[derive(Debug, Clone, Copy)]
pub struct Open<'a> {
    /// The secret id of the session.
    pub sid: &'a str,
    /// Whether an upgrade to WebSocket is offered: only to clients that are polling.
    pub upgrade: bool,
    /// From one ping to the next; sent in whole milliseconds.
    pub ping_interval: Duration,
    /// How long the answer to a ping may take; sent in whole milliseconds.
    pub ping_timeout: Duration,
    /// How many bytes a client may send at once.
    pub max_payload: usize,
}

/// Appends the frame of an open packet: `0{…}`.
pub fn encode_open(open: &Open<'_>, out: &mut BytesMut) {
    let mark = frame::begin(out, 125);
    out.extend_from_slice(b"0{\"sid\":");
    put_string(out, open.sid);
    out.extend_from_slice(b",\"upgrades\":[");
    if open.upgrade {
        out.extend_from_slice(b"\"websocket\"");
    }
    out.extend_from_slice(b"],\"pingInterval\":");
    put_number(out, millis(open.ping_interval));
    out.extend_from_slice(b",\"pingTimeout\":");
    put_number(out, millis(open.ping_timeout));
    out.extend_from_slice(b",\"maxPayload\":");
    put_number(out, open.max_payload as u64);
    out.put_u8(b'}');
    frame::finish(out, mark, Opcode::Text);
}

/// Appends the frame of a text message, which `write` writes; it is expected to have
/// `expected_len` bytes, see [`frame::begin`].
pub fn encode_text(out: &mut BytesMut, expected_len: usize, write: impl FnOnce(&mut BytesMut)) {
    let mark = frame::begin(out, 1 + expected_len);
    out.put_u8(MESSAGE);
    write(out);
    frame::finish(out, mark, Opcode::Text);
}

/// Appends the frame of a binary message.
pub fn encode_binary(out: &mut BytesMut, message: &[u8]) {
    out.reserve(message.len() + 10);
    frame::encode_header(out, Opcode::Binary, message.len());
    out.extend_from_slice(message);
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

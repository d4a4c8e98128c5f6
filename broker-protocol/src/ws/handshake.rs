//! The opening handshake (RFC 6455 §4) over plain header values.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest as _, Sha1};

/// §1.3: what a server appends to the key to prove that it speaks WebSocket.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Ignores the last character's unused bits, which the RFC's own example key (§4.1, `AQIDBAUGBwgJCgsMDQ4PEC==`) sets.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Why a request is not upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Any method but `GET`.
    #[error("method is not GET")]
    Method,
    /// Any version but HTTP/1.1. (HTTP/2 upgrades differently: RFC 8441.)
    #[error("HTTP version is not 1.1")]
    HttpVersion,
    /// No `Host`.
    #[error("Host header is missing")]
    Host,
    /// `Upgrade` does not offer `websocket`.
    #[error("Upgrade header does not contain websocket")]
    Upgrade,
    /// `Connection` does not say `upgrade`.
    #[error("Connection header does not contain upgrade")]
    Connection,
    /// `Sec-WebSocket-Version` is missing, repeated or not 13.
    #[error("Sec-WebSocket-Version is not 13")]
    Version,
    /// `Sec-WebSocket-Key` is missing, repeated or not base64 of 16 bytes.
    #[error("Sec-WebSocket-Key is not base64 of 16 bytes")]
    Key,
}

impl HandshakeError {
    /// The HTTP status to answer with (§4.2.2, §4.4).
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::Version => 426,
            Self::HttpVersion | Self::Host | Self::Upgrade | Self::Connection | Self::Key => 400,
        }
    }

    /// A header, name and value, that the answer must carry with this status.
    #[must_use]
    pub const fn header(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Method => Some(("allow", "GET")),
            Self::Version => Some(("sec-websocket-version", "13")),
            _ => None,
        }
    }
}

/// Judges an upgrade request (§4.2.1) and gives the value of the answer's `Sec-WebSocket-Accept`.
///
/// `version` is HTTP's major and minor version. `headers` are all of the request's, names in any case, repeated ones
/// apart. `Origin` is the caller's to check: CORS does not cover WebSockets.
///
/// # Errors
/// The first requirement that the request does not meet.
pub fn accept_upgrade<'a>(
    method: &str,
    version: (u8, u8),
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<String, HandshakeError> {
    let mut seen = Seen::default();
    for (name, value) in headers {
        seen.note(name, value.trim_ascii());
    }
    require(method == "GET", HandshakeError::Method)?;
    require(version == (1, 1), HandshakeError::HttpVersion)?;
    require(seen.host, HandshakeError::Host)?;
    require(seen.upgrade, HandshakeError::Upgrade)?;
    require(seen.connection, HandshakeError::Connection)?;
    require(seen.version == Single::Once(b"13"), HandshakeError::Version)?;
    match seen.key {
        Single::Once(key) if is_key(key) => Ok(accept_key(key)),
        _ => Err(HandshakeError::Key),
    }
}

/// The `Sec-WebSocket-Accept` that belongs to a `Sec-WebSocket-Key` (§4.2.2 item 5.4), for both roles.
#[must_use]
pub fn accept_key(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize())
}

/// The subprotocols offered in one `Sec-WebSocket-Protocol` value, best first (§4.2.2 item 5). What is not a token
/// is left out: it cannot be chosen.
pub fn protocols(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim_ascii)
        .filter(|name| !name.is_empty() && name.bytes().all(is_token_byte))
}

#[derive(Default)]
struct Seen<'a> {
    host: bool,
    upgrade: bool,
    connection: bool,
    version: Single<'a>,
    key: Single<'a>,
}

/// A header that may come only once (§11.3.1, §11.3.5).
#[derive(Default, PartialEq, Eq)]
enum Single<'a> {
    #[default]
    Missing,
    Once(&'a [u8]),
    Repeated,
}

impl<'a> Seen<'a> {
    fn note(&mut self, name: &str, value: &'a [u8]) {
        if name.eq_ignore_ascii_case("host") {
            self.host = true;
        } else if name.eq_ignore_ascii_case("upgrade") {
            self.upgrade |= has_token(value, b"websocket");
        } else if name.eq_ignore_ascii_case("connection") {
            self.connection |= has_token(value, b"upgrade");
        } else if name.eq_ignore_ascii_case("sec-websocket-version") {
            self.version.note(value);
        } else if name.eq_ignore_ascii_case("sec-websocket-key") {
            self.key.note(value);
        }
    }
}

impl<'a> Single<'a> {
    fn note(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Missing => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }
}

fn require(holds: bool, otherwise: HandshakeError) -> Result<(), HandshakeError> {
    if holds { Ok(()) } else { Err(otherwise) }
}

fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

fn is_key(key: &[u8]) -> bool {
    // Room for whole groups of three bytes, as base64 wants it: a key that needs more is too long.
    let mut decoded = [0; 18];
    KEY_BASE64.decode_slice(key, &mut decoded) == Ok(16)
}

/// RFC 9110 §5.6.2.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests;

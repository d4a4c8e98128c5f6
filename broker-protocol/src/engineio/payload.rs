//! Payloads: the bodies of HTTP long-polling (§ HTTP long-polling).

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::{BufMut as _, Bytes, BytesMut};

use super::packet::{BASE64_PREFIX, Malformed, Packet};
use crate::ws::Opcode;

/// Between two packets. It cannot be in one: JSON escapes it, and base64 does not have it.
const SEPARATOR: char = '\x1e';

/// Takes the body of a POST apart into its packets, of which it may have `max_packets`.
///
/// # Errors
/// The body is not UTF-8 or has more packets. Each packet is read as the iterator comes to it:
/// after an error, the session is closed.
pub fn decode_payload(body: &[u8], max_packets: usize) -> Result<Packets<'_>, Malformed> {
    let text = simdutf8::basic::from_utf8(body).map_err(|_| Malformed::Utf8)?;
    if text.matches(SEPARATOR).nth(max_packets.saturating_sub(1)).is_some() {
        return Err(Malformed::TooManyPackets { limit: max_packets });
    }
    Ok(Packets(text.split(SEPARATOR)))
}

/// The packets of a POST's body, in order.
#[derive(Debug, Clone)]
pub struct Packets<'a>(std::str::Split<'a, char>);

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(Packet::decode)
    }
}

/// The body of the answer to a GET, which is made of what would go to a WebSocket.
#[derive(Debug, Default)]
pub struct Payload {
    body: BytesMut,
    packets: usize,
}

impl Payload {
    /// How many packets every client takes at once: python-engineio gives up at the next.
    pub const MAX_PACKETS: usize = 16;

    /// Whether another packet may be added.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.packets < Self::MAX_PACKETS
    }

    /// Whether nothing was added yet. A client must not be answered with an empty body.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// Length of the body so far, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// The finished body.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.body.freeze()
    }

    /// Adds a packet: what is in the frame that would go to a WebSocket.
    pub fn push(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.packets > 0 {
            self.body.put_u8(SEPARATOR as u8);
        }
        self.packets += 1;
        if opcode == Opcode::Text {
            self.body.extend_from_slice(payload);
            return;
        }
        self.body.put_u8(BASE64_PREFIX);
        let start = self.body.len();
        self.body.resize(start + payload.len().div_ceil(3) * 4, 0);
        // Cannot fail: the room is what base64 with padding takes.
        BASE64_STANDARD.encode_slice(payload, &mut self.body[start..]).unwrap_or_default();
    }
}

//! Writing frames, and reading their headers (RFC 6455 §5.2).

use bytes::{Bytes, BytesMut};

use super::{WsError, apply_mask};

/// The longest header: 2 bytes, a 64-bit length and a masking key.
pub(super) const MAX_HEADER: usize = 14;

/// The longest payload of a control frame, in bytes (§5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// The longest close reason, in bytes: a control payload without the code.
pub const MAX_CLOSE_REASON: usize = MAX_CONTROL_PAYLOAD - 2;

/// What a frame carries (§5.2, §11.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// The next piece of a fragmented message.
    Continuation = 0x0,
    /// UTF-8 text, or its first piece.
    Text = 0x1,
    /// Bytes, or their first piece.
    Binary = 0x2,
    /// The end of the connection.
    Close = 0x8,
    /// A request for a pong.
    Ping = 0x9,
    /// The answer to a ping.
    Pong = 0xA,
}

impl Opcode {
    /// Whether it may come between the fragments of a message and may not be fragmented itself (§5.5).
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    /// Whether it is a data message, or its first piece.
    #[must_use]
    pub const fn begins_message(self) -> bool {
        matches!(self, Self::Text | Self::Binary)
    }

    const fn from_bits(bits: u8) -> Result<Self, WsError> {
        match bits {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xA => Ok(Self::Pong),
            reserved => Err(WsError::ReservedOpcode(reserved)),
        }
    }
}

/// Everything in a frame before its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether this is the last frame of its message.
    pub fin: bool,
    /// RSV1, which permessage-deflate (RFC 7692) claims. Only an endpoint that negotiated it may set or accept it.
    pub compressed: bool,
    /// What the frame carries.
    pub opcode: Opcode,
    /// The masking key: always there from a client, never from a server (§5.1).
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload that follow.
    pub payload_len: u64,
}

impl FrameHeader {
    /// The header of a whole, unmasked message: what a server sends.
    #[must_use]
    pub const fn server(opcode: Opcode, payload_len: usize) -> Self {
        Self { fin: true, compressed: false, opcode, mask: None, payload_len: payload_len as u64 }
    }

    /// Reads a header from the front of `bytes` and says how many bytes it took; `None` if it is not all there.
    ///
    /// # Errors
    /// What is wrong whoever sent it: RSV2 or RSV3, a reserved opcode, a fragmented or oversized control frame,
    /// a length that is not minimal or has its highest bit set. Masking and RSV1 are for the caller to judge.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, WsError> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk::<2>() else {
            return Ok(None);
        };
        if first & 0x30 != 0 {
            return Err(WsError::ReservedBits);
        }
        let (fin, opcode) = (first & 0x80 != 0, Opcode::from_bits(first & 0x0F)?);
        if opcode.is_control() {
            check_control(fin, second & 0x7F)?;
        }
        let Some((payload_len, rest)) = parse_length(second & 0x7F, rest)? else {
            return Ok(None);
        };
        let (mask, rest) = if second & 0x80 == 0 {
            (None, rest)
        } else if let Some((key, rest)) = rest.split_first_chunk::<4>() {
            (Some(*key), rest)
        } else {
            return Ok(None);
        };
        let header = Self { fin, compressed: first & 0x40 != 0, opcode, mask, payload_len };
        Ok(Some((header, bytes.len() - rest.len())))
    }

    /// Appends the header to `buf`.
    pub fn encode(&self, buf: &mut BytesMut) {
        let (bytes, length) = self.to_bytes();
        buf.extend_from_slice(&bytes[..length]);
    }

    fn to_bytes(self) -> ([u8; MAX_HEADER], usize) {
        let mut bytes = [0; MAX_HEADER];
        bytes[0] = u8::from(self.fin) << 7 | u8::from(self.compressed) << 6 | self.opcode as u8;
        let mut length = unmasked_header_len(self.payload_len);
        let big_endian = self.payload_len.to_be_bytes();
        match length {
            2 => bytes[1] = big_endian[7],
            4 => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&big_endian[6..]);
            }
            _ => {
                bytes[1] = 127;
                bytes[2..10].copy_from_slice(&big_endian);
            }
        }
        if let Some(key) = self.mask {
            bytes[1] |= 0x80;
            bytes[length..length + 4].copy_from_slice(&key);
            length += 4;
        }
        (bytes, length)
    }
}

/// `length` is the 7-bit length; the two longer forms start at 126.
fn check_control(fin: bool, length: u8) -> Result<(), WsError> {
    if !fin {
        return Err(WsError::FragmentedControl);
    }
    if usize::from(length) > MAX_CONTROL_PAYLOAD {
        return Err(WsError::OversizedControl);
    }
    Ok(())
}

fn parse_length(short: u8, bytes: &[u8]) -> Result<Option<(u64, &[u8])>, WsError> {
    let (length, least, rest) = match short {
        126 => match bytes.split_first_chunk::<2>() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), 126, rest),
            None => return Ok(None),
        },
        127 => match bytes.split_first_chunk::<8>() {
            Some((length, rest)) => (u64::from_be_bytes(*length), 1 << 16, rest),
            None => return Ok(None),
        },
        _ => (u64::from(short), 0, bytes),
    };
    if length >> 63 != 0 {
        return Err(WsError::LengthOverflow);
    }
    if length < least {
        return Err(WsError::NonMinimalLength);
    }
    Ok(Some((length, rest)))
}

const fn unmasked_header_len(payload_len: u64) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

/// Appends a server's header for a payload whose length is known; the payload is the caller's to append.
pub fn encode_header(buf: &mut BytesMut, opcode: Opcode, payload_len: usize) {
    FrameHeader::server(opcode, payload_len).encode(buf);
}

/// Where a frame begun by [`begin`] starts.
#[derive(Debug)]
#[must_use = "the frame has no header until `finish`"]
pub struct FrameMark {
    start: usize,
    header_len: usize,
}

/// Begins a server frame at the end of `buf`: append the payload, then call [`finish`].
///
/// `expected_len` is a guess at the payload's length in bytes. Any guess is correct; one in the same class
/// (up to 125, up to 65,535, above) saves `finish` from moving the payload.
pub fn begin(buf: &mut BytesMut, expected_len: usize) -> FrameMark {
    let header_len = unmasked_header_len(expected_len as u64);
    let start = buf.len();
    buf.reserve(header_len + expected_len);
    buf.resize(start + header_len, 0);
    FrameMark { start, header_len }
}

/// Writes the header of the frame that [`begin`] started; everything appended since is its payload.
///
/// # Panics
/// If `buf` is not the buffer of `mark`, or was cut since.
#[allow(clippy::needless_pass_by_value, reason = "a mark is used up: a frame is finished once")]
pub fn finish(buf: &mut BytesMut, mark: FrameMark, opcode: Opcode) {
    let payload_start = mark.start + mark.header_len;
    let payload_len = buf.len() - payload_start;
    let (header, header_len) = FrameHeader::server(opcode, payload_len).to_bytes();
    if header_len != mark.header_len {
        let end = buf.len();
        buf.resize(end.max(mark.start + header_len + payload_len), 0);
        buf.copy_within(payload_start..end, mark.start + header_len);
        buf.truncate(mark.start + header_len + payload_len);
    }
    buf[mark.start..mark.start + header_len].copy_from_slice(&header[..header_len]);
}

/// A whole text message. That `payload` is UTF-8 is the caller's promise.
#[must_use]
pub fn text_frame(payload: &[u8]) -> Bytes {
    server_frame(Opcode::Text, payload)
}

/// A whole binary message.
#[must_use]
pub fn binary_frame(payload: &[u8]) -> Bytes {
    server_frame(Opcode::Binary, payload)
}

/// A ping; a payload is cut to [`MAX_CONTROL_PAYLOAD`].
#[must_use]
pub fn ping_frame(payload: &[u8]) -> Bytes {
    server_frame(Opcode::Ping, &payload[..payload.len().min(MAX_CONTROL_PAYLOAD)])
}

/// A pong; a payload is cut to [`MAX_CONTROL_PAYLOAD`], which no ping exceeds.
#[must_use]
pub fn pong_frame(payload: &[u8]) -> Bytes {
    server_frame(Opcode::Pong, &payload[..payload.len().min(MAX_CONTROL_PAYLOAD)])
}

/// A close frame. The reason is cut to [`MAX_CLOSE_REASON`] bytes, at a character's end.
///
/// `code` must be one that may be sent (§7.4): not 1005, 1006 or 1015.
#[must_use]
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(MAX_CLOSE_REASON)];
    let mut buf = BytesMut::with_capacity(4 + reason.len());
    encode_header(&mut buf, Opcode::Close, 2 + reason.len());
    buf.extend_from_slice(&code.to_be_bytes());
    buf.extend_from_slice(reason.as_bytes());
    buf.freeze()
}

/// Appends a client's frame, masked by `key`, which must be unpredictable on connections that cross the
/// internet (§10.3).
pub fn client_frame(buf: &mut BytesMut, opcode: Opcode, fin: bool, key: [u8; 4], payload: &[u8]) {
    let header = FrameHeader { fin, mask: Some(key), ..FrameHeader::server(opcode, payload.len()) };
    buf.reserve(MAX_HEADER + payload.len());
    header.encode(buf);
    let start = buf.len();
    buf.extend_from_slice(payload);
    apply_mask(&mut buf[start..], key);
}

fn server_frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let header_len = unmasked_header_len(payload.len() as u64);
    let mut buf = BytesMut::with_capacity(header_len + payload.len());
    encode_header(&mut buf, opcode, payload.len());
    buf.extend_from_slice(payload);
    buf.freeze()
}

#[cfg(test)]
mod tests;

use super::{Opcode, WsError};

/// One complete message from the peer, borrowed until the next call to the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// To be answered by a pong with the same payload (RFC 6455 §5.5.2).
    Ping(&'a [u8]),
    /// The answer to a ping, or unsolicited (§5.5.3).
    Pong(&'a [u8]),
    /// The peer is leaving, with or without a reason (§5.5.1). Nothing follows.
    Close(Option<CloseFrame<'a>>),
}

/// The body of a close frame that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// A code that is allowed on the wire (RFC 6455 §7.4).
    pub code: u16,
    /// At most 123 bytes, often empty.
    pub reason: &'a str,
}

impl<'a> Incoming<'a> {
    /// `opcode` is the one that began the message: never a continuation.
    pub(super) fn new(opcode: Opcode, payload: &'a [u8]) -> Result<Self, WsError> {
        match opcode {
            Opcode::Text => Ok(Self::Text(utf8(payload)?)),
            Opcode::Binary => Ok(Self::Binary(payload)),
            Opcode::Ping => Ok(Self::Ping(payload)),
            Opcode::Pong => Ok(Self::Pong(payload)),
            Opcode::Close => close(payload).map(Self::Close),
            Opcode::Continuation => Err(WsError::UnexpectedContinuation),
        }
    }
}

fn close(payload: &[u8]) -> Result<Option<CloseFrame<'_>>, WsError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(WsError::CloseLength) };
    };
    let code = u16::from_be_bytes(*code);
    if !is_wire_close_code(code) {
        return Err(WsError::CloseCode(code));
    }
    Ok(Some(CloseFrame { code, reason: utf8(reason)? }))
}

fn utf8(payload: &[u8]) -> Result<&str, WsError> {
    simdutf8::basic::from_utf8(payload).map_err(|_| WsError::InvalidUtf8)
}

/// §7.4.1 and the IANA registry, which has since added 1012–1014; 1004–1006 and 1015 are only for
/// local use, 1016–2999 are unassigned.
const fn is_wire_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_follow_the_registry() {
        for code in [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999] {
            assert!(is_wire_close_code(code), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX] {
            assert!(!is_wire_close_code(code), "{code}");
        }
    }
}

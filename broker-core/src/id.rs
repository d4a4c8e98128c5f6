//! Identifiers that machines choose.

use std::{
    fmt,
    hash::{BuildHasherDefault, Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use crate::name::NameError;

/// Longest message id, in bytes.
pub const MAX_MESSAGE_ID_BYTES: usize = 128;

/// One transport link of one client to one gateway: 128 random bits, written as 32 hex digits.
///
/// It names a connection to operators and to `exclude`; it grants nothing to who knows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u128);

/// For maps by [`ConnectionId`]: the ids are random and the server's own, so that they serve as
/// their own hashes.
pub type ConnectionIdHasher = BuildHasherDefault<IdHash>;

/// Half of a [`ConnectionId`].
#[derive(Debug, Default, Clone, Copy)]
pub struct IdHash(u64);

impl Hasher for IdHash {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((self.0 << 8) | u64::from(*byte));
        }
    }

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Hash for ConnectionId {
    fn hash<S: Hasher>(&self, state: &mut S) {
        // Two ids with the same half still differ: `Eq` looks at all of them.
        state.write_u64((self.0 >> 64) as u64 ^ self.0 as u64);
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ConnectionId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits =
            text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !digits {
            return Err(NameError::Malformed);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| NameError::Malformed)
    }
}

/// A gateway process: unique for each start, so that a restarted pod is a new node.
///
/// 1 to 64 bytes of `A-Z a-z 0-9 _ -`, fit for a NATS subject token and a Redis key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is known by where it must not be shown, since it may hold a host's name.
    #[must_use]
    pub fn mark(&self) -> NodeMark {
        NodeMark(fnv(self.0.as_bytes()))
    }
}

/// The hash of a [`NodeId`]; as text, 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeMark(u64);

impl fmt::Display for NodeMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for NodeMark {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // `from_str_radix` alone also takes a sign.
        let fits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mark = u64::from_str_radix(text, 16).ok().filter(|_| fits);
        mark.map(Self).ok_or(NameError::Malformed)
    }
}

/// FNV-1a.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = (1..=64).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Malformed)
        }
    }
}

/// What a publisher calls a message, so that a retry is known as one.
///
/// 1 to [`MAX_MESSAGE_ID_BYTES`] bytes of printable ASCII without spaces: it travels in headers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Arc<str>);

impl MessageId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An id made of 128 random bits, for messages whose publisher gave none.
    #[must_use]
    pub fn random(bits: u128) -> Self {
        Self(format!("{bits:032x}").into())
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MessageId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_MESSAGE_ID_BYTES {
            return Err(NameError::TooLong(MAX_MESSAGE_ID_BYTES));
        }
        if text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Malformed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_is_read_as_it_is_written() {
        let id = ConnectionId(0x0123_4567);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("+".repeat(32).parse::<ConnectionId>().is_err());
        assert!("12".parse::<ConnectionId>().is_err());
    }

    #[test]
    fn message_ids_fit_into_headers() {
        assert!("order-7/retry".parse::<MessageId>().is_ok());
        for bad in ["", "a b", "a\r\nb", "é", &"x".repeat(129)] {
            assert!(bad.parse::<MessageId>().is_err(), "{bad:?}");
        }
    }
}

//! The secret names of Engine.IO sessions.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use broker_core::NodeId;
use sha2::{Digest as _, Sha256};

/// Bytes that say which gateway a session is at.
const OWNER_BYTES: usize = 3;

/// A session's name: 20 characters that can stand in a URL, of which the first four say which
/// gateway it is at; the other 96 bits are random. Debug output does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sid([u8; 15]);

/// What the names of a gateway's sessions begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Owner([u8; OWNER_BYTES]);

/// The text is no name of a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoSid;

impl Owner {
    pub(super) fn of(node: &NodeId) -> Self {
        let digest = Sha256::digest(node.as_str());
        Self([digest[0], digest[1], digest[2]])
    }
}

impl Sid {
    /// A new session's at this gateway.
    pub(super) fn new(owner: Owner) -> Self {
        let mut bytes: [u8; 15] = rand::random();
        bytes[..OWNER_BYTES].copy_from_slice(&owner.0);
        Self(bytes)
    }

    pub(super) fn owner(self) -> Owner {
        Owner([self.0[0], self.0[1], self.0[2]])
    }
}

impl FromStr for Sid {
    type Err = NoSid;

    fn from_str(text: &str) -> Result<Self, NoSid> {
        let mut bytes = [0; 15];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(15) => Ok(Self(bytes)),
            _ => Err(NoSid),
        }
    }
}

/// To be told to its client, and to nobody else.
impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sid(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_its_session_is() {
        let node: NodeId = "gateway-1".parse().unwrap();
        let sid = Sid::new(Owner::of(&node));
        let text = sid.to_string();
        assert_eq!(text.len(), 20);
        assert_eq!(text.parse(), Ok(sid));
        assert_eq!(sid.owner(), Owner::of(&node));
        assert_ne!(sid.owner(), Owner::of(&"gateway-2".parse().unwrap()));
        assert_ne!(sid, Sid::new(Owner::of(&node)));
    }

    #[test]
    fn other_texts_are_no_names() {
        for text in
            ["", "abc", "aaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaa=", "aaaaaaaaaaaaaaaaaaa/"]
        {
            assert_eq!(text.parse::<Sid>(), Err(NoSid), "{text}");
        }
    }
}

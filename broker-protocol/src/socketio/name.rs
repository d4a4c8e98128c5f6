use std::borrow::Cow;

use super::Malformed;

/// Longest namespace, in bytes.
pub const MAX_NAMESPACE: usize = 255;

/// Where packets belong: one connection may be in several namespaces (§ Introduction).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Cow<'static, str>);

impl Namespace {
    /// The main namespace, which is left out of encoded packets.
    pub const MAIN: Self = Self(Cow::Borrowed("/"));

    /// Checks a name as it stands in a packet.
    ///
    /// # Errors
    /// It does not begin with `/`, has a comma or control characters, or is longer than
    /// [`MAX_NAMESPACE`].
    pub fn new(name: &str) -> Result<Self, Malformed> {
        match name {
            "/" => Ok(Self::MAIN),
            _ if !name.starts_with('/') || name.len() > MAX_NAMESPACE => Err(Malformed::Namespace),
            _ if name.contains(|char: char| char == ',' || char.is_control()) => {
                Err(Malformed::Namespace)
            }
            _ => Ok(Self(Cow::Owned(name.to_owned()))),
        }
    }

    /// The name, with its slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is [`Namespace::MAIN`].
    #[must_use]
    pub fn is_main(&self) -> bool {
        self.0 == "/"
    }
}

/// What an event and its acknowledgement have in common (§ Acknowledgement).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AckId(u64);

impl AckId {
    /// The largest id: the largest integer that JavaScript's numbers keep apart.
    pub const MAX: u64 = (1 << 53) - 1;

    /// The smallest id.
    pub const MIN: Self = Self(0);

    /// `None` above [`AckId::MAX`].
    #[must_use]
    pub const fn new(id: u64) -> Option<Self> {
        if id <= Self::MAX { Some(Self(id)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Reads decimal digits.
    pub(super) fn from_digits(digits: &str) -> Result<Self, Malformed> {
        digits.parse().ok().and_then(Self::new).ok_or(Malformed::AckId)
    }
}

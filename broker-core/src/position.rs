//! Where a message stands in its channel's log.

use std::{fmt, str::FromStr};

use crate::id::{MessageId, fnv};

/// One life of a log: offsets of different epochs have nothing to do with each other.
///
/// In a cluster, when the namespace's stream was created, or was found set back to an earlier
/// state; embedded, when the process started. In nanoseconds since 1970, but only equality means
/// something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// A message's number in its log. Later messages have larger ones; since all channels of a
/// namespace share the numbers, those of one channel have gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

/// Tells the message at an offset from another one that was given the same offset, by a store
/// that had lost its newest messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u32);

impl Fingerprint {
    /// Of the message with this id: FNV-1a, folded to 32 bits.
    #[must_use]
    pub fn of(id: &MessageId) -> Self {
        let hash = fnv(id.as_str().as_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "both halves are in it")]
        Self((hash ^ (hash >> 32)) as u32)
    }

    pub(crate) const fn number(self) -> u32 {
        self.0
    }

    pub(crate) const fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// A place in a channel's log: what was published up to here. Clients keep the last one that they
/// were given, and hand it back unread.
///
/// As text: epoch in hex, offset, and the fingerprint in hex, with dots between;
/// `18a3f2.4711.9d0c31aa`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which log.
    pub epoch: Epoch,
    /// Where in it.
    pub offset: Offset,
    /// Of the message there; `None` where the channel had no message at this offset.
    pub fingerprint: Option<Fingerprint>,
}

/// Not a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position: use one that the server gave, unchanged")]
pub struct NotAPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}", self.epoch.0, self.offset.0)?;
        match self.fingerprint {
            Some(Fingerprint(print)) => write!(f, ".{print:08x}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let mut parts = text.split('.');
        let epoch = parts.next().and_then(|part| number(part, 16));
        let offset = parts.next().and_then(|part| number(part, 10));
        let fingerprint = match parts.next() {
            None => None,
            Some(part) => {
                let print = number(part, 16).and_then(|print| u32::try_from(print).ok());
                Some(Fingerprint(print.ok_or(NotAPosition)?))
            }
        };
        match (epoch, offset, parts.next()) {
            (Some(epoch), Some(offset), None) => {
                Ok(Self { epoch: Epoch(epoch), offset: Offset(offset), fingerprint })
            }
            _ => Err(NotAPosition),
        }
    }
}

/// Digits only: `from_str_radix` alone also takes a sign.
fn number(text: &str, radix: u32) -> Option<u64> {
    let digits = text.chars().all(|digit| digit.is_digit(radix));
    u64::from_str_radix(text, radix).ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        let id = "order-7".parse().unwrap();
        for fingerprint in [None, Some(Fingerprint::of(&id))] {
            let position = Position { epoch: Epoch(u64::MAX), offset: Offset(4711), fingerprint };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for bad in ["", ".", "1", "1.", "1.+2", "g.1", "1.2.3.4", "1.2.100000000", "1.2.", "1. 2"] {
            assert_eq!(bad.parse::<Position>(), Err(NotAPosition), "{bad:?}");
        }
    }

    #[test]
    fn the_fingerprint_is_the_same_in_every_version() {
        assert_eq!(Fingerprint::of(&"a".parse().unwrap()), Fingerprint(0x2962_30c0));
    }
}

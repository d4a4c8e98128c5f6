use std::{fmt, str::FromStr};

use super::MAX_TRACKED;
use crate::position::{Epoch, Fingerprint, Offset, Position};

/// What no other text begins with.
const SIGN: &str = "ff~";
/// Subscriptions that have ended may be named beside those that have not.
const MAX_POSITIONS: usize = 4 * MAX_TRACKED;

/// Where a client stands after an event, as text.
///
/// `ff~SESSION`, and for each subscription of which the client was given something
/// `~NUMBER:OFFSET[.FINGERPRINT][@EPOCH]`, the epoch where it is not that of the one before. All
/// numbers are hex. `ff~SESSION!`: that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub(super) session: u32,
    pub(super) positions: Option<Vec<(u32, Position)>>,
}

/// Not a mark; whatever it is, it was not made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a mark")]
pub struct NotAMark;

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SIGN}{:x}", self.session)?;
        let Some(positions) = &self.positions else { return f.write_str("!") };
        let mut before = None;
        for (number, Position { epoch, offset, fingerprint }) in positions {
            write!(f, "~{number:x}:{:x}", offset.0)?;
            if let Some(fingerprint) = fingerprint {
                write!(f, ".{:x}", fingerprint.number())?;
            }
            if before.replace(*epoch) != Some(*epoch) {
                write!(f, "@{:x}", epoch.0)?;
            }
        }
        Ok(())
    }
}

impl FromStr for Mark {
    type Err = NotAMark;

    fn from_str(text: &str) -> Result<Self, NotAMark> {
        let mut parts = text.strip_prefix(SIGN).ok_or(NotAMark)?.split('~');
        let session = parts.next().ok_or(NotAMark)?;
        if let Some(session) = session.strip_suffix('!') {
            let session = small(session)?;
            return parts.next().map_or(Ok(Self { session, positions: None }), |_| Err(NotAMark));
        }
        let session = small(session)?;
        let (mut epoch, mut positions) = (None, Vec::new());
        for part in parts {
            let (number, place) = part.split_once(':').ok_or(NotAMark)?;
            let (place, own) = place.split_once('@').map_or((place, None), |(a, b)| (a, Some(b)));
            let (offset, print) =
                place.split_once('.').map_or((place, None), |(a, b)| (a, Some(b)));
            if let Some(own) = own {
                epoch = Some(Epoch(hex(own)?));
            }
            let fingerprint = print.map(|print| small(print).map(Fingerprint::from_number));
            let position = Position {
                epoch: epoch.ok_or(NotAMark)?,
                offset: Offset(hex(offset)?),
                fingerprint: fingerprint.transpose()?,
            };
            positions.push((small(number)?, position));
            if positions.len() > MAX_POSITIONS {
                return Err(NotAMark);
            }
        }
        Ok(Self { session, positions: Some(positions) })
    }
}

fn small(text: &str) -> Result<u32, NotAMark> {
    u32::try_from(hex(text)?).map_err(|_| NotAMark)
}

/// Digits only: `from_str_radix` alone also takes a sign.
fn hex(text: &str) -> Result<u64, NotAMark> {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| digits).ok_or(NotAMark)
}

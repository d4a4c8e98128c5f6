//! Places in a channel's log, as requests name them.

use std::{fmt, str::FromStr, time::Duration};

use broker_core::{History, Position, Timestamp, position::NotAPosition};
use serde::{Deserialize, Deserializer, de};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Where a reader stands.
///
/// As text: the position and, where there is one, the time in milliseconds since 1970, with `@`
/// between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) position: Position,
    /// When this was known to be the end of the log.
    pub(super) was_end: Option<Timestamp>,
}

/// Where a reader wants to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// Behind this.
    Cursor(Cursor),
    /// With what was accepted at this time or later.
    Time(Timestamp),
}

/// The text says no place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a position or `next` as the server gave it, milliseconds since 1970, or a time such as 2026-07-01T12:00:00Z"
)]
pub(super) struct NoPlace;

impl Cursor {
    /// Whether nothing that came since this was the end can be too old by now.
    pub(super) fn is_fresh(&self, now: Timestamp, history: &History) -> bool {
        self.was_end.is_some_and(|then| {
            let age = Duration::from_millis(now.0.saturating_sub(then.0));
            age + history.uncertainty() < history.ttl
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.position.fmt(f)?;
        self.was_end.map_or(Ok(()), |then| write!(f, "@{}", then.0))
    }
}

impl FromStr for Cursor {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let (position, then) = match text.split_once('@') {
            Some((position, then)) => (position, Some(milliseconds(then).ok_or(NotAPosition)?)),
            None => (text, None),
        };
        Ok(Self { position: position.parse()?, was_end: then })
    }
}

impl FromStr for Since {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        if let Some(time) = milliseconds(text) {
            return Ok(Self::Time(time));
        }
        if let Ok(cursor) = text.parse() {
            return Ok(Self::Cursor(cursor));
        }
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| NoPlace)?;
        let since_1970 = time.unix_timestamp_nanos() / 1_000_000;
        u64::try_from(since_1970).map(|time| Self::Time(Timestamp(time))).map_err(|_| NoPlace)
    }
}

fn milliseconds(text: &str) -> Option<Timestamp> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).map(Timestamp)
}

impl<'de> Deserialize<'de> for Since {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrNumber)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Over HTTP everything is text; over NATS a time may be a number.
struct TextOrNumber;

impl de::Visitor<'_> for TextOrNumber {
    type Value = Since;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a position or a time")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Since, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Since, E> {
        Ok(Since::Time(Timestamp(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Result<u64, NoPlace> {
        text.parse().map(|since| match since {
            Since::Time(time) => time.0,
            Since::Cursor(cursor) => panic!("{cursor}"),
        })
    }

    #[test]
    fn a_time_is_read_in_every_form_that_clients_write() {
        for text in [
            "1782907200123",
            "2026-07-01T12:00:00.123Z",
            "2026-07-01T14:00:00.123456+02:00",
            "2026-07-01T12:00:00.123+00:00",
        ] {
            assert_eq!(time(text), Ok(1_782_907_200_123), "{text}");
        }
        for bad in ["", "yesterday", "-1", "+1", "2026-07-01", "1960-01-01T00:00:00Z", "1.2.3.4"] {
            assert_eq!(time(bad), Err(NoPlace), "{bad}");
        }
    }

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        for text in ["18a3f2.4711.9d0c31aa", "18a3f2.4711", "18a3f2.4711.9d0c31aa@1782907200123"] {
            let cursor: Cursor = text.parse().unwrap();
            assert_eq!(cursor.to_string(), text);
            assert_eq!(text.parse(), Ok(Since::Cursor(cursor)));
        }
        for bad in ["", "@1", "18a3f2.4711@", "18a3f2.4711@+1", "18a3f2.4711@1@2"] {
            assert_eq!(bad.parse::<Cursor>(), Err(NotAPosition), "{bad}");
        }
    }
}

//! What JetStream says of a message that it stores, and the ids that follow from it.

use async_nats::HeaderMap;
use broker_core::{
    ChannelName, Epoch, MessageId, Offset, Timestamp,
    message::{Publisher, Stored},
};
use ring::digest;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const SEQUENCE: &str = "Nats-Sequence";
const PREVIOUS: &str = "Nats-Last-Sequence";
const STORED_AT: &str = "Nats-Time-Stamp";

pub(super) const NANOS_PER_MS: u64 = 1_000_000;

/// Where a message stands in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: Offset,
    pub(super) previous: Option<Offset>,
    /// When it was stored, in nanoseconds since 1970.
    pub(super) at: u64,
}

/// The headers that the server adds, so far. A publisher may send headers of the same names: the
/// server's come after them, so of several the last counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PlaceHeaders {
    offset: Option<u64>,
    previous: Option<u64>,
    at: Option<u64>,
}

impl PlaceHeaders {
    pub(super) fn header(&mut self, name: &str, value: &str) {
        match name {
            SEQUENCE => self.offset = value.parse().ok(),
            PREVIOUS => self.previous = value.parse().ok(),
            STORED_AT => self.at = nanoseconds(value),
            _ => {}
        }
    }

    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut read = Self::default();
        for name in [SEQUENCE, PREVIOUS, STORED_AT] {
            if let Some(value) = headers.get_last(name) {
                read.header(name, value.as_str());
            }
        }
        read
    }

    pub(super) fn place(self) -> Option<Place> {
        Some(Place { offset: Offset(self.offset?), previous: self.previous(), at: self.at? })
    }

    /// `None` where there was none, or it is not kept any more: the server says 0.
    pub(super) fn previous(self) -> Option<Offset> {
        self.previous.filter(|previous| *previous > 0).map(Offset)
    }
}

impl Place {
    pub(super) fn stored(self, epoch: Epoch) -> Stored {
        Stored { epoch, offset: self.offset, previous: self.previous }
    }

    pub(super) fn time(self) -> Timestamp {
        Timestamp(self.at / NANOS_PER_MS)
    }

    /// The id of a message whose publisher gave none: whoever reads it, whenever, finds the same.
    pub(super) fn id(self, channel: &ChannelName) -> MessageId {
        let (at, offset) = (self.at.to_be_bytes(), self.offset.0.to_be_bytes());
        MessageId::random(digest_of(&[&at, &offset, channel.as_str().as_bytes()]))
    }
}

/// What a stream knows a message by when it is published again: ids are each publisher's own, and
/// a stream holds many channels.
pub(super) fn dedupe_id(publisher: &Publisher, id: &MessageId, channel: &ChannelName) -> String {
    let connection;
    let (kind, name): (&[u8], &[u8]) = match publisher {
        Publisher::User(user) => (b"user", user.as_str().as_bytes()),
        Publisher::Service(name) => (b"service", name.as_bytes()),
        Publisher::Connection(id) => {
            connection = id.0.to_be_bytes();
            (b"connection", &connection)
        }
    };
    let parts = [kind, name, id.as_str().as_bytes(), channel.as_str().as_bytes()];
    format!("{:032x}", digest_of(&parts))
}

/// The first half of the SHA-256 of the parts, each behind its length.
fn digest_of(parts: &[&[u8]]) -> u128 {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let digest = context.finish();
    digest.as_ref().iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// Reads a time as the server writes it.
pub(super) fn nanoseconds(text: &str) -> Option<u64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos()).ok()
}

/// Writes a time as the server reads it; one that is further ahead than the server counts becomes
/// the last that is not.
pub(super) fn written(time: Timestamp) -> String {
    let nanoseconds = i128::from(time.0) * i128::from(NANOS_PER_MS);
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds.min(i64::MAX.into()))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use broker_core::ConnectionId;

    use super::*;

    fn read(headers: &[(&str, &str)]) -> Option<Place> {
        let mut read = PlaceHeaders::default();
        headers.iter().for_each(|(name, value)| read.header(name, value));
        read.place()
    }

    #[test]
    fn the_servers_own_headers_count() {
        let sent = [("Nats-Sequence", "9"), ("Nats-Last-Sequence", "8")];
        let added = [
            ("Nats-Sequence", "3"),
            ("Nats-Time-Stamp", "2026-11-21T11:00:28.59180176Z"),
            ("Nats-Last-Sequence", "0"),
        ];
        let at = 1_795_258_828_591_801_760;
        let place = Place { offset: Offset(3), previous: None, at };
        assert_eq!(read(&[&sent[..], &added[..]].concat()), Some(place));
        assert_eq!(place.time(), Timestamp(1_795_258_828_591));
        assert_eq!(read(&sent), None);
        let mut map = HeaderMap::new();
        for (name, value) in sent.into_iter().chain(added) {
            map.append(name, value);
        }
        assert_eq!(PlaceHeaders::of(&map).place(), Some(place));
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for ms in [0, 1, 1_795_258_828_591] {
            assert_eq!(nanoseconds(&written(Timestamp(ms))), Some(ms * NANOS_PER_MS));
        }
        assert_eq!(nanoseconds(&written(Timestamp(u64::MAX))), u64::try_from(i64::MAX).ok());
        assert_eq!(nanoseconds("1969-12-31T23:59:59Z"), None);
    }

    /// What one release stored, the next one must know again.
    #[test]
    fn ids_are_the_same_in_every_version() {
        let place = Place { offset: Offset(3), previous: Some(Offset(1)), at: 7 };
        let channel = "venue:42".parse().unwrap();
        let raw = place.id(&channel);
        assert_eq!(raw.as_str().len(), 32);
        assert_eq!(raw, Place { previous: None, ..place }.id(&channel));
        let publishers = [
            Publisher::User("7".parse().unwrap()),
            Publisher::Service("7".into()),
            Publisher::Connection(ConnectionId(7)),
        ];
        let mut ids: Vec<_> =
            publishers.iter().map(|by| dedupe_id(by, &"7".parse().unwrap(), &channel)).collect();
        assert_eq!(ids[0], "cad3ab3a743cb583850bba72c51f6a24");
        ids.dedup();
        assert_eq!(ids.len(), 3);
    }
}

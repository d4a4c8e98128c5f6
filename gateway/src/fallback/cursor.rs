//! What a client has got of its channels, in one line of text that it hands back unread.
//!
//! `<when>~<channel>=<position>~…`: when a server last heard of the client, in milliseconds since
//! 1970, and for each channel with history the first letters of its name's hash: so a cursor of
//! many channels fits into a header. Where two channels share them, one finds the other's
//! position, which its log does not know: then nothing is recovered, and the client is told.

use std::{fmt::Write as _, time::Duration};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use broker_core::{Interest, Position, Timestamp};
use sha2::{Digest as _, Sha256};

use super::{object::Object, wanted::Wanted};

/// How the channels of users begin.
const USER: &str = "user:";
/// Bytes of a channel's hash.
const KEY_BYTES: usize = 6;

/// Positions in the channels that a client is subscribed to by their names.
#[derive(Debug)]
pub(super) struct Cursor {
    channels: Vec<Channel>,
}

#[derive(Debug)]
struct Channel {
    name: Box<str>,
    position: Option<Position>,
    /// Whether it is the user's, of which the queue tells.
    is_own: bool,
}

impl Channel {
    fn is_before(&self, position: &Position) -> bool {
        self.position.is_none_or(|at| at.epoch != position.epoch || at.offset < position.offset)
    }
}

/// A cursor as a client brought it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Earlier<'a> {
    when: Timestamp,
    positions: &'a str,
}

impl<'a> Earlier<'a> {
    /// `None` if there is none, or it is not of its form.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let (when, positions) = text.split_once('~')?;
        Some(Self { when: Timestamp(when.parse().ok()?), positions })
    }

    /// Where a client that brings this stands, and for how long it may have been away.
    pub(super) fn stand(
        &self,
        now: Timestamp,
        interest: &Interest,
    ) -> Option<(Position, Duration)> {
        let Interest::Channel(channel) = interest else { return None };
        let away = Duration::from_millis(now.0.saturating_sub(self.when.0));
        Some((self.position(channel.as_str())?, away))
    }

    pub(super) fn position(&self, channel: &str) -> Option<Position> {
        let key = key(channel);
        let named = |part: &'a str| part.strip_prefix(&*key)?.strip_prefix('=');
        self.positions.split('~').find_map(named)?.parse().ok()
    }
}

impl Cursor {
    /// For what the server and the client have subscribed to.
    pub(super) fn new(own: &[String], wanted: &[Wanted], earlier: Option<Earlier<'_>>) -> Self {
        let user = own_channel(own);
        let own = own.iter().map(|name| (name.as_str(), None));
        let named = wanted.iter().filter_map(|wanted| match &wanted.interest {
            Interest::Channel(channel) => Some((channel.as_str(), wanted.since.position)),
            Interest::Pattern(_) => None,
        });
        let channels = own.chain(named).map(|(name, position)| {
            let position = position.or_else(|| earlier?.position(name));
            Channel { name: name.into(), position, is_own: Some(name) == user }
        });
        Self { channels: channels.collect() }
    }

    /// Follows the client; whether it moved.
    pub(super) fn note(&mut self, object: &Object) -> bool {
        let Some(position) = object.position else { return false };
        let is_meant = |channel: &&mut Channel| match (&*object.kind, &object.channel) {
            ("message" | "subscribed", Some(name)) => *channel.name == **name,
            // It says what left the user's queue; the client may have got more already.
            ("evicted", _) => channel.is_own && channel.is_before(&position),
            _ => false,
        };
        let Some(channel) = self.channels.iter_mut().find(is_meant) else { return false };
        channel.position = Some(position);
        true
    }

    /// The cursor of a client that has heard everything until now; `None` without any position.
    pub(super) fn text(&self, now: Timestamp) -> Option<String> {
        let mut text = now.0.to_string();
        let when = text.len();
        for Channel { name, position, .. } in &self.channels {
            if let Some(position) = position {
                write!(text, "~{}={position}", key(name)).ok()?;
            }
        }
        (text.len() > when).then_some(text)
    }
}

/// The user's channel among those that the server has subscribed the connection to.
pub(super) fn own_channel(channels: &[String]) -> Option<&str> {
    channels.iter().map(String::as_str).find(|channel| channel.starts_with(USER))
}

fn key(channel: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(channel)[..KEY_BYTES])
}

#[cfg(test)]
mod tests {
    use broker_core::session::Since;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn channel(name: &str) -> Interest {
        Interest::Channel(name.parse().unwrap())
    }

    fn wanted(names: impl IntoIterator<Item = String>) -> Vec<Wanted> {
        let wanted = |name: String| Wanted { interest: channel(&name), since: Since::default() };
        names.into_iter().map(wanted).collect()
    }

    fn note(cursor: &mut Cursor, object: &str) -> bool {
        cursor.note(&Object::read(object.to_owned()).unwrap())
    }

    #[test]
    fn a_client_goes_on_where_it_stood_in_each_channel() {
        let wanted = wanted(["venue:1", "venue:2", "chat:1"].map(str::to_owned));
        let mut cursor = Cursor::new(&["user:kim".to_owned()], &wanted, None);
        assert_eq!(cursor.text(NOW), None);
        for (object, moved) in [
            (r#"{"type":"subscribed","channel":"venue:1","position":"a.1"}"#, true),
            (r#"{"type":"message","channel":"venue:1","position":"a.2.00000007"}"#, true),
            (r#"{"type":"subscribed","channel":"venue:2","position":"b.3"}"#, true),
            (r#"{"type":"message","channel":"user:kim","position":"c.4"}"#, true),
            (r#"{"type":"message","channel":"chat:1","data":{"position":"d.5"}}"#, false),
            (r#"{"type":"message","channel":"venue:3","position":"d.5"}"#, false),
            (r#"{"type":"published","position":"d.5"}"#, false),
            (r#"{"type":"evicted","evicted":1,"expired":0,"position":"c.3"}"#, false),
            (r#"{"type":"evicted","evicted":1,"expired":0,"position":"c.9"}"#, true),
        ] {
            assert_eq!(note(&mut cursor, object), moved, "{object}");
        }
        let text = cursor.text(NOW).unwrap();
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'));
        let earlier = Earlier::read(&text).unwrap();
        let later = Timestamp(NOW.0 + 1_500);
        let away = Duration::from_millis(1_500);
        for (name, position) in
            [("venue:1", "a.2.00000007"), ("venue:2", "b.3"), ("user:kim", "c.9")]
        {
            let stood = (position.parse().unwrap(), away);
            assert_eq!(earlier.stand(later, &channel(name)), Some(stood));
        }
        assert_eq!(earlier.stand(later, &channel("chat:1")), None);
        let again = Cursor::new(&[], &wanted, Some(earlier));
        let kept = again.text(NOW).unwrap();
        assert!(text.starts_with("1700000000000~") && text.ends_with(&kept[13..]), "{kept}");
    }

    #[test]
    fn what_is_no_cursor_says_nothing() {
        let key = key("venue:1");
        for text in ["", "~", "7", "x~a", &format!("7~{key}"), &format!("7~{key}=\"}}")] {
            let stood = Earlier::read(text).and_then(|it| it.stand(NOW, &channel("venue:1")));
            assert_eq!(stood, None, "{text}");
        }
    }

    #[test]
    fn a_cursor_of_many_channels_fits_into_a_header() {
        let wanted = wanted((0..128).map(|n| format!("venue:{n}")));
        let mut cursor = Cursor::new(&[], &wanted, None);
        for n in 0..128 {
            let position = "123456789abcdef0.1234567890.12345678";
            let object =
                format!(r#"{{"type":"message","channel":"venue:{n}","position":"{position}"}}"#);
            assert!(note(&mut cursor, &object));
        }
        assert!(cursor.text(NOW).unwrap().len() < 8 << 10);
    }
}

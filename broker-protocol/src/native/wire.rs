//! The form of clients' commands: flat objects, whose members are kept as raw text.
//!
//! The only module that knows serde on the way in. Members are collected before any of them is
//! judged, so that the `id` of a command that is wrong elsewhere can still be echoed.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Characters of an unknown name that an error repeats.
pub(super) const SHOWN_NAME: usize = 40;

macro_rules! members {
    ($($name:ident = $text:literal,)*) => {
        /// What a command may say.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Member { $($name,)* }

        impl Member {
            pub(super) const ALL: &[Self] = &[$(Self::$name,)*];

            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            fn named(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

members! {
    Type = "type",
    Id = "id",
    Trace = "trace",
    Token = "token",
    Acks = "acks",
    Session = "session",
    Channel = "channel",
    Pattern = "pattern",
    Position = "position",
    Age = "age",
    Rewind = "rewind",
    RewindTime = "rewind_time",
    Snapshot = "snapshot",
    Event = "event",
    Message = "message",
    Echo = "echo",
    Service = "service",
    Timeout = "timeout",
    Cursor = "cursor",
    Limit = "limit",
    Data = "data",
    DataBase64 = "data_base64",
}

/// One object's members, as they stand in the frame.
#[derive(Debug, Default)]
pub(super) struct Members<'a> {
    values: [Option<&'a str>; Member::ALL.len()],
    /// The first member that no command has.
    pub(super) unknown: Option<String>,
    /// A member that is there more than once.
    pub(super) repeated: Option<Member>,
}

/// A member's value is not of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{}` must be {wanted}", .member.name())]
pub(super) struct WrongType {
    member: Member,
    wanted: &'static str,
}

/// The text is not what JSON allows at some place.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct NotJson(#[from] serde_json::Error);

impl<'a> Members<'a> {
    /// Reads exactly one object.
    pub(super) fn read(json: &'a str) -> Result<Self, NotJson> {
        Ok(serde_json::from_str(json)?)
    }

    /// The JSON text; `null` counts as absent.
    pub(super) fn raw(&self, member: Member) -> Option<&'a str> {
        self.values[member as usize].filter(|text| *text != "null" || member == Member::Data)
    }

    pub(super) fn text(&self, member: Member) -> Result<Option<Cow<'a, str>>, WrongType> {
        let wrong = |wanted| WrongType { member, wanted };
        let Some(raw) = self.raw(member) else { return Ok(None) };
        let quoted = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let plain = quoted.ok_or(wrong("a string"))?;
        if !plain.contains('\\') {
            return Ok(Some(Cow::Borrowed(plain)));
        }
        let text = serde_json::from_str(raw)
            .map_err(|_| wrong("a string of Unicode text, without half of a surrogate pair"))?;
        Ok(Some(Cow::Owned(text)))
    }

    /// A whole number from `least` to 2^53 − 1, the largest that JavaScript counts with.
    pub(super) fn number(&self, member: Member, least: u64) -> Result<Option<u64>, WrongType> {
        const MOST: u64 = (1 << 53) - 1;
        let wanted = match least {
            0 => "a whole number from 0 to 9007199254740991",
            _ => "a whole number from 1 to 9007199254740991",
        };
        let Some(raw) = self.raw(member) else { return Ok(None) };
        match raw.parse() {
            Ok(number) if (least..=MOST).contains(&number) => Ok(Some(number)),
            _ => Err(WrongType { member, wanted }),
        }
    }

    pub(super) fn flag(&self, member: Member) -> Result<Option<bool>, WrongType> {
        match self.raw(member) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(WrongType { member, wanted: "true or false" }),
        }
    }

    /// Every member that is there, `null` or not.
    pub(super) fn present(&self) -> impl Iterator<Item = Member> {
        Member::ALL.iter().copied().filter(|member| self.values[*member as usize].is_some())
    }
}

/// The elements of exactly one array, as raw text; `None` if they are more than `limit`.
pub(super) fn read_array(json: &str, limit: usize) -> Result<Option<Vec<&str>>, NotJson> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let elements = deserializer.deserialize_seq(Elements { limit })?;
    deserializer.end()?;
    Ok(elements)
}

struct Elements {
    limit: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = Option<Vec<&'de str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < self.limit {
            match seq.next_element::<&RawValue>()? {
                Some(element) => elements.push(element.get()),
                None => return Ok(Some(elements)),
            }
        }
        let mut full = true;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            full = false;
        }
        Ok(full.then_some(elements))
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collector)
    }
}

struct Collector;

impl<'de> Visitor<'de> for Collector {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key()? {
            match name {
                Name::Unknown(name) => {
                    map.next_value::<IgnoredAny>()?;
                    members.unknown.get_or_insert(name);
                }
                Name::Known(member) => {
                    let value = map.next_value::<&RawValue>()?.get();
                    if members.values[member as usize].replace(value).is_some() {
                        members.repeated = Some(member);
                    }
                }
            }
        }
        Ok(members)
    }
}

enum Name {
    Known(Member),
    Unknown(String),
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Name, E> {
        Ok(match Member::named(name) {
            Some(member) => Name::Known(member),
            None => Name::Unknown(name.chars().take(SHOWN_NAME).collect()),
        })
    }
}

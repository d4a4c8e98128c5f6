//! Names that people choose: channels, patterns, namespaces, users, roles, events.
//!
//! Each is checked once, in `FromStr`, and carried as a type afterwards. Names
//! are compared byte for byte: no case folding and no Unicode normalisation.

use std::{fmt, str::FromStr, sync::Arc};

/// Longest channel name or pattern, in bytes.
pub const MAX_CHANNEL_BYTES: usize = 200;
/// Longest namespace, in bytes.
pub const MAX_NAMESPACE_BYTES: usize = 64;
/// Longest event name, in bytes.
pub const MAX_EVENT_BYTES: usize = 128;
/// Namespace of the users' own channels.
pub const USER_NAMESPACE: &str = "user";
/// Namespace of the connections' own channels, `connection:<id>`.
pub const CONNECTION_NAMESPACE: &str = "connection";
/// Namespace of the channels on which the server tells who joins and leaves others.
pub const PRESENCE_NAMESPACE: &str = "presence";

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("the name is empty")]
    Empty,
    /// The name is longer than the limit given here, in bytes.
    #[error("the name is longer than {0} bytes")]
    TooLong(usize),
    /// Two colons meet, or the name starts or ends with one.
    #[error("the name has an empty segment: segments are joined by single colons")]
    EmptySegment,
    /// The name holds a control character.
    #[error("the name holds a control character")]
    Control,
    /// The first segment is not of the form of a namespace.
    #[error(
        "the first segment, the namespace, may hold only A-Z a-z 0-9 _ and -, at most 64 bytes"
    )]
    Namespace,
    /// A pattern without a wildcard, or with one in the wrong place.
    #[error(
        "a pattern needs `*` for one segment, or `**` as its last segment, after the namespace"
    )]
    Wildcard,
    /// The name cannot be decoded (bad percent escape, bad UTF-8, bad digits).
    #[error("the name is not of its form")]
    Malformed,
}

macro_rules! shared_str {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// The name of a channel: segments joined by `:`, such as `venue:42`.
///
/// At most [`MAX_CHANNEL_BYTES`] bytes of UTF-8, no empty segment, none that is `*` or `**`, no
/// control character; the first segment is the [`Namespace`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(Arc<str>);
shared_str!(ChannelName);

impl ChannelName {
    /// The personal channel of a user, `user:<id>`. Colons in the id are escaped, so that
    /// the id stays one segment.
    #[must_use]
    pub fn of_user(user: &UserId) -> Self {
        Self(format!("user:{}", escape_segment(user.as_str())).into())
    }

    /// Whose personal channel this is.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        let (namespace, segment) = self.0.split_once(':')?;
        let own = segment.replace("%3A", ":").replace("%2A", "*").replace("%25", "%");
        let user: UserId = own.parse().ok().filter(|_| namespace == "user")?;
        // Only the one spelling of it is a user's channel.
        (Self::of_user(&user) == *self).then_some(user)
    }

    /// The channel of everyone with a role, `role:<role>`.
    #[must_use]
    pub fn of_role(role: &Role) -> Self {
        Self(format!("role:{}", escape_segment(role.as_str())).into())
    }

    /// The channel on which the server tells who joins and leaves this one, `presence:<name>`;
    /// `None` where that would be too long for a name.
    #[must_use]
    pub fn presence(&self) -> Option<Self> {
        format!("{PRESENCE_NAMESPACE}:{}", self.0).parse().ok()
    }

    /// The first segment, on which all rules hang.
    #[must_use]
    pub fn namespace(&self) -> &str {
        first_segment(&self.0)
    }

    /// The segments, the namespace first.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split(':')
    }
}

impl FromStr for ChannelName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_segments(text)?;
        // Who writes `orders:*` means the pattern; a channel of that name would never get anything.
        if text.split(':').any(|segment| segment == "*" || segment == "**") {
            return Err(NameError::Wildcard);
        }
        Ok(Self(text.into()))
    }
}

/// A wildcard over channels: `orders:*` (one segment) or `orders:**` (one or more).
///
/// `*` may stand for any segment but the namespace, `**` only last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelPattern(Arc<str>);
shared_str!(ChannelPattern);

impl ChannelPattern {
    /// The first segment, on which all rules hang.
    #[must_use]
    pub fn namespace(&self) -> &str {
        first_segment(&self.0)
    }

    /// The segments, the namespace first, wildcards as `*` and `**`.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split(':')
    }

    /// Whether the channel is one of those the pattern stands for.
    #[must_use]
    pub fn matches(&self, channel: &ChannelName) -> bool {
        let mut names = channel.segments();
        for wanted in self.segments() {
            match (wanted, names.next()) {
                ("**", Some(_)) => return true,
                ("*", Some(_)) => {}
                (literal, Some(name)) if literal == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }
}

impl FromStr for ChannelPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_segments(text)?;
        let mut wild = false;
        let last = text.split(':').count() - 1;
        for (index, segment) in text.split(':').enumerate() {
            match segment {
                "*" if index > 0 => wild = true,
                "**" if index > 0 && index == last => wild = true,
                "*" | "**" => return Err(NameError::Wildcard),
                _ => {}
            }
        }
        if wild { Ok(Self(text.into())) } else { Err(NameError::Wildcard) }
    }
}

/// What a subscription asks for: one channel, or all that match a pattern.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interest {
    /// One channel.
    Channel(ChannelName),
    /// Every channel that matches.
    Pattern(ChannelPattern),
}

impl Interest {
    /// The first segment, on which all rules hang.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self {
            Self::Channel(name) => name.namespace(),
            Self::Pattern(pattern) => pattern.namespace(),
        }
    }

    /// Whether a message on this channel is wanted.
    #[must_use]
    pub fn matches(&self, channel: &ChannelName) -> bool {
        match self {
            Self::Channel(name) => name == channel,
            Self::Pattern(pattern) => pattern.matches(channel),
        }
    }

    /// What is watched by who is subscribed to this, in [`PRESENCE_NAMESPACE`].
    #[must_use]
    pub fn watched(&self) -> Option<Self> {
        let (namespace, rest) = self.as_str().split_once(':')?;
        if namespace != PRESENCE_NAMESPACE {
            return None;
        }
        match self {
            Self::Channel(_) => rest.parse().map(Self::Channel).ok(),
            Self::Pattern(_) => rest.parse().map(Self::Pattern).ok(),
        }
    }

    /// The channel name or pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Channel(name) => name.as_str(),
            Self::Pattern(pattern) => pattern.as_str(),
        }
    }
}

impl fmt::Display for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A channel's first segment: 1 to [`MAX_NAMESPACE_BYTES`] of `A-Z a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<str>);
shared_str!(Namespace);

impl FromStr for Namespace {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_namespace(text)?;
        Ok(Self(text.into()))
    }
}

/// The authenticated subject of a connection (`sub` or `userId` of its token).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);
shared_str!(UserId);

impl FromStr for UserId {
    type Err = NameError;

    /// Accepts what fits into a channel name as `user:<id>`, with colons escaped.
    fn from_str(text: &str) -> Result<Self, NameError> {
        check_channel_part("user:", text)?;
        Ok(Self(text.into()))
    }
}

/// A role of a user, as its token says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(Arc<str>);
shared_str!(Role);

impl FromStr for Role {
    type Err = NameError;

    /// Accepts what fits into a channel name as `role:<role>`, with colons escaped.
    fn from_str(text: &str) -> Result<Self, NameError> {
        check_channel_part("role:", text)?;
        Ok(Self(text.into()))
    }
}

/// What kind of thing a message says, such as `config_update`; 1 to [`MAX_EVENT_BYTES`] bytes
/// without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName(Arc<str>);
shared_str!(EventName);

impl FromStr for EventName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_text(text, MAX_EVENT_BYTES)?;
        Ok(Self(text.into()))
    }
}

/// Writes `text` as one channel segment: `:` and `%` become percent escapes, and a lone wildcard
/// does.
#[must_use]
pub fn escape_segment(text: &str) -> String {
    match text {
        "*" | "**" => text.replace('*', "%2A"),
        _ => text.replace('%', "%25").replace(':', "%3A"),
    }
}

fn first_segment(name: &str) -> &str {
    name.split_once(':').map_or(name, |(first, _)| first)
}

fn check_text(text: &str, limit: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > limit {
        return Err(NameError::TooLong(limit));
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    Ok(())
}

fn check_segments(text: &str) -> Result<(), NameError> {
    check_text(text, MAX_CHANNEL_BYTES)?;
    if text.split(':').any(str::is_empty) {
        return Err(NameError::EmptySegment);
    }
    check_namespace(first_segment(text))
}

fn check_namespace(text: &str) -> Result<(), NameError> {
    let fits = (1..=MAX_NAMESPACE_BYTES).contains(&text.len());
    if fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        Ok(())
    } else {
        Err(NameError::Namespace)
    }
}

fn check_channel_part(prefix: &str, text: &str) -> Result<(), NameError> {
    check_text(text, MAX_CHANNEL_BYTES)?;
    if prefix.len() + escape_segment(text).len() > MAX_CHANNEL_BYTES {
        return Err(NameError::TooLong(MAX_CHANNEL_BYTES - prefix.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn channel_names_are_checked_once() {
        assert_eq!("venue:42".parse::<ChannelName>().unwrap().namespace(), "venue");
        assert_eq!("".parse::<ChannelName>(), Err(NameError::Empty));
        assert_eq!("a::b".parse::<ChannelName>(), Err(NameError::EmptySegment));
        assert_eq!(":a".parse::<ChannelName>(), Err(NameError::EmptySegment));
        assert_eq!("a:".parse::<ChannelName>(), Err(NameError::EmptySegment));
        assert_eq!("a:\u{0}".parse::<ChannelName>(), Err(NameError::Control));
        assert_eq!("a:\u{85}".parse::<ChannelName>(), Err(NameError::Control));
        assert_eq!("orders:*".parse::<ChannelName>(), Err(NameError::Wildcard));
        assert!("orders:*7".parse::<ChannelName>().is_ok());
        assert_eq!("a.b:c".parse::<ChannelName>(), Err(NameError::Namespace));
        let long = format!("a:{}", "x".repeat(MAX_CHANNEL_BYTES));
        assert_eq!(long.parse::<ChannelName>(), Err(NameError::TooLong(MAX_CHANNEL_BYTES)));
    }

    #[test]
    fn patterns_match_whole_segments() {
        let matches = |pattern: &str, channel: &str| {
            pattern.parse::<ChannelPattern>().unwrap().matches(&channel.parse().unwrap())
        };
        assert!(matches("orders:*", "orders:7"));
        assert!(!matches("orders:*", "orders"));
        assert!(!matches("orders:*", "orders:7:items"));
        assert!(!matches("orders:*", "ordersx:7"));
        assert!(matches("orders:**", "orders:7:items"));
        assert!(!matches("orders:**", "orders"));
        assert!(matches("orders:*:items", "orders:7:items"));
        assert!(!matches("orders:*:items", "orders:7:lines"));
    }

    #[test]
    fn patterns_need_their_wildcard_after_the_namespace() {
        for (text, error) in [
            ("orders:7", NameError::Wildcard),
            ("orders:**:a", NameError::Wildcard),
            ("*", NameError::Namespace),
            ("**:a", NameError::Namespace),
        ] {
            assert_eq!(text.parse::<ChannelPattern>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_user_id_stays_one_segment() {
        let user: UserId = "urn:user:7%".parse().unwrap();
        assert_eq!(ChannelName::of_user(&user).as_str(), "user:urn%3Auser%3A7%25");
        assert!("x".repeat(196).parse::<UserId>().is_err());
        assert!(":".repeat(66).parse::<UserId>().is_err());
    }

    proptest! {
        #[test]
        fn every_user_has_a_channel_of_their_own(a in "\\PC{1,60}", b in "\\PC{1,60}") {
            let (Ok(a), Ok(b)) = (a.parse::<UserId>(), b.parse::<UserId>()) else { return Ok(()) };
            let (ca, cb) = (ChannelName::of_user(&a), ChannelName::of_user(&b));
            prop_assert_eq!(a == b, ca == cb);
            prop_assert_eq!(ca.as_str().parse::<ChannelName>(), Ok(ca.clone()));
            prop_assert_eq!(ca.segments().count(), 2);
            prop_assert_eq!(ca.user(), Some(a));
        }
    }
}

//! Channel names as NATS subjects: readable, and never two names for one subject.
//!
//! `venue:42` is `fanfare.ch.venue.42`. Each byte outside `A-Z a-z 0-9 _ -` is written as `%` and
//! two upper-case hex digits, so no name holds a dot, a wildcard, a space or a control character
//! on the wire. Only this spelling is read back.
//!
//! Messages of a namespace with history are published to the same subjects; once they are stored,
//! they arrive on `fanfare.live.venue.42`.

use std::collections::HashSet;

use broker_core::{ChannelName, Interest, Namespace, NodeMark};

use crate::escape::{escape_into, is_plain};

/// The subjects under one prefix.
#[derive(Debug, Clone)]
pub(crate) struct Subjects {
    channels: String,
    live: String,
    requests: String,
    api: String,
    ask: String,
    gateways: String,
    with_history: HashSet<Namespace>,
}

impl Subjects {
    /// `None` if the prefix is not made of plain tokens.
    pub(crate) fn new(prefix: &str) -> Option<Self> {
        let plain = |token: &str| !token.is_empty() && token.bytes().all(is_plain);
        prefix.split('.').all(plain).then(|| Self {
            channels: format!("{prefix}.ch."),
            live: format!("{prefix}.live."),
            requests: format!("{prefix}.rq."),
            api: format!("{prefix}.api."),
            ask: format!("{prefix}.gw.ask"),
            gateways: format!("{prefix}.gw.of."),
            with_history: HashSet::new(),
        })
    }

    /// These namespaces have history.
    pub(crate) fn with_history<'a>(
        mut self,
        namespaces: impl Iterator<Item = &'a Namespace>,
    ) -> Self {
        self.with_history = namespaces.cloned().collect();
        self
    }

    /// What the subjects start with on which a namespace's messages arrive.
    fn arrivals(&self, namespace: &str) -> &str {
        if self.with_history.contains(namespace) { &self.live } else { &self.channels }
    }

    /// Both subjects of a namespace: of the channel of its name, and of all others.
    pub(crate) fn of_namespace(&self, namespace: &Namespace) -> [String; 2] {
        let own = format!("{}{namespace}", self.channels);
        [own.clone(), format!("{own}.>")]
    }

    /// What is published, as the source of what arrives; and as what it arrives.
    pub(crate) fn republished(&self) -> [String; 2] {
        [format!("{}>", self.channels), format!("{}>", self.live)]
    }

    /// Where messages of a channel are published.
    pub(crate) fn of_channel(&self, channel: &ChannelName) -> String {
        spell(&self.channels, channel.segments().map(Token::Literal))
    }

    /// What to subscribe to for an interest.
    pub(crate) fn of_interest(&self, interest: &Interest) -> String {
        let prefix = self.arrivals(interest.namespace());
        match interest {
            Interest::Channel(channel) => spell(prefix, channel.segments().map(Token::Literal)),
            Interest::Pattern(pattern) => spell(prefix, pattern.segments().map(Token::of)),
        }
    }

    /// Where the service at an address listens.
    pub(crate) fn of_request(&self, address: &ChannelName) -> String {
        spell(&self.requests, address.segments().map(Token::Literal))
    }

    /// The tokens after the prefix, if messages of their namespace arrive with this prefix.
    fn tokens<'a>(
        &self,
        subject: &'a str,
    ) -> Option<impl Iterator<Item = &'a str> + Clone + use<'a>> {
        let under = |prefix: &str| {
            let tokens = subject.strip_prefix(prefix)?.split('.');
            let namespace = tokens.clone().next()?;
            (self.arrivals(namespace) == prefix).then_some(tokens)
        };
        under(&self.channels).or_else(|| under(&self.live))
    }

    /// Which channel's messages arrive on a subject; `None` if it is none of a channel, or is
    /// spelled in another way than [`Subjects::of_interest`] does.
    pub(crate) fn channel(&self, subject: &str) -> Option<ChannelName> {
        join(self.tokens(subject)?)
    }

    /// Which channel's messages are published to a subject, as [`Subjects::of_channel`] spells it.
    pub(crate) fn published(&self, subject: &str) -> Option<ChannelName> {
        join(subject.strip_prefix(&self.channels)?.split('.'))
    }

    /// Which interest a subject was subscribed to for: the reverse of [`Subjects::of_interest`].
    pub(crate) fn interest(&self, subject: &str) -> Option<Interest> {
        let tokens = self.tokens(subject)?;
        if !tokens.clone().any(|token| matches!(token, "*" | ">")) {
            return self.channel(subject).map(Interest::Channel);
        }
        let mut segments = Vec::new();
        for token in tokens {
            let mut segment = Vec::new();
            match token {
                "*" => segment.push(b'*'),
                ">" => segment.extend(b"**"),
                literal => read(literal, &mut segment)?,
            }
            segments.push(String::from_utf8(segment).ok()?);
        }
        segments.join(":").parse().ok().map(Interest::Pattern)
    }

    /// The operation that an API subject names.
    pub(crate) fn operation<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(&self.api)
    }

    /// All subjects of the API.
    pub(crate) fn of_api(&self) -> String {
        format!("{}>", self.api)
    }

    /// Where questions to all gateways are published.
    pub(crate) fn of_ask(&self) -> &str {
        &self.ask
    }

    /// Where questions to this gateway alone are published.
    pub(crate) fn of_gateway(&self, node: NodeMark) -> String {
        format!("{}{node}", self.gateways)
    }
}

enum Token<'a> {
    Literal(&'a str),
    Wild(&'static str),
}

impl<'a> Token<'a> {
    fn of(segment: &'a str) -> Self {
        match segment {
            "*" => Self::Wild("*"),
            "**" => Self::Wild(">"),
            literal => Self::Literal(literal),
        }
    }
}

fn spell<'a>(prefix: &str, tokens: impl Iterator<Item = Token<'a>>) -> String {
    let mut subject = String::with_capacity(prefix.len() + 32);
    subject.push_str(prefix);
    for (index, token) in tokens.enumerate() {
        if index > 0 {
            subject.push('.');
        }
        match token {
            Token::Literal(text) => escape_into(&mut subject, text, is_plain),
            Token::Wild(wildcard) => subject.push_str(wildcard),
        }
    }
    subject
}

/// The channel of these tokens.
fn join<'a>(tokens: impl Iterator<Item = &'a str>) -> Option<ChannelName> {
    let mut name = Vec::new();
    for (index, token) in tokens.enumerate() {
        if index > 0 {
            name.push(b':');
        }
        read(token, &mut name)?;
    }
    std::str::from_utf8(&name).ok()?.parse().ok()
}

/// Appends a token's segment, if the token is spelled as [`spell`] does.
fn read(token: &str, name: &mut Vec<u8>) -> Option<()> {
    let mut bytes = token.bytes();
    while let Some(byte) = bytes.next() {
        if is_plain(byte) {
            name.push(byte);
            continue;
        }
        let (high, low) = (upper_hex(bytes.next()?)?, upper_hex(bytes.next()?)?);
        let escaped = high << 4 | low;
        // A colon would make two segments of one.
        if byte != b'%' || is_plain(escaped) || escaped == b':' {
            return None;
        }
        name.push(escaped);
    }
    Some(())
}

fn upper_hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use broker_core::{ChannelPattern, name::MAX_CHANNEL_BYTES};
    use proptest::prelude::*;

    use super::*;

    fn subjects() -> Subjects {
        Subjects::new("fanfare").unwrap()
    }

    #[test]
    fn names_are_readable_on_the_wire() {
        let subject = |name: &str| subjects().of_channel(&name.parse().unwrap());
        assert_eq!(subject("venue:42"), "fanfare.ch.venue.42");
        assert_eq!(subject("venue"), "fanfare.ch.venue");
        assert_eq!(subject("a:b.c"), "fanfare.ch.a.b%2Ec");
        assert_eq!(subject("a:é>*"), "fanfare.ch.a.%C3%A9%3E%2A");
        let wild = |text: &str| subjects().of_interest(&Interest::Pattern(text.parse().unwrap()));
        assert_eq!(wild("orders:*"), "fanfare.ch.orders.*");
        assert_eq!(wild("orders:*:a.b:**"), "fanfare.ch.orders.*.a%2Eb.>");
    }

    #[test]
    fn what_is_stored_arrives_elsewhere() {
        let namespace: Namespace = "venue".parse().unwrap();
        let subjects = subjects().with_history([&namespace].into_iter());
        let channel: ChannelName = "venue:42".parse().unwrap();
        assert_eq!(subjects.of_channel(&channel), "fanfare.ch.venue.42");
        for (text, subject) in
            [("venue:**", "fanfare.live.venue.>"), ("orders:*", "fanfare.ch.orders.*")]
        {
            let interest = Interest::Pattern(text.parse().unwrap());
            assert_eq!(subjects.of_interest(&interest), subject);
            assert_eq!(subjects.interest(subject), Some(interest));
        }
        assert_eq!(subjects.channel("fanfare.live.venue.42"), Some(channel));
        assert_eq!(subjects.channel("fanfare.ch.venue.42"), None, "it is not stored yet");
        assert_eq!(subjects.channel("fanfare.live.orders.42"), None, "it is not stored at all");
        let both = ["fanfare.ch.venue", "fanfare.ch.venue.>"].map(String::from);
        assert_eq!(subjects.of_namespace(&namespace), both);
    }

    #[test]
    fn only_one_spelling_is_read() {
        for subject in [
            "fanfare.ch.",
            "fanfare.ch.a.",
            "fanfare.ch.a..b",
            "fanfare.chx.a",
            "other.ch.a",
            "fanfare.ch.a.b%2ec",
            "fanfare.ch.a.%41",
            "fanfare.ch.a.b%3Ac",
            "fanfare.ch.a.b%2",
            "fanfare.ch.a.b c",
            "fanfare.ch.a.é",
            "fanfare.ch.a.%FF",
            "fanfare.ch.a.%00",
            "fanfare.ch.a%2E.b",
        ] {
            assert_eq!(subjects().channel(subject), None, "{subject}");
        }
        assert!(Subjects::new("a.b-c").is_some());
        for prefix in ["", "a.", "a b", "a.>", "*"] {
            assert!(Subjects::new(prefix).is_none(), "{prefix}");
        }
    }

    /// What a server does, written in the plainest way.
    fn naive_match(pattern: &[&str], subject: &[&str]) -> bool {
        match (pattern, subject) {
            ([], []) => true,
            ([">"], [_, ..]) => true,
            (["*", pattern @ ..], [_, subject @ ..]) => naive_match(pattern, subject),
            ([wanted, pattern @ ..], [token, subject @ ..]) => {
                wanted == token && naive_match(pattern, subject)
            }
            _ => false,
        }
    }

    fn channels() -> impl Strategy<Value = ChannelName> {
        let segment = prop_oneof![
            "[ab*>.% $:\u{e9}A-Z_-]{1,4}",
            "\\PC{1,12}",
            Just("*".to_owned()),
            Just("**".to_owned()),
        ];
        ("[ab]{1,2}", prop::collection::vec(segment, 0..4))
            .prop_filter_map("not a channel name", |(namespace, rest)| {
                [vec![namespace], rest].concat().join(":").parse().ok()
            })
    }

    fn patterns() -> impl Strategy<Value = ChannelPattern> {
        let segment =
            prop_oneof![Just("*"), Just("**"), Just("a"), Just("b"), Just("é"), Just(".")];
        ("[ab]", prop::collection::vec(segment, 1..4))
            .prop_filter_map("not a pattern", |(namespace, rest)| {
                [vec![namespace.as_str()], rest].concat().join(":").parse().ok()
            })
    }

    proptest! {
        #[test]
        fn a_subject_is_safe_and_is_read_back(channel in channels()) {
            let subject = subjects().of_channel(&channel);
            prop_assert!(subject.bytes().all(|b| is_plain(b) || b == b'%' || b == b'.'));
            prop_assert!(subject.split('.').all(|token| !token.is_empty()));
            prop_assert!(subject.len() <= "fanfare.ch.".len() + 3 * MAX_CHANNEL_BYTES);
            prop_assert_eq!(subjects().channel(&subject), Some(channel));
        }

        #[test]
        fn different_names_have_different_subjects(a in channels(), b in channels()) {
            prop_assert_eq!(a == b, subjects().of_channel(&a) == subjects().of_channel(&b));
        }

        #[test]
        fn what_is_read_is_spelled_the_same(text in "[a-c.%0-9A-F: ]{1,16}") {
            let subject = format!("fanfare.ch.{text}");
            if let Some(channel) = subjects().channel(&subject) {
                prop_assert_eq!(subjects().of_channel(&channel), subject);
            }
        }

        #[test]
        fn the_server_matches_as_the_pattern_does(pattern in patterns(), channel in channels()) {
            let wild = subjects().of_interest(&Interest::Pattern(pattern.clone()));
            let subject = subjects().of_channel(&channel);
            let interest = Interest::Pattern(pattern.clone());
            prop_assert_eq!(subjects().interest(&wild), Some(interest));
            let interest = Interest::Channel(channel.clone());
            prop_assert_eq!(subjects().interest(&subject), Some(interest));
            let (wild, subject): (Vec<_>, Vec<_>) =
                (wild.split('.').collect(), subject.split('.').collect());
            prop_assert_eq!(naive_match(&wild, &subject), pattern.matches(&channel));
        }
    }
}

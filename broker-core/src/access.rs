//! Who may do what: namespace rules on claims, as a pure function.

mod members;

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use crate::{
    code::ErrorCode,
    history::{History, Queue},
    message::Timestamp,
    name::{
        CONNECTION_NAMESPACE, ChannelName, Interest, NameError, Namespace, PRESENCE_NAMESPACE,
        Role, UserId, escape_segment,
    },
};

/// What a verified token, or whatever stands in its place, says of its bearer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The authenticated subject; `None` for an anonymous connection, and for one with a key.
    pub user: Option<UserId>,
    /// Which API key the bearer has shown, in place of being a user: text that no other key has.
    pub key: Option<Arc<str>>,
    /// The roles.
    pub roles: Vec<Role>,
    /// Further claims, where the configuration asks for them, as text.
    pub claims: BTreeMap<String, Vec<String>>,
    /// Channels and patterns that the token itself grants.
    pub grants: Vec<(Action, Interest)>,
    /// When the token stops being valid.
    pub expires: Option<Timestamp>,
}

impl Identity {
    /// Whether the bearer has shown anything at all.
    #[must_use]
    pub const fn is_authenticated(&self) -> bool {
        self.user.is_some() || self.key.is_some()
    }
}

/// An operation that the rules of a namespace decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Subscribe to one channel.
    Subscribe,
    /// Subscribe to a pattern.
    Wildcard,
    /// Publish to a channel.
    Publish,
    /// Send a request to a service.
    Request,
    /// See who is in a channel.
    Members,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subscribe => "subscribe to",
            Self::Wildcard => "subscribe by wildcard to",
            Self::Publish => "publish to",
            Self::Request => "send requests to",
            Self::Members => "see the members of",
        })
    }
}

/// Why an operation was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The namespace is not declared.
    #[error("the namespace `{0}` is not declared; declare it in the configuration")]
    UnknownNamespace(String),
    /// Only the server subscribes connections to these channels.
    #[error("channels of `{0}` are subscribed by the server, from the token")]
    ServerOnly(String),
    /// These channels are each for one connection.
    #[error("in `{CONNECTION_NAMESPACE}:` a connection can subscribe to its own id alone")]
    NotItself,
    /// On these channels the server tells who joins and leaves others.
    #[error("`{PRESENCE_NAMESPACE}:` with a channel's name can be subscribed to, nothing else")]
    Announcements,
    /// Nobody keeps account of who is in the channel.
    #[error("presence is off for `{0}`")]
    NoPresence(String),
    /// No term of the rule holds for this identity.
    #[error("to {action} `{name}` you need {needed}")]
    Rule {
        /// What was asked for.
        action: Action,
        /// On which channel or pattern.
        name: String,
        /// The terms of the rule, one of which would do.
        needed: String,
    },
}

impl Denied {
    /// The code for the wire.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownNamespace(_) => ErrorCode::UnknownNamespace,
            Self::ServerOnly(_)
            | Self::NotItself
            | Self::Announcements
            | Self::NoPresence(_)
            | Self::Rule { .. } => ErrorCode::Forbidden,
        }
    }
}

/// One condition; see [`Term::from_str`] for how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// Everyone who is connected, with or without a token.
    Anyone,
    /// Everyone with a valid token or API key.
    Authenticated,
    /// Everyone with the role.
    Role(Role),
    /// The user with this id.
    User(Value),
    /// Everyone whose claim has, or holds in its list, the value.
    Claim(String, Value),
    /// Everyone whose token grants the action on the channel.
    Granted,
}

/// What a term compares with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// This text.
    Text(String),
    /// The channel's segment with this index; the namespace has index 0.
    Segment(usize),
}

/// Why a term of a rule cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a rule term: write anyone, authenticated, granted, role:NAME, user:ID, user:{{1}}, claim:NAME=VALUE or claim:NAME={{1}}"
)]
pub struct TermError(String);

impl FromStr for Term {
    type Err = TermError;

    fn from_str(text: &str) -> Result<Self, TermError> {
        let error = || TermError(text.to_owned());
        match text {
            "anyone" => return Ok(Self::Anyone),
            "authenticated" => return Ok(Self::Authenticated),
            "granted" => return Ok(Self::Granted),
            _ => {}
        }
        let (kind, rest) = text.split_once(':').ok_or_else(error)?;
        match kind {
            "role" => rest.parse().map(Self::Role).map_err(|_| error()),
            "user" if !rest.is_empty() => Ok(Self::User(value(rest).ok_or_else(error)?)),
            "claim" => {
                let (name, wanted) = rest.split_once('=').ok_or_else(error)?;
                if name.is_empty() {
                    return Err(error());
                }
                Ok(Self::Claim(name.to_owned(), value(wanted).ok_or_else(error)?))
            }
            _ => Err(error()),
        }
    }
}

fn value(text: &str) -> Option<Value> {
    match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(index) => index.parse().ok().map(Value::Segment),
        None => Some(Value::Text(text.to_owned())),
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Authenticated => f.write_str("authenticated"),
            Self::Granted => f.write_str("granted"),
            Self::Role(role) => write!(f, "role:{role}"),
            Self::User(value) => write!(f, "user:{value}"),
            Self::Claim(name, value) => write!(f, "claim:{name}={value}"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Segment(index) => write!(f, "{{{index}}}"),
        }
    }
}

/// A rule: any one of its terms is enough; without terms, nobody may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule(pub Vec<Term>);

impl Rule {
    fn check(
        &self,
        identity: &Identity,
        action: Action,
        interest: &Interest,
    ) -> Result<(), Denied> {
        if self.allows(identity, action, interest) {
            return Ok(());
        }
        Err(Denied::Rule { action, name: interest.to_string(), needed: self.to_string() })
    }

    fn allows(&self, identity: &Identity, action: Action, interest: &Interest) -> bool {
        self.0.iter().any(|term| term.holds(identity, action, interest))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("what no rule gives: nobody may");
        }
        for (index, term) in self.0.iter().enumerate() {
            let joint = if index == 0 { "" } else { " or " };
            write!(f, "{joint}{term}")?;
        }
        Ok(())
    }
}

impl Term {
    fn holds(&self, identity: &Identity, action: Action, interest: &Interest) -> bool {
        match self {
            Self::Anyone => true,
            Self::Authenticated => identity.is_authenticated(),
            Self::Role(role) => identity.roles.contains(role),
            Self::User(value) => {
                identity.user.as_ref().is_some_and(|user| value.equals(user.as_str(), interest))
            }
            Self::Claim(name, value) => identity
                .claims
                .get(name)
                .is_some_and(|held| held.iter().any(|held| value.equals(held, interest))),
            Self::Granted => identity
                .grants
                .iter()
                .any(|(granted, what)| *granted == action && grants(what, interest)),
        }
    }
}

impl Value {
    /// Compares a claim with the value. A wildcard segment of a pattern equals no claim, else a
    /// claim of `*` would open everything.
    fn equals(&self, held: &str, interest: &Interest) -> bool {
        match (self, interest) {
            (Self::Text(text), _) => text == held,
            (Self::Segment(index), Interest::Channel(name)) => {
                name.segments().nth(*index) == Some(&*escape_segment(held))
            }
            (Self::Segment(index), Interest::Pattern(pattern)) => {
                pattern.segments().nth(*index).is_some_and(|segment| {
                    segment != "*" && segment != "**" && segment == escape_segment(held)
                })
            }
        }
    }
}

/// Whether what a token grants covers what is asked for. A pattern covers the channels it
/// matches; for a wildcard subscription the very pattern must be granted.
fn grants(granted: &Interest, wanted: &Interest) -> bool {
    granted == wanted || matches!(wanted, Interest::Channel(name) if granted.matches(name))
}

/// The rules of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceRules {
    /// Who may subscribe to its channels.
    pub subscribe: Rule,
    /// Who may subscribe to patterns over its channels.
    pub wildcard: Rule,
    /// Who may publish to its channels.
    pub publish: Rule,
    /// Who may send requests to its services.
    pub request: Rule,
    /// What is kept of its channels.
    pub history: Option<History>,
    /// Whether there are snapshots of it; only with `history`.
    pub retained: bool,
    /// How messages for users who are away are queued; for `user` only.
    pub queue: Option<Queue>,
    /// Whether account is kept of who is in its channels.
    pub presence: bool,
    /// Who may see that; `None`: who may subscribe.
    pub members: Option<Rule>,
}

/// All declared namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// The rules by namespace.
    pub declared: BTreeMap<Namespace, NamespaceRules>,
    /// The rules for namespaces that are not declared; `None` refuses them.
    pub fallback: Option<NamespaceRules>,
    /// Channels that every connection is subscribed to, from its claims.
    pub on_connect: Vec<ChannelTemplate>,
}

/// Namespaces that need no declaration: their channels belong to whom they name, and nobody else
/// is subscribed to them.
pub const SERVER_NAMESPACES: [&str; 3] = ["user", "role", CONNECTION_NAMESPACE];

impl Namespaces {
    /// Decides whether the identity may do this.
    ///
    /// # Errors
    ///
    /// [`Denied`] says what would be needed.
    pub fn authorize(
        &self,
        identity: &Identity,
        action: Action,
        interest: &Interest,
    ) -> Result<(), Denied> {
        let namespace = interest.namespace();
        let subscribes = matches!(action, Action::Subscribe | Action::Wildcard);
        if namespace == PRESENCE_NAMESPACE {
            let watched = interest.watched().filter(|_| subscribes);
            return self.authorize_members(identity, &watched.ok_or(Denied::Announcements)?);
        }
        if subscribes {
            check_owned(namespace)?;
        }
        let rules = self.declared_rules(namespace)?;
        let rule = match action {
            Action::Subscribe => &rules.subscribe,
            Action::Wildcard => &rules.wildcard,
            Action::Publish => &rules.publish,
            Action::Request => &rules.request,
            Action::Members => return self.authorize_members(identity, interest),
        };
        rule.check(identity, action, interest)
    }

    /// Decides whether the server may subscribe a connection to this. No rule is asked, but there
    /// must be something to subscribe to, and nobody is subscribed to what is another's.
    ///
    /// # Errors
    ///
    /// [`Denied`] says what is wrong with it.
    pub fn admit(&self, interest: &Interest) -> Result<(), Denied> {
        let namespace = interest.namespace();
        check_owned(namespace)?;
        if namespace == PRESENCE_NAMESPACE {
            let watched = interest.watched().ok_or(Denied::Announcements)?;
            return self.check_presence(&watched).map(|_| ());
        }
        self.declared_rules(namespace).map(|_| ())
    }

    /// Whether messages may be published to this namespace at all, by services for instance.
    #[must_use]
    pub fn knows(&self, namespace: &str) -> bool {
        SERVER_NAMESPACES.contains(&namespace)
            || namespace != PRESENCE_NAMESPACE && self.rules(namespace).is_some()
    }

    /// The channels that a new connection is subscribed to by the server.
    #[must_use]
    pub fn channels_on_connect(&self, identity: &Identity) -> Vec<ChannelName> {
        let user = identity.user.iter().map(ChannelName::of_user);
        let roles = identity.roles.iter().map(ChannelName::of_role);
        let configured = self.on_connect.iter().filter_map(|template| template.fill(identity));
        let mut channels = Vec::new();
        for channel in user.chain(roles).chain(configured) {
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        channels
    }

    /// What is kept of a namespace's channels.
    #[must_use]
    pub fn history(&self, namespace: &str) -> Option<&History> {
        self.declared.get(namespace)?.history.as_ref()
    }

    /// Whether there are snapshots of the namespace.
    #[must_use]
    pub fn retains(&self, namespace: &str) -> bool {
        self.declared.get(namespace).is_some_and(|rules| rules.retained)
    }

    /// How messages are queued for the user whose channel this is; `None` where they are not.
    #[must_use]
    pub fn queue_of(&self, channel: &ChannelName) -> Option<&Queue> {
        self.declared.get(channel.namespace())?.queue.as_ref()
    }

    fn declared_rules(&self, namespace: &str) -> Result<&NamespaceRules, Denied> {
        self.rules(namespace).ok_or_else(|| Denied::UnknownNamespace(namespace.to_owned()))
    }

    fn rules(&self, namespace: &str) -> Option<&NamespaceRules> {
        self.declared.get(namespace).or(self.fallback.as_ref())
    }
}

fn check_owned(namespace: &str) -> Result<(), Denied> {
    match namespace {
        CONNECTION_NAMESPACE => Err(Denied::NotItself),
        _ if SERVER_NAMESPACES.contains(&namespace) => {
            Err(Denied::ServerOnly(namespace.to_owned()))
        }
        _ => Ok(()),
    }
}

/// A channel name with variables, such as `org:{claim.org}`; each fills exactly one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelTemplate(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    User,
    Claim(String),
}

impl ChannelTemplate {
    /// The channel for this identity; `None` where it lacks a claim, or has several values for it.
    #[must_use]
    pub fn fill(&self, identity: &Identity) -> Option<ChannelName> {
        let segments: Option<Vec<String>> = self
            .0
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => Some(text.clone()),
                Segment::User => identity.user.as_ref().map(|user| escape_segment(user.as_str())),
                Segment::Claim(name) => match identity.claims.get(name).map(Vec::as_slice) {
                    Some([single]) => Some(escape_segment(single)),
                    _ => None,
                },
            })
            .collect();
        segments?.join(":").parse().ok()
    }
}

impl FromStr for ChannelTemplate {
    type Err = NameError;

    /// Segments are literal text, `{user}` or `{claim.NAME}`; the first, the namespace, is literal.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let segments: Vec<Segment> = text
            .split(':')
            .map(|segment| match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                Some("user") => Ok(Segment::User),
                Some(name) => match name.strip_prefix("claim.") {
                    Some(name) if !name.is_empty() => Ok(Segment::Claim(name.to_owned())),
                    _ => Err(NameError::Malformed),
                },
                None if segment.contains(['{', '}']) => Err(NameError::Malformed),
                None => Ok(Segment::Literal(segment.to_owned())),
            })
            .collect::<Result<_, _>>()?;
        let sample: Vec<&str> = segments
            .iter()
            .map(|segment| if let Segment::Literal(text) = segment { text } else { "x" })
            .collect();
        let Some(Segment::Literal(_)) = segments.first() else {
            return Err(NameError::Namespace);
        };
        sample.join(":").parse::<ChannelName>()?;
        Ok(Self(segments))
    }
}

#[cfg(test)]
mod tests;

//! What travels from publisher to subscriber.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    id::{ConnectionId, MessageId},
    name::{ChannelName, EventName, UserId},
    position::{Epoch, Fingerprint, Offset, Position},
};

/// Wall-clock time in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// Text that was checked to be exactly one JSON value.
///
/// Subscribers' frames embed it as it is, so whoever makes one vouches for the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonText(Bytes);

impl JsonText {
    /// Wraps text that a JSON parser has accepted as one value, in UTF-8.
    #[must_use]
    pub fn from_checked(text: Bytes) -> Self {
        Self(text)
    }

    /// The JSON text.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// The body of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A JSON value.
    Json(JsonText),
    /// Bytes that mean something to the application only.
    Binary(Bytes),
}

impl Data {
    /// Size of the body in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Json(text) => text.0.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether the body has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One publication on one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The publisher's id, or one made by the first gateway that saw the message.
    pub id: MessageId,
    /// Where it was published.
    pub channel: ChannelName,
    /// What kind of thing it says.
    pub event: Option<EventName>,
    /// The body.
    pub data: Data,
    /// When the first gateway accepted it; for a message that a service put on the bus itself,
    /// when this gateway received it.
    pub time: Timestamp,
    /// Its place in the channel's log, where there is one.
    pub stored: Option<Stored>,
    /// What few messages have.
    pub options: Option<Box<Options>>,
}

/// A message's place in its channel's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The log.
    pub epoch: Epoch,
    /// The message's number in it.
    pub offset: Offset,
    /// The number of the channel's message before it; `None` where that is not known, because
    /// there was none, or it is not kept any more.
    pub previous: Option<Offset>,
}

/// Who publishes. One publisher's message ids mean one message each, for as long as the log
/// remembers them; another's may be the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Publisher {
    /// A user, over whichever connection.
    User(UserId),
    /// A connection without a user.
    Connection(ConnectionId),
    /// A service, by the name of its API key.
    Service(Arc<str>),
}

/// What few messages have, kept apart so that the others stay small.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Not to be delivered from this moment on.
    pub expires: Option<Timestamp>,
    /// Who must not get it.
    pub exclude: Exclude,
    /// All channels it was published to at once, in the publisher's order, where there are
    /// several: a connection takes the copy of the first of them that it is subscribed to.
    pub targets: Option<Arc<[ChannelName]>>,
    /// W3C trace context (`traceparent`) of the publish.
    pub trace: Option<Arc<str>>,
}

/// Connections and users that a message must not reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exclude {
    /// Single connections, such as the sender's. A session's first one stands for all of its
    /// connections.
    pub connections: Vec<ConnectionId>,
    /// Every connection of these users.
    pub users: Vec<UserId>,
}

impl Exclude {
    /// Whether nobody is excluded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.users.is_empty()
    }

    /// Whether the connection must not get the message.
    #[must_use]
    pub fn covers(&self, connection: ConnectionId, user: Option<&UserId>) -> bool {
        self.connections.contains(&connection) || user.is_some_and(|user| self.users.contains(user))
    }
}

impl Message {
    /// Where it stands in its channel's log, where there is one.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        let Stored { epoch, offset, .. } = self.stored?;
        Some(Position { epoch, offset, fingerprint: Some(Fingerprint::of(&self.id)) })
    }

    /// The channels that a connection must not be subscribed to for this copy to be its copy.
    #[must_use]
    pub fn earlier_targets(&self) -> &[ChannelName] {
        let Some(targets) = self.options.as_ref().and_then(|o| o.targets.as_ref()) else {
            return &[];
        };
        let own = targets.iter().position(|target| *target == self.channel).unwrap_or(0);
        &targets[..own]
    }

    /// Whether the message must no longer be delivered at `now`.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.options.as_ref().and_then(|o| o.expires).is_some_and(|at| at <= now)
    }
}

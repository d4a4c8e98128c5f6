//! What is spoken to the server under test.

use broker_protocol::ws::Opcode;

mod fanfare;
mod floor;
mod socketio;
mod template;

pub(crate) use fanfare::Fanfare;
pub(crate) use template::Template;

/// One end of a connection: who it is and what it is for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    pub(crate) user: String,
    pub(crate) token: Option<String>,
    /// The channel to subscribe to; none if it only publishes.
    pub(crate) channel: Option<Channel>,
    /// What the server knows it by when it comes back, where the protocol has such a thing.
    pub(crate) session: Option<String>,
    /// Where it stands in its channel, as the server says it: from there on it wants what it missed.
    pub(crate) place: Option<String>,
    /// After how many milliseconds the server wants it back.
    pub(crate) after: Option<u64>,
}

/// A channel by name and by number.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    pub(crate) number: u32,
    pub(crate) name: String,
}

/// A frame to be sent.
pub(crate) type Payload = Vec<u8>;

/// A message to be published.
#[derive(Debug)]
pub(crate) struct Publication<'a> {
    pub(crate) client: &'a Client,
    pub(crate) channel: &'a Channel,
    /// Counts the connection's frames.
    pub(crate) number: u64,
    pub(crate) message: &'a [u8],
}

/// What a frame without a message of ours means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The connection stands.
    Connected,
    /// The same, under a name to come back with; and whether it goes on, subscriptions and all, if it came back.
    ConnectedAs(String, Option<bool>),
    /// The subscription is live.
    Subscribed,
    /// The same, in a channel with history: where it starts, and whether nothing is missing before.
    SubscribedAt(String, Option<bool>),
    /// The connection is about to end; the client is wanted back after so many milliseconds.
    ComeBack(u64),
    /// The server refuses something, or says that messages may be missing.
    Refused(String),
    /// To be answered by this.
    Answer(Payload),
    /// Nothing that matters here.
    Other,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    Connected,
    Subscribed,
    Nothing,
}

/// A protocol. A closed set: what is not built in is a [`Template`].
#[derive(Debug)]
pub(crate) enum Target {
    Fanfare(Fanfare),
    /// Fanfare's, to unmodified clients.
    SocketIo,
    Floor,
    Template(Box<Template>),
}

impl Target {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Fanfare(_) => "fanfare",
            Self::SocketIo => "fanfare-socketio",
            Self::Floor => "floor",
            Self::Template(template) => &template.name,
        }
    }

    /// The URL where none is given.
    pub(crate) fn default_url(&self) -> Option<&str> {
        match self {
            Self::Fanfare(_) => Some("ws://127.0.0.1:8080/ws"),
            Self::SocketIo => Some("ws://127.0.0.1:8080/socket.io/?EIO=4&transport=websocket"),
            Self::Floor => None,
            Self::Template(template) => template.url.as_deref(),
        }
    }

    /// Whether compression is part of what is measured, unasked.
    pub(crate) const fn offers_deflate(&self) -> bool {
        match self {
            Self::Template(template) => template.compression,
            Self::Fanfare(_) | Self::SocketIo | Self::Floor => false,
        }
    }

    /// The kind of frame that is sent.
    pub(crate) const fn opcode(&self) -> Opcode {
        match self {
            Self::Template(template) if template.binary => Opcode::Binary,
            Self::Fanfare(_) | Self::SocketIo | Self::Floor | Self::Template(_) => Opcode::Text,
        }
    }

    /// The path of the handshake; `url_path` is that of the URL.
    pub(crate) fn path(&self, client: &Client, url_path: &str) -> String {
        match self {
            Self::Floor => floor::path(client),
            Self::Fanfare(_) | Self::SocketIo | Self::Template(_) => url_path.to_owned(),
        }
    }

    /// Header lines of the handshake beyond the usual, each with its line end.
    pub(crate) fn headers(&self, client: &Client) -> String {
        match self {
            Self::Fanfare(_) => fanfare::HEADERS.to_owned(),
            Self::SocketIo | Self::Floor => String::new(),
            Self::Template(template) => template.headers(client),
        }
    }

    /// What to send after the handshake. `number` counts a connection's frames.
    pub(crate) fn greeting(&self, client: &Client, number: &mut u64) -> Vec<Payload> {
        match self {
            Self::Fanfare(_) => fanfare::greeting(client),
            Self::SocketIo | Self::Floor => Vec::new(),
            Self::Template(template) => template.greeting(client, number),
        }
    }

    /// Whether [`Meaning::Connected`] will come.
    pub(crate) const fn says_connected(&self) -> bool {
        match self {
            Self::Fanfare(_) | Self::SocketIo => true,
            Self::Floor => false,
            Self::Template(template) => template.says_connected(),
        }
    }

    /// What to send once the connection stands, to subscribe.
    pub(crate) fn subscription(&self, client: &Client, number: &mut u64) -> Option<Payload> {
        match self {
            Self::Fanfare(_) | Self::Floor => None,
            Self::SocketIo => socketio::subscription(client),
            Self::Template(template) => template.subscription(client, number),
        }
    }

    /// Whether [`Meaning::Subscribed`] will come to who subscribes.
    pub(crate) const fn says_subscribed(&self) -> bool {
        match self {
            Self::Fanfare(_) | Self::SocketIo => true,
            Self::Floor => false,
            Self::Template(template) => template.says_subscribed(),
        }
    }

    /// Appends the frame that publishes this.
    pub(crate) fn publish(&self, out: &mut Payload, publication: &Publication<'_>) {
        let Publication { channel, message, .. } = publication;
        match self {
            Self::Fanfare(fanfare) => fanfare.publish(out, channel, message),
            Self::SocketIo => socketio::publish(out, channel, message),
            Self::Floor => floor::publish(out, channel, message),
            Self::Template(template) => template.publish(out, publication),
        }
    }

    /// What a frame without a message of ours means.
    pub(crate) fn read(&self, frame: &[u8], client: &Client, awaited: Awaited) -> Meaning {
        match self {
            Self::Fanfare(_) => fanfare::read(frame),
            Self::SocketIo => socketio::read(frame, client),
            Self::Floor => Meaning::Other,
            Self::Template(template) => template.read(frame, client, awaited),
        }
    }

    /// An answer that is due to something in a frame that also holds messages.
    pub(crate) fn answer_beside_messages(&self, frame: &[u8], client: &Client) -> Option<Payload> {
        match self {
            Self::Fanfare(_) | Self::SocketIo | Self::Floor => None,
            Self::Template(template) => template.answer(frame, client),
        }
    }

    /// Where a client stands after a frame with a message, where the protocol says it.
    pub(crate) fn place<'a>(&self, frame: &'a [u8]) -> Option<&'a str> {
        match self {
            Self::Fanfare(_) => fanfare::place(frame),
            Self::SocketIo => socketio::place(frame),
            Self::Floor | Self::Template(_) => None,
        }
    }
}

//! The form of the server's frames. The only module that knows serde on the client's side.

use std::{borrow::Cow, str::FromStr, time::Duration};

use broker_core::{
    Data, Interest, JsonText, Message, Position, Timestamp,
    code::Retry,
    history::Start,
    message::Stored,
    name::NameError,
    ports::{Accepted, Member, MemberCount, MemberInfo, MemberPage},
    session::{Connected, Present, Token},
};
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{ServerError, ServerFrame};
use crate::native::payload::SplitError;

/// Why a frame from the server cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad frame from the server: {0}")]
pub struct BadFrame(String);

impl From<SplitError> for BadFrame {
    fn from(error: SplitError) -> Self {
        Self(error.to_string())
    }
}

/// Every member that any frame has: internally tagged enums cannot hold a [`RawValue`].
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    id: Option<u64>,
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pattern: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    time: Option<u64>,
    #[serde(borrow)]
    position: Option<Cow<'a, str>>,
    recovered: Option<bool>,
    replayed: Option<usize>,
    duplicate: Option<bool>,
    evicted: Option<u64>,
    expired: Option<u64>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    connection: Option<String>,
    user: Option<String>,
    expires: Option<u64>,
    channels: Option<Vec<String>>,
    ping: Option<u64>,
    max_message: Option<u64>,
    version: Option<u32>,
    resumed: Option<bool>,
    session: Option<String>,
    code: Option<String>,
    text: Option<String>,
    retry: Option<String>,
    reason: Option<String>,
    #[serde(rename = "in")]
    left: Option<u64>,
    after: Option<u64>,
    users: Option<u64>,
    connections: Option<u64>,
    members: Option<Vec<WireMember<'a>>>,
    next: Option<String>,
}

/// One of the members of a channel.
#[derive(Deserialize)]
struct WireMember<'a> {
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow)]
    connection: Option<Cow<'a, str>>,
    connections: Option<u64>,
    since: u64,
}

/// Tells `null`, which is data, from no data.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

pub(super) fn parse(json: &str, binary: Option<&[u8]>) -> Result<ServerFrame, BadFrame> {
    let wire: Wire<'_> = match serde_json::from_str(json) {
        Ok(wire) => wire,
        Err(error) => return unknown(json).ok_or_else(|| BadFrame(error.to_string())),
    };
    let id = wire.id;
    Ok(match &*wire.kind {
        "connected" => ServerFrame::Connected {
            id,
            connected: Box::new(wire.connected()?),
            version: need(wire.version, "version")?,
        },
        "refreshed" => ServerFrame::Refreshed { id, expires: wire.expires.map(Timestamp) },
        "subscribed" => {
            let interest = need(wire.interest()?, "channel")?;
            ServerFrame::Subscribed { id, interest, start: wire.start()? }
        }
        "unsubscribed" => {
            ServerFrame::Unsubscribed { id, interest: need(wire.interest()?, "channel")? }
        }
        "published" => ServerFrame::Published {
            id,
            message: name(need(wire.message.as_deref(), "message")?, "message")?,
            accepted: Accepted {
                position: wire.position()?,
                duplicate: wire.duplicate.unwrap_or(false),
            },
        },
        "abandoned" => ServerFrame::Abandoned { id },
        "acked" => ServerFrame::Acked { id },
        "evicted" => ServerFrame::Evicted {
            evicted: need(wire.evicted, "evicted")?,
            expired: need(wire.expired, "expired")?,
            position: need(wire.position()?, "position")?,
        },
        "reply" => ServerFrame::Reply { id, data: wire.data(binary)? },
        "present" => ServerFrame::Present { id, present: Box::new(wire.present()?) },
        "pong" => ServerFrame::Pong { id },
        "error" => ServerFrame::Error(wire.error()?),
        "message" => ServerFrame::Message(wire.message(binary)?),
        "gap" => {
            ServerFrame::Gap { interest: wire.interest()?, reason: need(wire.reason, "reason")? }
        }
        "expiring" => ServerFrame::Expiring { left: Duration::from_millis(need(wire.left, "in")?) },
        "reconnect" => {
            ServerFrame::Reconnect { after: Duration::from_millis(need(wire.after, "after")?) }
        }
        kind => ServerFrame::Unknown { kind: kind.to_owned() },
    })
}

/// A type of a newer version may give members other types.
fn unknown(json: &str) -> Option<ServerFrame> {
    const KNOWN: &[&str] = &[
        "connected",
        "refreshed",
        "subscribed",
        "unsubscribed",
        "published",
        "abandoned",
        "acked",
        "evicted",
        "reply",
        "present",
        "pong",
        "error",
        "message",
        "gap",
        "expiring",
        "reconnect",
    ];
    let Kind { kind } = serde_json::from_str(json).ok()?;
    (!KNOWN.contains(&kind.as_str())).then_some(ServerFrame::Unknown { kind })
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

impl Wire<'_> {
    fn interest(&self) -> Result<Option<Interest>, BadFrame> {
        match (&self.channel, &self.pattern) {
            (Some(text), _) => name(text, "channel").map(Interest::Channel).map(Some),
            (None, Some(text)) => name(text, "pattern").map(Interest::Pattern).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn position(&self) -> Result<Option<Position>, BadFrame> {
        let read = |text: &str| text.parse().map_err(|_| BadFrame(format!("`position`: {text}")));
        self.position.as_deref().map(read).transpose()
    }

    fn start(&self) -> Result<Option<Start>, BadFrame> {
        let position = self.position()?;
        let (recovered, replayed) = (self.recovered, self.replayed);
        Ok(replayed.map(|replayed| Start { position, recovered, replayed }))
    }

    fn data(&self, binary: Option<&[u8]>) -> Result<Data, BadFrame> {
        match binary {
            Some(bytes) => Ok(Data::Binary(Bytes::copy_from_slice(bytes))),
            None => {
                let json = need(self.data, "data")?.get();
                let text = Bytes::copy_from_slice(json.as_bytes());
                Ok(Data::Json(JsonText::from_checked(text)))
            }
        }
    }

    fn message(&self, binary: Option<&[u8]>) -> Result<Message, BadFrame> {
        Ok(Message {
            id: name(need(self.message.as_deref(), "message")?, "message")?,
            channel: name(need(self.channel.as_deref(), "channel")?, "channel")?,
            event: self.event.as_deref().map(|event| name(event, "event")).transpose()?,
            data: self.data(binary)?,
            time: Timestamp(need(self.time, "time")?),
            stored: self.position()?.map(|Position { epoch, offset, .. }| Stored {
                epoch,
                offset,
                previous: None,
            }),
            options: None,
        })
    }

    fn connected(&self) -> Result<Connected, BadFrame> {
        let channels = need(self.channels.as_ref(), "channels")?;
        let bytes = need(self.max_message, "max_message")?;
        Ok(Connected {
            connection: name(need(self.connection.as_deref(), "connection")?, "connection")?,
            user: self.user.as_deref().map(|user| name(user, "user")).transpose()?,
            expires: self.expires.map(Timestamp),
            channels: channels
                .iter()
                .map(|channel| name(channel, "channels").map(Interest::Channel))
                .collect::<Result<_, _>>()?,
            ping_interval: Duration::from_millis(need(self.ping, "ping")?),
            message_bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            resumed: self.resumed.unwrap_or(false),
            session: self.session.clone().map(Token::new),
        })
    }

    fn present(self) -> Result<Present, BadFrame> {
        let members = self
            .members
            .map(|members| members.iter().map(WireMember::read).collect::<Result<_, _>>())
            .transpose()?;
        Ok(Present {
            channel: name(need(self.channel.as_deref(), "channel")?, "channel")?,
            count: MemberCount {
                users: need(self.users, "users")?,
                connections: need(self.connections, "connections")?,
            },
            page: members.map(|members| MemberPage { members, next: self.next }),
        })
    }

    fn error(self) -> Result<ServerError, BadFrame> {
        Ok(ServerError {
            id: self.id,
            code: need(self.code, "code")?,
            text: self.text.unwrap_or_default(),
            retry: match self.retry.as_deref() {
                Some("later") => Retry::Later,
                Some("unknown") => Retry::Unknown,
                _ => Retry::No,
            },
            message: self.message.as_deref().map(|id| name(id, "message")).transpose()?,
        })
    }
}

impl WireMember<'_> {
    fn read(&self) -> Result<MemberInfo, BadFrame> {
        let (member, connections) = match (&self.user, &self.connection) {
            (Some(user), _) => {
                (Member::User(name(user, "user")?), need(self.connections, "connections")?)
            }
            (None, connection) => {
                let id = need(connection.as_deref(), "connection")?;
                (Member::Anonymous(name(id, "connection")?), 1)
            }
        };
        Ok(MemberInfo { member, connections, since: Timestamp(self.since) })
    }
}

fn need<T>(value: Option<T>, member: &str) -> Result<T, BadFrame> {
    value.ok_or_else(|| BadFrame(format!("`{member}` is missing")))
}

fn name<T: FromStr<Err = NameError>>(text: &str, member: &str) -> Result<T, BadFrame> {
    text.parse().map_err(|error| BadFrame(format!("`{member}`: {error}")))
}

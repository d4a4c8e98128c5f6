//! What clients say.

use std::{borrow::Cow, str::FromStr, sync::Arc, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use broker_core::{
    ChannelName, Data, ErrorCode, Interest, JsonText, Position,
    name::NameError,
    position::NotAPosition,
    session::{
        Acks, Command, Failure, MembersQuery, Publish, Request, RequestId, Resumption, Rewind,
        ServiceCall, Since, Token,
    },
};
use bytes::Bytes;

use super::{
    nearest::nearest,
    payload,
    wire::{Member, Members, SHOWN_NAME, WrongType, read_array},
};
use crate::json;

/// Commands in one frame.
pub const MAX_COMMANDS: usize = 128;

/// Members of a channel in one answer.
pub const MAX_MEMBERS: usize = 1_000;
/// The same, where the client does not say.
const USUAL_MEMBERS: usize = 100;

/// Members that a later version will give a meaning.
const RESERVED_MEMBERS: &[&str] = &["recover"];
/// Commands that a later version will have.
const RESERVED_COMMANDS: &[&str] = &["recover", "rewind"];
/// What every command may have.
const COMMON: &[Member] = &[Member::Type, Member::Id, Member::Trace];

/// A command that cannot be carried out, because it is not of its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The command's number, where it could be read.
    pub id: RequestId,
    /// What is wrong, and what would be right.
    pub failure: Failure,
}

/// Decodes a text frame and calls `each` for every command in it, in order; at least once.
///
/// A frame that is not JSON, or holds more than [`MAX_COMMANDS`], is refused as a whole.
pub fn decode_text(frame: &str, mut each: impl FnMut(Result<Request, Malformed>)) {
    match frame.trim_start_matches(json::is_whitespace).as_bytes().first() {
        Some(b'{') => each(decode_object(frame, None)),
        Some(b'[') => match read_array(frame, MAX_COMMANDS) {
            Ok(Some(elements)) if !elements.is_empty() => {
                elements.into_iter().for_each(|element| each(decode_element(element)));
            }
            Ok(Some(_)) => each(Err(unreadable("the frame's array holds no command"))),
            Ok(None) => {
                let text = format!("a frame may hold {MAX_COMMANDS} commands: send several frames");
                each(Err(unreadable(text)));
            }
            Err(error) => {
                let text = format!("the frame is not JSON: {error}; nothing in it was done");
                each(Err(unreadable(text)));
            }
        },
        _ => each(Err(unreadable("a text frame is a JSON object, or an array of objects"))),
    }
}

/// Decodes a binary frame, which holds one command and its data.
pub fn decode_binary(frame: &[u8], mut each: impl FnMut(Result<Request, Malformed>)) {
    each(match payload::split(frame) {
        Ok((json, data)) if json.trim_start_matches(json::is_whitespace).starts_with('{') => {
            decode_object(json, Some(data))
        }
        Ok(_) => Err(unreadable("the JSON of a binary frame is one object")),
        Err(error) => Err(unreadable(error.to_string())),
    });
}

fn decode_element(json: &str) -> Result<Request, Malformed> {
    if json.starts_with('{') {
        decode_object(json, None)
    } else {
        Err(unreadable("each command in the frame's array must be an object"))
    }
}

fn decode_object(json: &str, binary: Option<&[u8]>) -> Result<Request, Malformed> {
    let members = Members::read(json)
        .map_err(|error| unreadable(format!("the command is not a JSON object: {error}")))?;
    let id = members.number(Member::Id, 0);
    let echoed = id.unwrap_or_default();
    id.map_err(wrong_type)
        .and_then(|id| Ok(Request { id, command: decode_command(&members, binary)? }))
        .map_err(|failure| Malformed { id: echoed, failure })
}

fn decode_command(members: &Members<'_>, binary: Option<&[u8]>) -> Result<Command, Failure> {
    let kind = Kind::of(members)?;
    check_members(kind, members, binary.is_some())?;
    let trace = trace(members)?;
    Ok(match kind {
        Kind::Connect => connect(members)?,
        Kind::Refresh => {
            Command::Refresh { token: token(members)?.ok_or_else(|| missing(kind, "`token`"))? }
        }
        Kind::Subscribe => {
            Command::Subscribe { interest: interest(kind, members)?, since: since(members)? }
        }
        Kind::Unsubscribe => Command::Unsubscribe { interest: interest(kind, members)? },
        Kind::Publish => Command::Publish(Publish {
            channel: channel(kind, members, Member::Channel)?,
            event: name(members, Member::Event)?,
            data: data(kind, members, binary)?,
            id: name(members, Member::Message)?,
            echo: members.flag(Member::Echo).map_err(wrong_type)?.unwrap_or(true),
            trace,
        }),
        Kind::Ack => Command::Acknowledge {
            position: position(members)?.ok_or_else(|| missing(kind, "`position`"))?,
        },
        Kind::Abandon => Command::Abandon { channel: channel(kind, members, Member::Channel)? },
        Kind::Request => Command::Call(ServiceCall {
            address: channel(kind, members, Member::Service)?,
            event: name(members, Member::Event)?,
            data: data(kind, members, binary)?,
            timeout: members
                .number(Member::Timeout, 1)
                .map_err(wrong_type)?
                .map(Duration::from_millis),
            trace,
        }),
        Kind::Presence => Command::Members(MembersQuery {
            channel: channel(kind, members, Member::Channel)?,
            cursor: text(members, Member::Cursor)?.map(Cow::into_owned),
            limit: limit(members)?,
        }),
        Kind::Ping => Command::Ping,
    })
}

/// The commands, by `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connect,
    Refresh,
    Subscribe,
    Unsubscribe,
    Publish,
    Abandon,
    Ack,
    Request,
    Presence,
    Ping,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Connect,
        Self::Refresh,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Publish,
        Self::Abandon,
        Self::Ack,
        Self::Request,
        Self::Presence,
        Self::Ping,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refresh => "refresh",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Publish => "publish",
            Self::Abandon => "abandon",
            Self::Ack => "ack",
            Self::Request => "request",
            Self::Presence => "presence",
            Self::Ping => "ping",
        }
    }

    /// What it may have beside [`COMMON`].
    const fn members(self) -> &'static [Member] {
        use Member::{
            Acks, Age, Channel, Cursor, Data, DataBase64, Echo, Event, Limit, Message, Pattern,
            Position, Rewind, RewindTime, Service, Session, Snapshot, Timeout, Token,
        };
        match self {
            Self::Connect => &[Token, Session, Acks],
            Self::Refresh => &[Token],
            Self::Ack => &[Position],
            Self::Subscribe => &[Channel, Pattern, Position, Age, Rewind, RewindTime, Snapshot],
            Self::Unsubscribe => &[Channel, Pattern],
            Self::Publish => &[Channel, Event, Message, Echo, Data, DataBase64],
            Self::Abandon => &[Channel],
            Self::Request => &[Service, Event, Timeout, Data, DataBase64],
            Self::Presence => &[Channel, Cursor, Limit],
            Self::Ping => &[],
        }
    }

    fn of(members: &Members<'_>) -> Result<Self, Failure> {
        let name = text(members, Member::Type)?
            .ok_or_else(|| bad_request("`type` is missing: it says which command this is"))?;
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| unknown_command(&name))
    }
}

fn unknown_command(name: &str) -> Failure {
    let shown: String = name.chars().take(SHOWN_NAME).collect();
    let text = if RESERVED_COMMANDS.contains(&name) {
        format!("the command `{shown}` is reserved for a later version of the protocol")
    } else if let Some(meant) = nearest(&shown, Kind::ALL.into_iter().map(Kind::name)) {
        format!("there is no command `{shown}`; did you mean `{meant}`?")
    } else {
        let names = Kind::ALL.map(Kind::name).join(", ");
        format!("there is no command `{shown}`; there are: {names}")
    };
    Failure::new(ErrorCode::UnknownCommand, text)
}

fn check_members(kind: Kind, members: &Members<'_>, binary: bool) -> Result<(), Failure> {
    if let Some(name) = &members.unknown {
        return Err(no_such_member(kind, name));
    }
    if let Some(member) = members.repeated {
        return Err(bad_request(format!("`{}` is there more than once", member.name())));
    }
    let allowed = kind.members();
    let stray = members.present().find(|it| !COMMON.contains(it) && !allowed.contains(it));
    if let Some(member) = stray {
        return Err(no_such_member(kind, member.name()));
    }
    if binary && !allowed.contains(&Member::Data) {
        let text = format!("`{}` has no data: send it in a text frame", kind.name());
        return Err(bad_request(text));
    }
    Ok(())
}

fn no_such_member(kind: Kind, name: &str) -> Failure {
    let names = || COMMON.iter().chain(kind.members()).map(|member| member.name());
    bad_request(if RESERVED_MEMBERS.contains(&name) {
        format!("`{name}` is reserved for a later version of the protocol")
    } else if let Some(meant) = nearest(name, names()) {
        format!("`{}` has no member `{name}`; did you mean `{meant}`?", kind.name())
    } else {
        let names = names().collect::<Vec<_>>().join(", ");
        format!("`{}` has no member `{name}`; it may have: {names}", kind.name())
    })
}

fn connect(members: &Members<'_>) -> Result<Command, Failure> {
    let (token, session) = (token(members)?, session(members)?);
    if token.is_some() && matches!(session, Resumption::From(_)) {
        let text = "`connect` takes either `token` or the secret of a `session`, not both";
        return Err(bad_request(text));
    }
    Ok(Command::Connect { token, acks: acks(members)?, session })
}

fn session(members: &Members<'_>) -> Result<Resumption, Failure> {
    match members.raw(Member::Session) {
        None | Some("false") => Ok(Resumption::Never),
        Some("true") => Ok(Resumption::Offered),
        Some(raw) if raw.starts_with('"') => {
            let secret = text(members, Member::Session)?.unwrap_or_default();
            Ok(Resumption::From(Token::new(secret.into_owned())))
        }
        Some(_) => Err(bad_request("`session` is true, false, or the secret of a session")),
    }
}

fn token(members: &Members<'_>) -> Result<Option<Token>, Failure> {
    Ok(text(members, Member::Token)?.map(|token| Token::new(token.into_owned())))
}

fn interest(kind: Kind, members: &Members<'_>) -> Result<Interest, Failure> {
    let one = "either `channel` or `pattern`";
    match (name(members, Member::Channel)?, name(members, Member::Pattern)?) {
        (Some(channel), None) => Ok(Interest::Channel(channel)),
        (None, Some(pattern)) => Ok(Interest::Pattern(pattern)),
        (None, None) => Err(missing(kind, one)),
        (Some(_), Some(_)) => Err(bad_request(format!("`{}` takes {one}, not both", kind.name()))),
    }
}

fn acks(members: &Members<'_>) -> Result<Acks, Failure> {
    match text(members, Member::Acks)?.as_deref() {
        None => Ok(Acks::default()),
        Some("client") => Ok(Acks::Client),
        Some("transport") => Ok(Acks::Transport),
        Some(_) => Err(bad_request("`acks` is `client` or `transport`")),
    }
}

fn position(members: &Members<'_>) -> Result<Option<Position>, Failure> {
    let position = text(members, Member::Position)?.map(|text| text.parse()).transpose();
    position.map_err(|error: NotAPosition| bad_request(format!("`position`: {error}")))
}

/// What of the past is asked for; `None` if nothing is.
fn since(members: &Members<'_>) -> Result<Option<Box<Since>>, Failure> {
    let millis = |member, least| {
        let number = members.number(member, least).map_err(wrong_type)?;
        Ok::<_, Failure>(number.map(Duration::from_millis))
    };
    let count = members.number(Member::Rewind, 1).map_err(wrong_type)?;
    let count = count.map(|count| Rewind::Messages(usize::try_from(count).unwrap_or(usize::MAX)));
    let time = millis(Member::RewindTime, 1)?.map(Rewind::For);
    let snapshot = members.flag(Member::Snapshot).map_err(wrong_type)?.unwrap_or(false);
    let mut asked = [count, time, snapshot.then_some(Rewind::Snapshot)].into_iter().flatten();
    let rewind = asked.next();
    if asked.next().is_some() {
        return Err(bad_request("one of `rewind`, `rewind_time` and `snapshot`, not several"));
    }
    let position = position(members)?;
    let since = Since { position, age: millis(Member::Age, 0)?, rewind };
    if since.age.is_some() && since.position.is_none() {
        return Err(bad_request("`age` is of a `position`: give both"));
    }
    Ok((!since.is_now()).then(|| Box::new(since)))
}

fn channel(kind: Kind, members: &Members<'_>, member: Member) -> Result<ChannelName, Failure> {
    name(members, member)?.ok_or_else(|| missing(kind, &format!("`{}`", member.name())))
}

/// How many members are asked for.
fn limit(members: &Members<'_>) -> Result<usize, Failure> {
    let limit = members.number(Member::Limit, 0).map_err(wrong_type)?;
    match limit.map(usize::try_from) {
        None => Ok(USUAL_MEMBERS),
        Some(Ok(limit)) if limit <= MAX_MEMBERS => Ok(limit),
        Some(_) => Err(bad_request(format!("`limit` is at most {MAX_MEMBERS}"))),
    }
}

/// Copies the data, once.
fn data(kind: Kind, members: &Members<'_>, binary: Option<&[u8]>) -> Result<Data, Failure> {
    if let Some(text) = text(members, Member::DataBase64)? {
        return base64_data(members, binary, &text);
    }
    match (members.raw(Member::Data), binary) {
        (None, Some(bytes)) => Ok(Data::Binary(Bytes::copy_from_slice(bytes))),
        (Some(json), None) if json::fits_depth(json) => {
            let text = Bytes::copy_from_slice(json.as_bytes());
            Ok(Data::Json(JsonText::from_checked(text)))
        }
        (Some(_), None) => {
            let text = format!("`data` nests deeper than {} levels", json::MAX_DEPTH);
            Err(bad_request(text))
        }
        (Some(_), Some(_)) => {
            Err(bad_request("in a binary frame, the data follows the JSON: leave out `data`"))
        }
        (None, None) => {
            let text = format!("`{}` needs `data`; null will do if there is none", kind.name());
            Err(bad_request(text))
        }
    }
}

/// Bytes in a text frame, for transports that have no other.
fn base64_data(members: &Members<'_>, binary: Option<&[u8]>, text: &str) -> Result<Data, Failure> {
    if members.raw(Member::Data).is_some() || binary.is_some() {
        return Err(bad_request("`data_base64` stands alone: leave out any other data"));
    }
    let bytes = BASE64_STANDARD
        .decode(text)
        .map_err(|error| bad_request(format!("`data_base64` is not base64: {error}")))?;
    Ok(Data::Binary(bytes.into()))
}

/// The form of W3C's `traceparent`, version 00. It is passed on in headers, so nothing else may
/// come through.
fn trace(members: &Members<'_>) -> Result<Option<Arc<str>>, Failure> {
    let Some(trace) = text(members, Member::Trace)? else { return Ok(None) };
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let nonzero = |part: &str| part.bytes().any(|byte| byte != b'0');
    let parts: Vec<&str> = trace.splitn(5, '-').collect();
    match parts[..] {
        ["00", id, parent, flags]
            if hex(id, 32)
                && nonzero(id)
                && hex(parent, 16)
                && nonzero(parent)
                && hex(flags, 2) =>
        {
            Ok(Some(trace.into()))
        }
        _ => Err(bad_request(
            "`trace` must be a W3C traceparent, 00-<32 hex digits>-<16 hex digits>-<2 hex digits>",
        )),
    }
}

fn name<T: FromStr<Err = NameError>>(
    members: &Members<'_>,
    member: Member,
) -> Result<Option<T>, Failure> {
    let Some(text) = text(members, member)? else { return Ok(None) };
    text.parse().map(Some).map_err(|error| {
        let text = match (member, error) {
            (Member::Message, NameError::Malformed) => {
                "`message` may hold only printable ASCII, without spaces".into()
            }
            _ => format!("`{}`: {error}", member.name()),
        };
        Failure::new(ErrorCode::InvalidName, text)
    })
}

fn text<'a>(members: &Members<'a>, member: Member) -> Result<Option<Cow<'a, str>>, Failure> {
    members.text(member).map_err(wrong_type)
}

fn wrong_type(wrong: WrongType) -> Failure {
    bad_request(wrong.to_string())
}

fn missing(kind: Kind, what: &str) -> Failure {
    bad_request(format!("`{}` needs {what}", kind.name()))
}

fn unreadable(text: impl Into<Cow<'static, str>>) -> Malformed {
    Malformed { id: None, failure: bad_request(text) }
}

fn bad_request(text: impl Into<Cow<'static, str>>) -> Failure {
    Failure::new(ErrorCode::BadRequest, text)
}

//! Messages, requests and answers as NATS headers and body.
//!
//! The body is the plain data; every header is optional. Values of `Fanfare-Event`,
//! `Fanfare-Exclude-Users` and `Fanfare-Targets`, and of the requests' `Fanfare-User` and
//! `Fanfare-Roles`, are percent-decoded; in lists, commas separate. `Fanfare-Expires` is a time in
//! ms since 1970, or `+5000`: that many ms after the message's time. A header that cannot be read
//! spoils its message: delivering it to those it excludes, or after its expiry, would be worse.

use std::{borrow::Cow, sync::Arc};

use async_nats::{HeaderMap, HeaderValue};
use broker_core::{
    ChannelName, Data, Epoch, JsonText, Message, MessageId, Timestamp,
    message::{Exclude, Options, Stored},
    ports::{RequestError, ServiceRequest},
};
use bytes::Bytes;
use serde::de::IgnoredAny;

use super::place::{Place, PlaceHeaders};
use crate::escape::escape_into;

const EVENT: &str = "Fanfare-Event";
const ID: &str = "Fanfare-Id";
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
const TIME: &str = "Fanfare-Time";
const EXPIRES: &str = "Fanfare-Expires";
const EXCLUDE_CONNECTIONS: &str = "Fanfare-Exclude-Connections";
const EXCLUDE_USERS: &str = "Fanfare-Exclude-Users";
const TARGETS: &str = "Fanfare-Targets";
const ENCODING: &str = "Fanfare-Encoding";
const TRACE: &str = "traceparent";
const USER: &str = "Fanfare-User";
const ROLES: &str = "Fanfare-Roles";
const CONNECTION: &str = "Fanfare-Connection";
const SERVICE_ERROR: &str = "Nats-Service-Error";
const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";

/// How the first line of a block of headers starts.
const VERSION: &str = "NATS/1.0";
const HEADERS: &str = "the block of headers";

/// Most names in one header's list.
const MAX_LIST: usize = 1024;
/// Longest trace context that is passed on.
const MAX_TRACE: usize = 128;

/// Why a message cannot be delivered: which part of it is not of its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not of its form")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// A message as it goes onto the wire.
pub(crate) fn encode(message: &Message) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    headers.insert(ID, message.id.as_str());
    headers.insert(TIME, HeaderValue::from(message.time.0));
    if let Some(event) = &message.event {
        headers.insert(EVENT, escape(event.as_str()));
    }
    if let Some(options) = &message.options {
        encode_options(&mut headers, options);
    }
    insert_encoding(&mut headers, &message.data);
    (headers, bytes_of(&message.data))
}

fn encode_options(headers: &mut HeaderMap, options: &Options) {
    if let Some(at) = options.expires {
        headers.insert(EXPIRES, HeaderValue::from(at.0));
    }
    let Exclude { connections, users } = &options.exclude;
    if !connections.is_empty() {
        let ids: Vec<String> = connections.iter().map(ToString::to_string).collect();
        headers.insert(EXCLUDE_CONNECTIONS, ids.join(","));
    }
    if !users.is_empty() {
        headers.insert(EXCLUDE_USERS, escape_list(users));
    }
    if let Some(targets) = &options.targets {
        headers.insert(TARGETS, escape_list(targets));
    }
    insert_trace(headers, options.trace.as_deref());
}

/// The headers and body of a request to a service.
pub(crate) fn encode_request(request: &ServiceRequest) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, request.caller.connection.to_string());
    if let Some(user) = &request.caller.user {
        headers.insert(USER, escape(user.as_str()));
    }
    if !request.caller.roles.is_empty() {
        headers.insert(ROLES, escape_list(&request.caller.roles));
    }
    if let Some(event) = &request.event {
        headers.insert(EVENT, escape(event.as_str()));
    }
    insert_trace(&mut headers, request.trace.as_deref());
    insert_encoding(&mut headers, &request.data);
    (headers, bytes_of(&request.data))
}

/// A message as it came, at `now`, with its block of headers, which is empty where it has none;
/// `random` makes an id where the publisher gave none.
pub(crate) fn decode(
    channel: ChannelName,
    headers: &[u8],
    body: Bytes,
    now: Timestamp,
    random: impl FnOnce() -> u128,
) -> Result<Message, Malformed> {
    let read = Read::block(headers)?;
    let id = read.id().unwrap_or_else(|| MessageId::random(random()));
    read.message(channel, body, Received { id, time: now, stored: None })
}

/// A message that came out of its channel's log, with the headers that say where it stands.
pub(super) fn decode_live(
    channel: ChannelName,
    headers: &[u8],
    body: Bytes,
    epoch: Epoch,
) -> Result<Message, Malformed> {
    let read = Read::block(headers)?;
    let place = read.place.place().ok_or(Malformed("the message's place in the log"))?;
    read.at(place, channel, body, epoch)
}

/// A message that was read from its channel's log, at this place.
pub(super) fn decode_stored(
    channel: ChannelName,
    headers: Option<&HeaderMap>,
    body: Bytes,
    (epoch, place): (Epoch, Place),
) -> Result<Message, Malformed> {
    Read::map(headers)?.at(place, channel, body, epoch)
}

/// The id of a message in its channel's log, from its block of headers.
pub(super) fn id_in_log(
    channel: &ChannelName,
    headers: &[u8],
    place: Place,
) -> Result<MessageId, Malformed> {
    Ok(Read::block(headers)?.id().unwrap_or_else(|| place.id(channel)))
}

/// As [`id_in_log`], from headers that were read before.
pub(super) fn id_in_map(
    channel: &ChannelName,
    headers: Option<&HeaderMap>,
    place: Place,
) -> Result<MessageId, Malformed> {
    Ok(Read::map(headers)?.id().unwrap_or_else(|| place.id(channel)))
}

/// When a message in its channel's log expires, if it says so in its headers.
pub(super) fn expires_in_log(
    headers: Option<&HeaderMap>,
    place: Place,
) -> Result<Option<Timestamp>, Malformed> {
    let read = Read::map(headers)?;
    Ok(read.expires.map(|expires| expires.after(read.time.unwrap_or(place.time()))))
}

/// A service's answer, from its headers and body.
pub(crate) fn decode_answer(
    headers: Option<&HeaderMap>,
    body: Bytes,
) -> Result<Data, RequestError> {
    let header =
        |name: &str| headers.and_then(|headers| headers.get(name)).map(HeaderValue::as_str);
    let (words, code) = (header(SERVICE_ERROR), header(SERVICE_ERROR_CODE));
    if words.is_some() || code.is_some() {
        let message = words.unwrap_or("the service refused").to_owned();
        return Err(RequestError::Refused {
            code: code.and_then(|code| code.parse().ok()),
            message,
        });
    }
    let encoding = header(ENCODING).map(Encoding::read).transpose();
    encoding.and_then(|encoding| read_body(encoding, body)).map_err(|malformed| {
        RequestError::Refused { code: None, message: format!("the answer's {malformed}") }
    })
}

/// Trace context and message id of a question.
pub(crate) fn decode_question(
    headers: Option<&HeaderMap>,
) -> (Option<Arc<str>>, Option<MessageId>) {
    let header =
        |name: &str| headers.and_then(|headers| headers.get(name)).map(HeaderValue::as_str);
    let id = header(MESSAGE_ID).and_then(|id| id.parse().ok());
    (header(TRACE).and_then(read_trace), id)
}

#[derive(Default)]
struct Read {
    id: Option<MessageId>,
    message_id: Option<MessageId>,
    event: Option<broker_core::EventName>,
    time: Option<Timestamp>,
    expires: Option<Expires>,
    encoding: Option<Encoding>,
    targets: Option<Vec<ChannelName>>,
    options: Options,
    place: PlaceHeaders,
}

/// What whoever received a message knows of it.
struct Received {
    id: MessageId,
    /// For a message that does not say it itself.
    time: Timestamp,
    stored: Option<Stored>,
}

enum Expires {
    At(Timestamp),
    After(u64),
}

impl Expires {
    /// For a message of this time.
    fn after(self, time: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::After(ms) => Timestamp(time.0.saturating_add(ms)),
        }
    }
}

#[derive(Clone, Copy)]
enum Encoding {
    Json,
    Binary,
}

impl Encoding {
    fn read(text: &str) -> Result<Self, Malformed> {
        match text {
            "json" => Ok(Self::Json),
            "binary" => Ok(Self::Binary),
            _ => Err(Malformed(ENCODING)),
        }
    }
}

impl Read {
    /// Lines of `name: value` after one with the version. A line that continues another is refused:
    /// nobody sends it, and what it continues would be read in part.
    fn block(block: &[u8]) -> Result<Self, Malformed> {
        let mut read = Self::default();
        if block.is_empty() {
            return Ok(read);
        }
        let block = std::str::from_utf8(block).map_err(|_| Malformed(HEADERS))?;
        let mut lines = block.split("\r\n");
        lines.next().filter(|line| line.starts_with(VERSION)).ok_or(Malformed(HEADERS))?;
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(Malformed(HEADERS))?;
            if name.starts_with([' ', '\t']) {
                return Err(Malformed(HEADERS));
            }
            read.header(name, value.trim())?;
        }
        Ok(read)
    }

    fn map(headers: Option<&HeaderMap>) -> Result<Self, Malformed> {
        let mut read = Self::default();
        for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
            for value in values {
                read.header(name.as_ref(), value.as_str().trim())?;
            }
        }
        Ok(read)
    }

    /// The id that the publisher gave, if any. What a gateway stored goes by an id of the
    /// gateway's in its log.
    fn id(&self) -> Option<MessageId> {
        self.id.clone().or_else(|| self.message_id.clone())
    }

    fn at(
        self,
        place: Place,
        channel: ChannelName,
        body: Bytes,
        epoch: Epoch,
    ) -> Result<Message, Malformed> {
        let id = self.id().unwrap_or_else(|| place.id(&channel));
        let stored = Some(place.stored(epoch));
        self.message(channel, body, Received { id, time: place.time(), stored })
    }

    fn message(
        mut self,
        channel: ChannelName,
        body: Bytes,
        Received { id, time, stored }: Received,
    ) -> Result<Message, Malformed> {
        let time = self.time.unwrap_or(time);
        self.options.expires = self.expires.map(|expires| expires.after(time));
        self.options.targets = self.targets.map(Into::into);
        let options = (self.options != Options::default()).then(|| Box::new(self.options));
        let data = read_body(self.encoding, body)?;
        Ok(Message { id, channel, event: self.event, data, time, stored, options })
    }

    /// Of several headers of one name, the first counts, but for the server's; lists go on.
    fn header(&mut self, name: &str, value: &str) -> Result<(), Malformed> {
        match name {
            ID => set(&mut self.id, || value.parse().ok(), ID),
            MESSAGE_ID => set(&mut self.message_id, || value.parse().ok(), MESSAGE_ID),
            EVENT => set(&mut self.event, || unescape(value)?.parse().ok(), EVENT),
            TIME => set(&mut self.time, || value.parse().ok().map(Timestamp), TIME),
            EXPIRES => set(&mut self.expires, || read_expires(value), EXPIRES),
            ENCODING => set(&mut self.encoding, || Encoding::read(value).ok(), ENCODING),
            EXCLUDE_CONNECTIONS => {
                read_list(value, &mut self.options.exclude.connections, EXCLUDE_CONNECTIONS)
            }
            EXCLUDE_USERS => read_list(value, &mut self.options.exclude.users, EXCLUDE_USERS),
            TARGETS => read_list(value, self.targets.get_or_insert_default(), TARGETS),
            TRACE if self.options.trace.is_none() => {
                self.options.trace = read_trace(value);
                Ok(())
            }
            _ => {
                self.place.header(name, value);
                Ok(())
            }
        }
    }
}

/// Fills what is not filled yet.
fn set<T>(
    place: &mut Option<T>,
    read: impl FnOnce() -> Option<T>,
    name: &'static str,
) -> Result<(), Malformed> {
    if place.is_none() {
        *place = Some(read().ok_or(Malformed(name))?);
    }
    Ok(())
}

fn read_expires(text: &str) -> Option<Expires> {
    let (number, make): (_, fn(u64) -> Expires) = match text.strip_prefix('+') {
        Some(number) => (number, Expires::After),
        None => (text, |at| Expires::At(Timestamp(at))),
    };
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| digits).map(make)
}

fn read_list<T: std::str::FromStr>(
    text: &str,
    list: &mut Vec<T>,
    name: &'static str,
) -> Result<(), Malformed> {
    for item in text.split(',').map(str::trim) {
        let read = unescape(item).and_then(|item| item.parse().ok());
        list.push(read.filter(|_| list.len() < MAX_LIST).ok_or(Malformed(name))?);
    }
    Ok(())
}

/// A trace context that is not plain text is left out: no message is lost for its trace.
fn read_trace(text: &str) -> Option<Arc<str>> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    (plain && (1..=MAX_TRACE).contains(&text.len())).then(|| text.into())
}

fn insert_trace(headers: &mut HeaderMap, trace: Option<&str>) {
    if let Some(trace) = trace.and_then(read_trace) {
        headers.insert(TRACE, &*trace);
    }
}

fn read_body(encoding: Option<Encoding>, body: Bytes) -> Result<Data, Malformed> {
    match encoding {
        Some(Encoding::Binary) => Ok(Data::Binary(body)),
        Some(Encoding::Json) => std::str::from_utf8(&body)
            .ok()
            .and_then(|text| json_value(&body, text))
            .ok_or(Malformed("the JSON body")),
        None => Ok(match std::str::from_utf8(&body) {
            Ok(text) => json_value(&body, text).unwrap_or_else(|| json_string(text)),
            Err(_) => Data::Binary(body),
        }),
    }
}

/// The body without surrounding white space, if it is exactly one JSON value.
fn json_value(body: &Bytes, text: &str) -> Option<Data> {
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let trimmed = text.trim_matches([' ', '\t', '\r', '\n']);
    Some(Data::Json(JsonText::from_checked(body.slice_ref(trimmed.as_bytes()))))
}

fn json_string(text: &str) -> Data {
    Data::Json(JsonText::from_checked(serde_json::Value::from(text).to_string().into()))
}

fn bytes_of(data: &Data) -> Bytes {
    match data {
        Data::Json(text) => text.as_bytes().clone(),
        Data::Binary(bytes) => bytes.clone(),
    }
}

/// JSON is known by itself; bytes that happen to be JSON or text are not.
fn insert_encoding(headers: &mut HeaderMap, data: &Data) {
    if matches!(data, Data::Binary(_)) {
        headers.insert(ENCODING, "binary");
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_into(&mut out, text, |byte| byte.is_ascii_graphic() && byte != b'%' && byte != b',');
    out
}

fn escape_list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| escape(item.as_ref())).collect();
    items.join(",")
}

fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
            out.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests;

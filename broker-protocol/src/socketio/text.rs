//! The default parser: packets as text, attachments in messages of their own (§ Packet encoding).

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    Malformed,
    args::{MAX_ATTACHMENTS, put_placeholder},
    name::{AckId, Namespace},
    outgoing::{Arguments, Outgoing},
    packet::{Body, Kind, Packet},
};
use crate::{
    engineio,
    json::{self, put_number, put_string},
};

/// Everything in a packet beside the texts that are in it: only a guess, see `frame::begin`.
const USUAL_OVERHEAD: usize = 64;

/// Reads a packet, and says how many attachments follow it.
pub(super) fn decode(text: &str) -> Result<(Packet, usize), Malformed> {
    let (kind, is_binary) = match text.as_bytes().first() {
        Some(b'0') => (Kind::Connect, false),
        Some(b'1') => (Kind::Disconnect, false),
        Some(b'2') => (Kind::Event, false),
        Some(b'3') => (Kind::Ack, false),
        Some(b'4') => return Err(Malformed::ServerOnly),
        Some(b'5') => (Kind::Event, true),
        Some(b'6') => (Kind::Ack, true),
        _ => return Err(Malformed::Type),
    };
    let (attachments, rest) = if is_binary { attachments(&text[1..])? } else { (0, &text[1..]) };
    let (namespace, rest) = namespace(rest)?;
    let (digits, rest) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
    let id = if digits.is_empty() { None } else { Some(AckId::from_digits(digits)?) };
    let body = Body::new(kind, id, payload(rest)?, attachments)?;
    Ok((Packet { namespace, body }, attachments))
}

fn attachments(text: &str) -> Result<(usize, &str), Malformed> {
    let (digits, rest) = text.split_once('-').ok_or(Malformed::AttachmentCount)?;
    let is_number = (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let count = digits.parse().ok().filter(|count| (1..=MAX_ATTACHMENTS).contains(count));
    match count {
        Some(count) if is_number => Ok((count, rest)),
        _ => Err(Malformed::AttachmentCount),
    }
}

fn namespace(text: &str) -> Result<(Namespace, &str), Malformed> {
    if !text.starts_with('/') {
        return Ok((Namespace::MAIN, text));
    }
    // The comma may be missing where nothing follows it.
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    Ok((Namespace::new(name)?, rest))
}

fn payload(text: &str) -> Result<Option<Bytes>, Malformed> {
    if text.is_empty() {
        return Ok(None);
    }
    let json = json::checked(Bytes::copy_from_slice(text.as_bytes())).ok_or(Malformed::Json)?;
    Ok(Some(json.as_bytes().clone()))
}

/// Appends the frames of a packet: a text frame, and a binary frame for each attachment.
pub(super) fn encode(namespace: &Namespace, outgoing: &Outgoing<'_>, out: &mut BytesMut) {
    let expected_len = USUAL_OVERHEAD + namespace.as_str().len() + outgoing.text_len();
    engineio::encode_text(out, expected_len, |out| put_packet(out, namespace, outgoing));
    for attachment in outgoing.attachments() {
        engineio::encode_binary(out, attachment);
    }
}

fn put_packet(out: &mut BytesMut, namespace: &Namespace, outgoing: &Outgoing<'_>) {
    let attachments = outgoing.attachments().len();
    out.put_u8(match outgoing {
        Outgoing::Connect { .. } => b'0',
        Outgoing::Disconnect => b'1',
        Outgoing::Event { .. } if attachments > 0 => b'5',
        Outgoing::Event { .. } => b'2',
        Outgoing::Ack { .. } if attachments > 0 => b'6',
        Outgoing::Ack { .. } => b'3',
        Outgoing::ConnectError { .. } => b'4',
    });
    if attachments > 0 {
        put_number(out, attachments as u64);
        out.put_u8(b'-');
    }
    if !namespace.is_main() {
        out.extend_from_slice(namespace.as_str().as_bytes());
        out.put_u8(b',');
    }
    match *outgoing {
        Outgoing::Connect { sid, pid } => {
            out.extend_from_slice(b"{\"sid\":");
            put_string(out, sid);
            if let Some(pid) = pid {
                out.extend_from_slice(b",\"pid\":");
                put_string(out, pid);
            }
            out.put_u8(b'}');
        }
        Outgoing::ConnectError { message, data } => {
            out.extend_from_slice(b"{\"message\":");
            put_string(out, message);
            if let Some(data) = data {
                out.extend_from_slice(b",\"data\":");
                out.extend_from_slice(data.as_bytes());
            }
            out.put_u8(b'}');
        }
        Outgoing::Disconnect => {}
        Outgoing::Event { name, id, args, offset } => {
            put_id(out, id);
            let mut array = Array::begin(out);
            put_string(array.item(), name);
            put_arguments(&mut array, args);
            if let Some(offset) = offset {
                put_string(array.item(), offset);
            }
            array.end();
        }
        Outgoing::Ack { id, args } => {
            put_id(out, Some(id));
            let mut array = Array::begin(out);
            put_arguments(&mut array, args);
            array.end();
        }
    }
}

fn put_id(out: &mut BytesMut, id: Option<AckId>) {
    if let Some(id) = id {
        put_number(out, id.get());
    }
}

fn put_arguments(array: &mut Array<'_>, args: Arguments<'_>) {
    match args {
        Arguments::Json(values) => {
            for value in values {
                array.item().extend_from_slice(value.as_bytes());
            }
        }
        Arguments::Binary(_) => put_placeholder(array.item(), 0),
        Arguments::Same(args) if args.is_empty() => {}
        Arguments::Same(args) => array.item().extend_from_slice(args.values()),
    }
}

/// An array that is being written.
struct Array<'a> {
    out: &'a mut BytesMut,
    is_empty: bool,
}

impl<'a> Array<'a> {
    fn begin(out: &'a mut BytesMut) -> Self {
        out.put_u8(b'[');
        Self { out, is_empty: true }
    }

    /// Where the next value is to be written.
    fn item(&mut self) -> &mut BytesMut {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.out.put_u8(b',');
        }
        self.out
    }

    fn end(self) {
        self.out.put_u8(b']');
    }
}

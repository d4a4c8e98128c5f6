//! MessagePack out: JSON text is transcoded in one pass.

use bytes::{BufMut as _, Bytes, BytesMut};
use rmp::encode as packed;

use super::super::{
    args::placeholder,
    name::{AckId, Namespace},
    outgoing::{Arguments, Outgoing},
};
use crate::{
    json::{Token, Tokens, unescaped},
    ws::{Opcode, frame},
};

/// Everything in a packet beside the texts that are in it: only a guess, see [`frame::begin`].
const USUAL_OVERHEAD: usize = 64;

/// Appends the one binary frame of a packet.
pub(in super::super) fn encode(namespace: &Namespace, outgoing: &Outgoing<'_>, out: &mut BytesMut) {
    let attachments: usize = outgoing.attachments().iter().map(Bytes::len).sum();
    let mark = frame::begin(out, USUAL_OVERHEAD + outgoing.text_len() + attachments);
    let mut map = Container::begin_map(out);
    put_name(out, &mut map, "type");
    wrote(&packed::write_uint(&mut out.writer(), kind(outgoing)));
    put_name(out, &mut map, "nsp");
    put_text(out, namespace.as_str());
    put_data(out, &mut map, outgoing);
    map.finish(out);
    frame::finish(out, mark, Opcode::Binary);
}

fn kind(outgoing: &Outgoing<'_>) -> u64 {
    match outgoing {
        Outgoing::Connect { .. } => 0,
        Outgoing::Disconnect => 1,
        Outgoing::Event { .. } => 2,
        Outgoing::Ack { .. } => 3,
        Outgoing::ConnectError { .. } => 4,
    }
}

fn put_data(out: &mut BytesMut, map: &mut Container, outgoing: &Outgoing<'_>) {
    match *outgoing {
        Outgoing::Connect { sid, pid } => {
            put_name(out, map, "data");
            let mut data = Container::begin_map(out);
            put_name(out, &mut data, "sid");
            put_text(out, sid);
            if let Some(pid) = pid {
                put_name(out, &mut data, "pid");
                put_text(out, pid);
            }
            data.finish(out);
        }
        Outgoing::ConnectError { message, data: detail } => {
            put_name(out, map, "data");
            let mut data = Container::begin_map(out);
            put_name(out, &mut data, "message");
            put_text(out, message);
            if let Some(detail) = detail {
                put_name(out, &mut data, "data");
                put_values(out, detail.as_bytes(), &[]);
            }
            data.finish(out);
        }
        // Without the member: to JavaScript, nil is a payload.
        Outgoing::Disconnect => {}
        Outgoing::Event { name, id, args, offset } => {
            put_id(out, map, id);
            put_name(out, map, "data");
            let mut array = Container::begin(out);
            put_text(out, name);
            array.items = 1 + put_arguments(out, args);
            if let Some(offset) = offset {
                put_text(out, offset);
                array.items += 1;
            }
            array.finish(out);
        }
        Outgoing::Ack { id, args } => {
            put_id(out, map, Some(id));
            put_name(out, map, "data");
            let mut array = Container::begin(out);
            array.items = put_arguments(out, args);
            array.finish(out);
        }
    }
}

fn put_id(out: &mut BytesMut, map: &mut Container, id: Option<AckId>) {
    if let Some(id) = id {
        put_name(out, map, "id");
        wrote(&packed::write_uint(&mut out.writer(), id.get()));
    }
}

/// Says how many they are.
fn put_arguments(out: &mut BytesMut, args: Arguments<'_>) -> u32 {
    match args {
        Arguments::Json(values) => {
            values.iter().map(|value| put_values(out, value.as_bytes(), &[])).sum()
        }
        Arguments::Binary(bytes) => {
            put_bytes(out, bytes);
            1
        }
        Arguments::Same(args) => put_values(out, args.values(), args.attachments()),
    }
}

/// Transcodes JSON values with commas between them, placeholders to the attachments they stand
/// for, and says how many they are.
fn put_values(out: &mut BytesMut, json: &[u8], attachments: &[Bytes]) -> u32 {
    let mut values = 0;
    let mut open: Vec<Container> = Vec::new();
    let mut tokens = Tokens::new(json);
    while let Some(token) = tokens.next() {
        match token {
            Token::Array => {
                open.push(Container::begin(out));
                continue;
            }
            Token::Object => {
                let mut ahead = tokens.clone();
                let Some(bytes) = attachment(&mut ahead, attachments) else {
                    open.push(Container::begin_map(out));
                    continue;
                };
                put_bytes(out, bytes);
                tokens = ahead;
            }
            Token::Name(name) => {
                put_text(out, &unescaped(name));
                continue;
            }
            Token::Close => match open.pop() {
                Some(container) => container.finish(out),
                None => continue,
            },
            Token::String(text) => put_text(out, &unescaped(text)),
            Token::Plain(text) => put_plain(out, text),
        }
        *open.last_mut().map_or(&mut values, |container| &mut container.items) += 1;
    }
    values
}

fn attachment<'b>(object: &mut Tokens<'_>, attachments: &'b [Bytes]) -> Option<&'b Bytes> {
    if attachments.is_empty() { None } else { attachments.get(placeholder(object)?) }
}

/// Numbers beyond 64 bits become the nearest float, as they do in JavaScript.
fn put_plain(out: &mut BytesMut, text: &[u8]) {
    let text = str::from_utf8(text).unwrap_or_default();
    match text {
        "null" => wrote(&packed::write_nil(&mut out.writer())),
        "true" => wrote(&packed::write_bool(&mut out.writer(), true)),
        "false" => wrote(&packed::write_bool(&mut out.writer(), false)),
        _ => {
            if let Ok(number) = text.parse() {
                wrote(&packed::write_uint(&mut out.writer(), number));
            } else if let Ok(number) = text.parse() {
                wrote(&packed::write_sint(&mut out.writer(), number));
            } else {
                let number = text.parse().unwrap_or_default();
                wrote(&packed::write_f64(&mut out.writer(), number));
            }
        }
    }
}

fn put_name(out: &mut BytesMut, map: &mut Container, name: &str) {
    put_text(out, name);
    map.items += 1;
}

fn put_text(out: &mut BytesMut, text: &str) {
    wrote(&packed::write_str(&mut out.writer(), text));
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    wrote(&packed::write_bin(&mut out.writer(), bytes));
}

/// Memory does not fail.
fn wrote<T, E>(written: &Result<T, E>) {
    debug_assert!(written.is_ok());
}

/// An array or map that is being written. How many items it has stands before them and is known
/// after them, so there is room for the usual length, and more is made where it is longer.
struct Container {
    start: usize,
    items: u32,
    is_map: bool,
}

impl Container {
    fn begin(out: &mut BytesMut) -> Self {
        let start = out.len();
        out.put_u8(0);
        Self { start, items: 0, is_map: false }
    }

    fn begin_map(out: &mut BytesMut) -> Self {
        Self { is_map: true, ..Self::begin(out) }
    }

    fn finish(&self, out: &mut BytesMut) {
        let header_len = match self.items {
            0..=15 => 1,
            16..=0xFFFF => 3,
            _ => 5,
        };
        if header_len > 1 {
            let end = out.len();
            out.resize(end + header_len - 1, 0);
            out.copy_within(self.start + 1..end, self.start + header_len);
        }
        let mut header = &mut out[self.start..self.start + header_len];
        if self.is_map {
            wrote(&packed::write_map_len(&mut header, self.items));
        } else {
            wrote(&packed::write_array_len(&mut header, self.items));
        }
    }
}

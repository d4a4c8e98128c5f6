//! What the server says.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use broker_core::{Data, Timestamp};
use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{
    json::{put_number, put_string},
    ws::frame::{self, Opcode},
};

/// What an envelope holds beside texts of the application's, in bytes.
const MEMBERS: usize = 96;

/// One event of the server's.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its `type`.
    pub event: &'a str,
    /// Its `payload`: the one argument, an empty object if there is none, or a list of several.
    pub args: &'a [Data],
    /// The id of the client's envelope that this answers. It stands in the payload.
    pub in_reply_to: Option<&'a str>,
    /// Its `timestamp`.
    pub time: Timestamp,
}

impl Outgoing<'_> {
    /// Appends a whole text frame.
    pub fn encode(&self, out: &mut BytesMut) {
        let args: usize = self.args.iter().map(Data::len).sum();
        let frame = frame::begin(out, MEMBERS + self.id.len() + self.event.len() + args);
        out.extend_from_slice(b"{\"id\":");
        put_string(out, self.id);
        out.extend_from_slice(b",\"type\":");
        put_string(out, self.event);
        out.extend_from_slice(b",\"payload\":");
        match self.in_reply_to {
            Some(id) => put_answer(out, self.args, id),
            None => put_payload(out, self.args),
        }
        out.extend_from_slice(b",\"timestamp\":");
        put_number(out, self.time.0);
        out.put_u8(b'}');
        frame::finish(out, frame, Opcode::Text);
    }
}

fn put_payload(out: &mut BytesMut, args: &[Data]) {
    match args {
        [] => out.extend_from_slice(b"{}"),
        [one] => put_value(out, one),
        several => {
            for (index, arg) in several.iter().enumerate() {
                out.put_u8(if index == 0 { b'[' } else { b',' });
                put_value(out, arg);
            }
            out.put_u8(b']');
        }
    }
}

/// What is no object, and so has no room for the id, becomes a member itself.
fn put_answer(out: &mut BytesMut, args: &[Data], id: &str) {
    let object = match args {
        [Data::Json(text)] => members(text.as_bytes()),
        _ => None,
    };
    out.put_u8(b'{');
    if let Some(members) = &object {
        out.extend_from_slice(members);
    } else if !args.is_empty() {
        out.extend_from_slice(b"\"data\":");
        put_payload(out, args);
    }
    if !args.is_empty() && object.is_none_or(|members| !members.is_empty()) {
        out.put_u8(b',');
    }
    out.extend_from_slice(b"\"inReplyTo\":");
    put_string(out, id);
    out.put_u8(b'}');
}

/// What stands between the braces of an object.
fn members(json: &Bytes) -> Option<Bytes> {
    let inside = json.strip_prefix(b"{")?.strip_suffix(b"}")?;
    Some(json.slice_ref(inside.trim_ascii()))
}

fn put_value(out: &mut BytesMut, data: &Data) {
    match data {
        Data::Json(text) => out.extend_from_slice(text.as_bytes()),
        Data::Binary(bytes) => {
            out.extend_from_slice(b"{\"data_base64\":\"");
            out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
            out.extend_from_slice(b"\"}");
        }
    }
}

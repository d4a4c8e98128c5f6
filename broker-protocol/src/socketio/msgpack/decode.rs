//! MessagePack in: a packet's data becomes JSON text, as if it had come by the default parser.

use bytes::{BufMut as _, Bytes, BytesMut};
use rmp::{Marker, decode as packed};

use super::{
    super::{
        Malformed,
        args::{MAX_ATTACHMENTS, put_placeholder},
        name::{AckId, Namespace},
        packet::{Body, Kind, Packet},
    },
    JAVASCRIPT,
    date::put_date,
};
use crate::json::{MAX_DEPTH, put_number, put_string};

/// Reads the one packet of a binary message.
pub(in super::super) fn decode(message: &Bytes) -> Result<Packet, Malformed> {
    let mut reader = Reader { message, rest: message, json: BytesMut::new(), bytes: Vec::new() };
    let mut fields = Fields::default();
    for _ in 0..reader.header(packed::read_map_len)? {
        match reader.text()? {
            b"type" => fields.kind = Some(reader.json(0)?),
            b"nsp" => fields.namespace = Some(reader.text()?),
            b"id" => fields.id = present(reader.json(0)?),
            b"data" => fields.data = present(reader.json(MAX_DEPTH)?),
            // What clients add for themselves, such as `options`.
            _ => drop(reader.json(MAX_DEPTH)?),
        }
    }
    if !reader.rest.is_empty() {
        return Err(Malformed::MsgPack);
    }
    fields.packet(reader.bytes)
}

/// `undefined` and `null` say that something is not there.
fn present(json: Bytes) -> Option<Bytes> {
    (json != "null").then_some(json)
}

/// A packet's map, its values as JSON.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Bytes>,
    namespace: Option<&'a [u8]>,
    id: Option<Bytes>,
    data: Option<Bytes>,
}

impl Fields<'_> {
    fn packet(self, attachments: Vec<Bytes>) -> Result<Packet, Malformed> {
        let kind = match self.kind.as_deref() {
            Some(b"0") => Kind::Connect,
            Some(b"1") => Kind::Disconnect,
            Some(b"2") => Kind::Event,
            Some(b"3") => Kind::Ack,
            Some(b"4") => return Err(Malformed::ServerOnly),
            _ => return Err(Malformed::Type),
        };
        let namespace = str::from_utf8(self.namespace.unwrap_or_default());
        let namespace = Namespace::new(namespace.map_err(|_| Malformed::Namespace)?)?;
        let id = self.id.map(|id| {
            let digits = str::from_utf8(&id).map_err(|_| Malformed::AckId)?;
            AckId::from_digits(digits)
        });
        let mut body = Body::new(kind, id.transpose()?, self.data, attachments.len())?;
        for attachment in attachments {
            body.attach(attachment);
        }
        Ok(Packet { namespace, body })
    }
}

/// Lengths that a message declares are believed only as far as there are bytes: nothing is
/// reserved by them, and each value takes at least one byte.
struct Reader<'a> {
    message: &'a Bytes,
    rest: &'a [u8],
    json: BytesMut,
    bytes: Vec<Bytes>,
}

impl<'a> Reader<'a> {
    /// The next value as JSON, which may have so many levels.
    fn json(&mut self, levels: usize) -> Result<Bytes, Malformed> {
        self.value(levels)?;
        Ok(self.json.split().freeze())
    }

    /// `levels` bounds the recursion too.
    fn value(&mut self, levels: usize) -> Result<(), Malformed> {
        match Marker::from_u8(*self.rest.first().ok_or(Malformed::MsgPack)?) {
            Marker::Null => {
                self.header(packed::read_nil)?;
                self.json.extend_from_slice(b"null");
            }
            Marker::True | Marker::False => {
                let text = if self.header(packed::read_bool)? { "true" } else { "false" };
                self.json.extend_from_slice(text.as_bytes());
            }
            Marker::F32 => {
                let number = self.header(packed::read_f32)?;
                self.float(number.into());
            }
            Marker::F64 => {
                let number = self.header(packed::read_f64)?;
                self.float(number);
            }
            marker if is_integer(marker) => self.integer()?,
            marker if is_string(marker) => {
                let text = self.text()?;
                put_string(&mut self.json, &String::from_utf8_lossy(text));
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
                let length = self.header(packed::read_bin_len)?;
                self.attachment(length)?;
            }
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => self.array(levels)?,
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => self.map(levels)?,
            marker => self.extension(marker)?,
        }
        Ok(())
    }

    fn array(&mut self, levels: usize) -> Result<(), Malformed> {
        let levels = levels.checked_sub(1).ok_or(Malformed::Json)?;
        let length = self.header(packed::read_array_len)?;
        self.json.put_u8(b'[');
        for index in 0..length {
            if index > 0 {
                self.json.put_u8(b',');
            }
            self.value(levels)?;
        }
        self.json.put_u8(b']');
        Ok(())
    }

    fn map(&mut self, levels: usize) -> Result<(), Malformed> {
        let levels = levels.checked_sub(1).ok_or(Malformed::Json)?;
        let length = self.header(packed::read_map_len)?;
        self.json.put_u8(b'{');
        for index in 0..length {
            if index > 0 {
                self.json.put_u8(b',');
            }
            self.name()?;
            self.json.put_u8(b':');
            self.value(levels)?;
        }
        self.json.put_u8(b'}');
        Ok(())
    }

    /// Other languages have numbers as names; to JavaScript they are strings.
    fn name(&mut self) -> Result<(), Malformed> {
        let marker = Marker::from_u8(*self.rest.first().ok_or(Malformed::MsgPack)?);
        if is_integer(marker) {
            self.json.put_u8(b'"');
            self.integer()?;
            self.json.put_u8(b'"');
        } else {
            let text = self.text()?;
            put_string(&mut self.json, &String::from_utf8_lossy(text));
        }
        Ok(())
    }

    fn integer(&mut self) -> Result<(), Malformed> {
        let mut rest = self.rest;
        if let Ok(number) = packed::read_int::<u64, _>(&mut rest) {
            self.rest = rest;
            put_number(&mut self.json, number);
            return Ok(());
        }
        let number: i64 = self.header(packed::read_int)?;
        self.json.put_u8(b'-');
        put_number(&mut self.json, number.unsigned_abs());
        Ok(())
    }

    /// JSON has no infinity; JavaScript writes `null` for it.
    fn float(&mut self, number: f64) {
        match serde_json::Number::from_f64(number) {
            Some(number) => self.json.extend_from_slice(number.to_string().as_bytes()),
            None => self.json.extend_from_slice(b"null"),
        }
    }

    fn attachment(&mut self, length: u32) -> Result<(), Malformed> {
        let bytes = self.take(length)?;
        if self.bytes.len() == MAX_ATTACHMENTS {
            return Err(Malformed::AttachmentCount);
        }
        put_placeholder(&mut self.json, self.bytes.len());
        self.bytes.push(self.message.slice_ref(bytes));
        Ok(())
    }

    fn extension(&mut self, marker: Marker) -> Result<(), Malformed> {
        let extension = self.header(packed::read_ext_meta)?;
        match (extension.typeid, marker) {
            (JAVASCRIPT, Marker::FixExt1) => {
                self.take(extension.size)?;
                self.json.extend_from_slice(b"null");
                Ok(())
            }
            (JAVASCRIPT, Marker::FixExt8) => {
                let millis = self.take(extension.size)?;
                let millis = millis.first_chunk().ok_or(Malformed::MsgPack)?;
                put_date(&mut self.json, i64::from_be_bytes(*millis));
                Ok(())
            }
            (JAVASCRIPT, Marker::Ext8 | Marker::Ext16 | Marker::Ext32) => {
                self.attachment(extension.size)
            }
            _ => Err(Malformed::Extension),
        }
    }

    fn text(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.header(packed::read_str_len)?;
        self.take(length)
    }

    fn take(&mut self, length: u32) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::MsgPack)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads what stands before the bytes of a value, or a value of fixed length.
    fn header<T, E>(
        &mut self,
        read: impl FnOnce(&mut &'a [u8]) -> Result<T, E>,
    ) -> Result<T, Malformed> {
        read(&mut self.rest).map_err(|_| Malformed::MsgPack)
    }
}

const fn is_integer(marker: Marker) -> bool {
    use Marker::{FixNeg, FixPos, I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(marker, FixPos(_) | FixNeg(_) | U8 | U16 | U32 | U64 | I8 | I16 | I32 | I64)
}

const fn is_string(marker: Marker) -> bool {
    matches!(marker, Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32)
}

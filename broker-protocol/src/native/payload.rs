//! What both sides write: one object, with data inside it or after it.

use std::{fmt::Write as _, time::Duration};

use broker_core::{Data, Interest, Position};
use bytes::{BufMut as _, BytesMut};

use crate::{
    json::{put_number, put_string},
    ws::Opcode,
};

/// Bytes before the JSON of a binary frame: its length, big-endian.
pub(super) const LENGTH_BYTES: usize = 4;

/// An object that is being written. Member names are literals without anything to escape.
#[derive(Debug)]
pub(super) struct Object<'a>(&'a mut BytesMut);

impl Object<'_> {
    pub(super) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.name(name);
        put_string(self.0, value);
        self
    }

    pub(super) fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.name(name);
        put_number(self.0, value);
        self
    }

    pub(super) fn maybe_text(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    pub(super) fn maybe_number(&mut self, name: &str, value: Option<u64>) -> &mut Self {
        match value {
            Some(value) => self.number(name, value),
            None => self,
        }
    }

    pub(super) fn texts<'t>(
        &mut self,
        name: &str,
        values: impl Iterator<Item = &'t str>,
    ) -> &mut Self {
        self.name(name);
        self.0.put_u8(b'[');
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.0.put_u8(b',');
            }
            put_string(self.0, value);
        }
        self.0.put_u8(b']');
        self
    }

    /// An array of objects, each with what `members` gives it.
    pub(super) fn objects<T>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = T>,
        members: impl Fn(&mut Object<'_>, T),
    ) -> &mut Self {
        self.name(name);
        self.0.put_u8(b'[');
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.0.put_u8(b',');
            }
            self.0.put_u8(b'{');
            members(&mut Object(self.0), value);
            self.0.put_u8(b'}');
        }
        self.0.put_u8(b']');
        self
    }

    pub(super) fn interest(&mut self, interest: &Interest) -> &mut Self {
        match interest {
            Interest::Channel(channel) => self.text("channel", channel.as_str()),
            Interest::Pattern(pattern) => self.text("pattern", pattern.as_str()),
        }
    }

    /// A value that is JSON already.
    pub(super) fn raw(&mut self, name: &str, json: &[u8]) -> &mut Self {
        self.name(name);
        self.0.extend_from_slice(json);
        self
    }

    pub(super) fn flag(&mut self, name: &str, value: bool) -> &mut Self {
        self.raw(name, if value { b"true" } else { b"false" })
    }

    pub(super) fn maybe_position(&mut self, position: Option<&Position>) -> &mut Self {
        if let Some(position) = position {
            self.name("position");
            // Digits and dots need no escapes, and memory does not fail.
            write!(self.0, "\"{position}\"").unwrap_or_default();
        }
        self
    }

    fn name(&mut self, name: &str) {
        // Only the first member of an object stands behind a brace.
        if self.0.last() != Some(&b'{') {
            self.0.put_u8(b',');
        }
        self.0.put_u8(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

/// Appends a payload whose object is of this type, and says which kind of frame it is for.
pub(super) fn write(
    out: &mut BytesMut,
    kind: &str,
    data: Option<&Data>,
    members: impl FnOnce(&mut Object<'_>),
) -> Opcode {
    match data {
        None => {
            write_object(out, kind, members);
            Opcode::Text
        }
        Some(Data::Json(json)) => {
            write_object(out, kind, |object| {
                members(object);
                object.raw("data", json.as_bytes());
            });
            Opcode::Text
        }
        Some(Data::Binary(bytes)) => {
            let start = out.len();
            out.put_u32(0);
            write_object(out, kind, members);
            let length = (out.len() - start - LENGTH_BYTES) as u32;
            out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
            out.extend_from_slice(bytes);
            Opcode::Binary
        }
    }
}

/// Takes a binary payload apart into its JSON and the data after it.
pub(super) fn split(frame: &[u8]) -> Result<(&str, &[u8]), SplitError> {
    let (length, rest) = frame.split_first_chunk::<LENGTH_BYTES>().ok_or(SplitError::Short)?;
    let length = u32::from_be_bytes(*length);
    let (json, data) = usize::try_from(length)
        .ok()
        .and_then(|length| rest.split_at_checked(length))
        .ok_or(SplitError::Length { declared: length, left: rest.len() })?;
    let json = simdutf8::basic::from_utf8(json).map_err(|_| SplitError::Utf8)?;
    Ok((json, data))
}

/// Why a binary payload cannot be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SplitError {
    #[error("a binary frame begins with 4 bytes, the length of its JSON; this one is shorter")]
    Short,
    #[error("the frame says that {declared} bytes of JSON follow, but has only {left}")]
    Length { declared: u32, left: usize },
    #[error("the JSON of the frame is not UTF-8")]
    Utf8,
}

/// Durations travel as milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn write_object(out: &mut BytesMut, kind: &str, members: impl FnOnce(&mut Object<'_>)) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.put_u8(b'"');
    members(&mut Object(out));
    out.put_u8(b'}');
}

//! Values as JSON, within a bound.

use broker_core::JsonText;
use bytes::{BufMut as _, BytesMut};
use minijinja::value::{Value, ValueKind};

use super::{RenderError, node::Node};

/// How deep values that expressions make may nest; what came as JSON is not counted.
const MAX_DEPTH: usize = 16;
/// The most that `json` makes a text of, in bytes.
const MAX_TEXT: usize = 1 << 20;

/// JSON that is being written, up to a number of bytes.
#[derive(Debug)]
pub(super) struct Out {
    bytes: BytesMut,
    limit: usize,
}

/// Why a value was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    TooLarge,
    NotJson,
}

impl Out {
    /// Empty, with room for `limit` bytes.
    #[must_use]
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: BytesMut::new(), limit }
    }

    /// Appends text that keeps the whole valid JSON.
    ///
    /// # Errors
    /// There is no room for it.
    pub(super) fn put(&mut self, text: &[u8]) -> Result<(), RenderError> {
        if text.len() > self.limit - self.bytes.len() {
            return Err(RenderError::TooLarge);
        }
        self.bytes.put_slice(text);
        Ok(())
    }

    /// Appends a text in quotes.
    ///
    /// # Errors
    /// There is no room for it.
    pub(super) fn put_string(&mut self, text: &str) -> Result<(), RenderError> {
        self.put(quote(text).as_bytes())
    }

    /// How much is written.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes back all but the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// What was written, which is one JSON value.
    #[must_use]
    pub(super) fn finish(self) -> JsonText {
        JsonText::from_checked(self.bytes.freeze())
    }
}

/// The text in quotes, as JSON has it.
#[must_use]
pub(in crate::profile) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes a value.
///
/// # Errors
/// JSON cannot hold it, or there is no room.
pub(super) fn value(value: &Value, out: &mut Out) -> Result<(), Refused> {
    nested(value, out, 0)
}

/// The value as JSON text.
#[must_use]
pub(super) fn to_json(value: &Value) -> Option<String> {
    let mut out = Out::new(MAX_TEXT);
    nested(value, &mut out, 0).ok()?;
    String::from_utf8(out.bytes.to_vec()).ok()
}

/// A number or boolean as JSON.
#[must_use]
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value.kind() {
        ValueKind::Bool => Some(value.is_true().to_string()),
        ValueKind::Number if value.is_integer() => Some(value.to_string()),
        ValueKind::Number => {
            let float = f64::try_from(value.clone()).ok()?;
            Some(serde_json::Number::from_f64(float)?.to_string())
        }
        _ => None,
    }
}

fn nested(value: &Value, out: &mut Out, depth: usize) -> Result<(), Refused> {
    if depth > MAX_DEPTH {
        return Err(Refused::NotJson);
    }
    if let Some(node) = value.downcast_object_ref::<Node>() {
        return put(out, node.text());
    }
    match value.kind() {
        ValueKind::None => put(out, b"null"),
        ValueKind::Bool | ValueKind::Number => {
            put(out, scalar(value).ok_or(Refused::NotJson)?.as_bytes())
        }
        ValueKind::String => put(out, quote(value.as_str().unwrap_or_default()).as_bytes()),
        ValueKind::Seq => {
            put(out, b"[")?;
            for (index, element) in elements(value)?.enumerate() {
                put(out, if index == 0 { b"" } else { b"," })?;
                nested(&element, out, depth + 1)?;
            }
            put(out, b"]")
        }
        ValueKind::Map => {
            put(out, b"{")?;
            for (index, key) in elements(value)?.enumerate() {
                put(out, if index == 0 { b"" } else { b"," })?;
                let name = key.to_str().ok_or(Refused::NotJson)?;
                put(out, quote(&name).as_bytes())?;
                put(out, b":")?;
                nested(&value.get_item(&key).map_err(|_| Refused::NotJson)?, out, depth + 1)?;
            }
            put(out, b"}")
        }
        _ => Err(Refused::NotJson),
    }
}

fn elements(value: &Value) -> Result<impl Iterator<Item = Value> + use<>, Refused> {
    value.try_iter().map_err(|_| Refused::NotJson)
}

fn put(out: &mut Out, text: &[u8]) -> Result<(), Refused> {
    out.put(text).map_err(|_| Refused::TooLarge)
}

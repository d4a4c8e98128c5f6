//! Arguments of events and acknowledgements, and the placeholders that stand for binary ones
//! (§ Sending and receiving data).

use broker_core::JsonText;
use bytes::{BufMut as _, Bytes, BytesMut};

use super::Malformed;
use crate::json::{Token, Tokens, put_number, unescaped};

/// Most attachments of one packet, as in the reference's parsers.
pub const MAX_ATTACHMENTS: usize = 10;

/// What came with an event, after its name, or with an acknowledgement: JSON that was checked but
/// not read, and the attachments that its placeholders stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// The values with the commas between them.
    values: Bytes,
    attachments: Vec<Bytes>,
}

/// One argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arg {
    /// A value. Where the packet has attachments, placeholders may be in it, however deep.
    Json(JsonText),
    /// An argument that is one attachment and nothing else.
    Binary(Bytes),
}

impl Args {
    /// Arguments from an array, in which placeholders stand for attachments: what
    /// [`Args::to_array`] and [`Args::attachments`] gave, or the server's own.
    ///
    /// # Errors
    /// The JSON is no array, there are too many attachments, or placeholders do not name each of
    /// them once.
    pub fn new(array: &JsonText, attachments: Vec<Bytes>) -> Result<Self, Malformed> {
        if !array.as_bytes().starts_with(b"[") {
            return Err(Malformed::Payload);
        }
        if attachments.len() > MAX_ATTACHMENTS {
            return Err(Malformed::AttachmentCount);
        }
        if !attachments.is_empty() {
            check_placeholders(array.as_bytes(), attachments.len())?;
        }
        Ok(Self { attachments, ..Self::of_array(array.as_bytes(), 1) })
    }

    /// `array` is JSON that was checked; its arguments begin at `from`, behind the bracket or a
    /// value.
    pub(super) fn of_array(array: &Bytes, from: usize) -> Self {
        let end = array.len().saturating_sub(1).max(from);
        let inside = array.slice(from..end);
        let between = |byte: &u8| matches!(byte, b',' | b' ' | b'\t' | b'\n' | b'\r');
        let start = inside.iter().position(|byte| !between(byte)).unwrap_or(inside.len());
        Self { values: inside.slice(start..), attachments: Vec::new() }
    }

    /// The arguments in order.
    pub fn iter(&self) -> impl Iterator<Item = Arg> + '_ {
        let mut tokens = Tokens::new(&self.values);
        std::iter::from_fn(move || tokens.value()).map(|range| {
            let json = self.values.slice(range);
            match self.only_attachment(&json) {
                Some(bytes) => Arg::Binary(bytes.clone()),
                None => Arg::Json(JsonText::from_checked(json)),
            }
        })
    }

    /// All arguments as one JSON array. Placeholders stand for [`Args::attachments`], by number.
    #[must_use]
    pub fn to_array(&self) -> JsonText {
        let mut out = BytesMut::with_capacity(self.values.len() + 2);
        out.put_u8(b'[');
        out.extend_from_slice(&self.values);
        out.put_u8(b']');
        JsonText::from_checked(out.freeze())
    }

    /// The attachments, in the order of their numbers: at most [`MAX_ATTACHMENTS`].
    #[must_use]
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// Whether there are no arguments.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Length in bytes, attachments included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }

    /// The values with the commas between them.
    pub(super) fn values(&self) -> &[u8] {
        &self.values
    }

    pub(super) fn attach(&mut self, attachment: Bytes) {
        self.attachments.push(attachment);
    }

    fn only_attachment(&self, json: &[u8]) -> Option<&Bytes> {
        if self.attachments.is_empty() {
            return None;
        }
        let mut tokens = Tokens::new(json);
        match tokens.next()? {
            Token::Object => self.attachments.get(placeholder(&mut tokens)?),
            _ => None,
        }
    }
}

/// Appends `{"_placeholder":true,"num":…}`.
pub(super) fn put_placeholder(out: &mut BytesMut, number: usize) {
    out.extend_from_slice(b"{\"_placeholder\":true,\"num\":");
    put_number(out, number as u64);
    out.put_u8(b'}');
}

/// The number of the placeholder whose brace was just read, and the rest of it too; `None` if the
/// object is something else.
pub(super) fn placeholder(tokens: &mut Tokens<'_>) -> Option<usize> {
    let mut number = None;
    let mut marked = false;
    for _ in 0..2 {
        match (tokens.next()?, tokens.next()?) {
            (Token::Name(b"\"_placeholder\""), Token::Plain(b"true")) => marked = true,
            (Token::Name(b"\"num\""), Token::Plain(digits)) => {
                number = Some(str::from_utf8(digits).ok()?.parse().ok()?);
            }
            _ => return None,
        }
    }
    number.filter(|_| marked && tokens.next() == Some(Token::Close))
}

/// Checks that the placeholders in a packet's JSON name each of its attachments once.
///
/// Whoever gets the packet next may go by any member of that name, so there must be none but in
/// whole placeholders. One that came twice would let a small packet grow when it is written as
/// MessagePack.
pub(super) fn check_placeholders(json: &[u8], attachments: usize) -> Result<(), Malformed> {
    let mut named = vec![false; attachments];
    let mut tokens = Tokens::new(json);
    while let Some(token) = tokens.next() {
        match token {
            Token::Object => {
                let mut ahead = tokens.clone();
                if let Some(number) = placeholder(&mut ahead) {
                    let named = named.get_mut(number).ok_or(Malformed::Placeholder)?;
                    if std::mem::replace(named, true) {
                        return Err(Malformed::Placeholder);
                    }
                    tokens = ahead;
                }
            }
            Token::Name(name) if unescaped(name) == "_placeholder" => {
                return Err(Malformed::Placeholder);
            }
            _ => {}
        }
    }
    if named.contains(&false) { Err(Malformed::Placeholder) } else { Ok(()) }
}

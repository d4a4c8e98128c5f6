//! Reading JSON that was checked before, without building anything: numbers keep their digits and
//! strings their escapes.

use std::{borrow::Cow, fmt, iter::FusedIterator, ops::Range};

use serde::{Deserializer as _, de::Visitor};

/// A piece of JSON that means something on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// `[`
    Array,
    /// `{`
    Object,
    /// `]` or `}`
    Close,
    /// The name of a member, in its quotes.
    Name(&'a [u8]),
    /// A string, in its quotes.
    String(&'a [u8]),
    /// A number, `true`, `false` or `null`.
    Plain(&'a [u8]),
}

/// The tokens of one value, or of values with commas between them.
///
/// What is not valid JSON gives tokens that mean nothing, but each byte is read once.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    json: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> Tokens<'a> {
    pub(crate) const fn new(json: &'a [u8]) -> Self {
        Self { json, start: 0, end: 0 }
    }

    /// Reads one whole value and says where it stands; `None` at the end of the array or text.
    pub(crate) fn value(&mut self) -> Option<Range<usize>> {
        let mut token = self.next()?;
        let start = self.start;
        let mut depth = 0_usize;
        loop {
            match token {
                Token::Array | Token::Object => depth += 1,
                Token::Close => depth = depth.checked_sub(1)?,
                Token::Name(_) | Token::String(_) | Token::Plain(_) => {}
            }
            if depth == 0 {
                return Some(start..self.end);
            }
            token = self.next()?;
        }
    }

    /// Where what was read last ends.
    pub(crate) const fn position(&self) -> usize {
        self.end
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        self.end = self.start + length;
        &self.json[self.start..self.end]
    }

    fn is_name(&self) -> bool {
        self.json[self.end..].iter().find(|byte| !is_space(**byte)) == Some(&b':')
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = &self.json[self.end..];
        let skipped = rest.iter().position(|byte| !is_between(*byte))?;
        self.start = self.end + skipped;
        let rest = &rest[skipped..];
        Some(match rest[0] {
            b'[' => {
                self.take(1);
                Token::Array
            }
            b'{' => {
                self.take(1);
                Token::Object
            }
            b']' | b'}' => {
                self.take(1);
                Token::Close
            }
            b'"' => {
                let mut after = rest[1..].iter();
                super::skip_string(&mut after);
                let string = self.take(rest.len() - after.as_slice().len());
                if self.is_name() { Token::Name(string) } else { Token::String(string) }
            }
            _ => {
                let length = rest.iter().position(|byte| ends_plain(*byte));
                Token::Plain(self.take(length.unwrap_or(rest.len())))
            }
        })
    }
}

impl FusedIterator for Tokens<'_> {}

/// What a string or name in quotes says; unpaired surrogates become U+FFFD.
pub(crate) fn unescaped(quoted: &[u8]) -> Cow<'_, str> {
    let inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if !inside.contains(&b'\\') {
        return String::from_utf8_lossy(inside);
    }
    let bytes = serde_json::Deserializer::from_slice(quoted).deserialize_bytes(StringBytes);
    Cow::Owned(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
}

/// As bytes, serde_json reads strings that are no UTF-8: those with unpaired surrogates.
struct StringBytes;

impl Visitor<'_> for StringBytes {
    type Value = Vec<u8>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

const fn is_between(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b',' | b':')
}

const fn ends_plain(byte: u8) -> bool {
    is_between(byte) || matches!(byte, b'[' | b']' | b'{' | b'}' | b'"')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_are_as_they_stand() {
        let json = br#" {"a\"]" : [1e400,"b:",null] , "c":{} }"#;
        let tokens: Vec<_> = Tokens::new(json).collect();
        let expected = [
            Token::Object,
            Token::Name(br#""a\"]""#),
            Token::Array,
            Token::Plain(b"1e400"),
            Token::String(br#""b:""#),
            Token::Plain(b"null"),
            Token::Close,
            Token::Name(br#""c""#),
            Token::Object,
            Token::Close,
            Token::Close,
        ];
        assert_eq!(tokens, expected);
    }

    #[test]
    fn values_stand_side_by_side() {
        let json = br#"1, "a,b" ,[[2],{"c":[]}],{}"#;
        let mut tokens = Tokens::new(json);
        let values: Vec<_> = std::iter::from_fn(|| tokens.value()).map(|at| &json[at]).collect();
        assert_eq!(values, [&b"1"[..], br#""a,b""#, br#"[[2],{"c":[]}]"#, b"{}"]);
    }

    #[test]
    fn escapes_are_read() {
        assert_eq!(unescaped(br#""plain""#), "plain");
        assert_eq!(unescaped(br#""\u00e9\n\ud83d\ude00""#), "é\n😀");
        assert!(unescaped(br#""a\ud800b""#).starts_with("a\u{fffd}"));
        assert_eq!(unescaped(b""), "");
        assert_eq!(unescaped(b"\""), "");
    }

    proptest! {
        #[test]
        fn nothing_is_read_twice(json in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut tokens = Tokens::new(&json);
            let mut end = 0;
            while tokens.next().is_some() {
                prop_assert!(end <= tokens.start && tokens.start < tokens.end);
                end = tokens.end;
            }
            while tokens.value().is_some() {}
        }
    }
}

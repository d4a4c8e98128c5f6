//! JSON that is passed on unread: checked on its way in, and written by hand on its way out.

use broker_core::JsonText;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::de::IgnoredAny;

mod tokens;

pub(crate) use tokens::{Token, Tokens, unescaped};

/// How deep arrays and objects may nest in data. Common parsers stop at 128 levels; what is
/// delivered stands inside an envelope, which needs some of them.
pub const MAX_DEPTH: usize = 100;

/// The JSON text, if `bytes` are exactly one value in UTF-8, nested at most [`MAX_DEPTH`] deep.
///
/// White space around it is cut off. Nothing else is changed or judged: numbers of any size,
/// members that come twice and unpaired surrogate escapes are the receiver's to read.
#[must_use]
pub fn checked(mut bytes: Bytes) -> Option<JsonText> {
    let text = simdutf8::basic::from_utf8(&bytes).ok()?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    if !fits_depth(text) {
        return None;
    }
    let end = text.trim_end_matches(is_whitespace).len();
    let start = text.len() - text.trim_start_matches(is_whitespace).len();
    bytes.truncate(end);
    bytes.advance(start);
    Some(JsonText::from_checked(bytes))
}

/// Whether valid JSON nests at most [`MAX_DEPTH`] deep. (serde_json bounds the depth of what it
/// builds, but skips values of any depth.)
pub(crate) fn fits_depth(json: &str) -> bool {
    let opening = json.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    opening <= MAX_DEPTH || depth(json.as_bytes()) <= MAX_DEPTH
}

/// White space as JSON has it.
pub(crate) fn is_whitespace(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\r')
}

/// Appends a string in quotes.
pub(crate) fn put_string(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    let mut rest = text.as_bytes();
    while let Some(index) = rest.iter().position(|byte| needs_escape(*byte)) {
        out.extend_from_slice(&rest[..index]);
        put_escape(out, rest[index]);
        rest = &rest[index + 1..];
    }
    out.extend_from_slice(rest);
    out.put_u8(b'"');
}

/// Appends a number in decimal digits.
pub(crate) fn put_number(out: &mut BytesMut, mut number: u64) {
    const MAX_DIGITS: usize = 20;
    let mut digits = [b'0'; MAX_DIGITS];
    let mut first = MAX_DIGITS;
    loop {
        first -= 1;
        digits[first] += (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn put_escape(out: &mut BytesMut, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xF)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str) -> Option<String> {
        let checked = checked(Bytes::copy_from_slice(text.as_bytes()))?;
        Some(std::str::from_utf8(checked.as_bytes()).unwrap().to_owned())
    }

    #[test]
    fn one_value_is_kept_as_it_is() {
        for text in
            ["null", "-0.0e400", "\"\\ud800\"", "[ 1 ,\t2 ]", "{\"a\":1,\"a\":2}", "\"\u{2028}\""]
        {
            assert_eq!(check(text).as_deref(), Some(text));
        }
        assert_eq!(check(" \r\n\t[ ] \n").as_deref(), Some("[ ]"));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            " ",
            "1 2",
            "{} x",
            "[1,]",
            "{\"a\"}",
            "NaN",
            "'a'",
            "\"\n\"",
            "\u{feff}1",
            "\u{a0}1",
            "01",
        ] {
            assert_eq!(check(text), None, "{text:?}");
        }
        assert_eq!(checked(Bytes::from_static(b"\"\xff\"")), None);
    }

    #[test]
    fn depth_has_a_bound() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(check(&nested(MAX_DEPTH)).is_some());
        assert!(check(&nested(MAX_DEPTH + 1)).is_none());
        assert!(check(&nested(1_000_000)).is_none());
        let wide = format!("[{}{{}}]", "[],{\"]\":[\"\\\"[\"]},".repeat(1_000));
        assert!(check(&wide).is_some());
        assert_eq!(depth(wide.as_bytes()), 3);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(text in any::<String>(), number in any::<u64>()) {
            let mut out = BytesMut::new();
            put_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            out.clear();
            put_number(&mut out, number);
            prop_assert_eq!(std::str::from_utf8(&out).unwrap(), number.to_string());
        }

        #[test]
        fn checking_never_panics(bytes: Vec<u8>) {
            let _checked = checked(bytes.into());
        }
    }
}

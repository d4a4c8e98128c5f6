//! What the server says, for transports that carry text alone: there, data that is not JSON stands
//! in the object, as `data_base64`.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::BytesMut;

use super::payload;
use crate::json::put_string;

/// The object of a binary frame of the server's, with its data inside; `None` if it is no such
/// frame.
#[must_use]
pub fn text_of_binary(frame: &[u8]) -> Option<String> {
    let (json, data) = payload::split(frame).ok()?;
    let mut object = json.to_owned();
    append_text(&mut object, "data_base64", &BASE64_STANDARD.encode(data)).then_some(object)
}

/// Adds a member at the end of an object of the server's, which has others; whether `object` is
/// one. `name` needs no escapes.
#[must_use]
pub fn append_text(object: &mut String, name: &str, value: &str) -> bool {
    if object.pop() != Some('}') {
        return false;
    }
    let mut text = BytesMut::with_capacity(value.len() + 2);
    put_string(&mut text, value);
    object.push_str(",\"");
    object.push_str(name);
    object.push_str("\":");
    object.push_str(&String::from_utf8_lossy(&text));
    object.push('}');
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_data_stands_in_the_object() {
        let frame = b"\0\0\0\x12{\"type\":\"message\"}\x00\x01\xff";
        let expected = r#"{"type":"message","data_base64":"AAH/"}"#;
        assert_eq!(text_of_binary(frame).as_deref(), Some(expected));
        assert_eq!(text_of_binary(b"\0\0\0\x12{"), None);
        assert_eq!(text_of_binary(b"\0\0\0\0data"), None);
    }

    #[test]
    fn a_member_is_escaped() {
        let mut object = r#"{"type":"connected"}"#.to_owned();
        assert!(append_text(&mut object, "secret", "a\"\n"));
        assert_eq!(object, r#"{"type":"connected","secret":"a\"\n"}"#);
        assert!(!append_text(&mut "[]".to_owned(), "secret", ""));
    }
}

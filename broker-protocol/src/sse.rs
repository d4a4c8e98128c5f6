//! The format of server-sent events (`text/event-stream`): fields, one to a line, and a blank line
//! after each event.

use bytes::{BufMut as _, BytesMut};

/// Its media type.
pub const MEDIA_TYPE: &str = "text/event-stream";

/// Appends an event. `id` is what a browser sends as `Last-Event-ID` when it comes back; without
/// it, the one before holds.
pub fn put_event(out: &mut BytesMut, event: &str, id: Option<&str>, data: &str) {
    out.reserve(event.len() + id.map_or(0, str::len) + data.len() + 24);
    put_field(out, "event", event);
    if let Some(id) = id {
        put_field(out, "id", id);
    }
    put_field(out, "data", data);
    out.put_u8(b'\n');
}

/// Appends a sign of life, which tells nothing but the `id`, if there is one.
pub fn put_heartbeat(out: &mut BytesMut, id: Option<&str>) {
    put_field(out, "", "");
    if let Some(id) = id {
        put_field(out, "id", id);
    }
    out.put_u8(b'\n');
}

/// Appends how long a browser is to wait before it comes back, in milliseconds.
pub fn put_retry(out: &mut BytesMut, milliseconds: u64) {
    put_field(out, "retry", &milliseconds.to_string());
    out.put_u8(b'\n');
}

/// A line break in a value would begin a field that others wrote; in JSON it can only be white
/// space. An id with NUL is ignored by browsers.
fn put_field(out: &mut BytesMut, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let start = out.len();
    out.extend_from_slice(value.as_bytes());
    for byte in &mut out[start..] {
        if matches!(byte, b'\r' | b'\n' | b'\0') {
            *byte = b' ';
        }
    }
    out.put_u8(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(put: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        put(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn events_have_the_form_of_the_specification() {
        let event = written(|out| put_event(out, "message", Some("7"), r#"{"a":1}"#));
        assert_eq!(event, "event: message\nid: 7\ndata: {\"a\":1}\n\n");
        assert_eq!(written(|out| put_event(out, "gap", None, "{}")), "event: gap\ndata: {}\n\n");
        assert_eq!(written(|out| put_heartbeat(out, Some("7"))), ": \nid: 7\n\n");
        assert_eq!(written(|out| put_retry(out, 1500)), "retry: 1500\n\n");
    }

    #[test]
    fn json_keeps_its_meaning_on_one_line() {
        let event = written(|out| put_event(out, "message", None, "{\r\n\t\"a\":\n1}"));
        assert_eq!(event, "event: message\ndata: {  \t\"a\": 1}\n\n");
    }

    proptest! {
        /// Whatever the values are, a reader sees these three fields and one event.
        #[test]
        fn nothing_breaks_out_of_its_line(
            event in any::<String>(), id in any::<String>(), data in "\\PC*[\r\n\0]{0,3}data: \\PC*",
        ) {
            let text = written(|out| put_event(out, &event, Some(&id), &data));
            let lines: Vec<&str> = text.split(['\r', '\n']).collect();
            prop_assert_eq!(lines.len(), 5);
            prop_assert!(lines[0].starts_with("event: ") && lines[1].starts_with("id: "));
            prop_assert!(lines[2].starts_with("data: ") && lines[3..] == ["", ""]);
        }
    }
}

use broker_core::{Data, JsonText, Timestamp};
use bytes::{Bytes, BytesMut};

use super::*;
use crate::ws::{Decoder, Incoming, Role};

fn json(text: &'static str) -> Data {
    Data::Json(JsonText::from_checked(Bytes::from_static(text.as_bytes())))
}

fn encoded(args: &[Data], in_reply_to: Option<&str>) -> String {
    let mut out = BytesMut::new();
    let time = Timestamp(1_785_000_000_123);
    Outgoing { id: "i\"1", event: "e", args, in_reply_to, time }.encode(&mut out);
    let mut decoder = Decoder::new(Role::Client, 1 << 20);
    let mut bytes = out.as_mut();
    let Ok(Some(Incoming::Text(text))) = decoder.next(&mut bytes) else { panic!("no text frame") };
    text.to_owned()
}

/// The payload of what is encoded.
fn payload(args: &[Data], in_reply_to: Option<&str>) -> String {
    let text = encoded(args, in_reply_to);
    let from = "{\"id\":\"i\\\"1\",\"type\":\"e\",\"payload\":";
    let to = ",\"timestamp\":1785000000123}";
    text.strip_prefix(from).and_then(|rest| rest.strip_suffix(to)).expect(&text).to_owned()
}

#[test]
fn a_payload_is_the_argument_as_it_is() {
    assert_eq!(payload(&[json("{ \"a\": 1.50 }")], None), "{ \"a\": 1.50 }");
    assert_eq!(payload(&[], None), "{}");
    assert_eq!(payload(&[json("1"), json("[]")], None), "[1,[]]");
    assert_eq!(
        payload(&[Data::Binary(Bytes::from_static(b"\0\xff"))], None),
        "{\"data_base64\":\"AP8=\"}"
    );
}

#[test]
fn an_answer_names_what_it_answers() {
    let answer = |args: &[Data]| payload(args, Some("q\n1"));
    assert_eq!(answer(&[json("{\"ok\":true}")]), "{\"ok\":true,\"inReplyTo\":\"q\\n1\"}");
    assert_eq!(answer(&[json("{ }")]), "{\"inReplyTo\":\"q\\n1\"}");
    assert_eq!(answer(&[]), "{\"inReplyTo\":\"q\\n1\"}");
    assert_eq!(answer(&[json("5")]), "{\"data\":5,\"inReplyTo\":\"q\\n1\"}");
    assert_eq!(answer(&[json("1"), json("2")]), "{\"data\":[1,2],\"inReplyTo\":\"q\\n1\"}");
}

#[test]
fn a_long_frame_is_whole() {
    let text = format!("\"{}\"", "x".repeat(70_000));
    let args = [Data::Json(JsonText::from_checked(text.clone().into()))];
    assert_eq!(payload(&args, None), text);
}

#[test]
fn an_envelope_is_read() {
    let text = "{\"id\":\"m-1\",\"type\":\"heart\\u0062eat\",\"payload\":{ \"n\":1.0 },\"timestamp\":5,\"more\":[]}";
    let Envelope { id, event, payload } = Envelope::decode(text).unwrap();
    assert_eq!(id.as_ref().map(Id::as_str), Some("m-1"));
    assert_eq!(&*event, "heartbeat");
    assert_eq!(payload.unwrap().as_bytes(), "{ \"n\":1.0 }");
    for text in ["{\"type\":\"a\"}", "{\"id\":null,\"type\":\"a\",\"payload\":null}"] {
        assert_eq!(
            Envelope::decode(text),
            Ok(Envelope { id: None, event: "a".into(), payload: None })
        );
    }
}

#[test]
fn what_is_wrong_is_said_with_the_id_where_that_is_readable() {
    let problem = |text: &str| {
        let malformed = Envelope::decode(text).expect_err(text);
        (malformed.id.map(|id| id.as_str().to_owned()), malformed.problem)
    };
    for text in [
        "",
        "x",
        "[]",
        "[\"1\",\"a\",{}]",
        "1",
        "{\"type\":\"a\"",
        "{\"type\":\"a\",\"type\":\"b\"}",
        "{\"type\":\"a\"} x",
    ] {
        assert_eq!(problem(text), (None, Problem::Form), "{text}");
    }
    for id in ["1", "\"\"", "{}", "\"\\ud800\""] {
        assert_eq!(problem(&format!("{{\"id\":{id},\"type\":\"a\"}}")), (None, Problem::Id));
    }
    let long = "x".repeat(MAX_ID + 1);
    assert_eq!(problem(&format!("{{\"id\":\"{long}\",\"type\":\"a\"}}")), (None, Problem::Id));
    let long = "x".repeat(MAX_TYPE + 1);
    for text in [
        "{\"id\":\"1\"}",
        "{\"id\":\"1\",\"type\":7}",
        &format!("{{\"id\":\"1\",\"type\":\"{long}\"}}"),
    ] {
        assert_eq!(problem(text), (Some("1".into()), Problem::Type), "{text}");
    }
    let deep = format!(
        "{{\"id\":\"1\",\"type\":\"a\",\"payload\":{}{}}}",
        "[".repeat(101),
        "]".repeat(101)
    );
    assert_eq!(problem(&deep), (Some("1".into()), Problem::Depth));
}

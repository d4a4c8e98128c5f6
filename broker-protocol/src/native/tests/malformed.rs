//! What is refused, with which code and which sentence.

use broker_core::ErrorCode::{self, BadRequest, InvalidName, UnknownCommand};

use super::*;

type Expected = (Option<u64>, ErrorCode, &'static str);

fn check(frame: &str, expected: Expected) {
    let decoded = commands(frame);
    let [Err(Malformed { id, failure })] = &decoded[..] else { panic!("{frame}: {decoded:?}") };
    assert_eq!((*id, failure.code, &*failure.text), expected, "{frame}");
}

#[test]
fn frames_that_hold_no_command() {
    let form = "a text frame is a JSON object, or an array of objects";
    for frame in ["", " ", "hello", "42", "null", "\"{}\"", "\u{feff}{}"] {
        check(frame, (None, BadRequest, form));
    }
    check("[]", (None, BadRequest, "the frame's array holds no command"));
    check("[[]]", (None, BadRequest, "each command in the frame's array must be an object"));
    check(
        r#"{"type":"ping","id":1"#,
        (
            None,
            BadRequest,
            "the command is not a JSON object: EOF while parsing an object at line 1 column 21",
        ),
    );
    check(
        r#"{"type":"ping"} {"type":"ping"}"#,
        (
            None,
            BadRequest,
            "the command is not a JSON object: trailing characters at line 1 column 17",
        ),
    );
}

#[test]
fn a_broken_array_is_refused_as_a_whole() {
    check(
        r#"[{"type":"ping"},{"type":}]"#,
        (
            None,
            BadRequest,
            "the frame is not JSON: expected value at line 1 column 26; nothing in it was done",
        ),
    );
    let ping = r#"{"type":"ping"}"#;
    let many = |count| format!("[{}]", vec![ping; count].join(","));
    check(
        &many(MAX_COMMANDS + 1),
        (None, BadRequest, "a frame may hold 128 commands: send several frames"),
    );
    let decoded = commands(&many(MAX_COMMANDS));
    assert_eq!(decoded.len(), MAX_COMMANDS);
    assert!(decoded.iter().all(Result::is_ok));
}

#[test]
fn commands_of_no_type() {
    for (frame, text) in [
        (r#"{"id":7}"#, "`type` is missing: it says which command this is"),
        (r#"{"id":7,"type":null}"#, "`type` is missing: it says which command this is"),
        (r#"{"id":7,"type":7}"#, "`type` must be a string"),
    ] {
        check(frame, (Some(7), BadRequest, text));
    }
    for (frame, text) in [
        (
            r#"{"id":7,"type":"subscirbe"}"#,
            "there is no command `subscirbe`; did you mean `subscribe`?",
        ),
        (
            r#"{"id":7,"type":"join"}"#,
            "there is no command `join`; there are: connect, refresh, subscribe, unsubscribe, \
             publish, abandon, ack, request, presence, ping",
        ),
        (
            r#"{"id":7,"type":"recover"}"#,
            "the command `recover` is reserved for a later version of the protocol",
        ),
    ] {
        check(frame, (Some(7), UnknownCommand, text));
    }
}

#[test]
fn members_that_are_not_of_their_form() {
    for (id, frame, text) in [
        (
            None,
            r#"{"type":"ping","id":-1}"#,
            "`id` must be a whole number from 0 to 9007199254740991",
        ),
        (
            None,
            r#"{"type":"ping","id":"1"}"#,
            "`id` must be a whole number from 0 to 9007199254740991",
        ),
        (
            None,
            r#"{"type":"ping","id":1.0}"#,
            "`id` must be a whole number from 0 to 9007199254740991",
        ),
        (
            None,
            r#"{"type":"ping","id":9007199254740992}"#,
            "`id` must be a whole number from 0 to 9007199254740991",
        ),
        (Some(1), r#"{"id":1,"type":"refresh"}"#, "`refresh` needs `token`"),
        (Some(1), r#"{"id":1,"type":"refresh","token":1}"#, "`token` must be a string"),
        (
            Some(1),
            r#"{"id":1,"type":"subscribe"}"#,
            "`subscribe` needs either `channel` or `pattern`",
        ),
        (
            Some(1),
            r#"{"id":1,"type":"subscribe","channel":"a","pattern":"a:*"}"#,
            "`subscribe` takes either `channel` or `pattern`, not both",
        ),
        (Some(1), r#"{"id":1,"type":"abandon"}"#, "`abandon` needs `channel`"),
        (Some(1), r#"{"id":1,"type":"request","data":1}"#, "`request` needs `service`"),
        (
            Some(1),
            r#"{"id":1,"type":"request","service":"a","data":1,"timeout":0}"#,
            "`timeout` must be a whole number from 1 to 9007199254740991",
        ),
        (
            Some(1),
            r#"{"id":1,"type":"publish","channel":"a"}"#,
            "`publish` needs `data`; null will do if there is none",
        ),
        (
            Some(1),
            r#"{"id":1,"type":"publish","channel":"a","data":1,"echo":"no"}"#,
            "`echo` must be true or false",
        ),
        (
            Some(1),
            r#"{"id":1,"type":"publish","channel":"a","data":1,"event":"\ud800"}"#,
            "`event` must be a string of Unicode text, without half of a surrogate pair",
        ),
        (
            Some(1),
            r#"{"id":1,"type":"ping","trace":"00-0-0-0"}"#,
            "`trace` must be a W3C traceparent, 00-<32 hex digits>-<16 hex digits>-<2 hex digits>",
        ),
    ] {
        check(frame, (id, BadRequest, text));
    }
}

#[test]
fn members_that_do_not_belong() {
    for (frame, text) in [
        (
            r#"{"id":1,"type":"subscribe","chanel":"a"}"#,
            "`subscribe` has no member `chanel`; did you mean `channel`?",
        ),
        (
            r#"{"id":1,"type":"publish","channel":"a","payload":{}}"#,
            "`publish` has no member `payload`; it may have: type, id, trace, channel, event, \
             message, echo, data, data_base64",
        ),
        (
            r#"{"id":1,"type":"ping","channel":null}"#,
            "`ping` has no member `channel`; it may have: type, id, trace",
        ),
        (
            r#"{"id":1,"type":"subscribe","channel":"a","recover":true}"#,
            "`recover` is reserved for a later version of the protocol",
        ),
        (
            r#"{"id":1,"type":"subscribe","channel":"a","channel":"b"}"#,
            "`channel` is there more than once",
        ),
        (r#"{"id":2,"type":"ping","id":1}"#, "`id` is there more than once"),
        (
            r#"{"id":1,"type":"publish","channel":"a","data":1,"data_base64":"AA=="}"#,
            "`data_base64` stands alone: leave out any other data",
        ),
        (
            r#"{"id":1,"type":"publish","channel":"a","data_base64":"A"}"#,
            "`data_base64` is not base64: Invalid input length: 1",
        ),
    ] {
        check(frame, (Some(1), BadRequest, text));
    }
}

#[test]
fn names_that_are_not_of_their_form() {
    for (frame, text) in [
        (r#"{"id":1,"type":"subscribe","channel":""}"#, "`channel`: the name is empty"),
        (
            r#"{"id":1,"type":"subscribe","pattern":"a:b"}"#,
            "`pattern`: a pattern needs `*` for one segment, or `**` as its last segment, after \
             the namespace",
        ),
        (
            r#"{"id":1,"type":"publish","channel":"a","event":"\u0000","data":1}"#,
            "`event`: the name holds a control character",
        ),
        (
            r#"{"id":1,"type":"publish","channel":"a","message":"a b","data":1}"#,
            "`message` may hold only printable ASCII, without spaces",
        ),
        (
            r#"{"id":1,"type":"request","service":"a::b","data":1}"#,
            "`service`: the name has an empty segment: segments are joined by single colons",
        ),
    ] {
        check(frame, (Some(1), InvalidName, text));
    }
}

#[test]
fn binary_frames_of_another_form() {
    let framed =
        |json: &str| [&(json.len() as u32).to_be_bytes()[..], json.as_bytes(), b"data"].concat();
    for (frame, id, text) in [
        (
            b"\0\0\0".to_vec(),
            None,
            "a binary frame begins with 4 bytes, the length of its JSON; this one is shorter",
        ),
        (
            b"\xff\xff\xff\xff{}".to_vec(),
            None,
            "the frame says that 4294967295 bytes of JSON follow, but has only 2",
        ),
        (b"\0\0\0\x01\xff".to_vec(), None, "the JSON of the frame is not UTF-8"),
        (framed("[]"), None, "the JSON of a binary frame is one object"),
        (framed(""), None, "the JSON of a binary frame is one object"),
        (
            framed(r#"{"type":"publish","channel":"a","id":1,"data":1}"#),
            Some(1),
            "in a binary frame, the data follows the JSON: leave out `data`",
        ),
        (
            framed(r#"{"type":"publish","channel":"a","id":1,"data_base64":""}"#),
            Some(1),
            "`data_base64` stands alone: leave out any other data",
        ),
        (
            framed(r#"{"type":"ping","id":1}"#),
            Some(1),
            "`ping` has no data: send it in a text frame",
        ),
    ] {
        let malformed = binary_command(&frame).unwrap_err();
        assert_eq!(
            (malformed.id, malformed.failure.code, &*malformed.failure.text),
            (id, BadRequest, text),
        );
    }
}

#[test]
fn depth_is_bounded_and_costs_no_stack() {
    let publish = |data: String| format!(r#"{{"type":"publish","channel":"a","data":{data}}}"#);
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(commands(&publish(nested(100)))[0].is_ok());
    check(&publish(nested(101)), (None, BadRequest, "`data` nests deeper than 100 levels"));
    let deep = 1_000_000;
    for frame in [publish(nested(deep)), nested(deep), "[".repeat(deep), r#"{"a":"#.repeat(deep)] {
        assert!(commands(&frame).iter().all(Result::is_err));
    }
}

#[test]
fn an_unknown_name_is_repeated_in_part_only() {
    let long = "x".repeat(10_000);
    for frame in
        [format!(r#"{{"type":"{long}"}}"#), format!(r#"{{"type":"ping","{long}":"{long}"}}"#)]
    {
        assert!(commands(&frame)[0].as_ref().unwrap_err().failure.text.len() < 200);
    }
}

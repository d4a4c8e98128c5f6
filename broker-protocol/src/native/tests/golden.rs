//! The frames of `fixtures/native.json`, which other clients' authors read and test with.

use broker_core::{
    ErrorCode,
    ports::GapReason,
    session::{Failure, Outgoing, Reply},
};
use serde_json::Value;

use super::{describe, *};
use crate::native::client::{ServerError, ServerFrame};

const FIXTURES: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/native.json"));

fn fixtures() -> Vec<Value> {
    serde_json::from_str(FIXTURES).unwrap()
}

fn frame(fixture: &Value) -> (Opcode, Vec<u8>) {
    match (&fixture["frame"]["text"], &fixture["frame"]["hex"]) {
        (Value::String(text), Value::Null) => (Opcode::Text, text.clone().into_bytes()),
        (Value::Null, Value::String(digits)) => {
            let byte =
                |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            (Opcode::Binary, digits.as_bytes().chunks(2).map(byte).collect())
        }
        _ => panic!("text or hex: {fixture}"),
    }
}

#[test]
fn clients_frames_decode_as_the_fixtures_say() {
    for fixture in fixtures().iter().filter(|it| it["from"] == "client") {
        let decoded = match frame(fixture) {
            (Opcode::Text, text) => commands(std::str::from_utf8(&text).unwrap()),
            (_, bytes) => vec![binary_command(&bytes)],
        };
        let described: Vec<Value> = decoded.iter().map(describe::command).collect();
        assert_eq!(Value::from(described), fixture["decoded"], "{}", fixture["name"]);
    }
}

#[test]
fn servers_frames_are_written_and_read_as_the_fixtures_say() {
    for fixture in fixtures().iter().filter(|it| it["from"] == "server") {
        let (opcode, payload) = frame(fixture);
        let parsed = parse(opcode, &payload);
        let described = Value::from(vec![describe::server_frame(&parsed)]);
        assert_eq!(described, fixture["decoded"], "{}", fixture["name"]);
        if fixture["newer"] != true {
            let written = payloads(encode(parsed));
            assert_eq!(written, [(opcode, payload)], "{}", fixture["name"]);
        }
    }
}

#[test]
fn fixtures_show_each_command_and_each_notice() {
    let decoded: Vec<Value> =
        fixtures().iter().flat_map(|it| it["decoded"].as_array().unwrap().clone()).collect();
    let shows = |key: &str, name: &str| decoded.iter().any(|it| it[key] == name);
    for command in [
        "connect",
        "refresh",
        "subscribe",
        "unsubscribe",
        "publish",
        "abandon",
        "ack",
        "request",
        "request",
        "presence",
        "ping",
    ] {
        assert!(shows("command", command), "{command}");
    }
    for notice in [
        "connected",
        "refreshed",
        "subscribed",
        "unsubscribed",
        "published",
        "abandoned",
        "acked",
        "evicted",
        "reply",
        "present",
        "pong",
        "error",
        "message",
        "gap",
        "expiring",
        "reconnect",
        "unknown",
    ] {
        assert!(shows("notice", notice), "{notice}");
    }
}

fn encode(frame: ServerFrame) -> BytesMut {
    let mut out = BytesMut::new();
    match frame {
        ServerFrame::Message(message) => encode_message(&message, &mut out),
        ServerFrame::Gap { interest, reason } => {
            let reasons = [GapReason::Reconnected, GapReason::Overrun, GapReason::Malformed];
            let reason = reasons.into_iter().find(|it| it.as_str() == reason).unwrap();
            encode_gap(interest.as_ref(), reason, &mut out);
        }
        other => encode_reply(&reply(other), &mut out),
    }
    out
}

fn reply(frame: ServerFrame) -> Reply {
    let id = frame.id();
    let body = match frame {
        ServerFrame::Connected { connected, .. } => Outgoing::Connected(connected),
        ServerFrame::Refreshed { expires, .. } => Outgoing::Refreshed { expires },
        ServerFrame::Subscribed { interest, start, .. } => Outgoing::Subscribed { interest, start },
        ServerFrame::Unsubscribed { interest, .. } => Outgoing::Unsubscribed { interest },
        ServerFrame::Published { message, accepted, .. } => {
            Outgoing::Published { message, accepted }
        }
        ServerFrame::Abandoned { .. } => Outgoing::Abandoned,
        ServerFrame::Acked { .. } => Outgoing::Acknowledged,
        ServerFrame::Evicted { evicted, expired, position } => {
            Outgoing::Evicted { evicted, expired, position }
        }
        ServerFrame::Reply { data, .. } => Outgoing::Answer { data },
        ServerFrame::Present { present, .. } => Outgoing::Present(present),
        ServerFrame::Pong { .. } => Outgoing::Pong,
        ServerFrame::Error(ServerError { code, text, message, .. }) => {
            let code = *ErrorCode::ALL.iter().find(|it| it.as_str() == code).unwrap();
            Outgoing::Error(Failure { message, ..Failure::new(code, text) })
        }
        ServerFrame::Expiring { left } => Outgoing::Expiring { left },
        ServerFrame::Reconnect { after } => Outgoing::Reconnect { after },
        other => panic!("no reply: {other:?}"),
    };
    Reply { id, body }
}

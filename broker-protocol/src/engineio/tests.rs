use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::ws::{Opcode, frame};

fn encoded(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.freeze()
}

fn packets(body: &str) -> Vec<Result<Packet<'_>, Malformed>> {
    decode_payload(body.as_bytes(), 1_000).unwrap().collect()
}

/// § HTTP long-polling, § WebSocket, § Upgrade.
#[test]
fn the_documents_examples_are_read() {
    let message = Ok(Packet::Text("hello"));
    let bytes = Ok(Packet::Binary(Bytes::from_static(&[1, 2, 3, 4])));
    assert_eq!(Packet::decode("4hello"), message);
    assert_eq!(
        packets("4hello\x1e2\x1e4world"),
        [message.clone(), Ok(Packet::Ping("")), Ok(Packet::Text("world"))]
    );
    assert_eq!(packets("4hello\x1ebAQIDBA=="), [message, bytes]);
    assert_eq!(Packet::decode("2probe"), Ok(Packet::Ping(PROBE)));
    assert_eq!(Packet::decode("3"), Ok(Packet::Pong("")));
    assert_eq!(Packet::decode("5"), Ok(Packet::Upgrade));
    assert_eq!(Packet::decode("6"), Ok(Packet::Noop));
    assert_eq!(Packet::decode("1"), Ok(Packet::Close));
    assert_eq!(Packet::decode("0"), Ok(Packet::Open));
    assert_eq!(Packet::decode("4"), Ok(Packet::Text("")));
    assert_eq!(Packet::decode("b"), Ok(Packet::Binary(Bytes::new())));
}

#[test]
fn what_is_malformed_is_refused() {
    for (text, reason) in [
        ("", Malformed::Empty),
        ("abc", Malformed::Type),
        ("7", Malformed::Type),
        ("é", Malformed::Type),
        ("bAQIDBA", Malformed::Base64),
        ("bAQIDBA==\n", Malformed::Base64),
        ("bAQ*=", Malformed::Base64),
        ("bAQ==AQ==", Malformed::Base64),
    ] {
        assert_eq!(Packet::decode(text), Err(reason), "{text:?}");
    }
    for (body, at) in [("", 0), ("4a\x1e", 1), ("\x1e4a", 0), ("4a\x1e\x1e4b", 1), ("4a\x1ex", 1)] {
        let packets = packets(body);
        let error = packets.iter().position(Result::is_err);
        assert_eq!(error, Some(at), "{body:?}: {packets:?}");
    }
    assert_eq!(decode_payload(b"4\xff", 9).err(), Some(Malformed::Utf8));
}

#[test]
fn the_number_of_packets_has_a_bound() {
    assert_eq!(decode_payload(b"4\x1e4\x1e4", 3).unwrap().count(), 3);
    let refused = decode_payload(b"4\x1e4\x1e4\x1e4", 3).err();
    assert_eq!(refused, Some(Malformed::TooManyPackets { limit: 3 }));
}

/// § Handshake.
#[test]
fn the_open_packet_has_these_members_only() {
    let open = Open {
        sid: "lv_VI97HAXpY6yYWAAAC",
        upgrade: true,
        ping_interval: Duration::from_secs(25),
        ping_timeout: Duration::from_secs(20),
        max_payload: 1_000_000,
    };
    let expected = concat!(
        r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"#,
        r#""pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
    );
    assert_eq!(encoded(|out| encode_open(&open, out)), frame::text_frame(expected.as_bytes()));
    let alone = encoded(|out| encode_open(&Open { upgrade: false, ..open }, out));
    assert!(alone.windows(13).any(|it| it == br#""upgrades":[]"#), "{alone:?}");
}

#[test]
fn packets_without_content_are_right() {
    assert_eq!(PING_FRAME, frame::text_frame(b"2"));
    assert_eq!(PROBE_PONG_FRAME, frame::text_frame(b"3probe"));
    assert_eq!(Packet::decode(str::from_utf8(NOOP).unwrap()), Ok(Packet::Noop));
    assert_eq!(Packet::decode(str::from_utf8(CLOSE).unwrap()), Ok(Packet::Close));
}

#[test]
fn messages_become_frames() {
    let text = encoded(|out| encode_text(out, 0, |out| out.extend_from_slice(b"hello")));
    assert_eq!(text, frame::text_frame(b"4hello"));
    assert_eq!(encoded(|out| encode_binary(out, b"\x01\x02")), &b"\x82\x02\x01\x02"[..]);
}

#[test]
fn packets_become_a_payload() {
    let mut payload = Payload::default();
    assert!(payload.is_empty() && payload.has_room());
    payload.push(Opcode::Text, b"4hello");
    payload.push(Opcode::Text, b"2");
    payload.push(Opcode::Binary, &[1, 2, 3, 4]);
    assert_eq!((payload.is_empty(), payload.len()), (false, 18));
    assert_eq!(payload.finish(), &b"4hello\x1e2\x1ebAQIDBA=="[..]);
}

#[test]
fn a_payload_has_room_for_what_every_client_takes() {
    let mut payload = Payload::default();
    while payload.has_room() {
        payload.push(Opcode::Text, b"4x");
    }
    assert_eq!(decode_payload(&payload.finish(), 16).unwrap().count(), 16);
}

fn message() -> impl Strategy<Value = (Opcode, Vec<u8>)> {
    prop_oneof![
        "[^\x1e]{0,200}".prop_map(|text| (Opcode::Text, text.into_bytes())),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| (Opcode::Binary, bytes)),
    ]
}

proptest! {
    /// Whatever is put into a poll comes out of it, in order.
    #[test]
    fn payloads_carry_everything(messages in prop::collection::vec(message(), 1..50)) {
        let mut payload = Payload::default();
        for (opcode, message) in &messages {
            match opcode {
                Opcode::Text => payload.push(Opcode::Text, &[b"4", &message[..]].concat()),
                _ => payload.push(Opcode::Binary, message),
            }
        }
        let body = payload.finish();
        let read = decode_payload(&body, messages.len()).unwrap().map(|packet| match packet {
            Ok(Packet::Text(text)) => (Opcode::Text, text.as_bytes().to_vec()),
            Ok(Packet::Binary(bytes)) => (Opcode::Binary, bytes.to_vec()),
            other => panic!("{other:?}"),
        });
        prop_assert_eq!(read.collect::<Vec<_>>(), messages);
    }

    #[test]
    fn decoding_never_panics(body in prop::collection::vec(any::<u8>(), 0..100), text in ".{0,20}") {
        let _packets = decode_payload(&body, 10).map(Iterator::count);
        let _packet = Packet::decode(&text);
    }
}

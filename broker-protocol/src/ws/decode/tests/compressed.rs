//! Messages that permessage-deflate has compressed (RFC 7692 §6, §7).

use super::*;
use crate::ws::deflate::tests::deflated;

pub(super) const RSV1: u8 = 0x40;

/// Frames of which the first is marked as compressed.
fn compressed(frames: &[(Opcode, bool, &[u8])]) -> Vec<u8> {
    let mut stream = masked(frames);
    stream[0] |= RSV1;
    stream
}

fn decoder() -> Decoder {
    Decoder::new(Role::Server, LIMIT).with_deflate(true)
}

fn decode(stream: &[u8], size: usize) -> (Vec<Message>, Result<(), WsError>) {
    decode_with(decoder(), stream, size)
}

#[test]
fn messages_are_inflated_however_they_are_cut() {
    let said = "h\u{e9}llo ".repeat(100);
    let payload = deflated(said.as_bytes());
    let (front, back) = payload.split_at(payload.len() / 2);
    let stream = [
        compressed(&[(Opcode::Text, true, &payload)]),
        compressed(&[
            (Opcode::Text, false, front),
            (Opcode::Ping, true, b"between"),
            (Opcode::Continuation, false, b""),
            (Opcode::Pong, true, b""),
            (Opcode::Continuation, true, back),
        ]),
        masked(&[(Opcode::Text, true, b"plain")]),
        compressed(&[(Opcode::Binary, true, &deflated(b""))]),
        compressed(&[(Opcode::Binary, false, b""), (Opcode::Continuation, true, &payload)]),
    ]
    .concat();
    let expected = vec![
        text(&said),
        Message::Ping(b"between".to_vec()),
        Message::Pong(vec![]),
        text(&said),
        text("plain"),
        Message::Binary(vec![]),
        Message::Binary(said.into_bytes()),
    ];
    for size in 1..=stream.len() {
        assert_eq!(decode(&stream, size), (expected.clone(), Ok(())), "by {size}");
    }
}

#[test]
fn the_mark_means_nothing_where_it_was_not_negotiated_or_does_not_belong() {
    let payload = deflated(b"hello");
    let message = compressed(&[(Opcode::Text, true, &payload)]);
    let plain = Decoder::new(Role::Server, LIMIT);
    assert_eq!(decode_with(plain, &message, 99), (vec![], Err(WsError::ReservedBits)));
    let mut on_continuation = masked(&[(Opcode::Text, false, b"")]);
    on_continuation.extend(compressed(&[(Opcode::Continuation, true, b"")]));
    for stream in [
        on_continuation,
        compressed(&[(Opcode::Ping, true, b"")]),
        compressed(&[(Opcode::Close, true, b"")]),
        // RSV2 and RSV3 remain unknown.
        vec![0xa1, 0x80, 0, 0, 0, 0],
        vec![0xd1, 0x80, 0, 0, 0, 0],
    ] {
        for size in 1..=stream.len() {
            assert_eq!(decode(&stream, size), (vec![], Err(WsError::ReservedBits)), "{stream:x?}");
        }
    }
}

#[test]
fn the_limit_is_on_what_comes_and_on_what_it_becomes() {
    let too_big = Err(WsError::TooBig { limit: LIMIT });
    let bomb = deflated(&vec![b' '; 4 << 20]);
    assert!(bomb.len() > LIMIT, "refused by its header");
    let long = deflated(&[b' '; LIMIT + 1]);
    let (front, back) = long.split_at(5);
    for stream in [
        compressed(&[(Opcode::Text, true, &bomb)]),
        compressed(&[(Opcode::Text, true, &long)]),
        compressed(&[(Opcode::Text, false, front), (Opcode::Continuation, true, back)]),
    ] {
        for size in [1, 7, stream.len()] {
            assert_eq!(decode(&stream, size), (vec![], too_big));
        }
    }
    let full = compressed(&[(Opcode::Binary, true, &deflated(&[0; LIMIT]))]);
    assert_eq!(decode(&full, 1), (vec![Message::Binary(vec![0; LIMIT])], Ok(())));
}

#[test]
fn what_is_inflated_must_be_whole_and_text_must_be_text() {
    let cut = &deflated(b"hello, hello, hello")[..6];
    let cases = [
        (compressed(&[(Opcode::Text, true, cut)]), WsError::CorruptDeflate),
        (compressed(&[(Opcode::Binary, true, b"")]), WsError::CorruptDeflate),
        (compressed(&[(Opcode::Binary, true, b"\xff\xff")]), WsError::CorruptDeflate),
        (compressed(&[(Opcode::Text, true, &deflated(b"\xc3\x28"))]), WsError::InvalidUtf8),
        (compressed(&[(Opcode::Text, true, &deflated(b"\xc3"))]), WsError::InvalidUtf8),
    ];
    for (stream, error) in cases {
        for size in 1..=stream.len() {
            assert_eq!(decode(&stream, size), (vec![], Err(error)), "{stream:x?} by {size}");
        }
    }
}

#[test]
fn between_messages_nothing_is_held() {
    let mut decoder = decoder();
    let mut seen = Vec::new();
    let payload = deflated(&[b'x'; 900]);
    let stream = compressed(&[(Opcode::Text, true, &payload)]);
    for size in 1..=stream.len() {
        stream.chunks(size).for_each(|chunk| feed(&mut decoder, chunk, &mut seen).unwrap());
        assert_eq!((seen.len(), decoder.held()), (size, 0));
    }
    let broken = compressed(&[(Opcode::Text, true, b"\xff\xff")]);
    assert!(feed(&mut decoder, &broken, &mut seen).is_err());
    assert_eq!(decoder.held(), 0);
}

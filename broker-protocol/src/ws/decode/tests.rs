use bytes::BytesMut;

use super::*;
use crate::ws::CloseFrame;
use crate::ws::frame::{client_frame, text_frame};

mod compressed;
mod properties;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const LIMIT: usize = 1000;

/// [`Incoming`] without its borrow.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Message {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Incoming<'_>> for Message {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Text(text) => Self::Text(text.to_owned()),
            Incoming::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Incoming::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Incoming::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Incoming::Close(close) => {
                Self::Close(close.map(|CloseFrame { code, reason }| (code, reason.to_owned())))
            }
        }
    }
}

fn text(text: &str) -> Message {
    Message::Text(text.to_owned())
}

fn feed(decoder: &mut Decoder, chunk: &[u8], seen: &mut Vec<Message>) -> Result<(), WsError> {
    let mut chunk = chunk.to_vec();
    let mut input = &mut chunk[..];
    while let Some(message) = decoder.next(&mut input)? {
        seen.push(message.into());
    }
    assert!(input.is_empty(), "`None` leaves nothing behind");
    Ok(())
}

/// What `stream` decodes to when read in pieces of `size`.
fn decode(role: Role, stream: &[u8], size: usize) -> (Vec<Message>, Result<(), WsError>) {
    decode_with(Decoder::new(role, LIMIT), stream, size)
}

fn decode_with(
    mut decoder: Decoder,
    stream: &[u8],
    size: usize,
) -> (Vec<Message>, Result<(), WsError>) {
    let mut seen = Vec::new();
    let outcome = stream.chunks(size).try_for_each(|chunk| feed(&mut decoder, chunk, &mut seen));
    (seen, outcome)
}

fn masked(frames: &[(Opcode, bool, &[u8])]) -> Vec<u8> {
    let mut buf = BytesMut::new();
    for (opcode, fin, payload) in frames {
        client_frame(&mut buf, *opcode, *fin, KEY, payload);
    }
    buf.to_vec()
}

/// RFC 6455 §5.7.
#[test]
fn the_rfcs_examples() {
    let binary = |length| Message::Binary(vec![7; length]);
    let examples: [(Role, Vec<u8>, Message); 5] = [
        (Role::Client, b"\x81\x05Hello".to_vec(), text("Hello")),
        (Role::Server, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec(), text("Hello")),
        (Role::Client, b"\x01\x03Hel\x80\x02lo".to_vec(), text("Hello")),
        (Role::Client, b"\x89\x05Hello".to_vec(), Message::Ping(b"Hello".to_vec())),
        (Role::Client, [&b"\x82\x7e\x01\x00"[..], &[7; 256]].concat(), binary(256)),
    ];
    for (role, stream, message) in examples {
        for size in 1..=stream.len() {
            assert_eq!(decode(role, &stream, size), (vec![message.clone()], Ok(())));
        }
    }
}

#[test]
fn a_64_bit_length_is_read() {
    let mut decoder = Decoder::new(Role::Client, 1 << 16);
    let mut seen = Vec::new();
    let frame = crate::ws::frame::binary_frame(&[7; 1 << 16]);
    feed(&mut decoder, &frame, &mut seen).unwrap();
    assert_eq!(seen, [Message::Binary(vec![7; 1 << 16])]);
}

#[test]
fn every_violation_has_its_error() {
    let control = [&b"\x89\xfe\x00\x7e"[..], &KEY].concat();
    let table: &[(Role, &[u8], WsError, u16)] = &[
        (Role::Server, b"\xc1\x80\0\0\0\0", WsError::ReservedBits, 1002),
        (Role::Server, b"\xa1\x80\0\0\0\0", WsError::ReservedBits, 1002),
        (Role::Server, b"\x91\x80\0\0\0\0", WsError::ReservedBits, 1002),
        (Role::Server, b"\x83\x80\0\0\0\0", WsError::ReservedOpcode(3), 1002),
        (Role::Server, b"\x87\x80\0\0\0\0", WsError::ReservedOpcode(7), 1002),
        (Role::Server, b"\x8b\x80\0\0\0\0", WsError::ReservedOpcode(11), 1002),
        (Role::Server, b"\x8f\x80\0\0\0\0", WsError::ReservedOpcode(15), 1002),
        (Role::Server, b"\x09\x80\0\0\0\0", WsError::FragmentedControl, 1002),
        (Role::Server, &control, WsError::OversizedControl, 1002),
        (Role::Server, b"\x80\x80\0\0\0\0", WsError::UnexpectedContinuation, 1002),
        (Role::Server, b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", WsError::InterruptedMessage, 1002),
        (Role::Server, b"\x02\x80\0\0\0\0\x02\x80\0\0\0\0", WsError::InterruptedMessage, 1002),
        (Role::Server, b"\x81\x05Hello", WsError::Unmasked, 1002),
        (Role::Client, b"\x81\x85\0\0\0\0Hello", WsError::Masked, 1002),
        (Role::Client, b"\x82\x7e\x00\x7d", WsError::NonMinimalLength, 1002),
        (Role::Client, b"\x82\x7f\0\0\0\0\0\0\xff\xff", WsError::NonMinimalLength, 1002),
        (Role::Client, b"\x82\x7f\x80\0\0\0\0\0\0\0", WsError::LengthOverflow, 1002),
        (Role::Client, b"\x88\x01\x03", WsError::CloseLength, 1002),
        (Role::Client, b"\x88\x02\x03\xed", WsError::CloseCode(1005), 1002),
        (Role::Client, b"\x88\x04\x03\xe8\xc3\x28", WsError::InvalidUtf8, 1007),
        (Role::Client, b"\x81\x02\xc3\x28", WsError::InvalidUtf8, 1007),
        (Role::Client, b"\x81\x01\xc3", WsError::InvalidUtf8, 1007),
        (Role::Client, b"\x01\x01\xc3\x80\x01\x28", WsError::InvalidUtf8, 1007),
        (Role::Client, b"\x01\x01\xc3\x80\x00", WsError::InvalidUtf8, 1007),
        (Role::Client, b"\x82\x7e\x03\xe9", WsError::TooBig { limit: LIMIT }, 1009),
        (
            Role::Client,
            b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
            WsError::TooBig { limit: LIMIT },
            1009,
        ),
        (Role::Client, b"\x02\x01x\x80\x7e\x03\xe8", WsError::TooBig { limit: LIMIT }, 1009),
    ];
    for (role, stream, error, code) in table {
        assert_eq!(error.close_code(), *code);
        assert!(error.to_string().len() <= crate::ws::frame::MAX_CLOSE_REASON);
        for size in 1..=stream.len() {
            assert_eq!(decode(*role, stream, size), (vec![], Err(*error)), "{stream:x?} by {size}");
        }
    }
}

#[test]
fn an_error_comes_after_what_preceded_it_and_stays() {
    let mut decoder = Decoder::new(Role::Client, LIMIT);
    let mut seen = Vec::new();
    let outcome = feed(&mut decoder, b"\x81\x02ok\x83\x00\x81\x02no", &mut seen);
    assert_eq!((seen.as_slice(), outcome), (&[text("ok")][..], Err(WsError::ReservedOpcode(3))));
    assert_eq!(feed(&mut decoder, b"\x81\x02no", &mut seen), outcome);
    assert_eq!(seen.len(), 1);
}

#[test]
fn an_error_frees_the_message_under_way() {
    let mut decoder = Decoder::new(Role::Client, LIMIT);
    assert!(feed(&mut decoder, b"\x02\x05begun\x83\x00", &mut Vec::new()).is_err());
    assert_eq!(decoder.held(), 0);
}

#[test]
fn what_follows_a_close_is_discarded() {
    let stream = masked(&[
        (Opcode::Text, false, b"cut"),
        (Opcode::Close, true, b"\x03\xe8bye"),
        (Opcode::Text, true, b"no"),
    ]);
    for size in 1..=stream.len() {
        let closed = Message::Close(Some((1000, "bye".to_owned())));
        assert_eq!(decode(Role::Server, &stream, size), (vec![closed], Ok(())));
    }
    assert_eq!(decode(Role::Client, b"\x88\x00\xff", 3), (vec![Message::Close(None)], Ok(())));
}

#[test]
fn control_frames_may_come_between_fragments() {
    let stream = masked(&[
        (Opcode::Text, false, "h\u{e9}".as_bytes()),
        (Opcode::Ping, true, b"1"),
        (Opcode::Continuation, false, b""),
        (Opcode::Pong, true, b""),
        (Opcode::Continuation, true, b"llo"),
        (Opcode::Binary, true, b"next"),
    ]);
    let expected = vec![
        Message::Ping(b"1".to_vec()),
        Message::Pong(vec![]),
        text("h\u{e9}llo"),
        Message::Binary(b"next".to_vec()),
    ];
    for size in 1..=stream.len() {
        assert_eq!(decode(Role::Server, &stream, size), (expected.clone(), Ok(())));
    }
}

/// Autobahn 6.4: κόσμε, then a byte that no continuation can mend, with the message still open.
#[test]
fn invalid_text_fails_before_its_frame_is_complete() {
    let mut decoder = Decoder::new(Role::Client, LIMIT);
    let mut seen = Vec::new();
    feed(&mut decoder, b"\x81\x20\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4", &mut seen)
        .unwrap();
    assert_eq!(feed(&mut decoder, b"\x90", &mut seen), Err(WsError::InvalidUtf8));
}

#[test]
fn the_limit_can_change_between_messages() {
    let mut decoder = Decoder::new(Role::Client, 4);
    let mut seen = Vec::new();
    feed(&mut decoder, b"\x81\x04four", &mut seen).unwrap();
    decoder.set_max_message(5);
    feed(&mut decoder, b"\x81\x05fives", &mut seen).unwrap();
    decoder.set_max_message(4);
    assert_eq!(feed(&mut decoder, b"\x81\x05fives", &mut seen), Err(WsError::TooBig { limit: 4 }));
    assert_eq!(seen, [text("four"), text("fives")]);
}

#[test]
fn a_control_frame_is_not_subject_to_the_message_limit() {
    let mut decoder = Decoder::new(Role::Client, 0);
    let mut seen = Vec::new();
    feed(&mut decoder, b"\x89\x01x", &mut seen).unwrap();
    assert_eq!(seen, [Message::Ping(b"x".to_vec())]);
}

#[test]
fn fragments_must_bring_something() {
    let count = |payload: &[u8]| {
        let mut decoder = Decoder::new(Role::Server, 1 << 20);
        let first = masked(&[(Opcode::Binary, false, payload)]);
        let next = masked(&[(Opcode::Continuation, false, payload)]);
        let mut seen = Vec::new();
        feed(&mut decoder, &first, &mut seen).unwrap();
        (1..5000).find(|_| feed(&mut decoder, &next, &mut seen) == Err(WsError::TooManyFragments))
    };
    assert_eq!(count(b""), Some(FREE_FRAGMENTS));
    assert!(count(b"x").is_some_and(|count| count < 1100));
    assert_eq!(count(&[0; MIN_FRAGMENT_BYTES]), None);
    assert_eq!(WsError::TooManyFragments.close_code(), 1008);
}

#[test]
fn an_idle_decoder_is_small_and_holds_nothing() {
    assert!(size_of::<Decoder>() <= 40);
    let mut decoder = Decoder::new(Role::Client, LIMIT);
    let mut seen = Vec::new();
    let frame = text_frame(&[b'x'; 600]);
    feed(&mut decoder, &frame[..1], &mut seen).unwrap();
    assert!(decoder.held() < 200, "a header is kept in little room");
    feed(&mut decoder, &frame[1..], &mut seen).unwrap();
    assert_eq!((seen.len(), decoder.held()), (1, 0), "whole after its header: never buffered");
    for size in 1..frame.len() {
        frame.chunks(size).for_each(|chunk| feed(&mut decoder, chunk, &mut seen).unwrap());
        assert_eq!((seen.len(), decoder.held()), (size + 1, 0));
    }
}

#[test]
fn memory_follows_what_arrived() {
    let mut decoder = Decoder::new(Role::Client, 1 << 30);
    let mut seen = Vec::new();
    feed(&mut decoder, b"\x82\x7f\0\0\0\0\x40\0\0\0x", &mut seen).unwrap();
    assert!(decoder.held() < 256);
}

use proptest::prelude::*;

use super::*;
use crate::ws::{Decoder, Incoming, Opcode, Role, frame};

const LIMIT: usize = 10_000;
const ALL: Policy = Policy { min_bytes: 0, level: 6 };

/// A payload as a peer compresses it, smaller or not.
pub(in crate::ws) fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + payload.len() / 8 + 64);
    Compress::new(Compression::new(6), false)
        .compress_vec(payload, &mut out, FlushCompress::Sync)
        .unwrap();
    out.truncate(out.len() - TAIL.len());
    out
}

/// Letters that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn read(block: &[u8]) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::new(Role::Client, 1 << 20).with_deflate(true);
    let mut bytes = block.to_vec();
    let mut input = &mut bytes[..];
    let mut seen = Vec::new();
    while let Some(message) = decoder.next(&mut input).unwrap() {
        match message {
            Incoming::Text(text) => seen.push(text.as_bytes().to_vec()),
            Incoming::Binary(body) | Incoming::Ping(body) => seen.push(body.to_vec()),
            other => panic!("{other:?}"),
        }
    }
    seen
}

/// RFC 7692 §7.2.3.
#[test]
fn the_rfcs_examples() {
    let examples: [&[u8]; 5] = [
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        // Without compression, with a final block, with two blocks.
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
    ];
    for example in examples {
        assert_eq!(inflate(example, 5).as_deref(), Ok(&b"Hello"[..]), "{example:x?}");
    }
    assert_eq!(inflate(&[0x00], 0).as_deref(), Ok(&b""[..]), "§7.2.3.6: an empty message");
}

#[test]
fn what_is_no_whole_message_is_corrupt() {
    let whole = deflated(&b"a message, and the message again".repeat(9));
    for end in 0..whole.len() {
        assert_eq!(inflate(&whole[..end], LIMIT), Err(WsError::CorruptDeflate), "cut at {end}");
    }
    for bad in [
        &b"\xff\xff\xff"[..],
        b"\x07",
        b"not DEFLATE at all",
        // More behind a final block.
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x00],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x01],
        // A reference to before the start: there is no context from earlier messages.
        &[0x02, 0x13, 0x00, 0x00],
    ] {
        assert_eq!(inflate(bad, LIMIT), Err(WsError::CorruptDeflate), "{bad:x?}");
    }
    assert_eq!(WsError::CorruptDeflate.close_code(), 1002);
    assert_eq!(
        inflate(&whole, LIMIT).map(|out| out.len()),
        Ok(9 * 32),
        "an error leaves nothing behind"
    );
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let bomb = deflated(&vec![0; 8 << 20]);
    assert!(bomb.len() < LIMIT, "it looks harmless");
    assert_eq!(inflate(&bomb, LIMIT), Err(WsError::TooBig { limit: LIMIT }));
    for length in [0, 1, LIMIT - 1, LIMIT] {
        for payload in [vec![7; length], noise(length)] {
            let out = inflate(&deflated(&payload), LIMIT).unwrap();
            assert!(out == payload && out.capacity() <= LIMIT + 8, "{length}: {}", out.capacity());
        }
    }
    for payload in [vec![7; LIMIT + 1], noise(LIMIT + 1)] {
        assert_eq!(inflate(&deflated(&payload), LIMIT), Err(WsError::TooBig { limit: LIMIT }));
    }
}

#[test]
fn only_what_becomes_smaller_is_compressed() {
    let long = vec![b'x'; 1000];
    let parts = [long.clone(), noise(1000), vec![b'x'; 255], long.clone()];
    let block: Vec<u8> = parts.iter().flat_map(|part| frame::binary_frame(part)).collect();
    let policy = Policy { min_bytes: 256, level: 1 };
    let compressed = compress(&block, policy).unwrap();
    assert_eq!((compressed.messages, compressed.bytes_before), (2, 2000));
    assert!(compressed.bytes_after < 60);
    assert_eq!(
        compressed.block.len() as u64,
        block.len() as u64 - compressed.bytes_before + compressed.bytes_after - 2 * 2,
        "two headers became shorter, the rest is as it was"
    );
    assert_eq!(read(&compressed.block), parts);
    assert!(compress(&frame::binary_frame(&noise(1000)), ALL).is_none());
    assert!(compress(&frame::ping_frame(&[0; 125]), ALL).is_none(), "no control frame is");
    assert!(compress(&[], ALL).is_none());
}

#[test]
fn what_is_compressed_is_marked_as_it_was() {
    let plain = frame::text_frame(&[b'x'; 70_000]);
    let compressed = compress(&plain, ALL).unwrap().block;
    let (header, length) = FrameHeader::parse(&compressed).unwrap().unwrap();
    assert_eq!(header.payload_len, (compressed.len() - length) as u64);
    assert_eq!((header.fin, header.compressed, header.opcode), (true, true, Opcode::Text));
    assert!(compress(&compressed, ALL).is_none(), "nothing is compressed twice");
}

#[test]
fn scratch_memory_is_given_back() {
    let mut deflater = Deflater::new(1);
    deflater.deflate(&vec![0; 1 << 20]).unwrap();
    deflater.deflate(&[0; 100]).unwrap();
    assert!(deflater.out.capacity() <= KEPT_SCRATCH);
}

proptest! {
    #[test]
    fn what_is_compressed_reads_the_same(
        parts in prop::collection::vec(prop_oneof!["[ab ]{0,900}", "\\PC{0,300}"], 0..6),
        min_bytes in 0..400_usize,
        level in 0..=12_u8,
    ) {
        let block: Vec<u8> = parts.iter().flat_map(|part| frame::text_frame(part.as_bytes())).collect();
        let compressed = compress(&block, Policy { min_bytes, level });
        let sent = compressed.as_ref().map_or(&block[..], |it| &it.block);
        prop_assert!(sent.len() <= block.len());
        prop_assert_eq!(read(sent), parts.iter().map(|part| part.as_bytes().to_vec()).collect::<Vec<_>>());
    }

    #[test]
    fn whatever_comes_is_inflated_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), limit in 0..2000_usize) {
        if let Ok(out) = inflate(&bytes, limit) {
            prop_assert!(out.len() <= limit && out.capacity() <= limit + 8);
        }
    }

    #[test]
    fn a_bounded_memory_holds_whatever_is_repeated(byte: u8, length in 0..200_000_usize, limit in 0..100_000_usize) {
        match inflate(&deflated(&vec![byte; length]), limit) {
            Ok(out) => prop_assert!(out.len() == length && length <= limit && out.capacity() <= limit + 8),
            Err(error) => prop_assert_eq!((error, length > limit), (WsError::TooBig { limit }, true)),
        }
    }
}

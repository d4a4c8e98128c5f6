//! Offers of compression are judged without a panic, and what the server compresses reads as it was.

#![no_main]

use broker_protocol::ws::{Decoder, Incoming, Role, deflate, frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let answer = deflate::negotiate([text]);
        assert!(answer.is_none_or(|answer| answer.starts_with("permessage-deflate")));
    }
    let Some((&[level, min_bytes, cut], payload)) = data.split_first_chunk::<3>() else { return };
    let (front, back) = payload.split_at(usize::from(cut).min(payload.len()));
    let plain = [frame::binary_frame(front), frame::binary_frame(back)].concat();
    let policy = deflate::Policy { level, min_bytes: min_bytes.into() };
    let mut sent = deflate::compress(&plain, policy).map_or(plain.clone(), |it| it.block.to_vec());
    assert!(sent.len() <= plain.len());
    let mut decoder = Decoder::new(Role::Client, payload.len()).with_deflate(true);
    let mut input = &mut sent[..];
    for part in [front, back] {
        assert_eq!(decoder.next(&mut input), Ok(Some(Incoming::Binary(part))));
    }
});

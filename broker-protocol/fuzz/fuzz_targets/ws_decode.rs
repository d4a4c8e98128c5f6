//! A stream must mean the same however the network cut it, and must never panic the decoder.

#![no_main]

use broker_protocol::ws::{Decoder, Role, WsError};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;

fn decode(
    role: Role,
    mut stream: Vec<u8>,
    mut next_size: impl FnMut() -> usize,
) -> (Vec<String>, Option<WsError>) {
    let mut decoder = Decoder::new(role, LIMIT);
    let mut seen = Vec::new();
    let mut rest = &mut stream[..];
    while !rest.is_empty() {
        let size = next_size().clamp(1, rest.len());
        let (mut input, after) = rest.split_at_mut(size);
        rest = after;
        loop {
            match decoder.next(&mut input) {
                Ok(Some(message)) => seen.push(format!("{message:?}")),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    (seen, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&[role, a, b, c], stream)) = data.split_first_chunk::<4>() else { return };
    let role = if role & 1 == 0 { Role::Server } else { Role::Client };
    let mut sizes = [a, b, c].map(usize::from).into_iter().cycle();
    let cut = decode(role, stream.to_vec(), || sizes.next().unwrap_or(1));
    let whole = decode(role, stream.to_vec(), || usize::MAX);
    assert_eq!(cut, whole);
});

//! A stream must mean the same however the network cut it, and must never panic the decoder;
//! what is compressed stays within the limit.

#![no_main]

use broker_protocol::ws::{Decoder, Incoming, Role, WsError};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;

fn decode(
    mut decoder: Decoder,
    mut stream: Vec<u8>,
    mut next_size: impl FnMut() -> usize,
) -> (Vec<String>, Option<WsError>) {
    let mut seen = Vec::new();
    let mut rest = &mut stream[..];
    while !rest.is_empty() {
        let size = next_size().clamp(1, rest.len());
        let (mut input, after) = rest.split_at_mut(size);
        rest = after;
        loop {
            match decoder.next(&mut input) {
                Ok(Some(message)) => {
                    let length = match message {
                        Incoming::Text(text) => text.len(),
                        Incoming::Binary(body) => body.len(),
                        _ => 0,
                    };
                    assert!(length <= LIMIT, "inflated beyond the limit");
                    seen.push(format!("{message:?}"));
                }
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    (seen, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&[mode, a, b, c], stream)) = data.split_first_chunk::<4>() else { return };
    let role = if mode & 1 == 0 { Role::Server } else { Role::Client };
    let decoder = || Decoder::new(role, LIMIT).with_deflate(mode & 2 != 0);
    let mut sizes = [a, b, c].map(usize::from).into_iter().cycle();
    let cut = decode(decoder(), stream.to_vec(), || sizes.next().unwrap_or(1));
    let whole = decode(decoder(), stream.to_vec(), || usize::MAX);
    assert_eq!(cut, whole);
});

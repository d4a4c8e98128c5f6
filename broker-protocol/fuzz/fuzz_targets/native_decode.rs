//! No frame may panic either side, and what decodes must survive being written and read again.

#![no_main]

use broker_protocol::{
    native::{client, decode_binary, decode_text},
    ws::Opcode,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    let mut requests = Vec::new();
    decode_binary(frame, |command| requests.extend(command));
    if let Ok(text) = std::str::from_utf8(frame) {
        decode_text(text, |command| requests.extend(command));
        std::hint::black_box(client::parse_text(text)).ok();
    }
    std::hint::black_box(client::parse_binary(frame)).ok();
    for request in requests {
        let (opcode, payload) = client::encode_request(&request);
        let mut again = Vec::new();
        match (opcode, std::str::from_utf8(&payload)) {
            (Opcode::Text, Ok(text)) => decode_text(text, |command| again.push(command)),
            _ => decode_binary(&payload, |command| again.push(command)),
        }
        assert_eq!(again, [Ok(request)]);
    }
});

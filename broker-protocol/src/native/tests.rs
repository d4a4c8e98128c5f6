use broker_core::session::Request;
use bytes::BytesMut;

use super::*;
use crate::ws::{Decoder, Incoming, Opcode, Role};

mod describe;
mod documents;
mod golden;
mod malformed;
mod round_trip;

fn commands(frame: &str) -> Vec<Result<Request, Malformed>> {
    let mut seen = Vec::new();
    decode_text(frame, |command| seen.push(command));
    seen
}

fn binary_command(frame: &[u8]) -> Result<Request, Malformed> {
    let mut seen = Vec::new();
    decode_binary(frame, |command| seen.push(command));
    assert_eq!(seen.len(), 1);
    seen.remove(0)
}

/// What a client reads off the wire.
fn payloads(mut wire: BytesMut) -> Vec<(Opcode, Vec<u8>)> {
    let mut decoder = Decoder::new(Role::Client, usize::MAX);
    let mut input = &mut wire[..];
    let mut seen = Vec::new();
    while let Some(message) = decoder.next(&mut input).unwrap() {
        match message {
            Incoming::Text(text) => seen.push((Opcode::Text, text.as_bytes().to_vec())),
            Incoming::Binary(bytes) => seen.push((Opcode::Binary, bytes.to_vec())),
            other => panic!("{other:?}"),
        }
    }
    seen
}

fn parse(opcode: Opcode, payload: &[u8]) -> client::ServerFrame {
    match opcode {
        Opcode::Text => client::parse_text(std::str::from_utf8(payload).unwrap()).unwrap(),
        _ => client::parse_binary(payload).unwrap(),
    }
}

fn parse_all(wire: BytesMut) -> Vec<client::ServerFrame> {
    payloads(wire).iter().map(|(opcode, payload)| parse(*opcode, payload)).collect()
}

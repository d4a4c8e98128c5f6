//! What a client says is written here by hand, or by the server's own encoder: but for the frames
//! around it, both sides write the same.

mod decoding;
mod encoding;
mod malformed;
mod properties;

use broker_core::JsonText;
use bytes::{Bytes, BytesMut};

use super::*;
use crate::ws::{FrameHeader, Opcode};

const LIMIT: usize = 100_000;

/// A message as it goes over a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Text(String),
    Binary(Bytes),
}

pub(super) fn json(text: &str) -> JsonText {
    JsonText::from_checked(Bytes::copy_from_slice(text.as_bytes()))
}

pub(super) fn text(text: &str) -> Message {
    Message::Text(text.to_owned())
}

pub(super) fn binary(bytes: &[u8]) -> Message {
    Message::Binary(Bytes::copy_from_slice(bytes))
}

/// The messages that the server's frames carry, without Engine.IO's digit.
pub(super) fn encoded(parser: Parser, namespace: &str, outgoing: &Outgoing<'_>) -> Vec<Message> {
    let mut out = BytesMut::new();
    parser.encode(&Namespace::new(namespace).unwrap(), outgoing, &mut out);
    let mut messages = Vec::new();
    while !out.is_empty() {
        let (header, header_len) = FrameHeader::parse(&out).unwrap().unwrap();
        let payload = out.split_to(header_len + header.payload_len as usize).split_off(header_len);
        assert_eq!(header, FrameHeader::server(header.opcode, payload.len()));
        messages.push(if header.opcode == Opcode::Text {
            let message = String::from_utf8(payload.to_vec()).unwrap();
            text(message.strip_prefix('4').unwrap())
        } else {
            Message::Binary(payload.freeze())
        });
    }
    messages
}

/// Gives messages to a decoder, of which only the last completes a packet.
pub(super) fn decoded(messages: &[Message]) -> Result<Packet, Malformed> {
    let mut decoder = Decoder::new(LIMIT);
    for (index, message) in messages.iter().enumerate() {
        let packet = match message {
            Message::Text(text) => decoder.text(text)?,
            Message::Binary(bytes) => decoder.binary(bytes.clone())?,
        };
        let is_last = index + 1 == messages.len();
        assert_eq!((packet.is_some(), decoder.is_pending()), (is_last, !is_last));
        if let Some(packet) = packet {
            return Ok(packet);
        }
    }
    panic!("no packet in {messages:?}");
}

/// Namespace, name, id and arguments of an event.
pub(super) fn event(messages: &[Message]) -> (String, String, Option<u64>, Args) {
    match decoded(messages) {
        Ok(Packet { namespace, body: Body::Event { name, id, args } }) => {
            (namespace.as_str().to_owned(), name.into(), id.map(AckId::get), args)
        }
        other => panic!("{other:?}"),
    }
}

/// Arguments of which none is an attachment by itself.
pub(super) fn values(args: &Args) -> Vec<String> {
    args.iter()
        .map(|arg| match arg {
            Arg::Json(json) => String::from_utf8(json.as_bytes().to_vec()).unwrap(),
            Arg::Binary(bytes) => format!("{bytes:?}"),
        })
        .collect()
}

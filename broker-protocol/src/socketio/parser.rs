use bytes::BytesMut;

use super::{msgpack, name::Namespace, outgoing::Outgoing, text};

/// How packets are written. A client speaks first, so its first packet tells which parser it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parser {
    /// Text with JSON in it, the default (§ Packet encoding).
    Json,
    /// Each packet is one MessagePack map: `socket.io-msgpack-parser`.
    MsgPack,
}

impl Parser {
    /// Appends a packet to `out` as finished WebSocket frames, the same for all who get it. For
    /// long-polling, see [`engineio::Payload`](crate::engineio::Payload).
    ///
    /// With the default parser that is a text frame and, behind it, one binary frame for each
    /// attachment: no other frame may come between them. JSON is copied as it is; for MessagePack,
    /// it is transcoded.
    pub fn encode(self, namespace: &Namespace, outgoing: &Outgoing<'_>, out: &mut BytesMut) {
        match self {
            Self::Json => text::encode(namespace, outgoing, out),
            Self::MsgPack => msgpack::encode(namespace, outgoing, out),
        }
    }
}

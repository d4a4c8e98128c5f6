use super::{args::MAX_ATTACHMENTS, name::MAX_NAMESPACE, packet::MAX_EVENT_NAME};

/// Why what a client sent is no Socket.IO. Its connection is closed, as by the reference server;
/// the text is fit for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The packet type is missing or none of §Format.
    #[error("unknown packet type")]
    Type,
    /// A packet that only servers send: CONNECT_ERROR.
    #[error("packet type is the server's")]
    ServerOnly,
    /// A binary packet whose number of attachments is missing, zero or too large.
    #[error("the number of attachments must be 1 to {MAX_ATTACHMENTS}")]
    AttachmentCount,
    /// The namespace does not begin with `/`, has a comma or control characters, or is too long.
    #[error("not a namespace of at most {MAX_NAMESPACE} bytes")]
    Namespace,
    /// The acknowledgement id is missing in an ACK, or above 2^53 - 1.
    #[error("acknowledgement id missing or out of range")]
    AckId,
    /// The payload is not JSON, or nests too deep.
    #[error("payload is not JSON, or nests too deep")]
    Json,
    /// The payload is not what its packet type needs: an object or nothing for CONNECT, nothing for
    /// DISCONNECT, an array for the others.
    #[error("payload does not fit the packet type")]
    Payload,
    /// An event does not begin with its name, a string or number, or the name is too long.
    #[error("not an event name of at most {MAX_EVENT_NAME} bytes")]
    EventName,
    /// The event name is one that Socket.IO itself uses.
    #[error("reserved event name")]
    ReservedEvent,
    /// The placeholders of a binary packet do not name each attachment once.
    #[error("placeholders do not match the attachments")]
    Placeholder,
    /// Another packet came before all attachments of the last one.
    #[error("packet inside a binary packet")]
    Interrupted,
    /// An attachment that no packet announced.
    #[error("attachment without a packet")]
    StrayAttachment,
    /// A packet with its attachments is larger than the limit.
    #[error("packet exceeds {limit} bytes")]
    TooBig {
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// A text message on a connection that began with MessagePack.
    #[error("text on a connection that speaks MessagePack")]
    OtherParser,
    /// A binary packet that is not one MessagePack map, or ends early or late.
    #[error("not a packet in MessagePack")]
    MsgPack,
    /// A MessagePack extension other than those of JavaScript's `undefined`, `Date` and
    /// `ArrayBuffer`.
    #[error("unknown MessagePack extension")]
    Extension,
}

use bytes::Bytes;

use super::{Malformed, msgpack, packet::Packet, parser::Parser, text};

/// Makes packets of the Engine.IO messages of one connection, which are given to it in order.
///
/// After an error, the connection is to be closed.
#[derive(Debug)]
pub struct Decoder {
    max_bytes: usize,
    parser: Option<Parser>,
    pending: Option<Box<Pending>>,
}

/// A packet that has not got all its attachments.
#[derive(Debug)]
struct Pending {
    packet: Packet,
    missing: usize,
    bytes: usize,
}

impl Decoder {
    /// A packet with all its attachments may have `max_bytes`.
    #[must_use]
    pub const fn new(max_bytes: usize) -> Self {
        Self { max_bytes, parser: None, pending: None }
    }

    /// How the client writes packets; `None` before its first message.
    #[must_use]
    pub const fn parser(&self) -> Option<Parser> {
        self.parser
    }

    /// Whether attachments are missing of a packet that has begun. How long that may last is for
    /// the caller to say.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Takes a text message; a packet with attachments is not whole yet.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn text(&mut self, text: &str) -> Result<Option<Packet>, Malformed> {
        if self.pending.is_some() {
            return Err(Malformed::Interrupted);
        }
        if *self.parser.get_or_insert(Parser::Json) != Parser::Json {
            return Err(Malformed::OtherParser);
        }
        self.check_size(text.len())?;
        let (packet, missing) = text::decode(text)?;
        if missing == 0 {
            return Ok(Some(packet));
        }
        self.pending = Some(Box::new(Pending { packet, missing, bytes: text.len() }));
        Ok(None)
    }

    /// Takes a binary message: an attachment, or a packet in MessagePack. The packet keeps parts
    /// of it without copying.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn binary(&mut self, message: Bytes) -> Result<Option<Packet>, Malformed> {
        match *self.parser.get_or_insert(Parser::MsgPack) {
            Parser::MsgPack => {
                self.check_size(message.len())?;
                msgpack::decode(&message).map(Some)
            }
            Parser::Json => self.attach(message),
        }
    }

    fn attach(&mut self, attachment: Bytes) -> Result<Option<Packet>, Malformed> {
        let mut pending = self.pending.take().ok_or(Malformed::StrayAttachment)?;
        pending.bytes = pending.bytes.saturating_add(attachment.len());
        self.check_size(pending.bytes)?;
        pending.packet.body.attach(attachment);
        pending.missing -= 1;
        if pending.missing == 0 {
            return Ok(Some(pending.packet));
        }
        self.pending = Some(pending);
        Ok(None)
    }

    fn check_size(&self, bytes: usize) -> Result<(), Malformed> {
        let limit = self.max_bytes;
        if bytes > limit { Err(Malformed::TooBig { limit }) } else { Ok(()) }
    }
}

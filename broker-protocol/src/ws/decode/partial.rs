//! What the decoder keeps of a message that has not arrived completely.

use super::{FREE_FRAGMENTS, MIN_FRAGMENT_BYTES};
use crate::ws::frame::MAX_HEADER;
use crate::ws::{FrameHeader, Opcode, WsError, apply_mask, deflate};

/// Exists only while there is something in it.
#[derive(Debug, Default)]
pub(super) struct Partial {
    pub(super) head: Head,
    pub(super) frame: Option<Frame>,
    pub(super) message: Option<Message>,
    /// Payload of an incomplete control frame, apart from the message it may have interrupted.
    pub(super) control: Vec<u8>,
    /// What is complete and handed out, to be freed at the next call.
    pub(super) ready: Option<Ready>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Ready {
    Message,
    Control,
}

impl Partial {
    pub(super) fn ready(&self) -> &[u8] {
        match (self.ready, &self.message) {
            (Some(Ready::Control), _) => &self.control,
            (Some(Ready::Message), Some(message)) => &message.payload,
            _ => &[],
        }
    }

    /// Takes a complete message, to be handed out; says its opcode.
    pub(super) fn hand_out(&mut self, message: Message) -> Opcode {
        let opcode = message.opcode;
        self.message = Some(message);
        self.ready = Some(Ready::Message);
        opcode
    }

    pub(super) fn release(&mut self) {
        match self.ready.take() {
            Some(Ready::Message) => self.message = None,
            Some(Ready::Control) => self.control.clear(),
            None => {}
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty()
            && self.frame.is_none()
            && self.message.is_none()
            && self.control.is_empty()
    }
}

/// The front part of a header.
#[derive(Debug, Default)]
pub(super) struct Head {
    bytes: [u8; MAX_HEADER],
    length: u8,
}

impl Head {
    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds what it needs of `input`, says how much that was, and gives the header once it is complete.
    pub(super) fn complete(
        &mut self,
        input: &[u8],
    ) -> Result<(Option<FrameHeader>, usize), WsError> {
        let had = usize::from(self.length);
        let added = input.len().min(MAX_HEADER - had);
        self.bytes[had..had + added].copy_from_slice(&input[..added]);
        if let Some((header, length)) = FrameHeader::parse(&self.bytes[..had + added])? {
            self.length = 0;
            return Ok((Some(header), length - had));
        }
        // No header is longer than `bytes`, so an incomplete one has taken all of the input.
        self.length += u8::try_from(added).unwrap_or(u8::MAX);
        Ok((None, added))
    }
}

/// A frame whose header has been read and accepted.
#[derive(Debug)]
pub(super) struct Frame {
    /// The mask is turned so that it fits the first of the remaining bytes.
    pub(super) header: FrameHeader,
    pub(super) remaining: usize,
}

impl Frame {
    /// Whether the frame is a message by itself.
    pub(super) const fn is_message(&self) -> bool {
        self.header.fin && !matches!(self.header.opcode, Opcode::Continuation)
    }

    pub(super) const fn is_untouched(&self) -> bool {
        self.remaining as u64 == self.header.payload_len
    }

    /// Unmasks the next bytes of the payload and counts them as seen.
    pub(super) fn unmask(&mut self, next: &mut [u8]) {
        self.remaining -= next.len();
        if let Some(key) = &mut self.header.mask {
            apply_mask(next, *key);
            key.rotate_left(next.len() % 4);
        }
    }
}

/// A data message under way.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) opcode: Opcode,
    /// Whether `payload` is to be inflated once it is complete.
    compressed: bool,
    pub(super) payload: Vec<u8>,
    /// The front of `payload` that is known to be UTF-8.
    validated: usize,
    fragments: usize,
}

impl Message {
    /// `first` is the header of its first frame.
    pub(super) const fn new(first: &FrameHeader) -> Self {
        Self {
            opcode: first.opcode,
            compressed: first.compressed,
            payload: Vec::new(),
            validated: 0,
            fragments: 1,
        }
    }

    /// A compressed message that came whole.
    pub(super) fn inflated(
        header: &FrameHeader,
        payload: &[u8],
        max_message: usize,
    ) -> Result<Self, WsError> {
        let payload = deflate::inflate(payload, max_message)?;
        Ok(Self { compressed: false, payload, ..Self::new(header) })
    }

    /// What it says, once all of it is there.
    pub(super) fn inflate(&mut self, max_message: usize) -> Result<(), WsError> {
        if self.compressed {
            self.payload = deflate::inflate(&self.payload, max_message)?;
            self.compressed = false;
        }
        Ok(())
    }

    pub(super) fn count_fragment(&mut self) -> Result<(), WsError> {
        self.fragments += 1;
        if self.fragments > FREE_FRAGMENTS + self.payload.len() / MIN_FRAGMENT_BYTES {
            return Err(WsError::TooManyFragments);
        }
        Ok(())
    }

    /// Adds the next bytes, with `frame` being the frame they came in, already counted off there.
    pub(super) fn append(
        &mut self,
        bytes: &[u8],
        frame: &Frame,
        max_message: usize,
    ) -> Result<(), WsError> {
        let needed = self.payload.len() + bytes.len();
        let most = if frame.header.fin { needed + frame.remaining } else { max_message };
        self.grow(needed, most);
        self.payload.extend_from_slice(bytes);
        match self.opcode {
            Opcode::Text if !self.compressed => self.validate(),
            _ => Ok(()),
        }
    }

    /// Doubles, as `Vec` does, but not beyond `most`: what is reserved follows what arrived, not what was announced,
    /// and a message at the limit does not hold twice the limit.
    fn grow(&mut self, needed: usize, most: usize) {
        let capacity = self.payload.capacity();
        if needed > capacity {
            let target = capacity.saturating_mul(2).min(most).max(needed);
            self.payload.reserve_exact(target - self.payload.len());
        }
    }

    /// Fails at the first byte that no continuation can mend, not at the end of the message (§8.1). A character cut
    /// off at the end is left to the check of the whole, in [`Incoming::new`](crate::ws::Incoming).
    fn validate(&mut self) -> Result<(), WsError> {
        match simdutf8::compat::from_utf8(&self.payload[self.validated..]) {
            Ok(_) => self.validated = self.payload.len(),
            Err(error) if error.error_len().is_none() => self.validated += error.valid_up_to(),
            Err(_) => return Err(WsError::InvalidUtf8),
        }
        Ok(())
    }
}

#[cfg(test)]
impl super::Decoder {
    /// Bytes on the heap.
    pub(super) fn held(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            let message = partial.message.as_ref().map_or(0, |message| message.payload.capacity());
            size_of::<Partial>() + partial.control.capacity() + message
        })
    }
}

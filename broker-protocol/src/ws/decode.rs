use std::mem;

use super::{FrameHeader, Incoming, Opcode, WsError};
use partial::{Frame, Message, Partial, Ready};

mod partial;

/// Fragments a message may have whatever its size.
const FREE_FRAGMENTS: usize = 1024;

/// Beyond [`FREE_FRAGMENTS`], each fragment must have brought this many bytes on average. Without it a peer could
/// keep a message open, and the decoder busy, with empty frames for ever.
const MIN_FRAGMENT_BYTES: usize = 16;

/// Which end of the connection this is; it decides who must mask (RFC 6455 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads masked frames.
    Server,
    /// Reads unmasked frames.
    Client,
}

/// Turns the bytes of one connection into messages, however they are cut.
///
/// Between messages it owns no heap memory. What is whole and unfragmented in the input is handed out from there
/// without a copy; only an incomplete tail is kept, never more than the message limit and a small constant. A
/// compressed message is kept, inflated, while it is handed out; both its forms are within the limit.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    /// Whether permessage-deflate was negotiated.
    deflate: bool,
    end: End,
    max_message: usize,
    partial: Option<Box<Partial>>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Open,
    /// After a close frame the peer sends nothing that counts (§5.5.1).
    Closed,
    Failed(WsError),
}

/// How far [`Decoder::advance`] came.
enum Step<'a> {
    NeedInput,
    Whole(Opcode, &'a [u8]),
    Buffered(Opcode),
}

impl Decoder {
    /// A decoder at the start of a stream, right after the handshake. `max_message` is in bytes of payload.
    #[must_use]
    pub const fn new(role: Role, max_message: usize) -> Self {
        Self { role, deflate: false, end: End::Open, max_message, partial: None }
    }

    /// Whether permessage-deflate was negotiated, by [`negotiate`](super::deflate::negotiate): then compressed messages are inflated,
    /// within the same limit. If not, they are a violation.
    #[must_use]
    pub const fn with_deflate(mut self, negotiated: bool) -> Self {
        self.deflate = negotiated;
        self
    }

    /// Changes the limit, in bytes of payload, for frames whose header is yet to come.
    pub const fn set_max_message(&mut self, max_message: usize) {
        self.max_message = max_message;
    }

    /// Takes the next message off the front of `input`, which is unmasked in place; `None` when all of `input` is
    /// used up. Call it until then: only that call frees the buffer of a message handed out from it.
    ///
    /// ```
    /// use broker_protocol::ws::{Decoder, Incoming, Role};
    ///
    /// let mut decoder = Decoder::new(Role::Client, 1024);
    /// let mut scratch = *b"\x81\x05Hello\x89\x00";
    /// let mut input = &mut scratch[..];
    /// let mut seen = 0;
    /// while let Some(message) = decoder.next(&mut input)? {
    ///     assert!(matches!(message, Incoming::Text("Hello") | Incoming::Ping(b"")));
    ///     seen += 1;
    /// }
    /// assert_eq!(seen, 2);
    /// # Ok::<(), broker_protocol::ws::WsError>(())
    /// ```
    ///
    /// # Errors
    /// The first violation of RFC 6455 or of a limit. It is final: later calls return it again. Messages before it
    /// have been returned. After a close frame the rest is discarded and cannot fail.
    pub fn next<'s, 'a: 's>(
        &'s mut self,
        input: &mut &'a mut [u8],
    ) -> Result<Option<Incoming<'s>>, WsError> {
        self.release();
        match self.end {
            End::Open => {}
            End::Closed => {
                *input = &mut [];
                return Ok(None);
            }
            End::Failed(error) => return Err(error),
        }
        let step = match self.advance(input) {
            Ok(step) => step,
            Err(error) => {
                self.partial = None;
                self.end = End::Failed(error);
                return Err(error);
            }
        };
        let (opcode, payload) = match step {
            Step::NeedInput => return Ok(None),
            Step::Whole(opcode, payload) => (opcode, payload),
            Step::Buffered(opcode) => {
                (opcode, self.partial.as_deref().map_or(&[][..], Partial::ready))
            }
        };
        let incoming = Incoming::new(opcode, payload);
        match &incoming {
            Ok(Incoming::Close(_)) => self.end = End::Closed,
            Ok(_) => {}
            Err(error) => self.end = End::Failed(*error),
        }
        incoming.map(Some)
    }

    /// Frees what the last call handed out.
    fn release(&mut self) {
        let Some(partial) = &mut self.partial else { return };
        partial.release();
        if partial.is_empty() || !matches!(self.end, End::Open) {
            self.partial = None;
        }
    }

    fn advance<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Step<'a>, WsError> {
        while let Some(mut frame) = self.take_frame(input)? {
            if frame.is_message() && frame.is_untouched() && input.len() >= frame.remaining {
                let payload = take_front(input, frame.remaining);
                frame.unmask(payload);
                if frame.header.compressed {
                    let message = Message::inflated(&frame.header, payload, self.max_message)?;
                    return Ok(Step::Buffered(self.partial_mut().hand_out(message)));
                }
                return Ok(Step::Whole(frame.header.opcode, payload));
            }
            if let Some(opcode) = self.absorb(frame, input)? {
                return Ok(Step::Buffered(opcode));
            }
        }
        Ok(Step::NeedInput)
    }

    /// The frame under way, or the next one; `None` if the input does not reach its payload.
    fn take_frame(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, WsError> {
        let parked = self.partial.as_mut().and_then(|partial| partial.frame.take());
        let frame = match parked {
            Some(frame) => frame,
            None => {
                let Some(header) = self.take_header(input)? else { return Ok(None) };
                Frame { remaining: self.admit(&header)?, header }
            }
        };
        if frame.remaining > 0 && input.is_empty() {
            self.partial_mut().frame = Some(frame);
            return Ok(None);
        }
        Ok(Some(frame))
    }

    fn take_header(&mut self, input: &mut &mut [u8]) -> Result<Option<FrameHeader>, WsError> {
        if let Some(partial) = self.partial.as_mut().filter(|partial| !partial.head.is_empty()) {
            let (header, used) = partial.head.complete(input)?;
            take_front(input, used);
            return Ok(header);
        }
        if let Some((header, length)) = FrameHeader::parse(input)? {
            take_front(input, length);
            return Ok(Some(header));
        }
        if !input.is_empty() {
            let (_, used) = self.partial_mut().head.complete(input)?;
            take_front(input, used);
        }
        Ok(None)
    }

    /// Judges a header by what came before it, and returns its payload's length.
    ///
    /// The limit is on the length declared, so that an oversized message is refused before its bytes arrive.
    fn admit(&mut self, header: &FrameHeader) -> Result<usize, WsError> {
        if header.compressed && !(self.deflate && header.opcode.begins_message()) {
            return Err(WsError::ReservedBits);
        }
        match (self.role, header.mask) {
            (Role::Server, None) => return Err(WsError::Unmasked),
            (Role::Client, Some(_)) => return Err(WsError::Masked),
            _ => {}
        }
        let too_big = WsError::TooBig { limit: self.max_message };
        let length = usize::try_from(header.payload_len).map_err(|_| too_big)?;
        if header.opcode.is_control() {
            return Ok(length);
        }
        let message = self.partial.as_mut().and_then(|partial| partial.message.as_mut());
        let buffered = match (header.opcode, message) {
            (Opcode::Continuation, None) => return Err(WsError::UnexpectedContinuation),
            (Opcode::Continuation, Some(message)) => {
                message.count_fragment()?;
                message.payload.len()
            }
            (_, Some(_)) => return Err(WsError::InterruptedMessage),
            (_, None) => 0,
        };
        if length > self.max_message.saturating_sub(buffered) {
            return Err(too_big);
        }
        Ok(length)
    }

    /// Moves what has arrived of the frame into the decoder; says the opcode of a message or control frame
    /// that this completed.
    fn absorb(
        &mut self,
        mut frame: Frame,
        input: &mut &mut [u8],
    ) -> Result<Option<Opcode>, WsError> {
        let max_message = self.max_message;
        let partial = self.partial_mut();
        let arrived = take_front(input, frame.remaining.min(input.len()));
        frame.unmask(arrived);
        let (opcode, kind) = if frame.header.opcode.is_control() {
            partial.control.reserve_exact(arrived.len() + frame.remaining);
            partial.control.extend_from_slice(arrived);
            (frame.header.opcode, Ready::Control)
        } else {
            let message = partial.message.get_or_insert_with(|| Message::new(&frame.header));
            message.append(arrived, &frame, max_message)?;
            (message.opcode, Ready::Message)
        };
        if frame.remaining > 0 {
            partial.frame = Some(frame);
            return Ok(None);
        }
        if !frame.header.fin {
            return Ok(None);
        }
        if let (Ready::Message, Some(message)) = (kind, &mut partial.message) {
            message.inflate(max_message)?;
        }
        partial.ready = Some(kind);
        Ok(Some(opcode))
    }

    fn partial_mut(&mut self) -> &mut Partial {
        self.partial.get_or_insert_default()
    }
}

/// Cuts `length` bytes, which must be there, off the front of `input`.
fn take_front<'a>(input: &mut &'a mut [u8], length: usize) -> &'a mut [u8] {
    let (front, rest) = mem::take(input).split_at_mut(length);
    *input = rest;
    front
}

#[cfg(test)]
mod tests;

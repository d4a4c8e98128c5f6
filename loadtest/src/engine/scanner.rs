//! Takes the frames out of a server's bytes, in place.

use std::mem;

use broker_protocol::ws::{FrameHeader, Opcode, WsError};

/// The longest message that is taken, in bytes: a guard against a length that is nonsense.
const MAX_MESSAGE: usize = 64 << 20;

/// A complete message or control frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: Opcode,
    /// Whether the payload is deflated (RFC 7692).
    pub(crate) compressed: bool,
    pub(crate) payload: &'a [u8],
}

/// Between frames it owns no heap memory; whole frames are handed out where they lie. Unlike the protocol crate's
/// decoder it does not check that text is UTF-8, and it lets compressed frames pass.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    /// The beginning of a frame that is not all there.
    carry: Vec<u8>,
    fragments: Option<Box<Fragments>>,
}

#[derive(Debug)]
struct Fragments {
    opcode: Opcode,
    compressed: bool,
    payload: Vec<u8>,
}

impl Scanner {
    /// Hands out each frame that `input` completes.
    pub(crate) fn scan(
        &mut self,
        mut input: &[u8],
        on_frame: &mut impl FnMut(Frame<'_>),
    ) -> Result<(), WsError> {
        if !self.carry.is_empty() {
            self.complete_carried(&mut input, on_frame)?;
        }
        while !input.is_empty() {
            let Some((header, head)) = parse(input)? else { break };
            let end = head + header.payload_len as usize;
            let Some(payload) = input.get(head..end) else { break };
            self.emit(header, payload, on_frame)?;
            input = &input[end..];
        }
        self.carry.extend_from_slice(input);
        Ok(())
    }

    fn complete_carried(
        &mut self,
        input: &mut &[u8],
        on_frame: &mut impl FnMut(Frame<'_>),
    ) -> Result<(), WsError> {
        while !input.is_empty() {
            let (whole, wanted) = match parse(&self.carry)? {
                None => (None, 1),
                Some((header, head)) => {
                    let end = head + header.payload_len as usize;
                    (Some((header, head)), end - self.carry.len())
                }
            };
            let (taken, rest) = input.split_at(wanted.min(input.len()));
            self.carry.extend_from_slice(taken);
            *input = rest;
            if let Some((header, head)) = whole
                && taken.len() == wanted
            {
                let carry = mem::take(&mut self.carry);
                return self.emit(header, &carry[head..], on_frame);
            }
        }
        Ok(())
    }

    fn emit(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        on_frame: &mut impl FnMut(Frame<'_>),
    ) -> Result<(), WsError> {
        let FrameHeader { fin, compressed, opcode, .. } = header;
        if fin && opcode != Opcode::Continuation {
            on_frame(Frame { opcode, compressed, payload });
            return Ok(());
        }
        if opcode != Opcode::Continuation {
            let first = Fragments { opcode, compressed, payload: payload.to_vec() };
            return match self.fragments.replace(Box::new(first)) {
                None => Ok(()),
                Some(_) => Err(WsError::InterruptedMessage),
            };
        }
        let fragments = self.fragments.as_mut().ok_or(WsError::UnexpectedContinuation)?;
        if fragments.payload.len() + payload.len() > MAX_MESSAGE {
            return Err(WsError::TooBig { limit: MAX_MESSAGE });
        }
        fragments.payload.extend_from_slice(payload);
        if fin && let Some(done) = self.fragments.take() {
            let Fragments { opcode, compressed, payload } = *done;
            on_frame(Frame { opcode, compressed, payload: &payload });
        }
        Ok(())
    }
}

/// The header at the front of `bytes` and its length, if it is all there.
fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, usize)>, WsError> {
    let parsed = FrameHeader::parse(bytes)?;
    if let Some((header, _)) = &parsed {
        if header.mask.is_some() {
            return Err(WsError::Masked);
        }
        if header.payload_len > MAX_MESSAGE as u64 {
            return Err(WsError::TooBig { limit: MAX_MESSAGE });
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fragments around a ping, an empty text, a long binary.
    fn stream() -> (Vec<u8>, Vec<(Opcode, Vec<u8>)>) {
        let mut bytes = b"\x01\x02ab\x89\x01p\x80\x01c\x81\x00\x82\x7e\x01\x00".to_vec();
        bytes.extend([7; 256]);
        bytes.extend(b"\x81\x02hi");
        let frames = vec![
            (Opcode::Ping, b"p".to_vec()),
            (Opcode::Text, b"abc".to_vec()),
            (Opcode::Text, Vec::new()),
            (Opcode::Binary, vec![7; 256]),
            (Opcode::Text, b"hi".to_vec()),
        ];
        (bytes, frames)
    }

    fn scan(pieces: &[&[u8]]) -> Result<Vec<(Opcode, Vec<u8>)>, WsError> {
        let (mut scanner, mut frames) = (Scanner::default(), Vec::new());
        for piece in pieces {
            scanner
                .scan(piece, &mut |frame| frames.push((frame.opcode, frame.payload.to_vec())))?;
        }
        assert!(scanner.carry.is_empty() && scanner.fragments.is_none());
        Ok(frames)
    }

    #[test]
    fn frames_come_out_however_the_bytes_are_cut() {
        let (bytes, frames) = stream();
        assert_eq!(scan(&[&bytes]), Ok(frames.clone()));
        for cut in 1..bytes.len() {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(scan(&[first, second]), Ok(frames.clone()), "cut at {cut}");
        }
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(scan(&single), Ok(frames));
    }

    #[test]
    fn what_a_server_must_not_send_is_refused() {
        assert_eq!(scan(&[b"\x81\x81abcdX"]), Err(WsError::Masked));
        assert_eq!(scan(&[b"\x80\x00"]), Err(WsError::UnexpectedContinuation));
        assert_eq!(scan(&[b"\x01\x00\x01\x00"]), Err(WsError::InterruptedMessage));
        let huge = scan(&[b"\x82\x7f\x00\x00\x00\xff\x00\x00\x00\x00"]);
        assert_eq!(huge, Err(WsError::TooBig { limit: MAX_MESSAGE }));
    }
}

//! Reading compressed messages (permessage-deflate, RFC 7692). What we send is never compressed: that is allowed.

use flate2::{Decompress, FlushDecompress, Status};

/// The longest message that is taken, in bytes.
const MAX_MESSAGE: usize = 64 << 20;

/// What the sender cuts off the end of each message (§7.2.1).
const TAIL: &[u8] = b"\x00\x00\xff\xff";

/// Room to begin with, in bytes.
const ROOM: usize = 4096;

/// What was negotiated for a connection.
#[derive(Debug, Default)]
pub(super) enum Deflate {
    #[default]
    Off,
    /// Each message stands alone, so that one state serves all connections.
    Alone,
    /// Messages refer to those before, which costs each connection a window of 32 KB.
    Context(Box<Decompress>),
}

impl Deflate {
    /// From the extensions that the server accepted.
    pub(super) fn accepted(extensions: &str) -> Self {
        if !extensions.contains("permessage-deflate") {
            Self::Off
        } else if extensions.contains("server_no_context_takeover") {
            Self::Alone
        } else {
            Self::Context(Box::new(Decompress::new(false)))
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Inflater {
    alone: Decompress,
    message: Vec<u8>,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self { alone: Decompress::new(false), message: Vec::new() }
    }

    /// The message that was compressed; [`Self::give_back`] what is returned. `None` if it is malformed, too long, or
    /// compression was not negotiated.
    pub(super) fn inflate(&mut self, deflate: &mut Deflate, payload: &[u8]) -> Option<Vec<u8>> {
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        let state = match deflate {
            Deflate::Off => return None,
            Deflate::Alone => {
                self.alone.reset(false);
                &mut self.alone
            }
            Deflate::Context(state) => state,
        };
        inflate(state, payload, &mut message)?;
        Some(message)
    }

    /// Keeps the buffer for the next message.
    pub(super) fn give_back(&mut self, message: Vec<u8>) {
        self.message = message;
    }
}

fn inflate(state: &mut Decompress, payload: &[u8], message: &mut Vec<u8>) -> Option<()> {
    for mut input in [payload, TAIL] {
        loop {
            if message.len() == message.capacity() {
                message.reserve(message.len().max(ROOM));
            }
            let (taken, length) = (state.total_in(), message.len());
            let status = state.decompress_vec(input, message, FlushDecompress::Sync).ok()?;
            let taken = (state.total_in() - taken) as usize;
            input = &input[taken..];
            if status == Status::StreamEnd {
                state.reset(false);
                return Some(());
            }
            if message.len() > MAX_MESSAGE {
                return None;
            }
            let has_room = message.len() < message.capacity();
            if has_room && (input.is_empty() || (taken == 0 && message.len() == length)) {
                break;
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    fn deflate(state: &mut Compress, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 * message.len() + 64);
        state.compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
        assert!(out.ends_with(TAIL));
        out.truncate(out.len() - TAIL.len());
        out
    }

    fn messages() -> [Vec<u8>; 3] {
        [b"a short one".to_vec(), vec![b'x'; 100_000], b"a short one".to_vec()]
    }

    #[test]
    fn messages_with_and_without_context_come_out() {
        let with = "permessage-deflate";
        let without = "permessage-deflate; server_no_context_takeover";
        for (extensions, keeps_context) in [(with, true), (without, false)] {
            let (mut inflater, mut negotiated) = (Inflater::new(), Deflate::accepted(extensions));
            let mut state = Compress::new(Compression::default(), false);
            for message in messages() {
                if !keeps_context {
                    state.reset();
                }
                let payload = deflate(&mut state, &message);
                let inflated = inflater.inflate(&mut negotiated, &payload).unwrap();
                assert_eq!(inflated, message);
                inflater.give_back(inflated);
            }
        }
    }

    #[test]
    fn nonsense_and_what_was_not_negotiated_are_refused() {
        let mut inflater = Inflater::new();
        assert_eq!(inflater.inflate(&mut Deflate::accepted(""), b"x"), None);
        let mut negotiated = Deflate::accepted("permessage-deflate");
        assert_eq!(inflater.inflate(&mut negotiated, b"\xff\xff\xff"), None);
    }
}

//! permessage-deflate (RFC 7692), without context takeover in either direction.
//!
//! No connection has a compressor or a window of its own: each thread has one of each kind, made when it is first
//! needed. So a compressed message is the same for everybody and is compressed once, however many get it.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{FrameHeader, WsError, frame::MAX_HEADER};

mod negotiate;

pub use negotiate::negotiate;

/// What a sender takes off the end of a message, and a receiver puts back (§7.2.1, §7.2.2): the rest of an empty
/// stored block.
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// The same, and a last, empty block: a message that is complete ends exactly with it, one that was cut off does not.
const END: [u8; 9] = [0, 0, 0xFF, 0xFF, 1, 0, 0, 0xFF, 0xFF];

/// What an inflated message is first given room for, in multiples of its compressed length.
const FIRST_RATIO: usize = 4;

/// Scratch memory beyond this is given back after use.
const KEPT_SCRATCH: usize = 64 * 1024;

thread_local! {
    static DEFLATER: RefCell<Option<Deflater>> = const { RefCell::new(None) };
    static INFLATER: RefCell<Option<Decompress>> = const { RefCell::new(None) };
}

/// Which messages are compressed, and how hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Shorter payloads, in bytes, are left as they are.
    pub min_bytes: usize,
    /// zlib's level: 1 is fastest, 9 smallest.
    pub level: u8,
}

/// A block of frames of which some are compressed now.
#[derive(Debug)]
pub struct Compressed {
    /// All the frames, in order.
    pub block: Bytes,
    /// How many of them are compressed.
    pub messages: u64,
    /// Their payloads before, in bytes.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
}

/// Compresses the messages of a block of whole server frames, each by itself, where that makes them smaller. `None`:
/// none became smaller, and the block may be sent as it is.
///
/// ```
/// use broker_protocol::ws::{Decoder, Incoming, Role, deflate, frame};
///
/// let plain = frame::text_frame(&[b'x'; 1000]);
/// let policy = deflate::Policy { min_bytes: 256, level: 3 };
/// let compressed = deflate::compress(&plain, policy).map(|it| it.block).unwrap_or(plain);
/// assert!(compressed.len() < 30);
///
/// let mut decoder = Decoder::new(Role::Client, 1000).with_deflate(true);
/// let mut received = compressed.to_vec();
/// assert!(matches!(decoder.next(&mut &mut received[..])?, Some(Incoming::Text(text)) if text.len() == 1000));
/// # Ok::<(), broker_protocol::ws::WsError>(())
/// ```
#[must_use]
pub fn compress(block: &[u8], policy: Policy) -> Option<Compressed> {
    let mut sizes = Sizes::default();
    let mut out = BytesMut::new();
    let mut rest = block;
    while let Some((header, payload, after)) = split_frame(rest) {
        let frame = &rest[..rest.len() - after.len()];
        rest = after;
        let worthwhile = header.opcode.begins_message()
            && header.fin
            && !header.compressed
            && payload.len() >= policy.min_bytes;
        if !(worthwhile && append_compressed(&mut out, header, payload, policy, &mut sizes)) {
            out.extend_from_slice(frame);
        }
    }
    out.extend_from_slice(rest);
    (sizes.messages > 0).then(|| Compressed {
        block: out.freeze(),
        messages: sizes.messages,
        bytes_before: sizes.before,
        bytes_after: sizes.after,
    })
}

#[derive(Default)]
struct Sizes {
    messages: u64,
    before: u64,
    after: u64,
}

fn split_frame(bytes: &[u8]) -> Option<(FrameHeader, &[u8], &[u8])> {
    let (header, length) = FrameHeader::parse(bytes).ok()??;
    let payload_len = usize::try_from(header.payload_len).ok()?;
    let (payload, after) = bytes[length..].split_at_checked(payload_len)?;
    Some((header, payload, after))
}

/// Says whether it did: not where the payload would not become smaller.
fn append_compressed(
    out: &mut BytesMut,
    header: FrameHeader,
    payload: &[u8],
    policy: Policy,
    sizes: &mut Sizes,
) -> bool {
    DEFLATER.with_borrow_mut(|slot| {
        let level = u32::from(policy.level.clamp(1, 9));
        if slot.as_ref().is_none_or(|deflater| deflater.level != level) {
            *slot = Some(Deflater::new(level));
        }
        let Some(deflated) = slot.as_mut().and_then(|deflater| deflater.deflate(payload)) else {
            return false;
        };
        out.reserve(MAX_HEADER + deflated.len());
        FrameHeader { compressed: true, payload_len: deflated.len() as u64, ..header }.encode(out);
        out.extend_from_slice(deflated);
        sizes.messages += 1;
        sizes.before += payload.len() as u64;
        sizes.after += deflated.len() as u64;
        true
    })
}

/// One thread's compressor.
struct Deflater {
    level: u32,
    stream: Compress,
    out: Vec<u8>,
}

impl Deflater {
    fn new(level: u32) -> Self {
        let stream = Compress::new(Compression::new(level), false);
        Self { level, stream, out: Vec::new() }
    }

    /// `None` if the result would not be smaller.
    fn deflate(&mut self, payload: &[u8]) -> Option<&[u8]> {
        self.out.clear();
        self.out.shrink_to(KEPT_SCRATCH);
        // What does not fit has not become smaller, so one call does it or it is not worth doing.
        self.out.reserve(payload.len() + TAIL.len());
        self.stream.reset();
        self.stream.compress_vec(payload, &mut self.out, FlushCompress::Sync).ok()?;
        let all_taken = self.stream.total_in() == payload.len() as u64;
        let deflated = self.out.strip_suffix(&TAIL)?;
        (all_taken && deflated.len() < payload.len()).then_some(deflated)
    }
}

/// What a compressed message says. `limit` is in bytes of the result, and bounds the memory it takes while it grows.
///
/// # Errors
/// [`WsError::TooBig`] at the limit, [`WsError::CorruptDeflate`] if it is not DEFLATE or is cut off.
pub(super) fn inflate(payload: &[u8], limit: usize) -> Result<Vec<u8>, WsError> {
    INFLATER.with_borrow_mut(|slot| {
        let stream = slot.get_or_insert_with(|| Decompress::new(false));
        stream.reset(false);
        let mut inflating = Inflating { stream, out: Vec::new(), limit };
        inflating
            .out
            .reserve_exact(payload.len().saturating_mul(FIRST_RATIO).min(limit).saturating_add(1));
        match inflating.take(payload)? {
            // A sender may end with a final block, and then puts an empty one behind it (§7.2.3.4).
            Progress::Ended([] | [0]) => {}
            Progress::Ended(_) => return Err(WsError::CorruptDeflate),
            Progress::Going => match inflating.take(&END)? {
                Progress::Ended([]) => {}
                _ => return Err(WsError::CorruptDeflate),
            },
        }
        Ok(inflating.out)
    })
}

struct Inflating<'a> {
    stream: &'a mut Decompress,
    out: Vec<u8>,
    limit: usize,
}

enum Progress<'a> {
    /// All input is taken, and more is to come.
    Going,
    /// The final block has ended; this is behind it.
    Ended(&'a [u8]),
}

impl Inflating<'_> {
    fn take<'a>(&mut self, mut input: &'a [u8]) -> Result<Progress<'a>, WsError> {
        loop {
            self.make_room();
            let taken = self.stream.total_in();
            let status = self
                .stream
                .decompress_vec(input, &mut self.out, FlushDecompress::Sync)
                .map_err(|_| WsError::CorruptDeflate)?;
            let taken = usize::try_from(self.stream.total_in() - taken).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            if self.out.len() > self.limit {
                return Err(WsError::TooBig { limit: self.limit });
            }
            let is_full = self.out.len() == self.out.capacity();
            match status {
                Status::StreamEnd => return Ok(Progress::Ended(input)),
                _ if is_full => {}
                _ if input.is_empty() => return Ok(Progress::Going),
                _ => return Err(WsError::CorruptDeflate),
            }
        }
    }

    /// Doubles, but not beyond the limit and the one byte that shows that it is passed.
    fn make_room(&mut self) {
        let capacity = self.out.capacity();
        if self.out.len() == capacity {
            let target =
                capacity.saturating_mul(2).min(self.limit.saturating_add(1)).max(capacity + 1);
            self.out.reserve_exact(target - capacity);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;

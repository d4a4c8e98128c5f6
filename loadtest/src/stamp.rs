//! What each message carries in its payload, as text that any protocol can carry unescaped.
//!
//! `@LT`, then lower-case hexadecimal digits: run (8), stream (8), sequence (12), time (12), then fill.

/// What a stamp begins with.
pub(crate) const MARKER: &[u8; 3] = b"@LT";

/// Bytes of a stamp; the shortest payload.
pub(crate) const LENGTH: usize = MARKER.len() + DIGITS;

const DIGITS: usize = 40;

/// Sequence and time have 48 bits.
const LOW_48: u64 = (1 << 48) - 1;

/// Which message this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The run of this program that sent it.
    pub(crate) run: u32,
    /// Which sequence it belongs to.
    pub(crate) stream: u32,
    /// Its place there, from 0.
    pub(crate) sequence: u64,
    /// When it was sent or due, in nanoseconds of the run's clock.
    pub(crate) at: u64,
}

impl Stamp {
    /// Writes the stamp to the front of `payload`, which must have room for it.
    pub(crate) fn write(&self, payload: &mut [u8]) {
        let (marker, rest) = payload.split_at_mut(MARKER.len());
        marker.copy_from_slice(MARKER);
        let (sequence, at) = (self.sequence & LOW_48, self.at & LOW_48);
        let words = [
            self.run,
            self.stream,
            (sequence >> 16) as u32,
            ((sequence & 0xFFFF) << 16 | at >> 32) as u32,
            at as u32,
        ];
        for (digits, word) in rest.chunks_exact_mut(8).zip(words) {
            digits.copy_from_slice(&hexadecimal(word));
        }
    }

    /// Reads the stamp whose marker is at the front of `bytes`; `None` if it is cut off. Digits are not checked: a
    /// garbled stamp shows as a message that nobody sent.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let digits = bytes.get(MARKER.len()..LENGTH)?;
        let mut words = [0; DIGITS / 8];
        for (word, digits) in words.iter_mut().zip(digits.as_chunks::<8>().0) {
            *word = number(*digits);
        }
        let [run, stream, high, middle, low] = words;
        Some(Self {
            run,
            stream,
            sequence: u64::from(high) << 16 | u64::from(middle >> 16),
            at: u64::from(middle & 0xFFFF) << 32 | u64::from(low),
        })
    }
}

fn hexadecimal(word: u32) -> [u8; 8] {
    let mut digits = [0; 8];
    for (index, digit) in digits.iter_mut().enumerate() {
        let nibble = (word >> (28 - 4 * index) & 0xF) as u8;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    digits
}

/// Eight digits at once: this is run for each delivery.
fn number(digits: [u8; 8]) -> u32 {
    const LOW_NIBBLES: u64 = 0x0F0F_0F0F_0F0F_0F0F;
    const LETTERS: u64 = 0x0101_0101_0101_0101;
    let text = u64::from_be_bytes(digits);
    let nibbles = (text & LOW_NIBBLES).wrapping_add((text >> 6 & LETTERS).wrapping_mul(9));
    let bytes = (nibbles | nibbles >> 4) & 0x00FF_00FF_00FF_00FF;
    let shorts = (bytes | bytes >> 8) & 0x0000_FFFF_0000_FFFF;
    (shorts | shorts >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        for stamp in [
            Stamp { run: 0, stream: 0, sequence: 0, at: 0 },
            Stamp { run: u32::MAX, stream: u32::MAX, sequence: LOW_48, at: LOW_48 },
            Stamp { run: 0x89ab_cdef, stream: 1, sequence: 0x1234_5678_9abc, at: 0xfedc_ba98_7654 },
        ] {
            let mut payload = [b'x'; LENGTH + 3];
            stamp.write(&mut payload);
            assert_eq!(&payload[LENGTH..], b"xxx");
            assert_eq!(Stamp::read(&payload), Some(stamp));
            assert_eq!(Stamp::read(&payload[..LENGTH - 1]), None);
        }
    }

    #[test]
    fn it_is_readable_text() {
        let mut payload = [0; LENGTH];
        Stamp { run: 0xab, stream: 2, sequence: 3, at: 0x10 }.write(&mut payload);
        assert_eq!(&payload, b"@LT000000ab00000002000000000003000000000010");
    }
}

//! Names that people choose, as plain text.

/// Appends `text`, with each byte that is not `plain` as `%` and two upper-case hex digits.
pub(crate) fn escape_into(out: &mut String, text: &str, plain: fn(u8) -> bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// Bytes that stand for themselves in NATS subjects and Redis keys.
pub(crate) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

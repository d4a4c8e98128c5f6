/// Masks or unmasks `bytes` in place: the operation is its own inverse (RFC 6455 §5.3).
///
/// `key` applies from the first byte of `bytes` on.
pub fn apply_mask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_agrees_with_the_rfcs_byte_by_byte_rule() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for length in 0..70_usize {
            let plain: Vec<u8> = (0..length).map(|i| u8::try_from(i * 3).unwrap()).collect();
            let expected: Vec<u8> =
                plain.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            let mut masked = plain.clone();
            apply_mask(&mut masked, key);
            assert_eq!(masked, expected);
        }
    }
}

use super::*;

/// RFC 6455 §5.7, as far as a server writes it.
#[test]
fn the_rfcs_examples() {
    assert_eq!(text_frame(b"Hello"), &b"\x81\x05Hello"[..]);
    assert_eq!(ping_frame(b"Hello"), &b"\x89\x05Hello"[..]);
    assert_eq!(pong_frame(b"Hello"), &b"\x8a\x05Hello"[..]);
    assert_eq!(binary_frame(&[7; 256])[..4], [0x82, 0x7E, 0x01, 0x00]);
    assert_eq!(binary_frame(&[7; 65536])[..10], [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);

    let mut masked = BytesMut::new();
    client_frame(&mut masked, Opcode::Text, true, [0x37, 0xfa, 0x21, 0x3d], b"Hello");
    assert_eq!(masked, &b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"[..]);
}

#[test]
fn headers_survive_the_round_trip() {
    for payload_len in [0, 1, 125, 126, 127, 0xFFFF, 0x1_0000, u64::MAX >> 1] {
        for mask in [None, Some([1, 2, 3, 4])] {
            for (fin, compressed) in [(true, false), (false, true)] {
                let header =
                    FrameHeader { fin, compressed, opcode: Opcode::Binary, mask, payload_len };
                let mut buf = BytesMut::new();
                header.encode(&mut buf);
                assert_eq!(FrameHeader::parse(&buf), Ok(Some((header, buf.len()))));
                for cut in 0..buf.len() {
                    assert_eq!(FrameHeader::parse(&buf[..cut]), Ok(None));
                }
            }
        }
    }
}

#[test]
fn a_frame_in_place_is_right_whatever_was_expected() {
    for actual in [0, 125, 126, 0xFFFF, 0x1_0000] {
        for expected in [0, 126, 0x1_0000] {
            let payload: Vec<u8> = (0..actual).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let mut buf = BytesMut::from(&text_frame(b"before")[..]);
            let mark = begin(&mut buf, expected);
            buf.extend_from_slice(&payload);
            finish(&mut buf, mark, Opcode::Binary);
            buf.extend_from_slice(&text_frame(b"after"));

            let joined =
                [text_frame(b"before"), binary_frame(&payload), text_frame(b"after")].concat();
            assert!(buf == joined, "{actual} bytes, {expected} expected");
        }
    }
}

#[test]
fn a_close_reason_is_cut_between_characters() {
    assert_eq!(close_frame(1000, ""), &b"\x88\x02\x03\xe8"[..]);
    assert_eq!(close_frame(1012, "reconnect"), &b"\x88\x0b\x03\xf4reconnect"[..]);
    // 122 bytes, then a character of two: the second of which would be the 124th.
    let frame = close_frame(1000, &format!("{}éé", "x".repeat(122)));
    assert_eq!((frame.len(), frame[1]), (2 + 2 + 122, 124));
    assert_eq!(close_frame(1000, &"x".repeat(500)).len(), 2 + MAX_CONTROL_PAYLOAD);
}

#[test]
fn control_payloads_are_cut() {
    assert_eq!(ping_frame(&[0; 200]), ping_frame(&[0; MAX_CONTROL_PAYLOAD]));
    assert_eq!(pong_frame(&[0; 200]), pong_frame(&[0; MAX_CONTROL_PAYLOAD]));
}

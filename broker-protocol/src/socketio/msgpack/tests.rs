use broker_core::JsonText;
use bytes::{Bytes, BytesMut};

use super::super::{AckId, Arg, Arguments, Body, Malformed, Namespace, Outgoing, Packet};

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digits = std::str::from_utf8(&digits).unwrap();
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn decode(hex: &str) -> Result<Packet, Malformed> {
    super::decode(&bytes(hex))
}

/// An event named `a` with these arguments, in MessagePack.
fn event(arguments: &str) -> String {
    let count = 0x91 + arguments.split_whitespace().count();
    let arguments = arguments.replace('_', "");
    format!("83 a474797065 02 a36e7370 a12f a464617461 {count:02x} a161 {arguments}")
}

/// The arguments of [`event`], read again.
fn arguments(hex: &str) -> Vec<String> {
    let Ok(Packet { body: Body::Event { args, .. }, .. }) = decode(&event(hex)) else {
        panic!("{hex}: {:?}", decode(&event(hex)));
    };
    args.iter()
        .map(|arg| match arg {
            Arg::Json(json) => String::from_utf8(json.as_bytes().to_vec()).unwrap(),
            Arg::Binary(bytes) => format!("{bytes:?}"),
        })
        .collect()
}

fn json(text: &str) -> JsonText {
    JsonText::from_checked(Bytes::copy_from_slice(text.as_bytes()))
}

/// Written by notepack.io 2.2.0, the encoder of socket.io-msgpack-parser 3.0.2.
#[test]
fn what_javascript_writes_is_read() {
    let connect =
        decode("84a47479706500a464617461d40000a76f7074696f6e7381a8636f6d7072657373c3a36e7370a12f");
    let expected = Packet { namespace: Namespace::MAIN, body: Body::Connect { auth: None } };
    assert_eq!(connect, Ok(expected));

    let connect = decode(
        "84a47479706500a46461746181a5746f6b656ea3313233a76f7074696f6e7381a8636f6d7072657373c3a36e7370a62f61646d696e",
    );
    let namespace = Namespace::new("/admin").unwrap();
    let auth = Some(json("{\"token\":\"123\"}"));
    assert_eq!(connect, Ok(Packet { namespace, body: Body::Connect { auth } }));

    let disconnect = decode("83a47479706501a76f7074696f6e7381a8636f6d7072657373c3a36e7370a12f");
    assert_eq!(disconnect, Ok(Packet { namespace: Namespace::MAIN, body: Body::Disconnect }));

    for (hex, id, array) in [
        (
            "84a47479706502a46461746198a3666f6f01ffcb3ff8000000000000c0c3d40000a2c3a9a76f7074696f6e7381a8636f6d7072657373c3a36e7370a12f",
            None,
            "[1,-1,1.5,null,true,null,\"é\"]",
        ),
        (
            "85a47479706502a46461746192a362617ac40401020304a76f7074696f6e7381a8636f6d7072657373c3a269640ca36e7370a62f61646d696e",
            Some(12),
            "[{\"_placeholder\":true,\"num\":0}]",
        ),
        (
            "84a47479706502a46461746192a2616281a161c702000102a76f7074696f6e7381a8636f6d7072657373c3a36e7370a12f",
            None,
            "[{\"a\":{\"_placeholder\":true,\"num\":0}}]",
        ),
        (
            "84a47479706502a46461746194a464617465d700000000dd9aa6e07bcf001fffffffffffffd3ffe0000000000001a76f7074696f6e7381a8636f6d7072657373c3a36e7370a12f",
            None,
            "[\"2000-02-29T00:00:00.123Z\",9007199254740991,-9007199254740991]",
        ),
    ] {
        let Ok(Packet { body: Body::Event { id: read, args, .. }, .. }) = decode(hex) else {
            panic!("{hex}: {:?}", decode(hex));
        };
        assert_eq!((read.map(AckId::get), args.to_array()), (id, json(array)));
    }

    let ack = decode(
        "85a47479706503a46461746191a3626172a76f7074696f6e7381a8636f6d7072657373c3a269640da36e7370a12f",
    );
    let Ok(Packet { body: Body::Ack { id, args }, .. }) = ack else { panic!("{ack:?}") };
    assert_eq!((id.get(), args.to_array()), (13, json("[\"bar\"]")));
}

#[test]
fn each_form_of_a_value_is_read() {
    for (hex, expected) in [
        ("7f", "127"),
        ("cc_ff", "255"),
        ("cd_ffff", "65535"),
        ("ce_ffffffff", "4294967295"),
        ("cf_ffffffffffffffff", "18446744073709551615"),
        ("e0", "-32"),
        ("d0_80", "-128"),
        ("d0_05", "5"),
        ("d1_8000", "-32768"),
        ("d2_80000000", "-2147483648"),
        ("d3_8000000000000000", "-9223372036854775808"),
        ("ca_3fc00000", "1.5"),
        ("cb_7e37e43c8800759c", "1e+300"),
        ("cb_7ff0000000000000", "null"),
        ("cb_7ff8000000000000", "null"),
        ("c2", "false"),
        ("d9_01_22", "\"\\\"\""),
        ("da_0001_61", "\"a\""),
        ("db_00000001_0a", "\"\\n\""),
        ("a1_ff", "\"\u{fffd}\""),
        ("dc_0001_01", "[1]"),
        ("dd_00000000", "[]"),
        ("de_0001_a161_c0", "{\"a\":null}"),
        ("df_00000001_a0_80", "{\"\":{}}"),
        ("82_01_c0_ff_c0", "{\"1\":null,\"-1\":null}"),
        ("c4_01_61", "b\"a\""),
        ("c5_0001_61", "b\"a\""),
        ("c6_00000001_61", "b\"a\""),
        ("c7_01_00_61", "b\"a\""),
        ("c8_0000_00", "b\"\""),
        ("c9_00000001_00_61", "b\"a\""),
    ] {
        assert_eq!(arguments(hex), [expected], "{hex}");
    }
    assert_eq!(arguments("c4_01_61 01 c4_01_62"), ["b\"a\"", "1", "b\"b\""]);
}

#[test]
fn what_is_malformed_is_refused() {
    let nested = |levels: usize| event(&format!("{}c0", "91_".repeat(levels)));
    assert!(decode(&nested(99)).is_ok());
    // As data of a member that nobody reads, too.
    let ignored = format!("81 a178 {}c0", "91".repeat(1_000_000));
    let placeholder = "82_ac5f706c616365686f6c646572_c3_a36e756d_";
    for (hex, reason) in [
        ("", Malformed::MsgPack),
        ("c0", Malformed::MsgPack),
        ("91c0", Malformed::MsgPack),
        ("81", Malformed::MsgPack),
        ("8101c0", Malformed::MsgPack),
        ("dfffffffff", Malformed::MsgPack),
        ("80", Malformed::Type),
        ("81a47479706505", Malformed::Type),
        ("81a474797065a130", Malformed::Type),
        ("81a47479706504", Malformed::ServerOnly),
        ("81a47479706500", Malformed::Namespace),
        ("82a47479706500 a36e7370 a161", Malformed::Namespace),
        ("82a47479706500 a36e7370 a1ff", Malformed::Namespace),
        ("82a47479706500 a36e7370 c0", Malformed::MsgPack),
        ("82a47479706500 a36e7370 a12f 00", Malformed::MsgPack),
        ("83a47479706500 a36e7370 a12f a464617461 90", Malformed::Payload),
        ("83a47479706501 a36e7370 a12f a464617461 80", Malformed::Payload),
        ("82a47479706502 a36e7370 a12f", Malformed::Payload),
        ("83a47479706502 a36e7370 a12f a464617461 90", Malformed::EventName),
        ("83a47479706502 a36e7370 a12f a464617461 91a7636f6e6e656374", Malformed::ReservedEvent),
        ("83a47479706500 a36e7370 a12f a464617461 81a161c400", Malformed::Payload),
        ("83a47479706503 a36e7370 a12f a464617461 90", Malformed::AckId),
        ("84a47479706503 a36e7370 a12f a26964ff a464617461 90", Malformed::AckId),
        ("84a47479706503 a36e7370 a12f a26964cf0020000000000000 a464617461 90", Malformed::AckId),
        (&event("c1"), Malformed::MsgPack),
        (&event("d9_ff"), Malformed::MsgPack),
        (&event("c6_ffffffff"), Malformed::MsgPack),
        (&event("dd_ffffffff"), Malformed::MsgPack),
        (&event("c9_ffffffff_00"), Malformed::MsgPack),
        (&event("81_c0_c0"), Malformed::MsgPack),
        (&event("d4_01_00"), Malformed::Extension),
        (&event("d6_ff_00000000"), Malformed::Extension),
        (&event(&"c400 ".repeat(11)), Malformed::AttachmentCount),
        (&event(&format!("c400 {placeholder}00")), Malformed::Placeholder),
        (&event(&format!("c400 {placeholder}09")), Malformed::Placeholder),
        (&nested(100), Malformed::Json),
        (&ignored, Malformed::Json),
    ] {
        assert_eq!(decode(hex), Err(reason), "{:.200}", hex);
    }
}

/// Read again by notepack.io 2.2.0, these are the objects in the comments.
#[test]
fn packets_are_written_as_maps() {
    let written = |outgoing| {
        let mut out = BytesMut::new();
        super::encode(&Namespace::MAIN, &outgoing, &mut out);
        let payload = out.split_off(2);
        assert_eq!(out[..], [0x82, payload.len() as u8]);
        payload.freeze()
    };
    let id = AckId::new(300).unwrap();
    let (value, attachment) = (json("{\"a\":[1.5,-1,1e400,true]}"), Bytes::from_static(&[1]));
    let values = Arguments::Json(std::slice::from_ref(&value));
    for (outgoing, hex) in [
        // { type: 1, nsp: '/' }
        (Outgoing::Disconnect, "82 a474797065 01 a36e7370 a12f"),
        // { type: 0, nsp: '/', data: { sid: 'x', pid: 'y' } }
        (
            Outgoing::Connect { sid: "x", pid: Some("y") },
            "83 a474797065 00 a36e7370 a12f a464617461 82 a3736964 a178 a3706964 a179",
        ),
        // { type: 4, nsp: '/', data: { message: 'no', data: { a: [ 1.5, -1, Infinity, true ] } } }
        (
            Outgoing::ConnectError { message: "no", data: Some(&value) },
            "83 a474797065 04 a36e7370 a12f a464617461 82 a76d657373616765 a26e6f a464617461
             81 a161 94 cb3ff8000000000000 ff cb7ff0000000000000 c3",
        ),
        // { type: 2, nsp: '/', id: 300, data: [ 'a', { a: [ 1.5, -1, Infinity, true ] }, 'z' ] }
        (
            Outgoing::Event { name: "a", id: Some(id), args: values, offset: Some("z") },
            "84 a474797065 02 a36e7370 a12f a26964 cd012c a464617461 93 a161
             81 a161 94 cb3ff8000000000000 ff cb7ff0000000000000 c3 a17a",
        ),
        // { type: 3, nsp: '/', id: 300, data: [ <Buffer 01> ] }
        (
            Outgoing::Ack { id, args: Arguments::Binary(&attachment) },
            "84 a474797065 03 a36e7370 a12f a26964 cd012c a464617461 91 c40101",
        ),
    ] {
        assert_eq!(written(outgoing), bytes(hex), "{outgoing:?}");
    }
}

#[test]
fn long_containers_get_long_headers() {
    for (length, expected) in
        [(15, &[0x9f][..]), (16, &[0xdc, 0, 16]), (70_000, &[0xdd, 0, 1, 0x11, 0x70])]
    {
        let array = json(&format!("[{}0]", "0,".repeat(length - 1)));
        let mut out = BytesMut::new();
        let args = Arguments::Json(std::slice::from_ref(&array));
        let id = AckId::new(0).unwrap();
        super::encode(&Namespace::MAIN, &Outgoing::Ack { id, args }, &mut out);
        let start = out.len() - length - expected.len();
        assert_eq!(&out[start..start + expected.len()], expected);
        assert!(out[start + expected.len()..].iter().all(|byte| *byte == 0));
    }
}

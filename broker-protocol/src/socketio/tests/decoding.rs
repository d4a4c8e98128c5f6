//! What clients send, from the protocol's document and from clients in use.

use super::*;

fn connect(namespace: &str, auth: Option<&str>) -> Result<Packet, Malformed> {
    let namespace = Namespace::new(namespace).unwrap();
    Ok(Packet { namespace, body: Body::Connect { auth: auth.map(json) } })
}

/// § Connection to a namespace.
#[test]
fn connects_are_read() {
    for (packet, namespace, auth) in [
        ("0", "/", None),
        ("0/admin", "/admin", None),
        ("0/admin,", "/admin", None),
        ("0/,", "/", None),
        ("0/admin?a=1&b,", "/admin?a=1&b", None),
        ("0/admin,{\"token\":\"123\"}", "/admin", Some("{\"token\":\"123\"}")),
        ("0{\"pid\":\"x\",\"offset\":1}", "/", Some("{\"pid\":\"x\",\"offset\":1}")),
    ] {
        assert_eq!(decoded(&[text(packet)]), connect(namespace, auth), "{packet}");
    }
}

/// § Disconnection from a namespace.
#[test]
fn disconnects_are_read() {
    for (packet, namespace) in [("1", "/"), ("1/admin,", "/admin"), ("1/admin", "/admin")] {
        let namespace = Namespace::new(namespace).unwrap();
        let expected = Packet { namespace, body: Body::Disconnect };
        assert_eq!(decoded(&[text(packet)]), Ok(expected), "{packet}");
    }
}

/// § Sending and receiving data.
#[test]
fn events_are_read() {
    for (packet, namespace, name, id, args) in [
        ("2[\"foo\"]", "/", "foo", None, &[][..]),
        ("2/admin,[\"bar\"]", "/admin", "bar", None, &[]),
        ("212[\"foo\"]", "/", "foo", Some(12), &[]),
        ("2/admin,13[\"foo\",1]", "/admin", "foo", Some(13), &["1"]),
        (
            "2[\"a\", 1 ,\t\"2,]\" , {\"3\": [true]} ] ",
            "/",
            "a",
            None,
            &["1", "\"2,]\"", "{\"3\": [true]}"],
        ),
        ("20[\"\"]", "/", "", Some(0), &[]),
        ("2[5,null]", "/", "5", None, &["null"]),
        ("2[\"caf\\u00e9\"]", "/", "café", None, &[]),
        ("29007199254740991[\"a\"]", "/", "a", Some(AckId::MAX), &[]),
        (
            "2[\"a\",1e400,\"\\ud800\",123456789012345678901]",
            "/",
            "a",
            None,
            &["1e400", "\"\\ud800\"", "123456789012345678901"],
        ),
        (
            "2[\"a\",{\"_placeholder\":true,\"num\":9}]",
            "/",
            "a",
            None,
            &["{\"_placeholder\":true,\"num\":9}"],
        ),
    ] {
        let read = event(&[text(packet)]);
        assert_eq!((&*read.0, &*read.1, read.2), (namespace, name, id), "{packet}");
        assert_eq!(values(&read.3), args, "{packet}");
        assert_eq!(read.3.is_empty(), args.is_empty());
    }
}

/// § Acknowledgement.
#[test]
fn acknowledgements_are_read() {
    for (packet, namespace, id, array) in [
        ("312[]", "/", 12, "[]"),
        ("3/admin,13[\"bar\"]", "/admin", 13, "[\"bar\"]"),
        ("30[ 1, 2]", "/", 0, "[1, 2]"),
    ] {
        let Ok(Packet { namespace: read, body: Body::Ack { id: read_id, args } }) =
            decoded(&[text(packet)])
        else {
            panic!("{packet}");
        };
        assert_eq!((read.as_str(), read_id.get()), (namespace, id));
        assert_eq!(args.to_array(), json(array));
    }
}

/// § Sending and receiving data, with binary data and with multiple attachments.
#[test]
fn binary_events_are_read() {
    let one = [text("51-[\"baz\",{\"_placeholder\":true,\"num\":0}]"), binary(&[1, 2, 3, 4])];
    let (namespace, name, id, args) = event(&one);
    assert_eq!((&*namespace, &*name, id), ("/", "baz", None));
    let args: Vec<Arg> = args.iter().collect();
    assert_eq!(args, [Arg::Binary(Bytes::from_static(&[1, 2, 3, 4]))]);

    let header = "52-/admin,7[\"baz\",{\"_placeholder\":true,\"num\":1},[{ \"num\" : 0, \"_placeholder\" : true }],3]";
    let (namespace, _, id, args) = event(&[text(header), binary(b"a"), binary(b"b")]);
    assert_eq!(
        (&*namespace, id, args.attachments()),
        ("/admin", Some(7), &[&b"a"[..], b"b"].map(Bytes::from_static)[..])
    );
    let nested = "[{ \"num\" : 0, \"_placeholder\" : true }]";
    let expected =
        [Arg::Binary(Bytes::from_static(b"b")), Arg::Json(json(nested)), Arg::Json(json("3"))];
    assert_eq!(args.iter().collect::<Vec<_>>(), expected);
    assert_eq!(args.len(), header.len() - "52-/admin,7[\"baz\",]".len() + 2);
}

#[test]
fn binary_acknowledgements_are_read() {
    let ack = [text("61-15[\"bar\",{\"_placeholder\":true,\"num\":0}]"), binary(&[1, 2])];
    let Ok(Packet { body: Body::Ack { id, args }, .. }) = decoded(&ack) else { panic!() };
    assert_eq!(
        (id.get(), values(&args)),
        (15, vec!["\"bar\"".to_owned(), "b\"\\x01\\x02\"".to_owned()])
    );
}

#[test]
fn a_decoder_reads_one_packet_after_the_other() {
    let mut decoder = Decoder::new(LIMIT);
    assert_eq!(decoder.parser(), None);
    for _ in 0..3 {
        let header = "51-[\"a\",{\"_placeholder\":true,\"num\":0}]";
        assert_eq!(decoder.text(header), Ok(None));
        assert!(matches!(decoder.binary(Bytes::new()), Ok(Some(_))));
        assert!(matches!(decoder.text("2[\"b\"]"), Ok(Some(_))));
    }
    assert_eq!(decoder.parser(), Some(Parser::Json));
}

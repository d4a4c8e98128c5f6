//! What the reference server closes the connection for, and a little more.

use super::*;

#[test]
fn malformed_packets_are_refused() {
    use Malformed::*;
    let long_name = format!("2[\"{}\"]", "n".repeat(MAX_EVENT_NAME + 1));
    let long_namespace = format!("0/{},", "n".repeat(MAX_NAMESPACE));
    let deep = format!("2[\"a\",{}1{}]", "[".repeat(100), "]".repeat(100));
    for (packet, reason) in [
        ("", Type),
        ("abc", Type),
        ("999", Type),
        ("é", Type),
        ("4{\"message\":\"x\"}", ServerOnly),
        ("42[\"some\",\"data\"", ServerOnly),
        // CONNECT and DISCONNECT
        ("0[]", Payload),
        ("0/admin,\"invalid\"", Payload),
        ("0null", Payload),
        ("0{", Json),
        ("1{}", Payload),
        ("1/admin,{}", Payload),
        (&long_namespace, Namespace),
        ("0/a\u{1e}4,", Namespace),
        // EVENT
        ("2", Payload),
        ("2{}", Payload),
        ("2/admin,{}", Payload),
        ("2/admin", Payload),
        ("2/admin,\"invalid", Json),
        ("2abc[1]", Json),
        ("2[\"a\"", Json),
        ("2[\"a\"]x", Json),
        ("2[\"a\",01]", Json),
        (&deep, Json),
        ("2[]", EventName),
        ("2[{\"toString\":\"foo\"}]", EventName),
        ("2[true,\"foo\"]", EventName),
        ("2[null,\"bar\"]", EventName),
        (&long_name, EventName),
        ("2[\"connect\"]", ReservedEvent),
        ("2[\"conn\\u0065ct\"]", ReservedEvent),
        ("2[\"disconnect\",\"123\"]", ReservedEvent),
        ("2[\"connect_error\"]", ReservedEvent),
        ("2[\"disconnecting\"]", ReservedEvent),
        ("2[\"newListener\"]", ReservedEvent),
        ("2[\"removeListener\"]", ReservedEvent),
        ("29007199254740992[\"a\"]", AckId),
        ("299999999999999999999[\"a\"]", AckId),
        // ACK
        ("3[]", AckId),
        ("312", Payload),
        ("312{}", Payload),
        // BINARY_EVENT and BINARY_ACK
        ("5", AttachmentCount),
        ("51", AttachmentCount),
        ("5-[\"a\"]", AttachmentCount),
        ("5a-[\"a\"]", AttachmentCount),
        ("51.23-[\"a\"]", AttachmentCount),
        ("5+1-[\"a\"]", AttachmentCount),
        ("50-[\"a\"]", AttachmentCount),
        ("511-[\"a\"]", AttachmentCount),
        ("5[\"a-b\"]", AttachmentCount),
        ("60-1[]", AttachmentCount),
        ("51-", Payload),
        ("51-{}", Payload),
        ("51-[{\"_placeholder\":true,\"num\":0}]", EventName),
        ("61-[{\"_placeholder\":true,\"num\":0}]", AckId),
    ] {
        assert_eq!(decoded(&[text(packet)]), Err(reason), "{packet}");
    }
}

#[test]
fn placeholders_name_each_attachment_once() {
    let placeholder = |number: &str| format!("{{\"_placeholder\":true,\"num\":{number}}}");
    let (zero, one) = (placeholder("0"), placeholder("1"));
    for args in [
        "1",
        &zero,
        &format!("{zero},{zero}"),
        &format!("{zero},{one},{one}"),
        &format!("{zero},{}", placeholder("2")),
        &format!("{zero},{}", placeholder("-1")),
        &format!("{zero},{}", placeholder("1.0")),
        &format!("{zero},{}", placeholder("\"1\"")),
        &format!("{zero},{one},{}", placeholder("99999999999999999999")),
        &format!("{zero},{one},{{\"_placeholder\":true}}"),
        &format!("{zero},{one},{{\"_placeholder\":false,\"num\":0}}"),
        &format!("{zero},{one},{{\"_placehold\\u0065r\":true,\"num\":9}}"),
        &format!("{zero},{{\"_placeholder\":true,\"num\":1,\"more\":{one}}}"),
        &format!("{zero},{{\"a\":[{{\"_placeholder\":true,\"_placeholder\":true,\"num\":1}}]}}"),
        &format!("{zero},{{\"num\":1,\"num\":1}}"),
    ] {
        let packet = text(&format!("52-[\"a\",{args}]"));
        assert_eq!(decoded(&[packet]), Err(Malformed::Placeholder), "{args}");
    }
}

#[test]
fn arguments_made_by_the_server_are_checked_too() {
    let args = |array, count| Args::new(&json(array), vec![Bytes::new(); count]).err();
    assert_eq!(args("[{\"_placeholder\":true,\"num\":0}]", 1), None);
    assert_eq!(args("[{\"_placeholder\":true,\"num\":0}]", 0), None);
    assert_eq!(args("[]", 0), None);
    assert_eq!(args("[1]", 1), Some(Malformed::Placeholder));
    assert_eq!(args("{}", 0), Some(Malformed::Payload));
    assert_eq!(args("[]", MAX_ATTACHMENTS + 1), Some(Malformed::AttachmentCount));
}

#[test]
fn attachments_follow_their_packet() {
    let header = "52-[\"a\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]";
    let mut decoder = Decoder::new(LIMIT);
    assert_eq!(decoder.text(header), Ok(None));
    assert_eq!(decoder.binary(Bytes::new()), Ok(None));
    assert_eq!(decoder.text("2[\"b\"]"), Err(Malformed::Interrupted));

    let mut decoder = Decoder::new(LIMIT);
    assert!(decoder.text("0").is_ok());
    assert_eq!(decoder.binary(Bytes::new()), Err(Malformed::StrayAttachment));
}

#[test]
fn a_connection_has_one_parser() {
    let mut decoder = Decoder::new(LIMIT);
    let connect = encoded(Parser::MsgPack, "/", &Outgoing::Connect { sid: "x", pid: None });
    let [Message::Binary(connect)] = &connect[..] else { panic!() };
    assert!(matches!(decoder.binary(connect.clone()), Ok(Some(_))));
    assert_eq!(decoder.parser(), Some(Parser::MsgPack));
    assert_eq!(decoder.text("0"), Err(Malformed::OtherParser));
}

#[test]
fn packets_with_their_attachments_have_a_bound() {
    let header = "52-[\"a\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]";
    let limit = header.len() + 10;
    let too_big = Err(Malformed::TooBig { limit });
    for (lengths, last) in [([5, 5], None), ([5, 6], Some(too_big.clone()))] {
        let mut decoder = Decoder::new(limit);
        assert_eq!(decoder.text(header), Ok(None));
        assert_eq!(decoder.binary(vec![0; lengths[0]].into()), Ok(None));
        let whole = decoder.binary(vec![0; lengths[1]].into());
        match last {
            Some(error) => assert_eq!(whole, error),
            None => assert!(matches!(whole, Ok(Some(_)))),
        }
    }
    assert_eq!(Decoder::new(3).text("0/abc"), Err(Malformed::TooBig { limit: 3 }));
    assert_eq!(Decoder::new(3).binary(vec![0; 4].into()), Err(Malformed::TooBig { limit: 3 }));
}

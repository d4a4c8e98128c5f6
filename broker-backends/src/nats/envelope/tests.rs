use broker_core::{ConnectionId, Offset, ports::Caller};
use proptest::prelude::*;

use super::*;

fn decode_with(headers: &[(&str, &str)], body: &'static [u8]) -> Result<Message, Malformed> {
    decode_block(&block(headers.iter().copied()), body)
}

fn decode_block(block: &[u8], body: &'static [u8]) -> Result<Message, Malformed> {
    decode("venue:42".parse().unwrap(), block, Bytes::from_static(body), Timestamp(1000), || 7)
}

/// Headers as they come from a server.
fn block<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let lines: String = headers.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("NATS/1.0\r\n{lines}\r\n").into()
}

fn json(text: &'static str) -> Data {
    Data::Json(JsonText::from_checked(Bytes::from_static(text.as_bytes())))
}

#[test]
fn a_plain_body_is_a_message() {
    let message = decode_with(&[], b" {\"open\":\ntrue}\r\n").unwrap();
    assert_eq!(message.data, json("{\"open\":\ntrue}"));
    assert_eq!((message.id, message.time), (MessageId::random(7), Timestamp(1000)));
    assert_eq!((message.event, message.options), (None, None));
}

#[test]
fn bodies_are_json_or_text_or_bytes() {
    let data = |headers: &[(&str, &str)], body| decode_with(headers, body).map(|m| m.data);
    assert_eq!(data(&[], b"hello \"you\"\n"), Ok(json(r#""hello \"you\"\n""#)));
    assert_eq!(data(&[], b""), Ok(json(r#""""#)));
    assert_eq!(data(&[], b"1 2"), Ok(json(r#""1 2""#)));
    assert_eq!(data(&[], b"\"\xff\""), Ok(Data::Binary(Bytes::from_static(b"\"\xff\""))));
    let binary = [("Fanfare-Encoding", "binary")];
    assert_eq!(data(&binary, b"{}"), Ok(Data::Binary(Bytes::from_static(b"{}"))));
    let declared = [("Fanfare-Encoding", "json")];
    assert_eq!(data(&declared, b" 1 "), Ok(json("1")));
    for bad in [&b"{"[..], b"", b"1 2", b"\"\xff\"", b"\"\n\"", b"\xef\xbb\xbf1"] {
        assert!(data(&declared, bad).is_err(), "{bad:?}");
    }
}

#[test]
fn expiry_is_a_time_or_a_duration() {
    let expires =
        |headers: &[(&str, &str)]| decode_with(headers, b"1").unwrap().options.unwrap().expires;
    assert_eq!(expires(&[("Fanfare-Expires", "5000")]), Some(Timestamp(5000)));
    assert_eq!(expires(&[("Fanfare-Expires", "+5000")]), Some(Timestamp(6000)));
    let timed = [("Fanfare-Expires", "+5000"), ("Fanfare-Time", "2000")];
    assert_eq!(expires(&timed), Some(Timestamp(7000)));
}

#[test]
fn the_publishers_id_counts_unless_a_gateway_gave_one() {
    let id = |headers: &[(&str, &str)]| decode_with(headers, b"1").unwrap().id.to_string();
    assert_eq!(id(&[("Nats-Msg-Id", "a")]), "a");
    assert_eq!(id(&[("Nats-Msg-Id", "a"), ("Fanfare-Id", "b")]), "b");
}

#[test]
fn headers_that_cannot_be_read_spoil_the_message() {
    for (name, value) in [
        ("Fanfare-Event", "%zz"),
        ("Fanfare-Event", "%0A"),
        ("Fanfare-Event", ""),
        ("Fanfare-Id", "a b"),
        ("Nats-Msg-Id", "é"),
        ("Fanfare-Time", "soon"),
        ("Fanfare-Expires", "-1"),
        ("Fanfare-Expires", "++1"),
        ("Fanfare-Expires", ""),
        ("Fanfare-Exclude-Connections", "7"),
        ("Fanfare-Exclude-Users", "a,,b"),
        ("Fanfare-Targets", "a::b"),
        ("Fanfare-Encoding", "yaml"),
    ] {
        assert_eq!(decode_with(&[(name, value)], b"1"), Err(Malformed(name)), "{value:?}");
    }
    let many = vec!["a:b"; MAX_LIST + 1].join(",");
    assert_eq!(decode_with(&[("Fanfare-Targets", &many)], b"1"), Err(Malformed(TARGETS)));
    assert!(decode_with(&[("traceparent", "no good"), ("X-Other", "é")], b"1").is_ok());
}

#[test]
fn a_block_that_cannot_be_read_spoils_the_message() {
    assert!(decode_block(b"", b"1").is_ok());
    assert!(decode_block(b"NATS/1.0 100 Idle\r\nA:b\r\n\r\n", b"1").is_ok());
    for block in [
        &b"HTTP/1.1\r\n\r\n"[..],
        b"NATS/1.0\r\nFanfare-Event\r\n\r\n",
        b"NATS/1.0\r\nFanfare-Exclude-Users: ann\r\n ,bob: x\r\n\r\n",
        b"NATS/1.0\r\nA: \xff\r\n\r\n",
    ] {
        assert_eq!(decode_block(block, b"1"), Err(Malformed(HEADERS)));
    }
}

#[test]
fn of_several_headers_the_first_counts() {
    let headers = [("Fanfare-Id", "a"), ("Fanfare-Id", "b c"), ("Fanfare-Id", "d")];
    assert_eq!(decode_with(&headers, b"1").unwrap().id.as_str(), "a");
}

/// As they come live, and as they are read: the same message.
#[test]
fn what_is_stored_says_where() {
    let added = [
        ("Nats-Stream", "fanfare=venue"),
        ("Nats-Subject", "fanfare.ch.venue.42"),
        ("Nats-Sequence", "9"),
        ("Nats-Time-Stamp", "1970-01-01T00:00:02.5Z"),
        ("Nats-Last-Sequence", "4"),
    ];
    let both = |sent: &[(&str, &str)]| {
        let all = || sent.iter().chain(&added).copied();
        let (channel, body) = ("venue:42".parse().unwrap(), Bytes::from_static(b"1"));
        let live = decode_live(channel, &block(all()), body.clone(), Epoch(7)).unwrap();
        let place = Place { offset: Offset(9), previous: Some(Offset(4)), at: 2_500_000_000 };
        let mut map = HeaderMap::new();
        all().for_each(|(name, value)| map.append(name, value));
        let channel = &live.channel;
        let at = (Epoch(7), place);
        assert_eq!(decode_stored(channel.clone(), Some(&map), body, at).as_ref(), Ok(&live));
        assert_eq!(id_in_map(channel, Some(&map), place).as_ref(), Ok(&live.id));
        let raw = block(sent.iter().copied());
        assert_eq!(id_in_log(channel, &raw, place).as_ref(), Ok(&live.id));
        live
    };
    let plain = both(&[]);
    assert_eq!((plain.time, plain.id.as_str().len()), (Timestamp(2500), 32));
    let stored = Stored { epoch: Epoch(7), offset: Offset(9), previous: Some(Offset(4)) };
    assert_eq!(plain.stored, Some(stored));
    let sent = [("Fanfare-Expires", "+500"), ("Nats-Msg-Id", "a"), ("Nats-Sequence", "1")];
    let services = both(&sent);
    assert_eq!((services.id.as_str(), services.stored), ("a", Some(stored)));
    assert_eq!(services.options.unwrap().expires, Some(Timestamp(3000)));
    let gateways = both(&[("Nats-Msg-Id", "hash"), ("Fanfare-Id", "a"), ("Fanfare-Time", "7")]);
    assert_eq!((gateways.id.as_str(), gateways.time), ("a", Timestamp(7)));

    let unplaced = block(added.into_iter().filter(|(name, _)| *name != "Nats-Sequence"));
    let channel = "venue:42".parse().unwrap();
    assert!(decode_live(channel, &unplaced, Bytes::new(), Epoch(7)).is_err());
}

#[test]
fn lists_may_be_split_over_headers() {
    let headers = [("Fanfare-Exclude-Users", "ann, b%2Cob"), ("Fanfare-Exclude-Users", "Zoë")];
    let options = decode_with(&headers, b"1").unwrap().options.unwrap();
    let users: Vec<_> = options.exclude.users.iter().map(|user| user.as_str()).collect();
    assert_eq!(users, ["ann", "b,ob", "Zoë"]);
}

#[test]
fn a_service_refuses_in_its_own_words() {
    let mut headers = HeaderMap::new();
    assert_eq!(decode_answer(Some(&headers), Bytes::from_static(b"1")), Ok(json("1")));
    headers.insert("Nats-Service-Error", "sold out");
    headers.insert("Nats-Service-Error-Code", "409");
    let refused = RequestError::Refused { code: Some(409), message: "sold out".into() };
    assert_eq!(decode_answer(Some(&headers), Bytes::new()), Err(refused));
}

#[test]
fn a_request_says_who_asks() {
    let request = ServiceRequest {
        address: "shop:cart".parse().unwrap(),
        event: Some("add item".parse().unwrap()),
        data: json("1"),
        caller: Caller {
            connection: ConnectionId(7),
            user: Some("Zoë\u{2028},1".parse().unwrap()),
            roles: vec!["admin".parse().unwrap(), "a,b".parse().unwrap()],
        },
        timeout: std::time::Duration::from_secs(1),
        trace: Some("00-a\r\nX: y".into()),
    };
    let (headers, _) = encode_request(&request);
    let header = |name: &str| headers.get(name).map(HeaderValue::as_str);
    assert_eq!(header("Fanfare-Event"), Some("add%20item"));
    assert_eq!(header("Fanfare-User"), Some("Zo%C3%AB%E2%80%A8%2C1"));
    assert_eq!(header("Fanfare-Roles"), Some("admin,a%2Cb"));
    assert_eq!(header("Fanfare-Connection"), Some("00000000000000000000000000000007"));
    assert_eq!(header("traceparent"), None, "nothing is smuggled into headers");
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        id in "[!-~]{1,20}",
        event in prop::option::of("\\PC{1,20}"),
        body in prop::collection::vec(any::<u8>(), 0..20),
        (time, expires) in (any::<u64>(), prop::option::of(any::<u64>())),
        connections in prop::collection::vec(any::<u128>(), 0..3),
        users in prop::collection::vec("\\PC{1,10}", 0..3),
        targets in prop::collection::vec("[a-z]{1,3}:x[^:\\p{Cc}]{1,8}", 0..3),
    ) {
        let options = Options {
            expires: expires.map(Timestamp),
            exclude: Exclude {
                connections: connections.into_iter().map(ConnectionId).collect(),
                users: users.iter().filter_map(|user| user.parse().ok()).collect(),
            },
            targets: (!targets.is_empty())
                .then(|| targets.iter().map(|target| target.parse().unwrap()).collect()),
            trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        };
        let message = Message {
            id: id.parse().unwrap(),
            channel: "venue:42".parse().unwrap(),
            event: event.map(|event| event.parse().unwrap()),
            data: Data::Binary(body.into()),
            time: Timestamp(time),
            stored: None,
            options: Some(Box::new(options)),
        };
        let (headers, body) = encode(&message);
        let channel = message.channel.clone();
        let block = block(headers.iter().map(|(name, values)| (name.as_ref(), values[0].as_str())));
        prop_assert_eq!(decode(channel, &block, body, Timestamp(0), || 0), Ok(message));
    }

    #[test]
    fn no_header_makes_it_panic(value in "\\PC{0,20}", body in prop::collection::vec(any::<u8>(), 0..20)) {
        for name in [EVENT, ID, MESSAGE_ID, TIME, EXPIRES, EXCLUDE_CONNECTIONS, EXCLUDE_USERS, TARGETS, ENCODING, TRACE] {
            let block = block([(name, value.as_str())].into_iter());
            let channel = "venue:42".parse().unwrap();
            drop(decode(channel, &block, body.clone().into(), Timestamp(0), || 0));
        }
    }
}

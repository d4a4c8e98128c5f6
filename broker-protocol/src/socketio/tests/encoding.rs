//! What the server sends, from the protocol's document.

use super::*;

fn written(namespace: &str, outgoing: &Outgoing<'_>) -> Vec<Message> {
    encoded(Parser::Json, namespace, outgoing)
}

fn event<'a>(name: &'a str, args: Arguments<'a>) -> Outgoing<'a> {
    Outgoing::Event { name, id: None, args, offset: None }
}

/// § Connection to a namespace.
#[test]
fn answers_to_a_connect() {
    let sid = "oSO0OpakMV_3jnilAAAA";
    assert_eq!(
        written("/admin", &Outgoing::Connect { sid, pid: None }),
        [text("0/admin,{\"sid\":\"oSO0OpakMV_3jnilAAAA\"}")]
    );
    assert_eq!(
        written("/", &Outgoing::Connect { sid: "a", pid: Some("b") }),
        [text("0{\"sid\":\"a\",\"pid\":\"b\"}")]
    );
    let refused = Outgoing::ConnectError { message: "Not authorized", data: None };
    assert_eq!(written("/", &refused), [text("4{\"message\":\"Not authorized\"}")]);
    let data = json("{\"code\":1}");
    let refused = Outgoing::ConnectError { message: "Not \"you\"", data: Some(&data) };
    assert_eq!(
        written("/x", &refused),
        [text("4/x,{\"message\":\"Not \\\"you\\\"\",\"data\":{\"code\":1}}")]
    );
}

/// § Disconnection from a namespace.
#[test]
fn disconnects() {
    assert_eq!(written("/", &Outgoing::Disconnect), [text("1")]);
    assert_eq!(written("/admin", &Outgoing::Disconnect), [text("1/admin,")]);
}

/// § Sending and receiving data.
#[test]
fn events() {
    let args = [json("1"), json("\"2\""), json("{\"3\":[true]}")];
    assert_eq!(written("/", &event("foo", Arguments::Json(&[]))), [text("2[\"foo\"]")]);
    assert_eq!(written("/admin", &event("bar", Arguments::Json(&[]))), [text("2/admin,[\"bar\"]")]);
    assert_eq!(
        written("/", &event("a\"b", Arguments::Json(&args))),
        [text("2[\"a\\\"b\",1,\"2\",{\"3\":[true]}]")]
    );
    let args = Arguments::Json(&args[..1]);
    let offset = Outgoing::Event { name: "foo", id: AckId::new(12), args, offset: Some("z1") };
    assert_eq!(written("/", &offset), [text("212[\"foo\",1,\"z1\"]")]);
}

#[test]
fn binary_events() {
    let bytes = Bytes::from_static(&[1, 2, 3, 4]);
    assert_eq!(
        written("/", &event("baz", Arguments::Binary(&bytes))),
        [text("51-[\"baz\",{\"_placeholder\":true,\"num\":0}]"), binary(&bytes)]
    );
    let args = Arguments::Binary(&bytes);
    let offset = Outgoing::Event { name: "baz", id: AckId::new(3), args, offset: Some("o") };
    assert_eq!(
        written("/admin", &offset),
        [text("51-/admin,3[\"baz\",{\"_placeholder\":true,\"num\":0},\"o\"]"), binary(&bytes)]
    );
}

/// § Acknowledgement.
#[test]
fn acknowledgements() {
    let id = AckId::new(13).unwrap();
    let bar = json("\"bar\"");
    let args = Arguments::Json(std::slice::from_ref(&bar));
    assert_eq!(written("/admin", &Outgoing::Ack { id, args }), [text("3/admin,13[\"bar\"]")]);
    assert_eq!(written("/", &Outgoing::Ack { id, args: Arguments::Json(&[]) }), [text("313[]")]);
    let bytes = Bytes::from_static(&[1, 2]);
    assert_eq!(
        written("/", &Outgoing::Ack { id, args: Arguments::Binary(&bytes) }),
        [text("61-13[{\"_placeholder\":true,\"num\":0}]"), binary(&bytes)]
    );
}

/// As the official suites ask for it.
#[test]
fn what_came_is_echoed_unchanged() {
    let header = "52-[\"message\",{\"_placeholder\":true,\"num\":0},[1e400,{\"_placeholder\":true,\"num\":1}]]";
    let received = [text(header), binary(&[1, 2]), binary(&[3])];
    let (.., args) = super::event(&received);
    assert_eq!(written("/", &event("message", Arguments::Same(&args))), received);
    let ack = Outgoing::Ack { id: AckId::new(789).unwrap(), args: Arguments::Same(&args) };
    let expected =
        "62-789[{\"_placeholder\":true,\"num\":0},[1e400,{\"_placeholder\":true,\"num\":1}]]";
    assert_eq!(written("/", &ack), [text(expected), binary(&[1, 2]), binary(&[3])]);

    let none = Args::default();
    assert_eq!(written("/", &event("a", Arguments::Same(&none))), [text("2[\"a\"]")]);
}

#[test]
fn long_packets_are_whole_frames() {
    for length in [10, 126, 70_000] {
        let value = json(&format!("\"{}\"", "x".repeat(length)));
        let args = Arguments::Json(std::slice::from_ref(&value));
        for parser in [Parser::Json, Parser::MsgPack] {
            let messages = encoded(parser, "/", &event("a", args));
            let (.., read) = super::event(&messages);
            assert_eq!(read.iter().collect::<Vec<_>>(), [Arg::Json(value.clone())]);
        }
    }
}

use super::*;

const CENTRIFUGO: &str = r#"
name = "centrifugo"
url = "ws://127.0.0.1:{port}/connection/websocket"
subprotocols = ["a", "b"]
headers = { "X-User" = "{user}" }
connect = ['{"connect":{"token":"{token}"},"id":{n}}']
connected = '"client":'
subscribe = '{"subscribe":{"channel":"{channel}"},"id":{n}}'
subscribed = '"subscribe":{'
publish = '{"publish":{"channel":"{channel}","data":"{payload}","len":{len}},"id":{n}}'
error = '"error":'

[[reply]]
exact = "{}"
send = "{}"
"#;

fn client() -> Client {
    Client {
        user: "u1".to_owned(),
        token: Some("jwt".to_owned()),
        channel: Some(Channel { number: 0, name: "venue:1".to_owned() }),
        ..Client::default()
    }
}

fn text(payload: Option<Payload>) -> String {
    String::from_utf8(payload.unwrap()).unwrap()
}

#[test]
fn variables_are_filled_in_and_other_braces_stay() {
    let (template, mut number) = (Template::parse(CENTRIFUGO).unwrap(), 0);
    let greeting = template.greeting(&client(), &mut number);
    assert_eq!(greeting, [br#"{"connect":{"token":"jwt"},"id":1}"#]);
    let subscription = text(template.subscription(&client(), &mut number));
    assert_eq!(subscription, r#"{"subscribe":{"channel":"venue:1"},"id":2}"#);
    let (mut frame, channel) = (Vec::new(), Channel { number: 1, name: "venue:2".to_owned() });
    let client = client();
    let publication =
        Publication { client: &client, channel: &channel, number: 3, message: b"@LT" };
    template.publish(&mut frame, &publication);
    assert_eq!(
        text(Some(frame)),
        r#"{"publish":{"channel":"venue:2","data":"@LT","len":3},"id":3}"#
    );
    assert_eq!(template.headers(&client), "Sec-WebSocket-Protocol: a, b\r\nX-User: u1\r\n");
}

#[test]
fn who_only_publishes_does_not_subscribe() {
    let template = Template::parse(CENTRIFUGO).unwrap();
    assert_eq!(template.subscription(&Client::default(), &mut 0), None);
}

#[test]
fn frames_are_told_apart_by_what_they_hold() {
    let template = Template::parse(CENTRIFUGO).unwrap();
    let read = |frame: &str, awaited| template.read(frame.as_bytes(), &client(), awaited);
    let connected = r#"{"id":1,"connect":{"client":"x"}}"#;
    assert_eq!(read(connected, Awaited::Connected), Meaning::Connected);
    assert_eq!(read(connected, Awaited::Subscribed), Meaning::Other);
    assert_eq!(read(r#"{"id":2,"subscribe":{}}"#, Awaited::Subscribed), Meaning::Subscribed);
    assert_eq!(read(r#"{"id":3,"publish":{}}"#, Awaited::Nothing), Meaning::Other);
    let refused = r#"{"id":3,"error":{"code":103}}"#;
    assert_eq!(read(refused, Awaited::Connected), Meaning::Refused(refused.to_owned()));
}

#[test]
fn an_exact_reply_is_to_a_whole_line() {
    let template = Template::parse(CENTRIFUGO).unwrap();
    let answered = |frame: &[u8]| template.answer(frame, &client()).is_some();
    for frame in [&b"{}"[..], b"{}\n{\"push\":1}", b"{\"push\":1}\n{}", b"a\n{}\nb", b"x{}\n{}"] {
        assert!(answered(frame), "{}", String::from_utf8_lossy(frame));
    }
    for frame in [&b""[..], b"{\"a\":{}}", b"{}}", b"{{}\n{\"push\":{}}"] {
        assert!(!answered(frame), "{}", String::from_utf8_lossy(frame));
    }
}

#[test]
fn the_templates_that_come_with_it_are_well_formed() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/targets");
    let files: Vec<_> = std::fs::read_dir(directory).unwrap().flatten().collect();
    assert!(!files.is_empty());
    for file in files {
        let template = Template::parse(&std::fs::read_to_string(file.path()).unwrap());
        assert!(template.is_ok(), "{}: {template:?}", file.path().display());
    }
}

#[test]
fn mistakes_in_a_template_are_refused() {
    for wrong in [
        "name = 'x'",
        "publish = 'x'",
        "name = 'x'\npublish = 'x'\ntypo = 1",
        "name = 'x'\npublish = 'x'\n[[reply]]\nsend = 'x'",
        "name = 'x'\npublish = 'x'\n[[reply]]\nmatch = 'a'\nexact = 'b'\nsend = 'x'",
    ] {
        assert!(Template::parse(wrong).is_err(), "{wrong}");
    }
}

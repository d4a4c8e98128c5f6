//! Fanfare's Socket.IO as its own client speaks it: Engine.IO 4 over WebSocket, with connection state recovery.

use serde_json::{Value, json};

use super::{Channel, Client, Meaning, Payload};

/// Of the only event that waits for an answer.
const ACKNOWLEDGEMENT: &[u8] = b"430";

pub(super) fn subscription(client: &Client) -> Option<Payload> {
    let channel = client.channel.as_ref()?;
    Some(format!("420{}", json!(["subscribe", channel.name])).into_bytes())
}

pub(super) fn publish(out: &mut Payload, channel: &Channel, message: &[u8]) {
    let text = String::from_utf8_lossy(message);
    let event = json!(["publish", { "channel": channel.name, "data": text }]);
    out.extend_from_slice(format!("42{event}").as_bytes());
}

pub(super) fn read(frame: &[u8], client: &Client) -> Meaning {
    match frame {
        b"2" => Meaning::Answer(b"3".to_vec()),
        [b'0', ..] => Meaning::Answer(connect(client)),
        [b'4', b'0', rest @ ..] => connected(rest, client),
        [b'4', b'1', ..] => Meaning::Refused("the server ended the namespace".to_owned()),
        [b'4', b'4', ..] => refused(frame),
        _ if frame.starts_with(ACKNOWLEDGEMENT) => {
            let answer: Option<Value> =
                serde_json::from_slice(&frame[ACKNOWLEDGEMENT.len()..]).ok();
            let is_ok = answer.is_some_and(|answer| answer[0]["ok"] == true);
            if is_ok { Meaning::Subscribed } else { refused(frame) }
        }
        [b'4', b'2', rest @ ..] => event(rest),
        _ => Meaning::Other,
    }
}

fn connect(client: &Client) -> Payload {
    let mut auth = json!({});
    if let Some(token) = &client.token {
        auth["token"] = json!(token);
    }
    if let Some(session) = &client.session {
        auth["pid"] = json!(session);
        if let Some(offset) = &client.place {
            auth["offset"] = json!(offset);
        }
    }
    format!("40{auth}").into_bytes()
}

/// A client is recovered when it gets the same session again.
fn connected(answer: &[u8], client: &Client) -> Meaning {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    match answer["pid"].as_str() {
        Some(session) => {
            let recovered = client.session.as_ref().map(|it| it == session);
            Meaning::ConnectedAs(session.to_owned(), recovered)
        }
        None => Meaning::Connected,
    }
}

fn event(arguments: &[u8]) -> Meaning {
    let arguments: Value = serde_json::from_slice(arguments).unwrap_or_default();
    match arguments[0].as_str() {
        Some(
            name @ ("fanfare:gap" | "fanfare:unkept" | "fanfare:unsubscribed" | "fanfare:error"),
        ) => Meaning::Refused(format!("{name} {}", arguments[1])),
        _ => Meaning::Other,
    }
}

fn refused(frame: &[u8]) -> Meaning {
    Meaning::Refused(String::from_utf8_lossy(frame).into_owned())
}

/// The text that ends an event of a channel with history.
pub(super) fn place(frame: &[u8]) -> Option<&str> {
    let rest = frame.strip_suffix(b"\"]")?;
    str::from_utf8(&rest[memchr::memrchr(b'"', rest)? + 1..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        let channel = Some(Channel { number: 0, name: "room:1".to_owned() });
        Client { token: Some("t".to_owned()), channel, ..Client::default() }
    }

    fn answer(frame: &str, client: &Client) -> String {
        match read(frame.as_bytes(), client) {
            Meaning::Answer(answer) => String::from_utf8(answer).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_connects_and_subscribes_as_the_javascript_client_does() {
        assert_eq!(answer(r#"0{"sid":"s","pingInterval":25000}"#, &client()), r#"40{"token":"t"}"#);
        assert_eq!(answer("2", &client()), "3");
        assert_eq!(subscription(&client()).unwrap(), br#"420["subscribe","room:1"]"#);
        assert_eq!(read(br#"430[{"ok":true}]"#, &client()), Meaning::Subscribed);
        let mut out = Vec::new();
        publish(&mut out, &client().channel.unwrap(), b"@LT");
        assert_eq!(out, br#"42["publish",{"channel":"room:1","data":"@LT"}]"#);
    }

    #[test]
    fn it_comes_back_with_what_it_was_told() {
        let place = place(br#"42["message","@LT00","o.2"]"#).unwrap();
        let (session, place) = (Some("p".to_owned()), Some(place.to_owned()));
        let back = Client { session, place, ..client() };
        assert_eq!(answer("0{}", &back), r#"40{"offset":"o.2","pid":"p","token":"t"}"#);
        for (pid, recovered) in [("p", true), ("q", false)] {
            let answer = format!(r#"40{{"sid":"s","pid":"{pid}"}}"#);
            let meaning = Meaning::ConnectedAs(pid.to_owned(), Some(recovered));
            assert_eq!(read(answer.as_bytes(), &back), meaning);
        }
    }

    #[test]
    fn refusals_are_understood() {
        for frame in [
            r#"44{"message":"no"}"#,
            r#"430[{"error":"no","code":"forbidden"}]"#,
            "41",
            r#"42["fanfare:gap",{"reason":"bus_overrun"}]"#,
        ] {
            assert!(matches!(read(frame.as_bytes(), &client()), Meaning::Refused(_)), "{frame}");
        }
        assert_eq!(read(br#"42["greeting",1]"#, &client()), Meaning::Other);
    }
}

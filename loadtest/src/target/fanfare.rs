//! The native dialect, `docs/protocol.md`.

use std::time::Duration;

use broker_core::{
    ChannelName, Data, Interest,
    history::Start,
    message::JsonText,
    session::{Acks, Command, Publish, Request, Resumption, Since, Token},
};
use broker_protocol::native::client::{self, ServerFrame};
use bytes::Bytes;

use super::{Channel, Client, Meaning, Payload};
use crate::failure::Failure;

/// Header lines of the handshake.
pub(super) const HEADERS: &str = "Sec-WebSocket-Protocol: fanfare.v1\r\n";

/// Who comes back has heard of the server this long ago, or later.
const LONGEST_ABSENCE: Duration = Duration::from_secs(60);

/// Stands for the message while a channel's publish command is prepared.
const PLACE: &str = "\u{1a}";

/// The publish commands of all channels, but for the message.
#[derive(Debug)]
pub(crate) struct Fanfare {
    commands: Vec<Parts>,
}

/// What is before and after the message.
#[derive(Debug)]
struct Parts(Vec<u8>, Vec<u8>);

impl Fanfare {
    pub(crate) fn new(channels: &[Channel]) -> Result<Self, Failure> {
        let commands = channels.iter().map(parts).collect::<Result<_, _>>()?;
        Ok(Self { commands })
    }

    pub(super) fn publish(&self, out: &mut Payload, channel: &Channel, message: &[u8]) {
        let Parts(before, after) = &self.commands[channel.number as usize];
        out.extend_from_slice(before);
        out.extend_from_slice(message);
        out.extend_from_slice(after);
    }
}

fn parts(channel: &Channel) -> Result<Parts, Failure> {
    let publish = Publish {
        channel: name(channel)?,
        event: None,
        data: Data::Json(JsonText::from_checked(Bytes::from(format!("\"{PLACE}\"")))),
        id: None,
        echo: true,
        trace: None,
    };
    let (_, frame) =
        client::encode_request(&Request { id: None, command: Command::Publish(publish) });
    let place = memchr::memmem::find(&frame, PLACE.as_bytes())
        .ok_or_else(|| Failure::Usage("a publish command without its data".to_owned()))?;
    Ok(Parts(frame[..place].to_vec(), frame[place + PLACE.len()..].to_vec()))
}

fn name(channel: &Channel) -> Result<ChannelName, Failure> {
    channel
        .name
        .parse()
        .map_err(|error| Failure::Usage(format!("`{}` is no channel: {error}", channel.name)))
}

/// `connect`, and `subscribe` with it: a client need not wait for the answer in between.
pub(super) fn greeting(client: &Client) -> Vec<Payload> {
    let token = client.token.clone().map(Token::new);
    let age = Some(LONGEST_ABSENCE);
    let place = client.place.as_ref().and_then(|place| place.parse().ok());
    let since = place.map(|it| Since { position: Some(it), age, ..Since::default() });
    let subscribe = client.channel.as_ref().and_then(|channel| name(channel).ok()).map(|channel| {
        Command::Subscribe { interest: Interest::Channel(channel), since: since.map(Box::new) }
    });
    let commands: Vec<_> = [
        Some(Command::Connect { token, acks: Acks::default(), session: Resumption::Never }),
        subscribe,
    ]
    .into_iter()
    .flatten()
    .map(|command| client::encode_request(&Request { id: None, command }).1)
    .collect();
    match &commands[..] {
        [connect] => vec![connect.to_vec()],
        several => vec![[&b"["[..], &several.join(&b","[..]), b"]"].concat()],
    }
}

pub(super) fn read(frame: &[u8]) -> Meaning {
    let Ok(text) = str::from_utf8(frame) else { return Meaning::Other };
    match client::parse_text(text) {
        Ok(ServerFrame::Connected { .. }) => Meaning::Connected,
        Ok(ServerFrame::Subscribed {
            start: Some(Start { position: Some(position), recovered, .. }),
            ..
        }) => Meaning::SubscribedAt(position.to_string(), recovered),
        Ok(ServerFrame::Subscribed { .. }) => Meaning::Subscribed,
        Ok(ServerFrame::Error(error)) => {
            Meaning::Refused(format!("{}: {}", error.code, error.text))
        }
        Ok(ServerFrame::Gap { reason, .. }) => Meaning::Refused(format!("gap: {reason}")),
        Ok(ServerFrame::Unsubscribed { .. }) => {
            Meaning::Refused("the server ended the subscription".to_owned())
        }
        Ok(ServerFrame::Reconnect { after }) => Meaning::ComeBack(after.as_millis() as u64),
        Ok(_) => Meaning::Other,
        Err(error) => Meaning::Refused(format!("not fanfare.v1: {error}")),
    }
}

/// The position of a message. It comes before the data.
pub(super) fn place(frame: &[u8]) -> Option<&str> {
    const NAME: &[u8] = b"\"position\":\"";
    let rest = &frame[memchr::memmem::find(frame, NAME)? + NAME.len()..];
    str::from_utf8(&rest[..memchr::memchr(b'"', rest)?]).ok()
}

#[cfg(test)]
mod tests {
    use broker_protocol::native::decode_text;

    use super::*;

    fn channel() -> Channel {
        Channel { number: 0, name: "venue:42".to_owned() }
    }

    #[test]
    fn a_publish_is_what_the_server_reads() {
        let fanfare = Fanfare::new(&[channel()]).unwrap();
        let mut frame = Vec::new();
        fanfare.publish(&mut frame, &channel(), b"@LT00");
        let text = String::from_utf8(frame).unwrap();
        let mut commands = Vec::new();
        decode_text(&text, |command| commands.push(command));
        let [Ok(Request { command: Command::Publish(publish), .. })] = &commands[..] else {
            panic!("{commands:?}")
        };
        assert_eq!(publish.channel.as_str(), "venue:42");
        assert_eq!(publish.data, Data::Json(JsonText::from_checked(Bytes::from("\"@LT00\""))));
    }

    #[test]
    fn it_connects_and_subscribes_in_one_frame() {
        let mut client = Client { token: Some("t".to_owned()), ..Client::default() };
        let connect = r#"{"type":"connect","token":"t"}"#;
        assert_eq!(greeting(&client), [connect.as_bytes()]);
        client.channel = Some(channel());
        let both = format!(r#"[{connect},{{"type":"subscribe","channel":"venue:42"}}]"#);
        assert_eq!(greeting(&client), [both.as_bytes()]);
    }

    #[test]
    fn answers_are_understood() {
        let error = br#"{"type":"error","code":"forbidden","text":"no","retry":"no"}"#;
        assert_eq!(read(error), Meaning::Refused("forbidden: no".to_owned()));
        assert_eq!(read(br#"{"type":"subscribed","channel":"venue:42"}"#), Meaning::Subscribed);
        assert_eq!(read(br#"{"type":"published","message":"m"}"#), Meaning::Other);
        assert!(matches!(read(br#"{"type":"gap","reason":"bus_overrun"}"#), Meaning::Refused(_)));
    }
}

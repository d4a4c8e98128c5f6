//! Against a server that says what a test wants.

use broker_core::{
    CloseCode, ConnectionId, Epoch, ErrorCode, MessageId, Offset, Position, Timestamp,
    history::Start,
    message::Stored,
    ports::Accepted,
    session::{Connected, Failure, Outgoing, Reply, Request, Rewind},
};
use broker_protocol::native;
use bytes::BytesMut;
use futures_util::StreamExt;
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_tungstenite::tungstenite::{
    handshake::server::{ErrorResponse, Request as Handshake, Response},
    http::header::SEC_WEBSOCKET_PROTOCOL,
    protocol::{CloseFrame, Message as Frame},
};

use super::*;

/// What the server does when it gets a command.
enum Say {
    Answer(Outgoing),
    Message(&'static str),
    Close(CloseCode),
}

/// A server for one connection.
async fn serve(says: impl Fn(&Command) -> Vec<Say> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_hdr_async(stream, select).await.unwrap();
        while let Some(Ok(frame)) = socket.next().await {
            let Frame::Text(text) = frame else { continue };
            for request in requests(&text) {
                for say in says(&request.command) {
                    match encode(request.id, say) {
                        Ok(bytes) => socket.get_mut().write_all(&bytes).await.unwrap(),
                        Err(close) => socket.close(Some(close)).await.unwrap(),
                    }
                }
            }
        }
    });
    url
}

#[expect(clippy::result_large_err, reason = "the type is the library's")]
fn select(request: &Handshake, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request.headers().get(SEC_WEBSOCKET_PROTOCOL).cloned();
    assert_eq!(offered.as_ref().unwrap(), native::SUBPROTOCOL);
    response.headers_mut().extend([(SEC_WEBSOCKET_PROTOCOL, offered.unwrap())]);
    Ok(response)
}

fn requests(text: &str) -> Vec<Request> {
    let mut requests = Vec::new();
    native::decode_text(text, |request| requests.push(request.unwrap()));
    requests
}

/// The bytes of what is said; an error is a way to end.
fn encode(id: Option<u64>, say: Say) -> Result<BytesMut, CloseFrame> {
    let mut out = BytesMut::new();
    match say {
        Say::Answer(body) => native::encode_reply(&Reply { id, body }, &mut out),
        Say::Message(text) => native::encode_message(&message(text), &mut out),
        Say::Close(code) => {
            let (code, reason) = (code.number().into(), code.reason().into());
            return Err(CloseFrame { code, reason });
        }
    }
    Ok(out)
}

fn message(text: &str) -> Message {
    Message {
        id: MessageId::random(7),
        channel: "venue:42".parse().unwrap(),
        event: None,
        data: data(text),
        time: Timestamp(1_700_000_000_000),
        stored: None,
        options: None,
    }
}

fn connected() -> Say {
    Say::Answer(Outgoing::Connected(Box::new(Connected {
        connection: ConnectionId(1),
        user: None,
        expires: None,
        channels: Vec::new(),
        ping_interval: std::time::Duration::from_secs(25),
        message_bytes: 65536,
        resumed: false,
        session: None,
    })))
}

fn refused(code: ErrorCode) -> Say {
    Say::Answer(Outgoing::Error(Failure::new(code, "no")))
}

fn server(url: String) -> ServerArguments {
    ServerArguments { server: url, token_file: None }
}

fn sub(url: String, count: u64) -> SubArguments {
    SubArguments {
        channels: vec!["venue:42".to_owned()],
        pattern: false,
        since: None,
        rewind: None,
        snapshot: false,
        count: Some(count),
        server: server(url),
    }
}

fn publication(url: String) -> PubArguments {
    let (channel, data) = ("venue:42".to_owned(), "{\"open\":true}".to_owned());
    PubArguments { channel, data, event: None, server: server(url) }
}

fn no_token() -> Environment {
    Environment::from([])
}

#[tokio::test]
async fn a_publish_sends_the_token_first_and_waits_for_the_acknowledgement() {
    let url = serve(|command| match command {
        Command::Connect { token, .. } => {
            assert_eq!(token.as_ref().unwrap().reveal(), "secret-token");
            vec![connected()]
        }
        Command::Publish(publish) => {
            assert_eq!(publish.data, data("{\"open\":true}"));
            vec![Say::Answer(Outgoing::Published {
                message: MessageId::random(1),
                accepted: Accepted::default(),
            })]
        }
        other => panic!("unexpected {other:?}"),
    });
    let env = Environment::from([("FANFARE_TOKEN", "secret-token\n")]);
    assert_eq!(publish(publication(url.await), &env).await, Exit::Success);
}

#[tokio::test]
async fn a_subscription_ends_after_the_wanted_number_even_where_messages_precede_the_answer() {
    let url = serve(|command| match command {
        Command::Connect { token: None, .. } => vec![connected()],
        Command::Subscribe { interest, .. } => vec![
            Say::Message("1"),
            Say::Answer(Outgoing::Subscribed { interest: interest.clone(), start: None }),
            Say::Message("2"),
            Say::Message("3"),
        ],
        other => panic!("unexpected {other:?}"),
    });
    assert_eq!(subscribe(sub(url.await, 3), &no_token()).await, Exit::Success);
}

#[tokio::test]
async fn a_subscription_may_begin_in_the_past() {
    let position: Position = "18a3f2.4711.9d0c31aa".parse().unwrap();
    let rewind = Some(Rewind::Messages(3));
    let asked = Since { position: Some(position), age: None, rewind };
    let url = serve(move |command| match command {
        Command::Connect { .. } => vec![connected()],
        Command::Subscribe { interest, since } => {
            assert_eq!(since.as_deref(), Some(&asked));
            let start =
                Some(Start { position: Some(position), recovered: Some(false), replayed: 1 });
            vec![
                Say::Answer(Outgoing::Subscribed { interest: interest.clone(), start }),
                Say::Message("1"),
            ]
        }
        other => panic!("unexpected {other:?}"),
    });
    let arguments = SubArguments { since: Some(position), rewind, ..sub(url.await, 1) };
    assert_eq!(subscribe(arguments, &no_token()).await, Exit::Success);
}

#[tokio::test]
async fn refusals_and_absences_have_their_exit_codes() {
    for (code, exit) in [
        (ErrorCode::Unauthorized, Exit::Refused),
        (ErrorCode::TokenExpired, Exit::Refused),
        (ErrorCode::Forbidden, Exit::Refused),
        (ErrorCode::Unavailable, Exit::Unavailable),
        (ErrorCode::BadRequest, Exit::Failure),
    ] {
        let url = serve(move |_| vec![refused(code)]).await;
        assert_eq!(subscribe(sub(url, 1), &no_token()).await, exit, "{code}");
    }
    for (code, exit) in [
        (CloseCode::Unauthorized, Exit::Refused),
        (CloseCode::ServiceRestart, Exit::Unavailable),
        (CloseCode::Internal, Exit::Unavailable),
    ] {
        let url = serve(move |_| vec![connected(), Say::Close(code)]).await;
        assert_eq!(subscribe(sub(url, 1), &no_token()).await, exit, "{code:?}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = publish(publication(format!("ws://{nobody}/")), &no_token()).await;
    assert_eq!(gone, Exit::Unavailable);
    assert_eq!(publish(publication("no url".to_owned()), &no_token()).await, Exit::Usage);
}

#[test]
fn text_that_is_no_json_is_sent_as_a_string() {
    for (text, json) in [
        ("{\"a\": 1}", "{\"a\": 1}"),
        (" 42\n", "42"),
        ("hello", "\"hello\""),
        ("{\"a\"", "\"{\\\"a\\\"\""),
        ("", "\"\""),
    ] {
        assert_eq!(data(text), Data::Json(JsonText::from_checked(json.into())), "{text}");
    }
}

#[test]
fn a_message_is_one_line_of_json() {
    let mut message = message("{\"b\":1,\"a\":2}");
    let expected = "{\"channel\":\"venue:42\",\"data\":{\"b\":1,\"a\":2},\
        \"id\":\"00000000000000000000000000000007\",\"time\":1700000000000}";
    assert_eq!(line(&message), expected);
    message.data = Data::Binary(Bytes::from_static(b"\0\xff"));
    message.event = Some("open".parse().unwrap());
    assert!(line(&message).contains("\"event\":\"open\",\"base64\":\"AP8=\""));
    message.stored = Some(Stored { epoch: Epoch(1), offset: Offset(2), previous: None });
    let position = message.position().unwrap();
    assert!(line(&message).ends_with(&format!("\"position\":\"{position}\"}}")));
}

#[test]
fn a_pattern_is_meant_only_where_it_is_said() {
    assert!(interest("venue:*", false).unwrap_err().contains("--pattern"));
    assert_eq!(interest("venue:*", true).unwrap().to_string(), "venue:*");
    assert!(interest("venue:42", true).is_err());
    assert!(interest("a::b", false).is_err());
}

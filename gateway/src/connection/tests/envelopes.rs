//! Clients that speak in envelopes.

use super::*;
use crate::{
    dialect::{Form, Framing},
    profile::Profile,
};

const PROFILE: &str = r#"
[faces.push]
on_connect = [{ join = "news:all" }, { emit = "hello", data = { id = "{{ connection }}" } }]
verbs.quiet.do = [{ join = "venue:1" }]
verbs.told = { do = [{ join = "venue:2" }], ack = { in = "{{ data.room }}" } }

[faces.closed.auth]
require = ["role:admin"]
failure = { emit = "auth_error", data = { code = "{{ error.code }}" } }
"#;

/// A client at the beginning, where nobody needs to say who he is, or everybody does.
async fn come(anonymous: bool) -> (Arc<Deps>, FakeSocket, JoinHandle<()>) {
    come_to("push", anonymous).await
}

async fn come_to(face: &str, anonymous: bool) -> (Arc<Deps>, FakeSocket, JoinHandle<()>) {
    let deps = deps().await;
    let mut rules = (*deps.rules).clone();
    (rules.anonymous, rules.limits.in_flight) = (anonymous, 10);
    let deps = Arc::new(Deps { rules: Arc::new(rules), ..(*deps).clone() });
    let profile = Profile::parse(PROFILE, "test.toml").unwrap();
    let face = Arc::clone(&profile.faces[face]);
    let framing = Arc::new(Framing { form: Form::Envelope, face: face.into(), echo: false });
    let socket = FakeSocket::wide();
    let mut connection = Connection::with_face(
        Arc::clone(&deps),
        Box::new(socket.clone()),
        Client::default(),
        (framing, None),
    );
    connection.start(None, Bytes::new());
    (deps, socket, tokio::spawn(connection))
}

async fn answers(socket: &FakeSocket, text: &str) -> String {
    socket.feed(&frame(1, text));
    written(socket).await
}

#[tokio::test(start_paused = true)]
async fn who_may_be_nobody_is_let_in_at_once() {
    let (deps, socket, task) = come(true).await;
    let hello = written(&socket).await;
    assert!(hello.contains(r#""type":"hello","payload":{"id":""#), "{hello}");
    assert_eq!(deps.hub.subscriptions().len(), 1, "the server has joined it");
    assert!(answers(&socket, "nonsense").await.contains(r#""code":"bad_request""#));
    socket.feed(&frame(2, "x"));
    assert!(written(&socket).await.contains(r#""code":"bad_request""#), "bytes are no envelope");
    let late = answers(&socket, r#"{"type":"auth","payload":{"token":"x"}}"#).await;
    assert!(late.contains(r#""code":"already_connected""#), "{late}");
    assert!(!task.is_finished());
    socket.leave();
    task.await.unwrap();
    assert_eq!(deps.hub.connection_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_has_an_acknowledgement_is_acknowledged() {
    let (deps, socket, _task) = come(true).await;
    written(&socket).await;
    assert_eq!(
        answers(&socket, r#"{"id":"q","type":"quiet"}"#).await,
        "",
        "there is nothing to say"
    );
    assert_eq!(deps.hub.subscriptions().len(), 2);
    let told = answers(&socket, r#"{"id":"t","type":"told","payload":{"room":7}}"#).await;
    assert!(told.contains(r#""type":"ack","payload":{"in":7,"inReplyTo":"t"}"#), "{told}");
    assert_eq!(
        answers(&socket, r#"{"type":"told","payload":{"room":7}}"#).await.matches("ack").count(),
        0
    );
    let refused = answers(&socket, r#"{"id":"u","type":"other"}"#).await;
    assert!(
        refused.contains(r#""type":"error""#) && refused.contains(r#""inReplyTo":"u""#),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_envelope_says_who_it_is() {
    let (deps, socket, task) = come(false).await;
    assert_eq!(written(&socket).await, "");
    let early = answers(&socket, r#"{"id":"1","type":"quiet"}"#).await;
    assert!(early.contains(r#""code":"not_connected""#), "{early}");
    let refused =
        answers(&socket, r#"{"id":"2","type":"auth","payload":{"token":"forged"}}"#).await;
    assert!(refused.contains(r#""code":"unauthorized""#), "{refused}");
    assert!(refused.contains(r#""inReplyTo":"2""#), "{refused}");
    assert!(refused.ends_with("unauthorized"), "and then it is closed: {refused}");
    socket.leave();
    task.await.unwrap();
    assert_eq!(deps.metrics.connections.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_let_in_is_told_so_in_the_words_of_the_face() {
    let (deps, socket, _task) = come_to("closed", true).await;
    let told = written(&socket).await;
    assert!(told.contains(r#""type":"auth_error","payload":{"code":"forbidden"}"#), "{told}");
    assert!(told.ends_with("unauthorized"), "and then it is closed: {told}");
    assert_eq!(deps.hub.subscriptions().len(), 0);
    let (_, socket, _task) = come_to("closed", false).await;
    let told = answers(&socket, r#"{"type":"auth","payload":{"token":"forged"}}"#).await;
    assert!(told.contains(r#""payload":{"code":"unauthorized"}"#), "{told}");
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_not_waited_for() {
    let (deps, socket, _task) = come(false).await;
    let wheel = Arc::clone(&deps.wheel);
    tokio::spawn(async move { wheel.turn().await });
    time::sleep(Duration::from_secs(9)).await;
    assert_eq!(written(&socket).await, "");
    time::sleep(Duration::from_secs(2)).await;
    assert!(written(&socket).await.contains("no connect in time"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_asked_for_a_sign_of_life() {
    let (deps, socket, _task) = come(true).await;
    let wheel = Arc::clone(&deps.wheel);
    tokio::spawn(async move { wheel.turn().await });
    written(&socket).await;
    time::sleep(PING + Duration::from_secs(1)).await;
    assert_eq!(socket.taken(), ws::frame::ping_frame(b""));
    time::sleep(PONG + Duration::from_secs(1)).await;
    assert!(written(&socket).await.contains("no answer to ping"));
}

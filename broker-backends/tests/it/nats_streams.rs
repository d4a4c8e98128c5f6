//! The streams are made as configured.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use broker_backends::{ConnectError, Histories, NatsOptions, Storage};
use broker_core::{History, ports::PublishError};
use broker_testkit::{
    NatsServer,
    contract::{
        PATIENCE,
        bus::{interest, message, service},
    },
    eventually,
};
use serde_json::{Value, json};

use crate::{
    nats::{RECONNECT, connect_with, options},
    nats_history::{jetstream, with_history},
    support::gateway,
};

async fn api(server: &NatsServer, what: &str, body: Value) -> Value {
    let client = async_nats::connect(server.url()).await.unwrap();
    let answer = client.request(format!("$JS.API.STREAM.{what}"), body.to_string().into()).await;
    serde_json::from_slice(&answer.unwrap().payload).unwrap()
}

async fn config(server: &NatsServer) -> Value {
    api(server, "INFO.fanfare=room", json!({})).await["config"].take()
}

fn room(size: usize, seconds: u64) -> Histories {
    let ttl = Duration::from_secs(seconds);
    [("room".parse().unwrap(), History { size, ttl })].into()
}

fn refused(outcome: Result<broker_backends::Backends, ConnectError>) -> (String, String, String) {
    match outcome {
        Err(ConnectError::Stream { stream, differences, reason }) => (stream, differences, reason),
        other => panic!("no refusal: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_follows_the_configuration() {
    let server = jetstream().await;
    let start = async |size, seconds, change: fn(&mut NatsOptions)| {
        let mut options = options(&server, "gateway-0");
        change(&mut options);
        connect_with(options, room(size, seconds)).await.map(drop)
    };
    start(10, 60, |_| ()).await.unwrap();
    let mut first = config(&server).await;
    let wanted = json!({
        "subjects": ["fanfare.ch.room", "fanfare.ch.room.>"],
        "max_msgs_per_subject": 11,
        "max_age": 60_000_000_000_u64,
        "duplicate_window": 60_000_000_000_u64,
        "max_bytes": -1,
        "discard": "old",
        "storage": "file",
        "num_replicas": 1,
        "allow_direct": true,
        "republish": { "src": "fanfare.ch.>", "dest": "fanfare.live.>" },
    });
    for (field, wanted) in wanted.as_object().unwrap() {
        assert_eq!(&first[field], wanted, "{field}");
    }
    first["description"] = "of the operators".into();
    api(&server, "UPDATE.fanfare=room", first).await;
    start(20, 3600, |options| options.streams.max_bytes = Some(1 << 20)).await.unwrap();
    let second = config(&server).await;
    assert_eq!(second["max_msgs_per_subject"], 21);
    assert_eq!(second["max_age"], 3_600_000_000_000_u64);
    assert_eq!(second["duplicate_window"], 120_000_000_000_u64);
    assert_eq!((&second["max_bytes"], &second["discard"]), (&json!(1 << 20), &json!("new")));
    assert_eq!(second["description"], "of the operators");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_changed_is_named() {
    let server = jetstream().await;
    connect_with(options(&server, "gateway-0"), room(10, 60)).await.unwrap();
    let mut elsewhere = options(&server, "gateway-0");
    elsewhere.streams.storage = Storage::Memory;
    let (stream, differences, reason) =
        refused(connect_with(elsewhere.clone(), room(20, 60)).await);
    assert_eq!(stream, "fanfare=room");
    assert!(differences.contains(r#"storage: wanted "memory", found "file""#), "{differences}");
    assert!(differences.contains("max_msgs_per_subject: wanted 21, found 11"), "{differences}");
    assert!(reason.contains("can not change storage type"), "{reason}");
    assert_eq!(config(&server).await["max_msgs_per_subject"], 11, "nothing was changed");

    // Who does not insist takes it as it is.
    elsewhere.wait = true;
    let gateway = gateway(0, connect_with(elsewhere, room(20, 60)).await.unwrap(), ());
    eventually("subscribes", RECONNECT, async || {
        gateway.bus.subscribe(interest("room:1")).await.ok()
    })
    .await;

    let mut many = options(&server, "gateway-0");
    many.streams.replicas = 3;
    many.prefix = "other".into();
    let (stream, differences, reason) = refused(connect_with(many, room(10, 60)).await);
    assert_eq!((stream.as_str(), differences.as_str()), ("other=room", "it is not there"));
    assert!(reason.contains("replicas > 1 not supported"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subjects_of_another_stream_are_not_taken() {
    let server = jetstream().await;
    let theirs = json!({ "name": "theirs", "subjects": ["fanfare.ch.room.1"] });
    api(&server, "CREATE.theirs", theirs).await;
    let outcome = connect_with(options(&server, "gateway-0"), room(10, 60)).await;
    let (stream, _, reason) = refused(outcome);
    assert_eq!(stream, "fanfare=room");
    assert!(reason.contains("overlap"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_jetstream_there_is_no_history() {
    let server = NatsServer::start().await;
    let outcome = connect_with(options(&server, "gateway-0"), room(10, 60)).await;
    assert!(matches!(outcome, Err(ConnectError::NoJetStream(_))), "{outcome:?}");
    assert!(connect_with(options(&server, "gateway-0"), Histories::new()).await.is_ok());
}

/// Else its subscriptions would get copies of the answers to those of the next attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_in_vain_leaves_nothing_behind() {
    let server = NatsServer::start().await;
    let mut twice = options(&server, "gateway-0");
    twice.connect_within = Duration::from_millis(1_500);
    let answers = format!("{}.gateway-0.anything", twice.inbox_prefix);
    let outcome = connect_with(twice, room(10, 60)).await;
    assert!(matches!(outcome, Err(ConnectError::NoJetStream(_))), "{outcome:?}");
    let client = async_nats::connect(server.url()).await.unwrap();
    eventually("nobody is subscribed", PATIENCE, || async {
        let answer = client.request(answers.clone(), "".into()).await;
        answer.err().filter(|error| error.kind() == RequestErrorKind::NoResponders)
    })
    .await;
}

/// A namespace that is not declared any more keeps its messages: it may be declared again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_wants_is_left_alone() {
    let server = jetstream().await;
    connect_with(options(&server, "gateway-0"), room(10, 60)).await.unwrap();
    connect_with(options(&server, "gateway-0"), Histories::new()).await.unwrap();
    assert_eq!(config(&server).await["max_msgs_per_subject"], 11);
}

/// A gateway that started without a server makes the streams when one comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_made_when_the_server_comes() {
    let mut server = NatsServer::start_with(&["-js"]).await;
    server.kill();
    let mut patient = options(&server, "gateway-0");
    patient.wait = true;
    let gateway = gateway(0, with_history(patient).await, ());
    let publish = || gateway.bus.publish(message("room:1", "a", "1"), service());
    assert_eq!(publish().await, Err(PublishError::Unavailable));
    server.restart().await;
    eventually("publishes", RECONNECT, async || publish().await.ok()).await;
    assert_eq!(config(&server).await["max_msgs_per_subject"], 6);
    eventually("subscribes", PATIENCE, async || {
        gateway.bus.subscribe(interest("room:1")).await.ok()
    })
    .await;
}

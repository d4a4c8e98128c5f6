use std::sync::Arc;

use broker_backends::EmbeddedOptions;
use broker_core::{Interest, MessageId, ports::BusEvent};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::support::{Cluster, PUBLISH_KEY, lease, publish_request};
use crate::{
    api::{
        Deps,
        inbox::{Request, respond, serve},
        router,
    },
    hub::Hub,
};

async fn ask(cluster: &Cluster, operation: &str, body: impl ToString) -> Value {
    ask_once(cluster, operation, body, None).await
}

async fn ask_once(
    cluster: &Cluster,
    operation: &str,
    body: impl ToString,
    message_id: Option<&str>,
) -> Value {
    let body = Bytes::from(body.to_string());
    let message_id = message_id.map(|id| id.parse::<MessageId>().unwrap());
    let request = Request { operation, body: &body, trace: None, message_id: message_id.as_ref() };
    serde_json::from_slice(&respond(&cluster.deps, request).await).unwrap()
}

#[tokio::test]
async fn operations_answer_as_over_http() {
    let cluster = Cluster::new().await;
    let id = format!("{:032x}", 1);
    cluster.connect(&cluster.deps.hub, "a", 1, "kim").await;
    for (operation, body, path) in [
        (
            "channels",
            json!({"prefix": "user:", "limit": 5}).to_string(),
            "/v1/channels?prefix=user:&limit=5",
        ),
        ("channels", String::new(), "/v1/channels"),
        ("connections", json!({"user": "kim"}).to_string(), "/v1/connections?user=kim"),
        ("connection", json!({"id": id}).to_string(), &format!("/v1/connections/{id}")),
        (
            "messages",
            json!({"channel": "room:1", "since": 1000, "order": "desc"}).to_string(),
            "/v1/channels/room:1/messages?since=1970-01-01T00:00:01Z&order=desc",
        ),
        ("messages", json!({"channel": "room:1"}).to_string(), "/v1/channels/room:1/messages"),
        ("stats", "{}".to_owned(), "/v1/stats"),
    ] {
        let over_http = cluster.get(path).await.ok();
        assert_eq!(ask(&cluster, operation, body).await, over_http, "{operation}");
    }
    let closed = ask(&cluster, "disconnect", json!({"user": "kim", "reconnect": true})).await;
    assert_eq!(closed, json!({"closed": 1, "partial": false}));
    let closed = ask(&cluster, "disconnect", json!({"connection": id})).await;
    assert_eq!(closed["closed"], 1);
}

#[tokio::test]
async fn errors_are_objects() {
    let cluster = Cluster::new().await;
    for (operation, body, code) in [
        ("weather", "", "unknown_command"),
        ("publish", "", "bad_request"),
        ("publish", r#"{"channel":"nowhere:1","data":1}"#, "unknown_namespace"),
        ("channels", r#"{"limit":0}"#, "bad_request"),
        ("disconnect", "{}", "bad_request"),
        ("disconnect", r#"{"connection":"7"}"#, "invalid_name"),
        ("messages", "{}", "bad_request"),
        ("messages", r#"{"channel":"room:1","til":1}"#, "bad_request"),
        ("messages", r#"{"channel":"venue:1"}"#, "no_history"),
        ("stats", r#"{"all":true}"#, "bad_request"),
    ] {
        let answer = ask(&cluster, operation, body).await;
        assert_eq!(answer["error"]["code"], code, "{operation} {body}");
        assert_eq!(answer["error"]["retry"], "no");
        assert!(answer["error"]["text"].is_string());
    }
}

#[tokio::test]
async fn a_message_id_makes_a_publish_repeatable() {
    let cluster = Cluster::new().await;
    let body = r#"{"channel":"venue:1","data":1}"#;
    let first = ask_once(&cluster, "publish", body, Some("m1")).await;
    assert_eq!(first["channels"], json!(["venue:1"]));
    assert_eq!(ask_once(&cluster, "publish", body, Some("m1")).await, first);
    assert_eq!(cluster.bus.published.lock().len(), 1);
    // The keys of services that come by HTTP are others.
    cluster.send(publish_request(PUBLISH_KEY, Some("m1"), body)).await.ok();
    assert_eq!(cluster.bus.published.lock().len(), 2);
}

#[tokio::test]
async fn a_message_that_reached_nobody_names_its_id() {
    let cluster = Cluster::new().await;
    let body = json!({"channel": "venue:unknown", "id": "m1", "data": 1});
    let answer = ask(&cluster, "publish", body).await;
    assert_eq!((&answer["id"], &answer["error"]["retry"]), (&json!("m1"), &json!("unknown")));
}

#[tokio::test]
async fn the_embedded_bus_carries_messages_and_questions() {
    let cluster = Cluster::new().await;
    let mut backends = broker_backends::embedded(&EmbeddedOptions::default()).await;
    backends.presence.renew(lease("a")).await.unwrap();
    let linger = std::time::Duration::from_secs(10);
    let deps = Arc::new(Deps {
        hub: Arc::new(Hub::new(Arc::clone(&backends.bus), linger)),
        asks: Arc::clone(&cluster.deps.asks),
        bus: backends.bus,
        presence: backends.presence,
        roster: backends.roster,
        sessions: backends.sessions,
        log: backends.log,
        queue: backends.queue,
        turns: Arc::default(),
        rules: Arc::clone(&cluster.deps.rules),
        authenticator: cluster.deps.authenticator.clone(),
        public_url: cluster.deps.public_url.clone(),
        tracing: Arc::clone(&cluster.deps.tracing),
        door: None,
        node: cluster.deps.node.clone(),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(backends.inbox, Arc::new(Arc::clone(&deps).into())));
    let cluster = Cluster { router: router(Arc::clone(&deps)), ..cluster };
    let channels = cluster.get("/v1/channels").await.ok();
    assert_eq!(channels, json!({"channels": [], "partial": false}));

    deps.bus.subscribe(Interest::Channel("venue:1".parse().unwrap())).await.unwrap();
    let mut events = backends.events.remove(0);
    tasks.spawn(async move {
        let mut batch = Vec::new();
        while events.next_batch(&mut batch, 10).await {
            for inbound in batch.drain(..) {
                let BusEvent::Message { message, .. } = inbound.event else { panic!() };
                assert_eq!(message.channel.as_str(), "venue:1");
            }
        }
    });
    let answer = cluster.publish(r#"{"channel":"venue:1","data":1}"#).await.ok();
    assert_eq!(answer["channels"], json!(["venue:1"]));
}

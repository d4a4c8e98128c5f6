use std::sync::Arc;

use axum::{body::Body, http::StatusCode};
use broker_core::{ConnectionId, NodeId};

use super::support::{Answer, Cluster, ask, request};
use crate::{
    api::{self, Pass},
    hub::Hub,
    outbox::Outbox,
    socket::{CommandKey, PipeEnd, pipe},
};

const BODY_BYTES: usize = 1024;
const ID: ConnectionId = ConnectionId(7);

/// A connection of the gateway, which reads nothing.
fn connect(hub: &Hub, key: CommandKey) -> (Arc<Outbox>, PipeEnd) {
    let (socket, end) = pipe(key, 20);
    let outbox = Arc::new(Outbox::new(ID, Box::new(socket), 1_000));
    hub.add(&outbox);
    (outbox, end)
}

async fn post(cluster: &Cluster, node: &str, key: CommandKey, body: &str) -> Answer {
    let router = api::commands_router(Arc::clone(&cluster.deps), BODY_BYTES);
    let node: NodeId = node.parse().unwrap();
    let pass = Pass { node: node.mark(), key };
    let path = format!("/v1/connections/{ID}/commands");
    let request = request("POST", &path, &pass.reveal()).header("content-type", "application/json");
    let request = request.body(Body::from(body.to_owned())).unwrap();
    ask(router, request).await
}

#[tokio::test]
async fn commands_reach_the_connection_at_whichever_gateway_until_too_many_wait() {
    let key = CommandKey::random();
    for node in ["a", "b"] {
        let cluster = Cluster::new().await;
        let b = cluster.gateway("b").await;
        let hub = if node == "a" { &cluster.deps.hub } else { &b };
        let (outbox, _end) = connect(hub, key);
        let taken = post(&cluster, node, key, r#"{"type":"ping"}"#).await;
        assert_eq!((taken.status, taken.body.len()), (StatusCode::ACCEPTED, 0));
        let full = post(&cluster, node, key, r#"{"type":"ping"}"#).await;
        full.problem(503, "overloaded");
        let mut buffer = [0; 64];
        let count = outbox.socket().try_read(&mut buffer).unwrap();
        assert!(buffer[..count].ends_with(br#"{"type":"ping"}"#), "one command, unmasked");
        post(&cluster, node, CommandKey::random(), "{}").await.problem(404, "not_found");
        post(&cluster, node, key, &"x".repeat(BODY_BYTES + 1))
            .await
            .problem(413, "message_too_large");
    }
}

#[tokio::test]
async fn what_keeps_commands_from_their_gateway_is_told() {
    let cluster = Cluster::new().await;
    let key = CommandKey::random();
    post(&cluster, "gone", key, "{}").await.problem(404, "not_found");
    let b = cluster.gateway("b").await;
    let (_outbox, _end) = connect(&b, key);
    cluster.bus.set_away(true);
    post(&cluster, "b", key, "{}").await.problem(503, "unavailable");
}

use std::sync::Arc;

use broker_core::{CloseCode, Interest, NodeId};
use serde_json::json;

use super::support::{Cluster, closed_with};
use crate::{api::peers, hub::Hub, outbox::Outbox};

fn subscribe(hub: &Hub, outbox: &Arc<Outbox>, interest: &str) {
    let interest = match interest.parse() {
        Ok(pattern) => Interest::Pattern(pattern),
        Err(_) => Interest::Channel(interest.parse().unwrap()),
    };
    hub.deliver(interest, Arc::clone(outbox));
}

/// Gateways a and b, kim at both (connections 1 and 2), lou at b (connection 3).
async fn two_gateways() -> (Cluster, Arc<Hub>, [Arc<Outbox>; 3]) {
    let cluster = Cluster::new().await;
    let b = cluster.gateway("b").await;
    let outboxes = [
        cluster.connect(&cluster.deps.hub, "a", 1, "kim").await,
        cluster.connect(&b, "b", 2, "kim").await,
        cluster.connect(&b, "b", 3, "lou").await,
    ];
    (cluster, b, outboxes)
}

fn hex(id: u128) -> String {
    format!("{id:032x}")
}

#[tokio::test]
async fn channels_are_counted_over_all_gateways() {
    let (cluster, b, [one, two, three]) = two_gateways().await;
    subscribe(&cluster.deps.hub, &one, "venue:1");
    subscribe(&b, &two, "venue:1");
    subscribe(&b, &three, "venue:*");
    subscribe(&b, &three, "orders:7");
    let all = cluster.get("/v1/channels").await.ok();
    let expected = json!([
        {"name": "orders:7", "pattern": false, "subscribers": 1},
        {"name": "user:kim", "pattern": false, "subscribers": 2},
        {"name": "user:lou", "pattern": false, "subscribers": 1},
        {"name": "venue:*", "pattern": true, "subscribers": 1},
        {"name": "venue:1", "pattern": false, "subscribers": 2},
    ]);
    assert_eq!(all, json!({"channels": expected, "partial": false}));
    let some = cluster.get("/v1/channels?prefix=venue:").await.ok();
    assert_eq!(some["channels"], json!([expected[3], expected[4]]));
}

#[tokio::test]
async fn channels_are_paged_without_loss() {
    let (cluster, b, [one, two, _]) = two_gateways().await;
    for n in 0..10 {
        subscribe(&cluster.deps.hub, &one, &format!("venue:a{n}"));
        subscribe(&b, &two, &format!("venue:{}{n}", if n % 2 == 0 { "a" } else { "b" }));
    }
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/channels?prefix=venue:&limit=4&after={after}");
        let page = cluster.get(&path).await.ok();
        for entry in page["channels"].as_array().unwrap() {
            let name = entry["name"].as_str().unwrap().to_owned();
            found.push((name, entry["subscribers"].as_u64().unwrap()));
        }
        let Some(next) = page["next"].as_str() else { break };
        after = next.to_owned();
    }
    assert!(found.is_sorted());
    assert_eq!(found.len(), 15);
    assert_eq!(found.iter().map(|(_, count)| count).sum::<u64>(), 20);
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_is_named() {
    let (cluster, ..) = two_gateways().await;
    cluster.lease("c").await;
    let channels = cluster.get("/v1/channels").await.ok();
    assert_eq!(channels["partial"], true);
    assert_eq!(channels["missing"], json!(["c"]));
    assert_eq!(channels["reason"], "some gateways did not answer in time");
    assert_eq!(channels["channels"].as_array().unwrap().len(), 2);
    let closed = cluster.delete("/v1/users/kim/connections").await.ok();
    assert_eq!((&closed["closed"], &closed["missing"]), (&json!(2), &json!(["c"])));
    let path = format!("/v1/connections/{}", hex(9));
    let answer = cluster.delete(&path).await;
    assert_eq!(answer.json["retry"], "unknown");
    answer.problem(504, "unknown");
}

#[tokio::test]
async fn without_the_store_all_that_answer_count_but_may_not_be_all() {
    let (cluster, ..) = two_gateways().await;
    cluster.store.set_away();
    let channels = cluster.get("/v1/channels").await.ok();
    assert_eq!(channels["channels"].as_array().unwrap().len(), 2);
    assert_eq!(channels["partial"], true);
    assert!(channels["reason"].as_str().unwrap().starts_with("the store is not in reach"));
}

#[tokio::test]
async fn without_the_bus_this_gateway_alone_answers() {
    let (cluster, _, outboxes) = two_gateways().await;
    cluster.bus.set_away(true);
    let channels = cluster.get("/v1/channels").await.ok();
    assert_eq!(
        channels["channels"],
        json!([{"name": "user:kim", "pattern": false, "subscribers": 1}])
    );
    assert_eq!(channels["missing"], json!(["b"]));
    let closed = cluster.delete("/v1/users/kim/connections").await.ok();
    assert_eq!((&closed["closed"], &closed["partial"]), (&json!(1), &json!(true)));
    assert_eq!(closed_with(&outboxes[1]), None);
}

#[tokio::test]
async fn connections_are_listed() {
    let (cluster, ..) = two_gateways().await;
    let kim = cluster.get("/v1/connections?user=kim").await.ok();
    assert_eq!(
        kim,
        json!({
            "connections": [
                {"id": hex(1), "user": "kim", "node": "a", "transport": "websocket", "connected_at": 1},
                {"id": hex(2), "user": "kim", "node": "b", "transport": "websocket", "connected_at": 2},
            ],
            "partial": false,
        })
    );
    let (mut found, mut path) = (Vec::new(), "/v1/connections?limit=2".to_owned());
    loop {
        let page = cluster.get(&path).await.ok();
        let ids = page["connections"].as_array().unwrap().iter();
        found.extend(ids.map(|connection| connection["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/connections?limit=2&cursor={next}");
    }
    found.sort_unstable();
    assert_eq!(found, [hex(1), hex(2), hex(3)]);
    let nobody = cluster.get("/v1/connections?user=nobody").await.ok();
    assert_eq!(nobody["connections"], json!([]));
}

#[tokio::test]
async fn without_the_store_connections_are_those_of_this_gateway() {
    let (cluster, ..) = two_gateways().await;
    cluster.store.set_away();
    for path in ["/v1/connections", "/v1/connections?user=kim"] {
        let list = cluster.get(path).await.ok();
        assert_eq!(list["connections"].as_array().unwrap().len(), 1, "{path}");
        assert_eq!(list["partial"], true);
        assert!(list["reason"].as_str().unwrap().contains("this gateway only"));
    }
    cluster.get("/v1/connections?cursor=a/1").await.problem(503, "unavailable");
    cluster.get(&format!("/v1/connections/{}", hex(1))).await.ok();
    cluster.get(&format!("/v1/connections/{}", hex(2))).await.problem(503, "unavailable");
}

#[tokio::test]
async fn one_connection_is_found_anywhere() {
    let (cluster, ..) = two_gateways().await;
    for (id, node) in [(1, "a"), (3, "b")] {
        let found = cluster.get(&format!("/v1/connections/{}", hex(id))).await.ok();
        assert_eq!(found["node"], node);
    }
    cluster.get(&format!("/v1/connections/{}", hex(9))).await.problem(404, "not_found");
}

#[tokio::test]
async fn one_connection_is_closed_anywhere() {
    let (cluster, _, [one, two, three]) = two_gateways().await;
    let path = |id, query: &str| format!("/v1/connections/{}{query}", hex(id));
    for id in [1, 3] {
        let answer = cluster.delete(&path(id, "?reconnect=true")).await.ok();
        assert_eq!(answer, json!({"closed": 1, "partial": false}));
    }
    cluster.delete(&path(2, "")).await.ok();
    assert_eq!(closed_with(&one), Some(CloseCode::Reconnect));
    assert_eq!(closed_with(&two), Some(CloseCode::Disconnected));
    assert_eq!(closed_with(&three), Some(CloseCode::Reconnect));
    cluster.delete(&path(9, "")).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_users_connections_are_closed_everywhere() {
    let (cluster, _, [one, two, three]) = two_gateways().await;
    let answer = cluster.delete("/v1/users/kim/connections").await.ok();
    assert_eq!(answer, json!({"closed": 2, "partial": false}));
    assert_eq!(closed_with(&one), Some(CloseCode::Disconnected));
    assert_eq!(closed_with(&two), Some(CloseCode::Disconnected));
    assert_eq!(closed_with(&three), None);
    let answer = cluster.delete("/v1/users/nobody/connections").await.ok();
    assert_eq!(answer["closed"], 0);
}

#[tokio::test]
async fn stats_are_the_sum_of_the_leases() {
    let (cluster, ..) = two_gateways().await;
    let gateway = |node: &str| {
        json!({
            "node": node, "version": "1.2.3", "started": 1000, "bus_ok": true,
            "connections": 10, "users": 6, "channels": 4, "subscriptions": 20,
        })
    };
    let stats = cluster.get("/v1/stats").await.ok();
    assert_eq!(
        stats,
        json!({
            "connections": 20, "users": 12, "channels": 8, "subscriptions": 40,
            "gateways": [gateway("a"), gateway("b")],
            "partial": false,
        })
    );
    cluster.store.set_away();
    let stats = cluster.get("/v1/stats").await.ok();
    assert_eq!((&stats["connections"], &stats["users"]), (&json!(1), &json!(1)));
    assert_eq!(stats["gateways"].as_array().unwrap().len(), 1);
    assert_eq!(stats["partial"], true);
}

#[tokio::test]
async fn a_question_of_another_version_is_not_understood() {
    let hub = Arc::clone(&Cluster::new().await.deps.hub);
    let node: NodeId = "a".parse().unwrap();
    for question in
        [r#"{"v":2,"ask":"channels","limit":1}"#, r#"{"v":1,"ask":"weather"}"#, "nonsense"]
    {
        let answer = peers::answer(question.as_bytes(), &hub, None, &node);
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer, json!({"v": 1, "node": "a", "answer": "not_understood"}), "{question}");
    }
    let newer = r#"{"v":1,"ask":"channels","limit":1,"colour":"red"}"#;
    let answer = peers::answer(newer.as_bytes(), &hub, None, &node);
    assert!(std::str::from_utf8(&answer).unwrap().contains("list"));
}

use axum::{body::Body, http::Request};
use broker_core::{Action, ErrorCode, Identity, Interest, session::Failure, session::Token};
use bytes::Bytes;
use serde_json::{Value, json};

use super::support::{ADMIN_KEY, Cluster, PUBLISH_KEY, TICKETS_KEY, request};
use crate::{api::inbox, clock};

fn ticket_request(key: &str, body: &Value) -> Request<Body> {
    let request = request("POST", "/v1/tickets", key).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

async fn make(cluster: &Cluster, body: &Value) -> Value {
    cluster.send(ticket_request(TICKETS_KEY, body)).await.ok()
}

async fn identify(cluster: &Cluster, ticket: &Value) -> Result<Identity, Failure> {
    let ticket = Token::ticket(ticket["ticket"].as_str().unwrap().to_owned());
    cluster.deps.authenticator.identify(&ticket).await
}

#[tokio::test]
async fn a_ticket_says_what_its_service_said() {
    let cluster = Cluster::new().await;
    let ticket = make(
        &cluster,
        &json!({
            "user": "ann",
            "roles": ["staff", "staff"],
            "claims": {"org": "a", "teams": [1, "b"]},
            "grants": {"subscribe": ["venue:1"], "wildcard": ["orders:*"]},
            "expires_in": 60_000,
        }),
    )
    .await;
    let left = ticket["expires"].as_u64().unwrap() - clock::wall().0;
    assert!((50_000..=60_000).contains(&left));
    let identity = identify(&cluster, &ticket).await.unwrap();
    assert_eq!(identity.user.unwrap().as_str(), "ann");
    assert_eq!(identity.roles, ["staff".parse().unwrap()]);
    assert_eq!(identity.claims["org"], ["a"]);
    assert_eq!(identity.claims["teams"], ["1", "b"]);
    let granted = [
        (Action::Subscribe, Interest::Channel("venue:1".parse().unwrap())),
        (Action::Wildcard, Interest::Pattern("orders:*".parse().unwrap())),
    ];
    assert_eq!(identity.grants, granted);
    assert!(identity.expires.is_some());
    let again = identify(&cluster, &ticket).await;
    assert_eq!(again.unwrap_err().code, ErrorCode::TokenExpired);
}

#[tokio::test]
async fn only_who_may_gets_a_ticket() {
    let cluster = Cluster::new().await;
    let body = json!({"user": "ann"});
    let answer = cluster.send(ticket_request(PUBLISH_KEY, &body)).await;
    assert!(answer.problem(403, "forbidden").contains("lacks the scope `tickets`"));
    let answer = cluster.send(ticket_request(ADMIN_KEY, &body)).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    answer.ok();
}

#[tokio::test]
async fn a_service_on_the_bus_gets_one_too() {
    let cluster = Cluster::new().await;
    let body = Bytes::from_static(br#"{"user":"ann"}"#);
    let request =
        inbox::Request { operation: "ticket", body: &body, trace: None, message_id: None };
    let ticket = serde_json::from_slice(&inbox::respond(&cluster.deps, request).await).unwrap();
    assert!(identify(&cluster, &ticket).await.is_ok());
}

#[tokio::test]
async fn what_is_no_ticket_is_told() {
    let cluster = Cluster::new().await;
    for (body, code, says) in [
        (json!({}), "bad_request", "user"),
        (json!({"user": ""}), "invalid_name", "`user`"),
        (json!({"user": "ann", "roles": ["a b\n"]}), "invalid_name", "`roles`"),
        (json!({"user": "ann", "grants": ["venue:1"]}), "bad_request", "`grants`"),
        (json!({"user": "ann", "grants": {"subscribe": ["a::b"]}}), "bad_request", "`grants`"),
        (json!({"user": "ann", "expires_in": 0}), "bad_request", "between 1 and 300000"),
        (json!({"user": "ann", "expires_in": 300_001}), "bad_request", "between 1 and 300000"),
        (json!({"user": "ann", "claims": {"a": "x".repeat(8192)}}), "bad_request", "at most"),
        (json!({"user": "ann", "exp": 1}), "bad_request", "exp"),
    ] {
        let detail = cluster.send(ticket_request(TICKETS_KEY, &body)).await.problem(400, code);
        assert!(detail.contains(says), "{body}: {detail}");
    }
}

#[tokio::test]
async fn without_the_store_there_are_no_tickets() {
    let cluster = Cluster::new().await;
    let ticket = make(&cluster, &json!({"user": "ann"})).await;
    cluster.store.set_away();
    let answer = cluster.send(ticket_request(TICKETS_KEY, &json!({"user": "ann"}))).await;
    assert_eq!(answer.json["retry"], "later");
    answer.problem(503, "unavailable");
    let refused = identify(&cluster, &ticket).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
}

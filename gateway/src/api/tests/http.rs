use std::{collections::BTreeSet, convert::Infallible};

use axum::{
    body::Body,
    http::{Request, header},
};
use bytes::Bytes;
use serde_json::Value;

use super::support::{ADMIN_KEY, Cluster, PUBLISH_KEY, publish_request, request};

const ADMIN_ROUTES: &[(&str, &str)] = &[
    ("GET", "/v1/channels"),
    ("GET", "/v1/connections"),
    ("GET", "/v1/connections/00000000000000000000000000000001"),
    ("DELETE", "/v1/connections/00000000000000000000000000000001"),
    ("DELETE", "/v1/users/kim/connections"),
    ("GET", "/v1/stats"),
];

#[tokio::test]
async fn every_route_needs_a_key_of_its_scope() {
    let cluster = Cluster::new().await;
    for (method, path) in ADMIN_ROUTES.iter().chain(&[("POST", "/v1/publish")]) {
        let bare = || Request::builder().method(*method).uri(*path);
        let answer = cluster.send(bare().body(Body::empty()).unwrap()).await;
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], r#"Bearer realm="fanfare""#);
        assert!(answer.problem(401, "unauthorized").contains("X-API-Key"));
        let wrong = bare().header("x-api-key", "ffk_wrong").body(Body::empty()).unwrap();
        let answer = cluster.send(wrong).await;
        assert!(
            answer.headers[header::WWW_AUTHENTICATE].to_str().unwrap().contains("invalid_token")
        );
        answer.problem(401, "unauthorized");
    }
    for (method, path) in ADMIN_ROUTES {
        let request = request(method, path, PUBLISH_KEY).body(Body::empty()).unwrap();
        let answer = cluster.send(request).await;
        let challenge = answer.headers[header::WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.contains(r#"error="insufficient_scope", scope="admin""#), "{challenge}");
        assert!(answer.problem(403, "forbidden").contains("`service` lacks the scope `admin`"));
    }
}

#[tokio::test]
async fn an_admin_may_publish_and_a_key_may_come_in_its_own_header() {
    let cluster = Cluster::new().await;
    let body = r#"{"channel":"venue:1","data":1}"#;
    cluster.send(publish_request(ADMIN_KEY, None, body)).await.ok();
    let mut request = publish_request(PUBLISH_KEY, None, body);
    request.headers_mut().remove("authorization");
    request.headers_mut().insert("x-api-key", PUBLISH_KEY.parse().unwrap());
    cluster.send(request).await.ok();
}

#[tokio::test]
async fn what_does_not_exist_is_a_problem_too() {
    let cluster = Cluster::new().await;
    for path in ["/v1/nothing", "/v1/connections/a/b", "/v1/publish/"] {
        assert!(cluster.get(path).await.problem(404, "not_found").contains(path));
    }
    let answer = cluster.delete("/v1/publish").await;
    assert_eq!(answer.headers[header::ALLOW], "POST");
    answer.problem(405, "method_not_allowed");
    let answer = cluster.get("/v1/users/kim/connections").await;
    answer.problem(405, "method_not_allowed");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let cluster = Cluster::new().await;
    let body = Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>());
    let request = request("POST", "/v1/publish", PUBLISH_KEY)
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    let answer = cluster.send(request).await;
    assert_eq!(answer.json["retry"], "later");
    answer.problem(408, "request_timeout");
}

#[tokio::test]
async fn queries_are_checked() {
    let cluster = Cluster::new().await;
    for (path, code, says) in [
        ("/v1/channels?limit=0", "bad_request", "between 1 and 1000"),
        ("/v1/channels?limit=x", "bad_request", "limit"),
        ("/v1/channels?prefx=a", "bad_request", "unknown field `prefx`, expected one of `prefix`"),
        ("/v1/connections?limit=1001", "bad_request", "between 1 and 1000"),
        ("/v1/connections?user=", "invalid_name", "`user`"),
        ("/v1/connections?user=kim&cursor=x", "bad_request", "leave out `cursor`"),
        ("/v1/connections?cursor=x", "bad_request", "`cursor`"),
        ("/v1/connections/7", "invalid_name", "`id`"),
        ("/v1/connections/%ff", "bad_request", "UTF-8"),
    ] {
        let detail = cluster.get(path).await.problem(400, code);
        assert!(detail.contains(says), "{path}: {detail}");
    }
    cluster.delete("/v1/users/kim/connections?reconnect=yes").await.problem(400, "bad_request");
}

/// Follows every reference and every list of required members, and looks at what each operation
/// must have.
fn check(document: &Value, at: &Value) {
    match at {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref") {
                let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
            }
            assert!(!members.contains_key("nullable"), "`nullable` is of OpenAPI 3.0");
            if let (Some(required), Some(properties)) =
                (members.get("required").and_then(Value::as_array), members.get("properties"))
            {
                for name in required {
                    assert!(
                        properties.get(name.as_str().unwrap()).is_some(),
                        "{name} is no member"
                    );
                }
            }
            members.values().for_each(|inner| check(document, inner));
        }
        Value::Array(items) => items.iter().for_each(|inner| check(document, inner)),
        _ => {}
    }
}

#[tokio::test]
async fn the_specification_is_openapi_3_1_and_lists_every_route() {
    let cluster = Cluster::new().await;
    let document = cluster.get("/openapi.json").await.ok();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["info"]["title"], "Fanfare");
    check(&document, &document);
    let mut operations = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(operations.insert(id), "{id} is there twice");
            assert!(operation["summary"].is_string(), "{id}");
            for (status, answer) in operation["responses"].as_object().unwrap() {
                assert!(answer["description"].is_string(), "{id} {status}");
                let problem = &answer["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(
                    status != "200",
                    problem == "#/components/schemas/Problem",
                    "{id} {status}"
                );
            }
            for name in path.split(['{', '}']).skip(1).step_by(2) {
                let parameters = operation["parameters"].as_array().unwrap();
                assert!(
                    parameters
                        .iter()
                        .any(|p| p["name"] == name && p["in"] == "path" && p["required"] == true)
                );
            }
            // What is listed is served.
            let path = path
                .replace("{id}", &"0".repeat(32))
                .replace("{user}", "kim")
                .replace("{channel}", if path.contains("messages") { "room:1" } else { "venue:1" });
            let request =
                request(&method.to_uppercase(), &path, ADMIN_KEY).body(Body::empty()).unwrap();
            let answer = cluster.send(request).await;
            assert!(
                answer.json["code"] != "method_not_allowed" && answer.json["detail"] != "no route",
                "{id}"
            );
        }
    }
    let expected = [
        "askClient",
        "closeConnection",
        "closeUser",
        "countMembers",
        "getConnection",
        "getUser",
        "listChannels",
        "listConnections",
        "listMembers",
        "makeTicket",
        "peekQueue",
        "publish",
        "purgeQueue",
        "readMessages",
        "readQueueStats",
        "readSnapshot",
        "readStats",
    ];
    assert!(operations.into_iter().eq(expected));
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["bearer"]["scheme"], "bearer");
    assert_eq!(schemes["api_key"]["name"], "X-API-Key");
    let message = &document["components"]["schemas"]["Message"];
    assert_eq!(message["additionalProperties"], false);
    assert!(message["properties"]["data"].get("type").is_none(), "data is any JSON");
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let cluster = Cluster::new().await;
    let answer = cluster.get("/docs").await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
    let page = std::str::from_utf8(&answer.body).unwrap();
    assert!(!page.contains("http://") && !page.contains("https://"));
}

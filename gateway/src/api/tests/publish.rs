use axum::{body::Body, http::StatusCode};
use broker_core::{Data, Message};
use serde_json::{Value, json};

use super::support::{Cluster, MESSAGE_BYTES, OTHER_KEY, PUBLISH_KEY, publish_request};

fn text(message: &Message) -> &str {
    match &message.data {
        Data::Json(json) => std::str::from_utf8(json.as_bytes()).unwrap(),
        Data::Binary(_) => panic!("{message:?} is binary"),
    }
}

#[tokio::test]
async fn a_message_is_published_as_it_stands() {
    let cluster = Cluster::new().await;
    let body = r#"{"channel":"venue:42","event":"moved","id":"m1","data":{"n" : 1.50, "n":2}}"#;
    let answer = cluster.publish(body).await.ok();
    assert_eq!(answer, json!({"id": "m1", "channels": ["venue:42"]}));
    let published = cluster.bus.published.lock();
    let [message] = &published[..] else { panic!("{published:?}") };
    assert_eq!(message.id.as_str(), "m1");
    assert_eq!(message.event.as_ref().unwrap().as_str(), "moved");
    assert_eq!(text(message), r#"{"n" : 1.50, "n":2}"#);
    assert!(message.time.0 > 1_700_000_000_000);
    assert_eq!(message.options, None);
}

#[tokio::test]
async fn null_is_data_and_bytes_come_in_base64() {
    let cluster = Cluster::new().await;
    cluster.publish(r#"{"channel":"venue:1","data":null}"#).await.ok();
    cluster.publish(r#"{"channel":"venue:1","data_base64":"AAH/"}"#).await.ok();
    let published = cluster.bus.published.lock();
    assert_eq!(text(&published[0]), "null");
    assert_eq!(published[1].data, Data::Binary(vec![0, 1, 255].into()));
}

#[tokio::test]
async fn targets_are_one_ordered_list_without_repetition() {
    let cluster = Cluster::new().await;
    let body = json!({
        "channel": "venue:1",
        "channels": ["orders:7", "venue:1", "venue:2"],
        "users": ["a:b", "kim"],
        "roles": ["admin"],
        "data": 1,
    });
    let answer = cluster.publish(body).await.ok();
    let expected = ["venue:1", "orders:7", "venue:2", "user:a%3Ab", "user:kim", "role:admin"];
    assert_eq!(answer["channels"], json!(expected));
    assert_eq!(cluster.bus.channels(), expected);
    let published = cluster.bus.published.lock();
    for message in published.iter() {
        let targets = message.options.as_ref().unwrap().targets.as_ref().unwrap();
        assert!(targets.iter().map(AsRef::<str>::as_ref).eq(expected));
        assert_eq!(message.id, published[0].id);
    }
}

#[tokio::test]
async fn expiry_exclusion_and_trace_are_options() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let connection = "0".repeat(31) + "7";
    let cluster = Cluster::new().await;
    let body = json!({
        "channel": "venue:1", "data": 1, "expires_in": 5000,
        "exclude": {"connections": [connection], "users": ["kim"]},
    });
    let mut request = publish_request(PUBLISH_KEY, None, &body);
    request.headers_mut().insert("traceparent", trace.parse().unwrap());
    cluster.send(request).await.ok();
    let published = cluster.bus.published.lock();
    let options = published[0].options.as_ref().unwrap();
    assert_eq!(options.expires.unwrap().0, published[0].time.0 + 5000);
    assert_eq!(options.exclude.connections[0].0, 7);
    assert_eq!(options.exclude.users[0].as_str(), "kim");
    assert_eq!(options.trace.as_deref(), Some(trace));
    assert_eq!(options.targets, None);
}

#[tokio::test]
async fn a_malformed_trace_is_not_passed_on() {
    let cluster = Cluster::new().await;
    let mut request = publish_request(PUBLISH_KEY, None, r#"{"channel":"venue:1","data":1}"#);
    request.headers_mut().insert("traceparent", "00-0-0-01".parse().unwrap());
    cluster.send(request).await.ok();
    assert_eq!(cluster.bus.published.lock()[0].options, None);
}

/// Bodies, the status and code that they are answered with, and a part of the detail.
const WRONG: &[(&str, u16, &str, &str)] = &[
    ("{", 400, "bad_request", "the body is not JSON: EOF"),
    ("", 400, "bad_request", "the body is not JSON: EOF"),
    (r#"{"channel":"venue:1","data":1} x"#, 400, "bad_request", "trailing characters"),
    ("[]", 400, "bad_request", "expected an object"),
    (
        r#"{"chanel":"venue:1","data":1}"#,
        400,
        "bad_request",
        "unknown field `chanel`, expected one of `channel`",
    ),
    (
        r#"{"channel":"venue:1","channel":"venue:2","data":1}"#,
        400,
        "bad_request",
        "duplicate field `channel`",
    ),
    (
        r#"{"channel":7,"data":1}"#,
        400,
        "bad_request",
        "`channel`: invalid type: integer `7`, expected a string",
    ),
    (r#"{"channels":["venue:1",7],"data":1}"#, 400, "bad_request", "`channels[1]`: invalid type"),
    (
        r#"{"exclude":{"user":[]},"channel":"venue:1","data":1}"#,
        400,
        "bad_request",
        "unknown field `user`",
    ),
    (r#"{"data":1}"#, 400, "bad_request", "say where to"),
    (r#"{"channel":"venue:1"}"#, 400, "bad_request", "`data` is missing"),
    (r#"{"channel":"venue:1","data":1,"data_base64":""}"#, 400, "bad_request", "not both"),
    (r#"{"channel":"venue:1","data_base64":"?"}"#, 400, "bad_request", "not base64"),
    (r#"{"channel":"venue:1","data":1,"expires_in":0}"#, 400, "bad_request", "at least 1"),
    (
        r#"{"channel":"venue:1","data":1,"expires_at":1900000000}"#,
        400,
        "bad_request",
        "milliseconds since 1970",
    ),
    (
        r#"{"channel":"venue:1","data":1,"expires_at":1,"expires_in":1}"#,
        400,
        "bad_request",
        "not both",
    ),
    (
        r#"{"channel":"a::b","data":1}"#,
        400,
        "invalid_name",
        "`channel`, `a::b`: the name has an empty segment",
    ),
    (r#"{"users":[""],"data":1}"#, 400, "invalid_name", "`users`"),
    (
        r#"{"channel":"venue:1","id":"a b","data":1}"#,
        400,
        "invalid_name",
        "`id`: it may hold only printable ASCII",
    ),
    (r#"{"channel":"venue:1","event":"","data":1}"#, 400, "invalid_name", "`event`"),
    (
        r#"{"channel":"venue:1","exclude":{"connections":["7"]},"data":1}"#,
        400,
        "invalid_name",
        "`exclude.connections`",
    ),
    (r#"{"channel":"nowhere:1","data":1}"#, 422, "unknown_namespace", "declare it"),
    (
        r#"{"messages":[],"channel":"venue:1"}"#,
        400,
        "bad_request",
        "unknown field `channel`, expected `messages`",
    ),
    (r#"{"messages":7}"#, 400, "bad_request", "`messages`: invalid type"),
];

#[tokio::test]
async fn what_is_wrong_is_said() {
    let cluster = Cluster::new().await;
    for (body, status, code, says) in WRONG {
        let detail = cluster.publish(body).await.problem(*status, code);
        assert!(detail.contains(says), "{body}: {detail}");
    }
    assert!(cluster.bus.published.lock().is_empty());
}

#[tokio::test]
async fn everything_has_a_bound() {
    let long = "x".repeat(MESSAGE_BYTES);
    let deep = format!(r#"{{"channel":"venue:1","data":{}{}}}"#, "[".repeat(101), "]".repeat(101));
    let abyss =
        format!(r#"{{"channel":"venue:1","data":{}{}}}"#, "[".repeat(1 << 20), "]".repeat(1 << 20));
    let many = json!({"channels": vec!["venue:1"; 1001], "data": 1}).to_string();
    let cases: &[(&str, u16, &str, &str)] = &[
        (&deep, 400, "bad_request", "nests deeper than 100"),
        (&abyss, 400, "bad_request", "nests deeper than 100"),
        (&many, 400, "bad_request", "at most 100 targets"),
        (
            &json!({"channel": "venue:1", "data": long}).to_string(),
            413,
            "message_too_large",
            "1026 bytes",
        ),
        (
            &json!({"messages": vec![0; 1001]}).to_string(),
            400,
            "bad_request",
            "at most 1000 messages",
        ),
    ];
    let cluster = Cluster::new().await;
    for (body, status, code, says) in cases {
        let detail = cluster.publish(body).await.problem(*status, code);
        assert!(detail.contains(says), "{body:.80}: {detail}");
    }
    assert!(cluster.bus.published.lock().is_empty());
}

#[tokio::test]
async fn a_body_must_be_declared_as_json_and_of_a_size() {
    let cluster = Cluster::new().await;
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let mut request = publish_request(PUBLISH_KEY, None, "{}");
        request.headers_mut().remove("content-type");
        if let Some(kind) = kind {
            request.headers_mut().insert("content-type", kind.parse().unwrap());
        }
        let detail = cluster.send(request).await.problem(415, "unsupported_media_type");
        assert!(detail.contains("application/json"));
    }
    let mut request = publish_request(PUBLISH_KEY, None, r#"{"channel":"venue:1","data":1}"#);
    request
        .headers_mut()
        .insert("content-type", "Application/JSON; charset=utf-8".parse().unwrap());
    cluster.send(request).await.ok();
    let mut request = publish_request(PUBLISH_KEY, None, "");
    *request.body_mut() = Body::from(vec![b' '; 9 << 20]);
    cluster.send(request).await.problem(413, "message_too_large");
    let mut request = publish_request(PUBLISH_KEY, None, "");
    *request.body_mut() = Body::from(vec![b'"', 0xff, b'"']);
    cluster.send(request).await.problem(400, "bad_request");
}

#[tokio::test]
async fn a_batch_is_published_in_order_and_one_bad_message_keeps_none_back() {
    let cluster = Cluster::new().await;
    let body = json!({"messages": [
        {"channel": "venue:1", "id": "m0", "data": 0},
        {"chanel": "venue:2", "data": 1},
        {"channels": ["venue:3", "orders:too-large"], "id": "m2", "data": 2},
        {"channel": "venue:overloaded", "id": "m3", "data": 3},
        {"channel": "venue:1", "id": "m4", "data": 4},
    ]});
    let results = cluster.publish(body).await.ok()["results"].take();
    assert_eq!(results[0], json!({"id": "m0", "channels": ["venue:1"]}));
    assert_eq!(results[1]["error"]["code"], "bad_request");
    let text = results[1]["error"]["text"].as_str().unwrap();
    assert!(text.contains("unknown field `chanel`") && !text.contains(" at line "), "{text}");
    assert_eq!(results[2]["channels"], json!(["venue:3"]));
    assert_eq!(results[2]["failed"][0]["channel"], "orders:too-large");
    assert_eq!(results[2]["failed"][0]["error"]["code"], "message_too_large");
    assert_eq!(results[3]["id"], "m3");
    assert_eq!(results[3]["error"]["retry"], "later");
    assert_eq!(results[4]["id"], "m4");
    assert_eq!(cluster.bus.channels(), ["venue:1", "venue:3", "venue:1"]);
}

#[tokio::test]
async fn a_batch_has_a_bound_on_copies() {
    let cluster = Cluster::new().await;
    let channels: Vec<String> = (0..100).map(|n| format!("venue:{n}")).collect();
    let message = json!({"channels": channels, "data": 1});
    let whole = json!({"messages": vec![message.clone(); 100]});
    let answer = cluster.publish(whole).await.ok();
    assert_eq!(answer["results"].as_array().unwrap().len(), 100);
    assert_eq!(cluster.bus.published.lock().len(), 10_000);
    let over = json!({"messages": vec![message; 101]});
    let detail = cluster.publish(over).await.problem(400, "bad_request");
    assert!(detail.contains("10100 targets"), "{detail}");
}

#[tokio::test]
async fn a_message_that_reached_nobody_is_a_problem_with_its_id() {
    let cluster = Cluster::new().await;
    for (channel, status, code, retry) in [
        ("venue:overloaded", 503, "overloaded", "later"),
        ("venue:too-large", 413, "message_too_large", "no"),
        ("venue:unknown", 504, "unknown", "unknown"),
    ] {
        let answer = cluster.publish(json!({"channel": channel, "id": "m1", "data": 1})).await;
        assert_eq!(answer.json["id"], "m1");
        assert_eq!(answer.json["retry"], retry);
        assert_eq!(answer.headers.contains_key("retry-after"), retry == "later");
        answer.problem(status, code);
    }
    // Of several reasons, the one that leaves most open counts.
    let channels = ["venue:too-large", "venue:overloaded", "orders:unknown"];
    let answer = cluster.publish(json!({"channels": channels, "data": 1})).await;
    answer.problem(504, "unknown");
}

#[tokio::test]
async fn once_the_bus_is_away_the_rest_of_a_request_is_not_tried() {
    let cluster = Cluster::new().await;
    let mut messages = vec![json!({"channel": "venue:unknown", "data": 1})];
    messages.resize(1000, json!({"channel": "venue:1", "data": 1}));
    let results = cluster.publish(json!({"messages": messages})).await.ok()["results"].take();
    assert_eq!(results[0]["error"]["code"], "unknown");
    assert_eq!(results[999]["error"]["code"], "unavailable");
    assert!(cluster.bus.published.lock().len() < 300);
}

#[tokio::test]
async fn a_repeated_request_is_carried_out_once() {
    let cluster = Cluster::new().await;
    let body = r#"{"channel":"venue:1","data":1}"#;
    let first = cluster.publish_once("k1", body).await;
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let again = cluster.publish_once("k1", body).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(first.ok(), again.ok());
    assert_eq!(cluster.bus.published.lock().len(), 1);
    cluster.publish_once("k2", body).await.ok();
    cluster.send(publish_request(OTHER_KEY, Some("k1"), body)).await.ok();
    assert_eq!(cluster.bus.published.lock().len(), 3);
}

#[tokio::test]
async fn a_key_is_for_one_body() {
    let cluster = Cluster::new().await;
    cluster.publish_once("k1", r#"{"channel":"venue:1","data":1}"#).await.ok();
    let answer = cluster.publish_once("k1", r#"{"channel":"venue:1","data":2}"#).await;
    assert_eq!(answer.json["retry"], "no");
    answer.problem(422, "conflict");
    let answer = cluster.publish_once(&"k".repeat(256), r#"{"channel":"venue:1","data":2}"#).await;
    answer.problem(400, "bad_request");
}

#[tokio::test]
async fn a_request_that_is_under_way_is_not_carried_out_twice() {
    let cluster = Cluster::new().await;
    cluster.bus.shut();
    let body = r#"{"channel":"venue:1","data":1}"#;
    let (router, request) = (cluster.router.clone(), publish_request(PUBLISH_KEY, Some("k"), body));
    let first = tokio::spawn(tower::ServiceExt::oneshot(router, request));
    while cluster.bus.published.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = cluster.publish_once("k", body).await;
    assert_eq!(second.json["retry"], "later");
    assert_eq!(second.headers["retry-after"], "1");
    second.problem(409, "conflict");
    // The caller hangs up; what it began is ended all the same.
    first.abort();
    cluster.bus.open();
    loop {
        let answer = cluster.publish_once("k", body).await;
        if answer.status == StatusCode::OK {
            assert_eq!(answer.headers["idempotent-replayed"], "true");
            break;
        }
    }
    assert_eq!(cluster.bus.published.lock().len(), 1);
}

#[tokio::test]
async fn an_outcome_that_a_retry_may_better_is_not_kept_but_the_ids_are() {
    let cluster = Cluster::new().await;
    for body in [
        r#"{"channel":"venue:unknown","data":1}"#,
        r#"{"channels":["venue:1","orders:unknown"],"data":1}"#,
        r#"{"messages":[{"channel":"venue:1","data":1},{"channel":"venue:unknown","data":1}]}"#,
    ] {
        cluster.publish_once("k", body).await;
        let first = std::mem::take(&mut *cluster.bus.published.lock());
        let again = cluster.publish_once("k", body).await;
        assert!(!again.headers.contains_key("idempotent-replayed"));
        let first: Vec<_> = first.iter().map(|message| message.id.to_string()).collect();
        assert_eq!(cluster.bus.ids(), first, "{body}");
        cluster.bus.published.lock().clear();
    }
}

#[tokio::test]
async fn without_the_store_a_keyed_request_is_refused() {
    let cluster = Cluster::new().await;
    cluster.store.set_away();
    let body = r#"{"channel":"venue:1","data":1}"#;
    let answer = cluster.publish_once("k", body).await;
    assert_eq!(answer.json["retry"], "later");
    assert!(answer.problem(503, "unavailable").contains("nothing was published"));
    assert!(cluster.bus.published.lock().is_empty());
    cluster.publish(body).await.ok();
}

#[tokio::test]
async fn the_bus_being_away_is_said_and_a_retry_helps() {
    let cluster = Cluster::new().await;
    let body = r#"{"channel":"venue:1","data":1}"#;
    cluster.bus.set_away(true);
    cluster.publish_once("k", body).await.problem(503, "unavailable");
    cluster.bus.set_away(false);
    let answer: Value = cluster.publish_once("k", body).await.ok();
    assert_eq!(answer["channels"], json!(["venue:1"]));
}

use std::sync::atomic::Ordering;

use axum::{
    body::Body,
    http::{Request, header},
};
use broker_core::{
    Data, JsonText, Message, MessageId, Position, Timestamp,
    message::{Exclude, Options},
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::advance;

use super::support::{Answer, Cluster, HISTORY, PUBLISH_KEY, request, token};
use crate::clock;

const ROOM: &str = "/v1/channels/room:1/messages";

fn message(channel: &str, data: u64) -> Message {
    Message {
        id: MessageId::random(rand::random()),
        channel: channel.parse().unwrap(),
        event: None,
        data: Data::Json(JsonText::from_checked(data.to_string().into())),
        time: clock::wall(),
        stored: None,
        options: None,
    }
}

/// Messages with these numbers, stored, and where.
async fn store<const N: usize>(cluster: &Cluster, numbers: [u64; N]) -> [String; N] {
    let mut positions = [const { String::new() }; N];
    for (number, position) in numbers.into_iter().zip(&mut positions) {
        *position = cluster.log.store(message("room:1", number)).await.to_string();
    }
    positions
}

async fn get(cluster: &Cluster, query: &str) -> Value {
    cluster.get(&format!("{ROOM}?{query}")).await.ok()
}

async fn get_as(cluster: &Cluster, user: &str, channel: &str) -> Answer {
    get_page_as(cluster, user, channel, "").await
}

async fn get_page_as(cluster: &Cluster, user: &str, channel: &str, query: &str) -> Answer {
    let path = format!("/v1/channels/{channel}/messages?{query}");
    cluster.send(request("GET", &path, &token(user)).body(Body::empty()).unwrap()).await
}

fn numbers(answer: &Value) -> Vec<u64> {
    answer["messages"].as_array().unwrap().iter().map(|it| it["data"].as_u64().unwrap()).collect()
}

fn text<'a>(answer: &'a Value, member: &str) -> &'a str {
    answer[member].as_str().unwrap()
}

#[tokio::test]
async fn messages_are_shown_whole() {
    let cluster = Cluster::new().await;
    let mut message = message("room:1", 1);
    message.event = Some("said".parse().unwrap());
    let (id, time) = (message.id.to_string(), message.time.0);
    let position = cluster.log.store(message.clone()).await.to_string();
    message.id = MessageId::random(7);
    message.data = Data::Binary(Bytes::from_static(b"\0\xff"));
    cluster.log.store(message).await;
    let answer = cluster.get(&format!("{ROOM}?order=asc")).await;
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    let answer = answer.ok();
    let first = json!({
        "message": id, "channel": "room:1", "event": "said", "data": 1, "time": time, "position": position,
    });
    assert_eq!(answer["messages"][0], first);
    assert_eq!(answer["messages"][1]["data_base64"], "AP8=");
    assert_eq!(answer["messages"][1].get("data"), None);
    assert_eq!(answer["position"], answer["messages"][1]["position"]);
}

#[tokio::test]
async fn one_looks_back_page_by_page() {
    let cluster = Cluster::new().await;
    store(&cluster, [1, 2, 3, 4, 5]).await;
    let latest = get(&cluster, "limit=2").await;
    assert_eq!((numbers(&latest), &latest["more"]), (vec![5, 4], &json!(true)));
    assert_eq!(latest.get("recovered"), None);
    store(&cluster, [6]).await;
    let earlier = get(&cluster, &format!("limit=2&before={}", text(&latest, "next"))).await;
    assert_eq!(numbers(&earlier), [3, 2]);
    let first = get(&cluster, &format!("limit=2&before={}", text(&earlier, "next"))).await;
    assert_eq!((numbers(&first), &first["more"]), (vec![1], &json!(false)));
    assert_eq!(first.get("next"), None, "nothing is before the oldest");
    let elsewhere = get(&cluster, "before=1.1000").await;
    assert_eq!((numbers(&elsewhere), elsewhere.get("next")), (vec![], None));
}

#[tokio::test]
async fn who_hands_back_next_gets_everything_once() {
    let cluster = Cluster::new().await;
    let mut answer = get(&cluster, "order=asc").await;
    let mut all = Vec::new();
    for number in 1..=20 {
        store(&cluster, [number]).await;
        if number % 3 == 0 {
            let mut more = true;
            while more {
                let next = text(&answer, "next");
                answer = get(&cluster, &format!("limit=2&since={next}")).await;
                assert_eq!(answer["recovered"], true);
                all.extend(numbers(&answer));
                more = answer["more"].as_bool().unwrap();
            }
        }
    }
    assert_eq!(all, (1..=18).collect::<Vec<_>>());
}

#[tokio::test]
async fn nothing_is_read_where_there_is_nothing_new() {
    let cluster = Cluster::new().await;
    let [_, last] = store(&cluster, [1, 2]).await;
    for since in [last.clone(), format!("{last}@1")] {
        let answer = get(&cluster, &format!("since={since}")).await;
        assert_eq!((numbers(&answer), &answer["recovered"]), (vec![], &json!(true)));
        assert!(text(&answer, "next").starts_with(&format!("{last}@")));
    }
    assert_eq!(cluster.log.read.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_channel_may_forget_what_its_reader_has() {
    let cluster = Cluster::new().await;
    let [last] = store(&cluster, [1]).await;
    advance(HISTORY.ttl).await;
    let fresh = format!("{last}@{}", clock::wall().0);
    let stale = format!("{last}@{}", clock::wall().0 - 50_000);
    let recovered = async |since: &str| {
        let answer = get(&cluster, &format!("limit=1&since={since}")).await;
        (numbers(&answer), answer["recovered"].as_bool().unwrap())
    };
    assert_eq!(recovered(&fresh).await, (vec![], true));
    assert_eq!(recovered(&stale).await, (vec![], false), "others may have come and gone");
    assert_eq!(recovered(&last).await, (vec![], false));
    store(&cluster, [2, 3, 4, 5, 6]).await;
    assert_eq!(recovered(&fresh).await, (vec![2], true), "there are no more than are kept");
    assert_eq!(recovered(&stale).await, (vec![2], false));
    store(&cluster, [7]).await;
    assert_eq!(recovered(&fresh).await, (vec![2], false), "some may have been too many");
}

#[tokio::test]
async fn what_is_lost_is_said_and_what_is_left_is_given() {
    let cluster = Cluster::new().await;
    let [first, ..] = store(&cluster, [1, 2, 3, 4, 5, 6, 7, 8]).await;
    let answer = get(&cluster, &format!("since={first}")).await;
    assert_eq!((numbers(&answer), &answer["recovered"]), (vec![3, 4, 5, 6, 7, 8], &json!(false)));
    let other_log = get(&cluster, "since=1.7.00000000").await;
    assert_eq!(numbers(&other_log), [3, 4, 5, 6, 7, 8]);
    assert_eq!(other_log["recovered"], false);
    let position: Position = text(&answer, "position").parse().unwrap();
    let ahead = Position { offset: broker_core::Offset(1000), ..position };
    let set_back = get(&cluster, &format!("since={ahead}")).await;
    assert_eq!((numbers(&set_back).len(), &set_back["recovered"]), (6, &json!(false)));
}

#[tokio::test]
async fn a_time_and_an_order_may_be_given() {
    let cluster = Cluster::new().await;
    for (number, time) in [(1, 1_000), (2, 2_000), (3, 3_000)] {
        let message = Message { time: Timestamp(time), ..message("room:1", number) };
        cluster.log.store(message).await;
    }
    for (query, expected) in [
        ("since=2000", vec![2, 3]),
        ("since=1970-01-01T00:00:02Z", vec![2, 3]),
        ("since=1970-01-01T02:00:02.5%2B02:00", vec![3]),
        ("since=9000", vec![]),
        ("since=2000&order=desc", vec![3, 2]),
        ("order=asc&limit=2", vec![1, 2]),
        ("", vec![3, 2, 1]),
    ] {
        let answer = get(&cluster, query).await;
        assert_eq!(numbers(&answer), expected, "{query}");
        assert_eq!(answer.get("recovered"), None, "{query}");
    }
}

#[tokio::test]
async fn what_is_not_for_the_reader_is_left_out() {
    let cluster = Cluster::new().await;
    let with = |number, options| {
        let options = Some(Box::new(options));
        cluster.log.store(Message { options, ..message("room:1", number) })
    };
    let users = vec!["kim".parse().unwrap()];
    let exclude = Exclude { users, ..Exclude::default() };
    with(1, Options { exclude, ..Options::default() }).await;
    with(2, Options { expires: Some(Timestamp(1)), ..Options::default() }).await;
    store(&cluster, [3]).await;
    with(4, Options { expires: Some(Timestamp(u64::MAX)), ..Options::default() }).await;
    assert_eq!(numbers(&get(&cluster, "").await), [4, 3, 1]);
    assert_eq!(numbers(&get_as(&cluster, "kim", "room:1").await.ok()), [4, 3]);
    assert_eq!(numbers(&get_as(&cluster, "ann", "room:1").await.ok()), [4, 3, 1]);
    let one = get(&cluster, "limit=1&order=asc").await;
    let rest = get(&cluster, &format!("since={}", text(&one, "next"))).await;
    assert_eq!((numbers(&one), numbers(&rest)), (vec![1], vec![3, 4]));
}

#[tokio::test]
async fn one_gets_past_messages_that_are_for_others() {
    let cluster = Cluster::new().await;
    let [start] = store(&cluster, [0]).await;
    for number in 1..=5 {
        let users = vec!["kim".parse().unwrap()];
        let exclude = Exclude { users, ..Exclude::default() };
        let options = Some(Box::new(Options { exclude, ..Options::default() }));
        cluster.log.store(Message { options, ..message("room:1", number) }).await;
    }
    let mut next = start;
    let mut pages = Vec::new();
    let mut read = async || {
        let query = format!("limit=1&since={next}");
        let page = get_page_as(&cluster, "kim", "room:1", &query).await.ok();
        next = text(&page, "next").to_owned();
        pages.push(numbers(&page));
        page["more"].as_bool().unwrap()
    };
    while read().await {}
    store(&cluster, [6]).await;
    assert!(!read().await);
    assert_eq!(pages.concat(), [6]);
}

#[tokio::test]
async fn a_client_reads_what_it_may_subscribe_to() {
    let cluster = Cluster::new().await;
    cluster.log.store(message("user:kim", 1)).await;
    assert_eq!(numbers(&get_as(&cluster, "kim", "user:kim").await.ok()), [1]);
    let detail = get_as(&cluster, "ann", "user:kim").await.problem(403, "forbidden");
    assert!(detail.contains("subscribed by the server"), "{detail}");
    get_as(&cluster, "kim", "orders:1").await.problem(403, "forbidden");
    get_as(&cluster, "kim", "nowhere:1").await.problem(422, "unknown_namespace");

    let bare = Request::builder().uri(ROOM).body(Body::empty()).unwrap();
    let answer = cluster.send(bare).await;
    assert_eq!(answer.headers[header::WWW_AUTHENTICATE], r#"Bearer realm="fanfare""#);
    assert!(answer.problem(401, "unauthorized").contains("a token or an API key"));
    let mut forged = token("kim");
    forged.truncate(forged.len() - 4);
    for (wrong, status, code) in
        [(forged.as_str(), 401, "unauthorized"), ("ffk_wrong", 401, "unauthorized")]
    {
        let answer = cluster.send(request("GET", ROOM, wrong).body(Body::empty()).unwrap()).await;
        let challenge = answer.headers[header::WWW_AUTHENTICATE].to_str().unwrap().to_owned();
        assert!(challenge.contains("invalid_token"), "{wrong}");
        answer.problem(status, code);
    }
    let publisher = request("GET", ROOM, PUBLISH_KEY).body(Body::empty()).unwrap();
    let detail = cluster.send(publisher).await.problem(403, "forbidden");
    assert!(detail.contains("lacks the scope `admin`"), "{detail}");
}

#[tokio::test]
async fn what_cannot_be_answered_is_a_problem() {
    let cluster = Cluster::new().await;
    for (path, status, code, says) in [
        ("/v1/channels/venue:1/messages", 422, "no_history", "venue:1"),
        ("/v1/channels/nowhere:1/messages", 422, "unknown_namespace", "nowhere"),
        ("/v1/channels/a::b/messages", 400, "invalid_name", "`channel`"),
        ("/v1/channels/room:1/messages?since=yesterday", 400, "bad_request", "2026-07-01T12"),
        ("/v1/channels/room:1/messages?before=7", 400, "bad_request", "position"),
        ("/v1/channels/room:1/messages?order=up", 400, "bad_request", "`asc`"),
        ("/v1/channels/room:1/messages?order=asc&before=1.1", 400, "bad_request", "order=desc"),
        ("/v1/channels/room:1/messages?limit=0", 400, "bad_request", "`limit`"),
    ] {
        let detail = cluster.get(path).await.problem(status, code);
        assert!(detail.contains(says), "{path}: {detail}");
    }
    cluster.log.set_away();
    cluster.get(ROOM).await.problem(503, "unavailable");
}

#[tokio::test(start_paused = true)]
async fn readers_wait_for_their_turn_only_so_long() {
    let cluster = Cluster::new().await;
    let turns = cluster.deps.turns.take_all();
    cluster.get(ROOM).await.problem(503, "overloaded");
    drop(turns);
    cluster.get(ROOM).await.ok();
}

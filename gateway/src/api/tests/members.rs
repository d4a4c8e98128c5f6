use broker_core::{
    ConnectionId, Timestamp,
    ports::{Attendance, ChannelNews, Member, Tell},
};
use serde_json::json;

use super::support::Cluster;

/// Kim with two connections and one that has no user, in `venue:1` at gateway a.
async fn two_members() -> Cluster {
    let cluster = Cluster::new().await;
    let attendance = |member, connections| Attendance { member, connections, since: Timestamp(7) };
    let news = ChannelNews {
        channel: "venue:1".parse().unwrap(),
        members: vec![
            attendance(Member::User("kim".parse().unwrap()), 2),
            attendance(Member::Anonymous(ConnectionId(9)), 1),
        ],
        deserted: false,
    };
    let silent: &Tell = &|_| Box::pin(async {});
    cluster.deps.roster.note("a".parse().unwrap(), vec![news], silent).await.unwrap();
    cluster
}

#[tokio::test]
async fn members_are_counted_and_listed() {
    let cluster = two_members().await;
    let count = cluster.get("/v1/channels/venue:1").await.ok();
    assert_eq!(count, json!({"channel": "venue:1", "users": 1, "connections": 3}));
    let nobody = json!({"connection": ConnectionId(9).to_string(), "since": 7});
    let kim = json!({"user": "kim", "connections": 2, "since": 7});
    let all = cluster.get("/v1/channels/venue%3A1/members").await.ok();
    assert_eq!((&all["users"], &all["members"]), (&json!(1), &json!([nobody, kim])));
    let first = cluster.get("/v1/channels/venue:1/members?limit=1").await.ok();
    assert_eq!(first["members"], json!([nobody]));
    let next = format!("/v1/channels/venue:1/members?cursor={}", first["next"].as_str().unwrap());
    assert_eq!(cluster.get(&next).await.ok()["members"], json!([kim]));
    let empty = cluster.get("/v1/channels/venue:2/members").await.ok();
    let expected = json!({"channel": "venue:2", "users": 0, "connections": 0, "members": []});
    assert_eq!(empty, expected);
}

#[tokio::test]
async fn what_cannot_be_answered_is_told() {
    let cluster = two_members().await;
    for (path, status, code) in [
        ("/v1/channels/orders:1", 404, "not_found"),
        ("/v1/channels/undeclared:1/members", 404, "not_found"),
        ("/v1/channels/presence:venue:1", 404, "not_found"),
        ("/v1/channels/venue:/members", 400, "invalid_name"),
        ("/v1/channels/venue:1/members?cursor=x", 400, "bad_request"),
        ("/v1/channels/venue:1/members?limit=1001", 400, "bad_request"),
        ("/v1/channels/venue:1/members?page=2", 400, "bad_request"),
    ] {
        let answer = cluster.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json["code"]),
            (status, &json!(code)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn without_presence_the_directory_tells_who_is_online() {
    let cluster = Cluster::new().await;
    let offline = json!({"user": "kim", "online": false, "connections": 0});
    assert_eq!(cluster.get("/v1/users/kim").await.ok(), offline);
    cluster.connect(&cluster.deps.hub, "a", 1, "kim").await;
    let online = json!({"user": "kim", "online": true, "connections": 1});
    assert_eq!(cluster.get("/v1/users/kim").await.ok(), online);
    cluster.store.set_away();
    assert_eq!(cluster.get("/v1/users/kim").await.status, 503);
}

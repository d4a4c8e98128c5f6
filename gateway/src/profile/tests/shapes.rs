//! What the shipped profiles say and do, against the exact forms that their clients know.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;

fn face(profile: &Profile, name: &str) -> Arc<Face> {
    Arc::clone(&profile.faces[name])
}

#[test]
fn a_client_of_config_push_is_welcomed_and_given_all_configurations() {
    let profile = shipped("config-push.toml");
    let mount = &profile.socketio[0];
    assert_eq!(mount.paths, ["/config-socket", "/socket.io"]);
    assert_eq!(mount.namespaces["/config-socket"].name, "config");
    let face = face(&profile, "config");
    let ann = user("ann", &[]);
    let actions = face.on_connect(&context(&ann)).unwrap();
    assert_eq!(
        short(&actions),
        [
            &*format!(
                "emit connection_established {{\"clientId\":\"c-1\",\"timestamp\":\"{NOW_ISO}\",\
                 \"serverVersion\":\"2.0.0\"}}"
            ),
            "join screen:*",
            "join broadcast:all",
            "snapshot screen:*",
            "flush",
        ]
    );
    let Action::Snapshot(snapshot) = &actions[3] else { panic!() };
    let (home, auth) = ("screen:Home".parse().unwrap(), "screen:Auth".parse().unwrap());
    let (dark, wide) = (data(&json!({"dark": true})), raw("{\"width\":1e400}"));
    let emission = snapshot.found([(&home, &dark), (&auth, &wide)], 100).unwrap();
    assert_eq!(emission.event.as_str(), "full_config_sync");
    assert_eq!(
        text(&emission.args[0]),
        format!(
            "{{\"type\":\"full_sync\",\"configs\":{{\"Home\":{{\"dark\":true}},\
             \"Auth\":{{\"width\":1e400}}}},\"timestamp\":\"{NOW_ISO}\",\"version\":\"2.0.0\"}}"
        )
    );
    assert_eq!(value(&snapshot.found([], 0).unwrap().args[0])["configs"], json!({}));
    let too_large = snapshot.found([(&home, &dark), (&auth, &wide)], 30).unwrap_err();
    assert_eq!(too_large.code(), broker_core::ErrorCode::MessageTooLarge);
    let lost = snapshot.failed(broker_core::ErrorCode::Unavailable, "away").unwrap().unwrap();
    let body = json!({"message": "Failed to load configuration", "timestamp": NOW_ISO});
    assert_eq!(emitted(&lost), ("config_error".to_owned(), vec![body]));
    let refused = face.failure(NOW, broker_core::ErrorCode::Unauthorized, "forged").unwrap();
    let body = json!({"message": "Authentication failed"});
    assert_eq!(emitted(&refused), ("auth_error".to_owned(), vec![body]));
}

#[test]
fn configurations_reach_all_some_users_or_a_role_in_their_own_forms() {
    let profile = shipped("config-push.toml");
    let face = face(&profile, "config");
    let update = |body| ("config_update".to_owned(), vec![body]);
    let config = json!({"title": "Hi"});
    assert_eq!(
        told(&face, &message("screen:Auth", None, &config)),
        update(json!({
            "type": "config_update", "screen": "Auth", "config": config,
            "timestamp": NOW_ISO, "version": "1.0.0",
        }))
    );
    let versioned = json!({"version": "3.1.4"});
    let (_, args) = told(&face, &message("screen:Auth", Some("changed"), &versioned));
    assert_eq!(args[0]["version"], "3.1.4");
    let body = json!({"screen": "Home", "config": config});
    assert_eq!(
        told(&face, &message("user:a%3Ab", Some("config_update"), &body)),
        update(json!({
            "type": "targeted_update", "screen": "Home", "config": config, "targetUser": "a:b",
        }))
    );
    assert_eq!(
        told(&face, &message("role:beta", Some("config_update"), &body)),
        update(json!({
            "type": "role_update", "screen": "Home", "config": config, "targetRole": "beta",
        }))
    );
    let all = json!({"Auth": config});
    let (event, args) = told(&face, &message("broadcast:all", Some("full_config_sync"), &all));
    assert_eq!(event, "full_config_sync");
    assert_eq!(
        args,
        [json!({
            "type": "full_sync", "configs": all, "timestamp": NOW_ISO, "reason": "manual_sync",
        })]
    );
    // What no rule matches arrives as its own event.
    let other = message("user:ann", Some("hello"), &json!([1]));
    assert_eq!(told(&face, &other), ("hello".to_owned(), vec![json!([1])]));
}

#[test]
fn a_user_is_always_in_the_same_group_of_a_test_and_groups_are_even() {
    let profile = shipped("config-push.toml");
    let face = face(&profile, "config");
    let body = json!({
        "testId": "t-1", "screen": "Home",
        "variants": {"control": {"color": "red"}, "bold": {"color": "blue"}},
    });
    let outgoing = face.outgoing(&message("broadcast:all", Some("ab_test"), &body)).unwrap();
    let told: Vec<_> = outgoing.emissions.iter().map(emitted).collect();
    assert_eq!(
        told[0],
        (
            "config_update".to_owned(),
            vec![json!({
                "type": "ab_test_update", "screen": "Home", "config": {"color": "blue"},
                "testId": "t-1", "variant": "bold",
            })]
        )
    );
    let split = outgoing.split.clone().unwrap();
    let of = |user: usize| split.pick(&format!("user-{user}"));
    let bold = (0..1000).filter(|user| of(*user) == 0).count();
    assert!((420..580).contains(&bold), "{bold}");
    assert!((0..100).all(|user| of(user) == of(user)));
    // Known values: gateways of all versions must agree.
    let groups: Vec<usize> = (0..8).map(of).collect();
    assert_eq!(groups, KNOWN_GROUPS);
    assert_eq!(emitted(outgoing.emission("user-0").unwrap()), told[KNOWN_GROUPS[0]]);
}

const KNOWN_GROUPS: [usize; 8] = [1, 1, 1, 1, 0, 0, 1, 1];

#[test]
fn changes_of_a_platform_carry_numbers_and_kinds() {
    let profile = shipped("platform-admin.toml");
    let admin = face(&profile, "admin");
    let body = json!({"enabled": false});
    for (channel, event, told_as, key) in [
        ("platform:7", Some("toggle"), "platform_update", "platform_id"),
        ("feature:7", Some("toggle"), "feature_update", "feature_id"),
        ("package:7", None, "package_update", "package_id"),
    ] {
        let (event_told, args) = told(&admin, &message(channel, event, &body));
        assert_eq!(event_told, told_as);
        assert_eq!(
            args,
            [json!({
                "type": event.unwrap_or("update"), key: 7, "data": body, "timestamp": NOW_ISO,
            })]
        );
    }
    let error = admin.outgoing(&message("platform:seven", None, &body)).unwrap_err();
    assert!(error.to_string().contains("no whole number"), "{error}");
    let (event, _) = told(&face(&profile, "client"), &message("platform:7", None, &body));
    assert_eq!(event, "config_sync");
    assert_eq!(profile.socketio[0].namespaces.keys().collect::<Vec<_>>(), ["/admin", "/client"]);
}

#[test]
fn clients_of_a_platform_are_told_what_services_know() {
    let profile = shipped("platform-admin.toml");
    let client = face(&profile, "client");
    let mut ann = user("ann", &[]);
    ann.claims.insert("package".to_owned(), vec!["gold".to_owned()]);
    let actions = client.on_connect(&context(&ann)).unwrap();
    assert_eq!(
        short(&actions),
        [
            "join client:all",
            "join platform:*",
            "join package:gold",
            "join package:gold:clients",
            "join package:gold:feature:*",
            "flush",
            "call client:client_connect client_connect {\"package\":\"gold\"}",
        ]
    );
    let Some(Action::Call(call)) = actions.last() else { panic!() };
    let told = call.replied(&data(&json!({"features": ["a"]}))).unwrap().unwrap();
    let body = json!({"features": ["a"]});
    assert_eq!(emitted(&told), ("client_connected".to_owned(), vec![body]));
    assert!(call.replied(&raw("{}")).is_err());
    let nobody = user("bob", &[]);
    let actions = client.on_connect(&context(&nobody)).unwrap();
    let without = ["join client:all", "join platform:*", "flush"];
    assert_eq!(short(&actions)[..3], without, "without the claim there is no channel of a package");
    let admin = face(&profile, "admin");
    assert!(admin.auth.require.check(&user("root", &["admin"])).is_ok());
    let unmet = admin.auth.require.check(&nobody).unwrap_err().to_string();
    assert_eq!(unmet, "for this you need role:admin");
    let told = admin.verb("request_system_metrics").unwrap();
    let refused = told.evaluate(&context(&nobody), "request_system_metrics", &[]).unwrap_err();
    assert_eq!(refused.code, broker_core::ErrorCode::Forbidden);
    assert!(refused.text.contains("role:admin"), "{}", refused.text);
}

#[test]
fn pushes_reach_dashboards_in_their_own_forms() {
    let profile = shipped("enterprise-push.toml");
    let push = face(&profile, "push");
    let ann = user("ann", &[]);
    assert_eq!(
        react(&push, &ann, "heartbeat", &[json!({"clientTime": 5})]).unwrap(),
        [format!("emit heartbeat {{\"clientTime\":5,\"serverTime\":{}}}", NOW.0)]
    );
    let plain = json!({"title": "T", "body": "B"});
    for channel in ["user:ann", "broadcast:all"] {
        let told = told(&push, &message(channel, None, &plain));
        assert_eq!(told, ("notification".to_owned(), vec![plain.clone()]));
    }
    let entry = json!({"actor": "a", "action": "delete", "target": "row", "at": 5});
    let (event, args) = told(&push, &message("audit:log", None, &entry));
    assert_eq!(event, "notification");
    let mut expected = entry;
    expected["kind"] = "audit".into();
    assert_eq!(args, [expected]);
    let posts: BTreeSet<&str> = profile.rest.iter().map(|rest| rest.path.as_str()).collect();
    assert_eq!(posts.len(), 7);
}

#[test]
fn requests_of_an_application_become_publishes_and_its_own_answers() {
    let profile = shipped("enterprise-push.toml");
    let service = Identity::default();
    let ask = |path: &str, in_path: &[&str], body: Value| {
        let rest = profile.rest.iter().find(|rest| rest.path == path).unwrap();
        let in_path: Vec<String> = in_path.iter().map(ToString::to_string).collect();
        let broker_core::Data::Json(body) = data(&body) else { panic!() };
        let body = Some(&body);
        let request = RestRequest { path: &in_path, query: &[], body, ws_url: None };
        rest.evaluate(&context(&service), request).unwrap()
    };
    let now = NOW.0;
    let push = ask(
        "/api/ws/push/data-change",
        &[],
        json!({"userId": "ann", "tableId": "t", "rowId": "r", "action": "delete"}),
    );
    assert_eq!(
        short(&push.actions),
        [format!(
            "publish user:ann notification {{\"tableId\":\"t\",\"rowId\":\"r\",\
             \"action\":\"delete\",\"timestamp\":{now}}}"
        )]
    );
    assert_eq!(
        value(&push.response.done(&[]).unwrap()),
        json!({"message": "Data change pushed", "timestamp": now})
    );
    let all = ask(
        "/api/ws/broadcast",
        &[],
        json!({"title": "T", "body": "B", "excludeUserIds": ["bob", "eve"]}),
    );
    assert_eq!(
        short(&all.actions),
        ["publish broadcast:all notification {\"title\":\"T\",\"body\":\"B\"} -bob -eve"]
    );
    let list = ask("/api/ws/connections/{userId}", &["ann"], json!({}));
    assert_eq!(short(&list.actions), ["Connections(UserId(\"ann\"))"]);
    let found = data(&json!({"connections": [
        {"id": "c", "connected_at": 1, "transport": "websocket", "node": "n"},
    ]}));
    assert_eq!(
        value(&list.response.done(&[("connections", found)]).unwrap()),
        json!({"userId": "ann", "timestamp": now, "connections": [
            {"id": "c", "connectedAt": 1, "lastActivity": 1, "transport": "websocket", "node": "n"},
        ]})
    );
    let stats = ask("/api/ws/stats", &[], json!({}));
    let figures = data(&json!({"connections": 3, "users": 2}));
    let queue = data(&json!({"pending": 1, "delivered": 5, "evicted": 0, "expired": 4}));
    assert_eq!(
        value(&stats.response.done(&[("stats", figures), ("queue", queue)]).unwrap()),
        json!({
            "totalConnections": 3, "uniqueUsers": 2, "timestamp": now,
            "queueStats": {"pendingMessages": 1, "deliveredMessages": 5, "expiredMessages": 4},
        })
    );
    let end = ask("/api/ws/disconnect/{userId}", &["ann"], json!({"reason": "x"}));
    assert_eq!(short(&end.actions), ["disconnect ann Some(\"x\")"]);
}

#[test]
fn a_ticket_becomes_a_url_to_connect_to() {
    let profile = shipped("enterprise-push.toml");
    let rest = profile.rest.iter().find(|rest| rest.path == "/api/ws/connect").unwrap();
    assert_eq!(rest.scope(), crate::config::Scope::Tickets);
    let body = broker_core::JsonText::from_checked("{\"userId\":\"ann\"}".into());
    let ws_url = Some("wss://push.example");
    let request = RestRequest { path: &[], query: &[], body: Some(&body), ws_url };
    let connect = rest.evaluate(&context(&Identity::default()), request).unwrap();
    assert_eq!(short(&connect.actions), ["ticket ann"]);
    let ticket = data(&json!({"ticket": "fft_x", "expires": 1}));
    let told = value(&connect.response.done(&[("ticket", ticket)]).unwrap());
    assert_eq!(told["wsUrl"], "wss://push.example/ws?ticket=fft_x");
    assert_eq!(told["userId"], "ann");
}

#[test]
fn polling_and_control_of_venues_have_their_paths() {
    let profile = shipped("venues.toml");
    let ann = user("a:b", &[]);
    let ask = |method: &str, path: &str, in_path: &[String], body: Option<Value>| {
        let mut rests = profile.rest.iter();
        let rest = rests.find(|rest| rest.path == path && rest.method == method).unwrap();
        let body = body.map(|body| match data(&body) {
            broker_core::Data::Json(text) => text,
            broker_core::Data::Binary(_) => panic!(),
        });
        let query = [("since".to_owned(), "17".to_owned())];
        let body = body.as_ref();
        let request = RestRequest { path: in_path, query: &query, body, ws_url: None };
        rest.evaluate(&context(&ann), request).map(|it| short(&it.actions))
    };
    let venue = ["42".to_owned()];
    assert_eq!(
        ask("GET", "/api/venues/{venueId}/vibe-checks", &venue, None).unwrap(),
        ["Messages(ChannelName(\"vibe_checks:42\"), Some(\"17\"))"]
    );
    assert_eq!(
        ask("GET", "/api/notifications", &[], None).unwrap(),
        ["Messages(ChannelName(\"user:a%3Ab\"), Some(\"17\"))"]
    );
    let outside = ["4:2".to_owned()];
    let error = ask("GET", "/api/venues/{venueId}/updates", &outside, None).unwrap_err();
    assert_eq!(error.code, broker_core::ErrorCode::InvalidName);
    let broadcast = json!({"action": "broadcast", "channel": "venue:42", "data": {"open": true}});
    assert_eq!(
        ask("POST", "/api/websocket", &[], Some(broadcast)).unwrap(),
        ["publish venue:42 {\"open\":true}"]
    );
    let notify = json!({"action": "notify", "userId": "ann", "data": {"id": "n"}});
    assert_eq!(
        ask("POST", "/api/websocket", &[], Some(notify)).unwrap(),
        ["publish user:ann notification {\"id\":\"n\"}"]
    );
}

#[test]
fn rooms_are_entered_where_a_service_allows_it() {
    let profile = shipped("activities.toml");
    let app = face(&profile, "app");
    let ann = user("ann", &[]);
    let context = context(&ann);
    let verb = app.verb("room:join").unwrap();
    let args = [data(&json!({"roomId": "activity_7"}))];
    let reaction = verb.evaluate(&context, "room:join", &args).unwrap();
    assert_eq!(
        short(&reaction.actions),
        ["call activities:join room:join {\"roomId\":\"activity_7\"}", "join room:activity_7",]
    );
    assert_eq!(value(&reaction.ack.done(Some(&raw("1")))[0]), json!({"success": true}));
    let refused = reaction.ack.failed(broker_core::ErrorCode::ServiceRefused, "no");
    assert_eq!(value(&refused[0]), json!({"error": "Unauthorized"}));
    let left = react(&app, &ann, "room:leave", &[json!({"roomId": "activity_7"})]).unwrap();
    assert_eq!(left, ["leave room:activity_7"]);
    let sent = app.verb("message:send").unwrap();
    let sent = sent.evaluate(&context, "message:send", &[raw("{\"text\":\"x\"}")]).unwrap();
    assert_eq!(short(&sent.actions), ["call activities:send message:send {\"text\":\"x\"}"]);
    assert_eq!(text(&sent.ack.done(Some(&raw("{\"id\":1}")))[0]), "{\"id\":1}");
    let failed = sent.ack.failed(broker_core::ErrorCode::NoService, "nobody listens");
    assert_eq!(value(&failed[0]), json!({"error": "nobody listens"}));
    let like = json!({"activityId": "7", "userId": "ann", "likeCount": 3});
    assert_eq!(
        told(&app, &message("activities:all", Some("activity:like_added"), &like)),
        ("activity:like_added".to_owned(), vec![like])
    );
    let online = message("presence:user:ann", Some("user:online"), &json!({"user": "ann"}));
    assert_eq!(told(&app, &online), ("user:online".to_owned(), vec![json!({"userId": "ann"})]));
}

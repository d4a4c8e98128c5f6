use super::*;
use crate::{code::Retry, name::Interest};

#[test]
fn the_answer_comes_first_then_the_channels_then_what_waited() {
    let mut script = Script::with(rules());
    assert_eq!(script.send(1, connect(Some("secret"))), ["verify #0 secret"]);
    assert_eq!(script.send(2, subscribe("venue:1")), [""; 0]);
    assert_eq!(script.send(3, publish("venue:1", "a")), [""; 0]);
    assert_eq!(script.send(4, Command::Ping), [""; 0]);
    assert_eq!(script.verified(0, ann_of_staff()), ["join #1 user:ann", "join #2 role:staff"]);
    assert_eq!(script.joined(2), [""; 0]);
    assert!(!script.session.was_opened());
    assert_eq!(
        script.joined(1),
        [
            "opened",
            "1: connected user:ann role:staff",
            "deliver user:ann",
            "deliver role:staff",
            "join #3 venue:1",
            "publish #4 venue:1 a",
            "4: pong",
        ]
    );
    assert!(script.session.is_open() && script.session.was_opened());
    assert_eq!(script.session.identity().user, ann().user);
}

#[test]
fn the_answer_says_who_is_connected_and_what_the_limits_are() {
    let mut script = Script::with(rules());
    script.send(1, connect(Some("secret")));
    let expires = Some(Timestamp(2_000_000));
    script.verified(0, Identity { expires, ..ann() });
    script.session.handle_joined(script.now, OpId(1), Ok(()));
    assert_eq!(script.session.poll_effect(), Some(Effect::Opened));
    let connected = Connected {
        connection: ConnectionId(7),
        user: ann().user,
        expires,
        channels: vec![interest("user:ann")],
        ping_interval: 25 * SECOND,
        message_bytes: 100,
        resumed: false,
        session: None,
    };
    let body = Outgoing::Connected(Box::new(connected));
    assert_eq!(script.session.poll_effect(), Some(Effect::Send(Reply { id: Some(1), body })));
}

#[test]
fn messages_that_waited_get_ids_of_their_own() {
    let mut script = Script::with(rules());
    script.send_all([(1, connect(None)), (2, publish("venue:1", "")), (3, publish("venue:1", ""))]);
    assert_eq!(script.effects(), ["admit #0"]);
    let (first, second) = (MessageId::random(2), MessageId::random(3));
    assert_eq!(
        script.verified(0, nobody()),
        [
            "opened",
            "1: connected",
            &format!("publish #1 venue:1 {first}"),
            &format!("publish #2 venue:1 {second}")
        ]
    );
}

#[test]
fn a_refused_token_ends_the_connection() {
    for (code, close) in [
        (ErrorCode::Unauthorized, "close 4500"),
        (ErrorCode::TokenExpired, "close 4003"),
        (ErrorCode::Unavailable, "close 1013"),
        (ErrorCode::Overloaded, "close 1013"),
    ] {
        let mut script = Script::with(rules());
        script.send(1, connect(Some("token")));
        script.send(2, Command::Ping);
        assert_eq!(script.refused(0, code), [format!("1: {code}").as_str(), close]);
        assert!(!script.session.was_opened());
    }
}

#[test]
fn without_a_token_one_is_nobody_or_nothing() {
    Script::open();
    let mut script = Script::with(Rules { anonymous: false, ..rules() });
    assert_eq!(script.send(1, connect(None)), ["1: unauthorized", "close 4500"]);
}

#[test]
fn a_bus_that_refuses_an_own_channel_ends_the_connection() {
    let mut script = Script::with(rules());
    script.send(1, connect(Some("token")));
    script.verified(0, ann_of_staff());
    script.joined(1);
    assert_eq!(
        script.join_outcome(2, Err(BusError::Timeout)),
        ["leave role:staff", "1: unavailable", "close 1013"]
    );
    assert_eq!(ErrorCode::Unavailable.retry(), Retry::Later);
    assert_eq!(script.session.interests().collect::<Vec<&Interest>>(), [&interest("user:ann")]);
}

#[test]
fn a_token_with_too_many_channels_of_its_own_is_refused() {
    let mut script = Script::with(rules());
    script.send(1, connect(Some("token")));
    let roles = (0..5).map(|n| format!("r{n}").parse().unwrap()).collect();
    assert_eq!(
        script.verified(0, Identity { roles, ..ann() }),
        ["1: too_many_subscriptions", "close 4500"]
    );
}

#[test]
fn before_connect_only_pings_are_answered() {
    let mut script = Script::with(rules());
    assert_eq!(script.send(1, Command::Ping), ["1: pong"]);
    for command in [
        refresh(),
        subscribe("venue:1"),
        unsubscribe("venue:1"),
        publish("venue:1", ""),
        abandon("venue:1"),
        call("venue:1", None),
    ] {
        assert_eq!(script.send(2, command), ["2: not_connected"]);
    }
    assert_eq!(script.send(3, connect(None)), ["admit #0"]);
}

#[test]
fn connect_is_sent_once() {
    let mut script = Script::open();
    assert_eq!(script.send(1, connect(None)), ["1: already_connected"]);

    let mut script = Script::with(rules());
    script.send_all([(1, connect(None)), (2, connect(Some("token")))]);
    script.effects();
    assert_eq!(script.verified(0, nobody()), ["opened", "1: connected", "2: already_connected"]);
}

#[test]
fn connect_must_come_in_time() {
    let mut script = Script::with(rules());
    assert_eq!(script.sleeps(), Some(10 * SECOND));
    assert_eq!(script.after(9 * SECOND), [""; 0]);
    assert_eq!(script.after(SECOND), ["close 4002"]);
}

#[test]
fn a_connect_that_hangs_is_not_the_clients_fault() {
    let mut script = Script::with(rules());
    script.after(9 * SECOND);
    script.send(1, connect(Some("token")));
    assert_eq!(script.sleeps(), Some(10 * SECOND));
    assert_eq!(script.after(10 * SECOND), ["1: unavailable", "close 1013"]);
}

#[test]
fn a_token_that_expires_while_connecting_is_noticed_once_open() {
    let mut script = Script::with(rules());
    script.send(1, connect(Some("token")));
    let expires = Some(Timestamp(script.now.wall.0 + 2_000));
    script.verified(0, Identity { expires, ..ann() });
    assert_eq!(script.after(3 * SECOND), [""; 0]);
    script.joined(1);
    assert_eq!(script.after(Duration::ZERO), ["-: token_expired", "close 4003"]);
}

//! Subscriptions by the server's right.

use super::*;

#[test]
fn the_server_asks_no_rule() {
    let mut script = Script::open();
    assert_eq!(script.admit(1, "staff:1"), ["join #1 staff:1"]);
    assert_eq!(script.joined(1), ["1: subscribed and deliver staff:1"]);
    assert_eq!(script.admit(2, "feed:*"), ["join #2 feed:*"]);
    assert_eq!(script.joined(2), ["2: subscribed and deliver feed:*"]);
    assert_eq!(script.admit(3, "presence:staff:*"), ["join #3 presence:staff:*"]);
}

#[test]
fn there_must_be_something_to_subscribe_to() {
    let mut script = Script::open_as(ann());
    assert_eq!(script.admit(1, "void:1"), ["1: unknown_namespace"]);
    assert_eq!(script.admit(2, "presence:feed:1"), ["2: forbidden"]);
    assert_eq!(script.admit(3, "presence:**"), ["3: forbidden"]);
    assert_eq!(script.admit(4, "user:bob"), ["4: forbidden"], "another's, with its queue");
    assert_eq!(script.admit(5, "role:staff"), ["5: forbidden"]);
    assert_eq!(script.interests(), ["user:ann"]);
}

#[test]
fn it_is_counted_with_the_others() {
    let mut script = Script::open_as(ann());
    for n in 1..5 {
        script.admit(n, &format!("staff:{n}"));
    }
    assert_eq!(script.admit(5, "staff:5"), ["5: too_many_subscriptions"]);
}

#[test]
fn it_may_be_repeated() {
    let mut script = Script::open_as(ann());
    assert_eq!(script.admit(1, "user:ann"), ["1: subscribed user:ann"]);
    script.admit(2, "staff:1");
    assert_eq!(script.admit(3, "staff:1"), [""; 0]);
    assert_eq!(script.joined(2), ["2: subscribed and deliver staff:1", "3: subscribed staff:1"]);
    assert_eq!(script.admit(4, "staff:1"), ["4: subscribed staff:1"]);
    assert_eq!(script.send(5, unsubscribe("user:ann")), ["5: forbidden"]);
}

#[test]
fn the_client_may_leave_and_cannot_come_back_by_itself() {
    let mut script = Script::open();
    script.admit(1, "staff:1");
    script.joined(1);
    assert_eq!(script.send(2, subscribe("staff:1")), ["2: already_subscribed"]);
    assert_eq!(
        script.send(3, unsubscribe("staff:1")),
        ["leave staff:1", "3: unsubscribed staff:1"]
    );
    assert_eq!(script.send(4, subscribe("staff:1")), ["4: forbidden"]);
}

#[test]
fn who_leaves_while_it_is_under_way_is_out() {
    let mut script = Script::open();
    script.admit(1, "staff:1");
    script.send(2, unsubscribe("staff:1"));
    script.send(3, subscribe("staff:1"));
    assert_eq!(
        script.joined(1),
        [
            "1: subscribed and deliver staff:1",
            "leave staff:1",
            "2: unsubscribed staff:1",
            "3: forbidden"
        ]
    );
}

#[test]
fn a_fresh_token_ends_what_the_client_made_only() {
    let mut script = Script::open_as(ann_of_staff());
    script.admit(1, "staff:1");
    script.send(2, subscribe("staff:2"));
    script.joined(3);
    script.joined(4);
    script.admit(3, "staff:3");
    script.send(4, refresh());
    assert_eq!(
        script.verified(6, ann()),
        [
            "leave role:staff",
            "-: unsubscribed role:staff",
            "leave staff:2",
            "-: unsubscribed staff:2",
            "4: refreshed",
        ]
    );
    assert_eq!(script.joined(5), ["3: subscribed and deliver staff:3"], "also while it joins");
}

#[test]
fn what_the_client_made_can_become_the_servers() {
    let mut script = Script::open_as(ann_of_staff());
    script.send(1, subscribe("staff:1"));
    script.joined(3);
    assert_eq!(script.admit(2, "staff:1"), ["2: subscribed staff:1"]);
    script.send(3, subscribe("staff:2"));
    assert_eq!(script.admit(4, "staff:2"), [""; 0]);
    script.send(5, refresh());
    assert_eq!(
        script.verified(6, ann()),
        ["leave role:staff", "-: unsubscribed role:staff", "5: refreshed"]
    );
    let admitted = script.joined(4);
    assert_eq!(admitted, ["3: forbidden", "leave staff:2", "join #7 staff:2"]);
    assert_eq!(script.joined(7), ["4: subscribed and deliver staff:2"]);
}

#[test]
fn nothing_of_it_stays_for_who_resumes() {
    let mut script = Script::with(rules());
    let session = Resumption::From(Token::new("old".to_owned()));
    script.send(0, Command::Connect { token: None, acks: Acks::default(), session });
    let resumed = crate::resume::Resumed { origin: ConnectionId(3), identity: nobody() };
    script.session.handle_resumed(script.now, OpId(0), Ok(resumed));
    script.session.handle_kept(script.now, OpId(1), None);
    script.effects();
    assert_eq!(script.interests(), [""; 0]);
    assert_eq!(script.send(1, subscribe("staff:1")), ["1: forbidden"]);
}

#[test]
fn who_is_not_connected_or_has_to_go_is_not_subscribed() {
    let mut script = Script::with(rules());
    assert_eq!(script.admit(1, "staff:1"), ["1: not_connected"]);
    let mut script = Script::open();
    script.send(1, call("venue:1", None));
    script.drain();
    assert_eq!(script.admit(2, "staff:1"), ["2: unavailable"]);
    script.close(CloseCode::Normal);
    assert_eq!(script.admit(3, "staff:1"), [""; 0]);
}

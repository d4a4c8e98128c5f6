use super::*;

#[test]
fn the_answer_comes_before_the_first_message() {
    let mut script = Script::open();
    assert_eq!(script.send(1, subscribe("venue:1")), ["join #1 venue:1"]);
    assert_eq!(script.joined(1), ["1: subscribed and deliver venue:1"]);
    assert_eq!(script.send(2, subscribe("venue:*")), ["join #2 venue:*"]);
    assert_eq!(script.joined(2), ["2: subscribed and deliver venue:*"]);
    assert_eq!(
        script.send(3, unsubscribe("venue:1")),
        ["leave venue:1", "3: unsubscribed venue:1"]
    );
    assert_eq!(script.interests(), ["venue:*"]);
}

#[test]
fn what_the_rules_deny_never_reaches_the_bus() {
    let mut script = Script::open();
    assert_eq!(script.send(1, subscribe("staff:1")), ["1: forbidden"]);
    assert_eq!(script.send(2, subscribe("feed:*")), ["2: forbidden"]);
    assert_eq!(script.send(3, subscribe("user:ann")), ["3: forbidden"]);
    assert_eq!(script.send(4, subscribe("void:1")), ["4: unknown_namespace"]);
    assert_eq!(script.interests(), [""; 0]);
}

#[test]
fn a_connection_hears_what_is_for_itself_alone() {
    let own = format!("connection:{}", ConnectionId(7));
    let mut script = Script::open_as(ann());
    assert_eq!(script.send(1, subscribe(&own)), [format!("join #2 {own}")]);
    assert_eq!(script.joined(2), [format!("1: subscribed and deliver {own}")]);
    assert_eq!(script.admit(2, &own), [format!("2: subscribed {own}")]);
    script.send(3, refresh());
    assert_eq!(script.verified(3, ann()), ["3: refreshed"]);
    for other in [ConnectionId(8).to_string(), "*".to_owned(), "**".to_owned(), "7".to_owned()] {
        let other = format!("connection:{other}");
        assert_eq!(script.send(4, subscribe(&other)), ["4: forbidden"], "{other}");
        assert_eq!(script.admit(5, &other), ["5: forbidden"], "{other}");
    }
    assert_eq!(script.send(6, publish(&own, "m")), ["6: unknown_namespace m"]);
}

#[test]
fn a_resumed_connection_hears_what_is_for_the_first_one_of_its_session() {
    let mut script = Script::with(rules());
    let session = Resumption::From(Token::new("old".to_owned()));
    script.send(0, Command::Connect { token: None, acks: Acks::default(), session });
    let resumed = crate::resume::Resumed { origin: ConnectionId(3), identity: nobody() };
    script.session.handle_resumed(script.now, OpId(0), Ok(resumed));
    script.session.handle_kept(script.now, OpId(1), None);
    script.effects();
    for (op, id) in [(2, 3), (3, 7)] {
        let own = format!("connection:{}", ConnectionId(id));
        assert_eq!(script.send(1, subscribe(&own)), [format!("join #{op} {own}")]);
    }
}

#[test]
fn a_subscription_is_made_once_whether_live_or_not_yet() {
    let mut script = Script::open();
    script.send(1, subscribe("venue:1"));
    assert_eq!(script.send(2, subscribe("venue:1")), ["2: already_subscribed"]);
    script.joined(1);
    assert_eq!(script.send(3, subscribe("venue:1")), ["3: already_subscribed"]);
}

#[test]
fn subscriptions_are_counted() {
    let mut script = Script::open_as(ann());
    for n in 1..5 {
        script.send(n, subscribe(&format!("venue:{n}")));
    }
    assert_eq!(script.send(5, subscribe("venue:5")), ["5: too_many_subscriptions"]);
    script.joined(2);
    script.send(6, unsubscribe("venue:1"));
    assert_eq!(script.send(7, subscribe("venue:5")), ["join #6 venue:5"]);
}

#[test]
fn what_the_bus_refuses_is_left_and_may_be_tried_again() {
    let mut script = Script::open();
    script.send(1, subscribe("venue:1"));
    assert_eq!(
        script.join_outcome(1, Err(BusError::Unavailable)),
        ["1: unavailable", "leave venue:1"]
    );
    assert_eq!(script.send(2, subscribe("venue:1")), ["join #2 venue:1"]);
}

#[test]
fn unsubscribe_waits_for_the_join() {
    let mut script = Script::open();
    script.send(1, subscribe("venue:1"));
    assert_eq!(script.send(2, unsubscribe("venue:1")), [""; 0]);
    assert_eq!(
        script.joined(1),
        ["1: subscribed and deliver venue:1", "leave venue:1", "2: unsubscribed venue:1"]
    );
    assert_eq!(script.interests(), [""; 0]);
}

#[test]
fn unsubscribe_from_what_the_bus_refused_finds_nothing() {
    let mut script = Script::open();
    script.send(1, subscribe("venue:1"));
    script.send(2, unsubscribe("venue:1"));
    assert_eq!(
        script.join_outcome(1, Err(BusError::Timeout)),
        ["1: unavailable", "leave venue:1", "2: not_subscribed"]
    );
}

#[test]
fn changes_of_mind_are_carried_out_one_after_another() {
    let mut script = Script::open();
    script.send_all([
        (1, subscribe("venue:1")),
        (2, unsubscribe("venue:1")),
        (3, subscribe("venue:1")),
        (4, unsubscribe("venue:1")),
        (5, subscribe("venue:2")),
    ]);
    assert_eq!(script.effects(), ["join #1 venue:1", "join #5 venue:2"]);
    assert!(!script.session.has_room());
    let again = script.joined(1);
    assert_eq!(again[3], "join #6 venue:1");
    assert_eq!(script.send(6, subscribe("venue:1")), [""; 0]);
    assert_eq!(
        script.joined(6),
        [
            "3: subscribed and deliver venue:1",
            "leave venue:1",
            "4: unsubscribed venue:1",
            "join #9 venue:1"
        ]
    );
    assert_eq!(script.joined(9), ["6: subscribed and deliver venue:1"]);
}

#[test]
fn a_live_subscription_that_is_left_can_be_made_again_at_once() {
    let mut script = Script::open();
    script.send(1, subscribe("venue:1"));
    script.joined(1);
    script.send_all([(2, unsubscribe("venue:1")), (3, subscribe("venue:1"))]);
    assert_eq!(script.effects(), ["leave venue:1", "2: unsubscribed venue:1", "join #2 venue:1"]);
}

#[test]
fn only_what_the_client_made_can_it_end() {
    let mut script = Script::open_as(ann());
    assert_eq!(script.send(1, unsubscribe("user:ann")), ["1: forbidden"]);
    assert_eq!(script.send(2, unsubscribe("venue:1")), ["2: not_subscribed"]);
}

#[test]
fn a_fresh_token_of_the_same_user_goes_on() {
    let mut script = Script::open_as(ann());
    let expires = Some(Timestamp(script.now.wall.0 + 60_000));
    assert_eq!(script.send(1, refresh()), ["verify #2 fresh"]);
    assert_eq!(script.verified(2, Identity { expires, ..ann() }), ["1: refreshed"]);
    assert_eq!(script.session.identity().expires, expires);
}

#[test]
fn a_fresh_token_that_is_bad_or_anothers_changes_nothing() {
    let mut script = Script::open_as(ann());
    script.send(1, refresh());
    assert_eq!(script.verified(2, nobody()), ["1: unauthorized"]);
    script.send(2, refresh());
    assert_eq!(script.refused(3, ErrorCode::TokenExpired), ["2: token_expired"]);
    assert_eq!(script.session.identity().user, ann().user);
    assert!(script.session.is_open());
}

#[test]
fn refreshes_come_one_at_a_time() {
    let mut script = Script::open_as(ann());
    script.send(1, refresh());
    assert_eq!(script.send(2, refresh()), ["2: overloaded"]);
    assert_eq!(script.verified(2, ann()), ["1: refreshed"]);
}

#[test]
fn fewer_rights_end_what_they_no_longer_cover() {
    let mut script = Script::open_as(ann_of_staff());
    for (id, name) in [(1, "staff:1"), (2, "venue:1"), (3, "staff:*")] {
        script.send(id, subscribe(name));
    }
    script.joined(3);
    script.joined(4);
    script.send(4, refresh());
    assert_eq!(
        script.verified(6, ann()),
        [
            "leave role:staff",
            "-: unsubscribed role:staff",
            "leave staff:1",
            "-: unsubscribed staff:1",
            "4: refreshed",
        ]
    );
    assert_eq!(script.joined(5), ["3: forbidden", "leave staff:*"]);
    let mut left = script.interests();
    left.sort_unstable();
    assert_eq!(left, ["user:ann", "venue:1"]);
}

fn snapshot(name: &str, position: Option<Position>) -> Command {
    let Command::Subscribe { interest, .. } = subscribe(name) else { unreachable!() };
    let since = Since { position, age: None, rewind: Some(Rewind::Snapshot) };
    Command::Subscribe { interest, since: Some(Box::new(since)) }
}

#[test]
fn a_snapshot_is_of_retained_namespaces_only() {
    let mut script = Script::open();
    assert_eq!(script.send(1, snapshot("venue:*", None)), ["1: no_history"]);
    assert_eq!(script.send(2, snapshot("venue:1", None)), ["2: no_history"]);
    let position = "1.1".parse().ok();
    assert_eq!(script.send(3, snapshot("screen:*", position)), ["3: no_history"]);
    assert_eq!(script.send(4, snapshot("screen:1", position)), ["join #1 screen:1"]);
    assert_eq!(script.send(5, snapshot("screen:*", None)), ["join #2 screen:*"]);
    assert_eq!(script.joined(2), ["5: subscribed and deliver screen:* since"]);
}

#[test]
fn a_snapshot_that_does_not_fit_leaves_no_subscription() {
    let mut script = Script::open();
    script.send(1, snapshot("screen:*", None));
    script.joined(1);
    let failure = Failure::new(ErrorCode::SnapshotTooLarge, "no");
    let interest = Interest::Pattern("screen:*".parse().unwrap());
    script.session.handle_refused(Some(1), &interest, failure);
    assert_eq!(script.effects(), ["1: snapshot_too_large", "leave screen:*"]);
    assert_eq!(script.interests(), [""; 0]);
    assert_eq!(script.send(2, subscribe("screen:*")), ["join #2 screen:*"]);
}

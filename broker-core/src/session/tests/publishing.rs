use super::*;
use crate::session::publishing::MAX_FAILED;

#[test]
fn a_publish_is_answered_with_its_id() {
    let mut script = Script::open();
    assert_eq!(script.send(1, publish("venue:1", "a")), ["publish #1 venue:1 a"]);
    assert_eq!(script.published(1, Ok(())), ["1: published a"]);
    let made = MessageId::random(3);
    assert_eq!(script.send(2, publish("venue:1", "")), [format!("publish #2 venue:1 {made}")]);
    assert_eq!(script.published(2, Ok(())), [format!("2: published {made}")]);
}

#[test]
fn what_may_not_pass_is_refused_and_blocks_nothing() {
    let mut script = Script::open();
    assert_eq!(script.send(1, publish("feed:1", "a")), ["1: forbidden a"]);
    assert_eq!(script.send(2, publish("void:1", "b")), ["2: unknown_namespace b"]);
    let large = Publish { data: data(101), ..publish_of("venue:1", "c") };
    assert_eq!(script.send(3, Command::Publish(large)), ["3: message_too_large c"]);
    let full = Publish { data: data(100), ..publish_of("venue:1", "d") };
    assert_eq!(script.send(4, Command::Publish(full)), ["publish #1 venue:1 d"]);
    assert_eq!(script.published(1, Err(PublishError::TooLarge)), ["4: message_too_large d"]);
    assert_eq!(script.send(5, publish("venue:1", "e")), ["publish #2 venue:1 e"]);
}

#[test]
fn the_message_is_as_the_client_said() {
    let mut script = Script::open();
    let trace = Some("00-ab-cd-01".into());
    let quiet = Publish {
        event: Some("opened".parse().unwrap()),
        echo: false,
        trace,
        ..publish_of("venue:1", "a")
    };
    script.send_all([(1, Command::Publish(quiet)), (2, publish("venue:1", "b"))]);
    let Some(Effect::Publish { message, .. }) = script.session.poll_effect() else { panic!() };
    assert_eq!(message.time, script.now.wall);
    assert_eq!(message.event, Some("opened".parse().unwrap()));
    let options = message.options.unwrap();
    assert_eq!(options.trace.as_deref(), Some("00-ab-cd-01"));
    assert!(options.exclude.covers(ConnectionId(7), None));
    assert!(!options.exclude.covers(ConnectionId(8), None));
    let Some(Effect::Publish { message, .. }) = script.session.poll_effect() else { panic!() };
    assert_eq!(message.options, None);
}

#[test]
fn a_failed_publish_holds_its_channel_until_it_is_retried() {
    for (error, code) in [
        (PublishError::Unknown, "unknown"),
        (PublishError::Unavailable, "unavailable"),
        (PublishError::Overloaded, "overloaded"),
    ] {
        let mut script = Script::open();
        script.send(1, publish("venue:1", "a"));
        assert_eq!(script.published(1, Err(error)), [format!("1: {code} a")]);
        assert_eq!(script.send(2, publish("venue:1", "b")), ["2: publish_blocked b"]);
        assert_eq!(script.send(3, publish("venue:2", "c")), ["publish #2 venue:2 c"]);
        assert_eq!(script.send(4, publish("venue:1", "a")), ["publish #3 venue:1 a"]);
        assert_eq!(script.send(5, publish("venue:1", "b")), ["publish #4 venue:1 b"]);
        assert_eq!(script.published(3, Ok(())), ["4: published a"]);
        assert_eq!(script.published(4, Ok(())), ["5: published b"]);
    }
}

#[test]
fn a_failed_publish_can_be_given_up() {
    let mut script = Script::open();
    script.send(1, publish("venue:1", "a"));
    script.send(2, publish("venue:2", "b"));
    script.published(1, Err(PublishError::Unknown));
    script.published(2, Err(PublishError::Unknown));
    assert_eq!(script.send(3, abandon("venue:1")), ["3: abandoned"]);
    assert_eq!(script.send(4, publish("venue:1", "c")), ["publish #3 venue:1 c"]);
    assert_eq!(script.send(5, publish("venue:2", "d")), ["5: publish_blocked d"]);
    assert_eq!(script.send(6, abandon("venue:3")), ["6: abandoned"]);
}

#[test]
fn pipelined_publishes_that_failed_are_retried_in_their_order() {
    let mut script = Script::open();
    script.send_all([
        (1, publish("venue:1", "a")),
        (2, publish("venue:1", "b")),
        (3, publish("venue:1", "c")),
    ]);
    script.effects();
    // The outcomes come in any order; what holds the channel is the first that was published.
    assert_eq!(script.published(3, Err(PublishError::Unknown)), ["3: unknown c"]);
    assert_eq!(script.published(2, Ok(())), ["2: published b"]);
    assert_eq!(script.published(1, Err(PublishError::Unknown)), ["1: unknown a"]);
    assert_eq!(script.send(4, publish("venue:1", "c")), ["4: publish_blocked c"]);
    assert_eq!(script.send(5, publish("venue:1", "a")), ["publish #4 venue:1 a"]);
    assert_eq!(script.send(6, publish("venue:1", "d")), ["6: publish_blocked d"]);
    // A retry that fails takes its old place again.
    assert_eq!(script.published(4, Err(PublishError::Unknown)), ["5: unknown a"]);
    assert_eq!(script.send(7, publish("venue:1", "c")), ["7: publish_blocked c"]);
    script.send_all([(8, publish("venue:1", "a")), (9, publish("venue:1", "c"))]);
    assert_eq!(script.effects(), ["publish #5 venue:1 a", "publish #6 venue:1 c"]);
    assert_eq!(script.send(10, publish("venue:1", "d")), ["publish #7 venue:1 d"]);
}

#[test]
fn what_is_not_handed_over_yet_does_not_overtake_a_failure() {
    let mut script = Script::open();
    script.send(0, publish("venue:1", "z"));
    script.send_all([
        (1, publish("venue:1", "a")),
        (2, publish("venue:1", "b")),
        (3, publish("venue:2", "c")),
    ]);
    // The driver hands the first over, and is refused at once.
    assert_eq!(script.session.poll_effect().map(|e| render(&e)).unwrap(), "publish #2 venue:1 a");
    assert_eq!(
        script.published(2, Err(PublishError::Overloaded)),
        ["publish #4 venue:2 c", "1: overloaded a", "2: publish_blocked b"]
    );
    assert_eq!(script.published(1, Ok(())), ["0: published z"]);
    assert_eq!(script.send(4, publish("venue:1", "b")), ["4: publish_blocked b"]);
    assert_eq!(script.send(5, publish("venue:1", "a")), ["publish #5 venue:1 a"]);
    assert_eq!(script.send(6, publish("venue:1", "b")), ["publish #6 venue:1 b"]);
}

#[test]
fn a_retry_that_is_held_back_stays_to_be_retried() {
    let mut script = Script::open();
    script.send_all([(1, publish("venue:1", "a")), (2, publish("venue:1", "b"))]);
    script.effects();
    script.published(1, Err(PublishError::Unknown));
    script.published(2, Err(PublishError::Unknown));
    script.send_all([(3, publish("venue:1", "a")), (4, publish("venue:1", "b"))]);
    script.session.poll_effect();
    assert_eq!(
        script.published(3, Err(PublishError::Unavailable)),
        ["3: unavailable a", "4: publish_blocked b"]
    );
    assert_eq!(script.send(5, publish("venue:1", "a")), ["publish #5 venue:1 a"]);
    assert_eq!(script.send(6, publish("venue:1", "c")), ["6: publish_blocked c"]);
    assert_eq!(script.send(7, publish("venue:1", "b")), ["publish #6 venue:1 b"]);
}

#[test]
fn one_id_tried_twice_at_once_counts_once() {
    let mut script = Script::open();
    script.send_all([(1, publish("venue:1", "a")), (2, publish("venue:1", "a"))]);
    script.effects();
    script.published(1, Err(PublishError::Unknown));
    script.published(2, Ok(()));
    assert_eq!(script.send(3, publish("venue:1", "b")), ["publish #3 venue:1 b"]);
}

#[test]
fn failures_are_remembered_up_to_a_bound() {
    let mut script = Script::open();
    for n in 0..MAX_FAILED {
        script.send(0, publish(&format!("venue:{n}"), "a"));
        script.published(u32::try_from(n + 1).unwrap(), Err(PublishError::Unavailable));
    }
    assert_eq!(script.send(1, publish("venue:x", "b")), ["1: publish_blocked b"]);
    script.send(2, abandon("venue:7"));
    assert_eq!(script.send(3, publish("venue:x", "b")), ["publish #65 venue:x b"]);
}

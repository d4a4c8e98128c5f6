//! Rules that change while sessions are open.

use super::*;
use crate::resume::Resumed;

impl Script {
    fn change(&mut self, change: impl FnOnce(&mut Rules)) -> Vec<String> {
        let mut rules = rules();
        change(&mut rules);
        self.session.handle_rules(Arc::new(rules));
        self.effects()
    }
}

fn forbid(rules: &mut Rules, namespace: &str) {
    let nobody = NamespaceRules::default();
    rules.namespaces.declared.insert(namespace.parse().unwrap(), nobody);
}

fn resume(secret: &str) -> Command {
    let session = Resumption::From(Token::new(secret.to_owned()));
    Command::Connect { token: None, acks: Acks::default(), session }
}

#[test]
fn what_they_forbid_ends_and_the_rest_goes_on() {
    let mut script = Script::open();
    for (op, channel) in [(1_u32, "venue:1"), (2, "feed:1")] {
        script.send(op.into(), subscribe(channel));
        script.joined(op);
    }
    assert_eq!(script.change(|_| ()), [""; 0]);
    assert_eq!(
        script.change(|rules| forbid(rules, "venue")),
        ["leave venue:1", "-: unsubscribed venue:1"]
    );
    assert_eq!(script.interests(), ["feed:1"]);
    assert_eq!(script.send(3, publish("venue:1", "m")), ["3: forbidden m"]);
    assert_eq!(script.change(|_| ()), [""; 0], "the client is to subscribe again");
    assert_eq!(script.send(4, subscribe("venue:1")), ["join #3 venue:1"]);
}

#[test]
fn what_is_being_joined_is_looked_at_again() {
    let mut script = Script::open();
    script.send(1, subscribe("venue:1"));
    assert_eq!(script.change(|rules| forbid(rules, "venue")), [""; 0]);
    assert_eq!(script.joined(1), ["1: forbidden", "leave venue:1"]);
}

#[test]
fn what_the_server_decided_ends_with_its_namespace_alone() {
    let mut script = Script::open_as(ann());
    script.admit(1, "staff:1");
    script.joined(2);
    assert_eq!(script.change(|rules| forbid(rules, "staff")), [""; 0]);
    let undeclared = script.change(|rules| drop(rules.namespaces.declared.remove("staff")));
    assert_eq!(undeclared, ["leave staff:1", "-: unsubscribed staff:1"]);
    assert_eq!(script.interests(), ["user:ann"]);
}

#[test]
fn channels_of_the_clients_own_can_be_taken_away() {
    let mut with_news = rules();
    with_news.namespaces.on_connect = vec!["feed:{user}".parse().unwrap()];
    let mut script = Script::with(with_news);
    script.send(0, connect(Some("token")));
    script.verified(0, ann());
    script.joined(1);
    script.joined(2);
    assert_eq!(script.interests(), ["user:ann", "feed:ann"]);
    assert_eq!(script.change(|_| ()), ["leave feed:ann", "-: unsubscribed feed:ann"]);
}

#[test]
fn who_connects_meanwhile_connects_again() {
    let mut with_news = rules();
    with_news.namespaces.on_connect = vec!["news:{user}".parse().unwrap()];
    let mut script = Script::with(with_news);
    script.send(0, connect(Some("token")));
    script.verified(0, ann());
    assert_eq!(script.change(|_| ()), [""; 0]);
    script.joined(1);
    assert_eq!(script.joined(2), ["0: unavailable", "close 1013"]);
}

#[test]
fn what_was_joined_before_the_answer_is_looked_at_again() {
    let news = |rules: &mut Rules| {
        rules.namespaces.on_connect = vec!["feed:{user}".parse().unwrap()];
    };
    let connecting = || {
        let mut with_news = rules();
        news(&mut with_news);
        let mut script = Script::with(with_news);
        script.send(0, connect(Some("token")));
        assert_eq!(script.verified(0, ann()), ["join #1 user:ann", "join #2 feed:ann"]);
        assert_eq!(script.joined(2), [""; 0]);
        script
    };
    let mut script = connecting();
    let closed = ["0: unavailable", "close 1013"];
    assert_eq!(script.change(|rules| forbid(rules, "feed")), closed);

    let mut script = connecting();
    assert_eq!(script.change(news), [""; 0]);
    let opened = ["opened", "0: connected user:ann feed:ann", "deliver user:ann"];
    assert_eq!(script.joined(1)[..3], opened);
    assert_eq!(script.send(1, unsubscribe("feed:ann")), ["1: forbidden"]);

    let mut script = connecting();
    assert_eq!(script.change(|_| ()), [""; 0], "the client's own right is enough");
    script.joined(1);
    assert_eq!(
        script.send(1, unsubscribe("feed:ann")),
        ["leave feed:ann", "1: unsubscribed feed:ann"]
    );
}

#[test]
fn nobody_has_to_go_where_a_token_is_needed_now() {
    let mut script = Script::open();
    assert_eq!(script.change(|rules| rules.anonymous = false), ["close 4500"]);
    let mut script = Script::open_as(ann());
    assert_eq!(script.change(|rules| rules.anonymous = false), [""; 0]);
}

/// Also by a session that was kept, and where the connect was under way.
#[test]
fn nobody_comes_in_where_a_token_is_needed_now() {
    let refused = ["1: unauthorized", "close 4500"];
    let mut script = Script::with(Rules { anonymous: false, ..rules() });
    script.send(1, resume("old"));
    let kept = Resumed { origin: ConnectionId(3), identity: nobody() };
    script.session.handle_resumed(script.now, OpId(0), Ok(kept));
    assert_eq!(script.effects(), ["keep #1"]);
    script.session.handle_kept(script.now, OpId(1), Some(Token::new("new".to_owned())));
    assert_eq!(script.effects(), refused);

    let mut script = Script::with(rules());
    assert_eq!(script.send(1, connect(None)), ["admit #0"]);
    assert_eq!(script.change(|rules| rules.anonymous = false), [""; 0]);
    assert_eq!(script.verified(0, nobody()), refused);

    let mut script = Script::with(rules());
    script.send(0, connect(Some("token")));
    script.change(|rules| rules.anonymous = false);
    script.verified(0, ann());
    assert_eq!(script.joined(1), ["opened", "0: connected user:ann", "deliver user:ann"]);
}

#[test]
fn limits_hold_for_what_comes_next() {
    let mut script = Script::open();
    script.send(1, subscribe("venue:1"));
    script.joined(1);
    assert_eq!(script.change(|rules| rules.limits.subscriptions = 1), [""; 0]);
    assert_eq!(script.send(2, subscribe("venue:2")), ["2: too_many_subscriptions"]);
    script.change(|rules| rules.limits.message_bytes = 2);
    assert_eq!(script.send(3, publish("venue:1", "m")), ["3: message_too_large m"]);
}

use super::*;
use crate::resume::Resumed;

impl Script {
    fn kept(&mut self, op: u32, secret: Option<&str>) -> Vec<String> {
        let secret = secret.map(|text| Token::new(text.to_owned()));
        self.session.handle_kept(self.now, OpId(op), secret);
        self.effects()
    }

    fn resumed(&mut self, op: u32, identity: Identity) -> Vec<String> {
        let resumed = Resumed { origin: ConnectionId(3), identity };
        self.session.handle_resumed(self.now, OpId(op), Ok(resumed));
        self.effects()
    }

    fn lost(&mut self, op: u32) -> Vec<String> {
        let failure = Failure::new(ErrorCode::SessionLost, "no");
        self.session.handle_resumed(self.now, OpId(op), Err(failure));
        self.effects()
    }

    /// A resumed connection of Ann's.
    fn resume() -> Self {
        let mut script = Self::with(rules());
        script.send(1, from("old"));
        script.resumed(0, ann());
        script.kept(1, Some("new"));
        script.joined(2);
        assert!(script.session.is_open());
        script
    }
}

fn offered(token: Option<&str>) -> Command {
    let token = token.map(|text| Token::new(text.to_owned()));
    Command::Connect { token, acks: Acks::default(), session: Resumption::Offered }
}

fn from(secret: &str) -> Command {
    let session = Resumption::From(Token::new(secret.to_owned()));
    Command::Connect { token: None, acks: Acks::default(), session }
}

#[test]
fn a_session_is_told_once_it_is_kept() {
    let mut script = Script::with(rules());
    assert_eq!(script.send(1, offered(Some("token"))), ["verify #0 token"]);
    assert_eq!(script.verified(0, ann()), ["keep #1", "join #2 user:ann"]);
    assert_eq!(script.joined(2), [""; 0]);
    assert_eq!(
        script.kept(1, Some("secret")),
        ["opened", "1: connected user:ann session secret", "deliver user:ann"]
    );
    assert_eq!(script.session.origin(), ConnectionId(7));
}

#[test]
fn a_session_that_cannot_be_kept_is_none_and_harms_nothing() {
    let mut script = Script::with(rules());
    assert_eq!(script.send(1, offered(None)), ["admit #0"]);
    assert_eq!(script.verified(0, nobody()), ["keep #1"]);
    assert_eq!(script.kept(1, None), ["opened", "1: connected"]);
    script.send(2, refresh());
    assert_eq!(script.verified(2, nobody()), ["2: refreshed"]);
}

#[test]
fn a_resumed_session_has_its_identity_and_a_new_secret() {
    let mut script = Script::with(rules());
    assert_eq!(script.send(1, from("old")), ["resume #0 old"]);
    assert_eq!(script.send(2, subscribe("staff:1")), [""; 0]);
    let asks = ["keep #1", "join #2 user:ann", "join #3 role:staff"];
    assert_eq!(script.resumed(0, ann_of_staff()), asks);
    script.kept(1, Some("new"));
    script.joined(2);
    assert_eq!(
        script.joined(3),
        [
            "opened",
            "1: resumed user:ann role:staff session new",
            "deliver user:ann",
            "deliver role:staff",
            "join #4 staff:1",
        ]
    );
}

#[test]
fn what_a_session_sent_before_is_its_own() {
    let mut script = Script::resume();
    assert_eq!(script.session.origin(), ConnectionId(3));
    let silent = Publish { echo: false, ..publish_of("venue:1", "a") };
    script.send_all([(2, Command::Publish(silent))]);
    let Some(Effect::Publish { message, .. }) = script.session.poll_effect() else { panic!() };
    assert!(message.options.unwrap().exclude.covers(ConnectionId(3), None));
}

#[test]
fn without_its_session_a_client_connects_with_a_token() {
    let mut script = Script::with(rules());
    script.send(1, from("old"));
    script.send(2, subscribe("venue:1"));
    assert_eq!(script.lost(0), ["1: session_lost", "2: not_connected"]);
    assert_eq!(script.send(3, from("old")), ["3: bad_request"]);
    assert_eq!(script.sleeps(), Some(10 * SECOND));
    assert_eq!(script.send(4, offered(Some("token"))), ["verify #1 token"]);
    assert_eq!(script.verified(1, nobody()), ["keep #2"]);
    assert_eq!(script.kept(2, Some("new")), ["opened", "4: connected session new"]);
}

#[test]
fn the_token_may_come_right_behind_the_secret() {
    let mut script = Script::with(rules());
    script.send(1, from("old"));
    script.send(2, connect(Some("token")));
    script.send(3, subscribe("venue:1"));
    assert_eq!(script.lost(0), ["1: session_lost", "verify #1 token"]);
    let open = ["opened", "2: connected", "join #2 venue:1"];
    assert_eq!(script.verified(1, nobody()), open);

    let mut script = Script::with(rules());
    script.send(1, from("old"));
    script.send(2, connect(Some("token")));
    assert_eq!(script.resumed(0, nobody()), ["keep #1"]);
    let open = ["opened", "1: resumed session new", "2: already_connected"];
    assert_eq!(script.kept(1, Some("new")), open);
}

#[test]
fn a_store_that_hangs_is_not_the_clients_fault() {
    let mut script = Script::with(rules());
    script.send(1, from("old"));
    assert_eq!(script.after(10 * SECOND), ["1: unavailable", "close 1013"]);
    assert_eq!(script.resumed(0, ann()), [""; 0]);
}

#[test]
fn a_fresh_token_changes_what_is_kept() {
    let mut script = Script::resume();
    script.send(2, refresh());
    assert_eq!(script.verified(3, ann_of_staff()), ["keep anew", "2: refreshed"]);
}

#[test]
fn the_end_of_the_token_is_the_end_of_a_resumed_connection() {
    let mut script = Script::with(rules());
    script.send(1, from("old"));
    let expires = Some(Timestamp(script.now.wall.0 + 31_000));
    script.resumed(0, Identity { expires, ..nobody() });
    script.kept(1, Some("new"));
    assert_eq!(script.after(SECOND), ["-: expiring in 30s"]);
    assert_eq!(script.after(30 * SECOND), ["-: token_expired", "close 4003"]);
}

#[test]
fn a_drain_waits_for_a_session_to_be_resumed() {
    let mut script = Script::with(rules());
    script.send(1, from("old"));
    assert_eq!(script.drain(), ["-: reconnect after 2s"]);
    assert_eq!(script.resumed(0, nobody()), ["keep #1"]);
    assert_eq!(script.kept(1, Some("new")), ["opened", "1: resumed session new", "close 1012"]);
}

use super::*;
use crate::{
    position::{Epoch, Offset},
    recovery::Recovered,
};

impl Script {
    fn recovered(&mut self, op: u32, names: &[&str]) -> Vec<String> {
        let outcome = Some(recovered(names.iter().copied()));
        self.session.handle_recovered(self.now, OpId(op), outcome);
        self.effects()
    }

    fn caught_up(&mut self, op: u32, all: bool) -> Vec<String> {
        self.session.handle_caught_up(self.now, OpId(op), all);
        self.effects()
    }

    fn kept_as(&mut self, op: u32, secret: Option<&str>) -> Vec<String> {
        let secret = secret.map(|text| Token::new(text.to_owned()));
        self.session.handle_kept(self.now, OpId(op), secret);
        self.effects()
    }

    /// Ann, who has said what she goes on with.
    fn coming_back() -> Self {
        let mut script = Self::with(rules());
        assert_eq!(script.send(1, recoverable(Some("pid"))), ["verify #0 token"]);
        assert_eq!(script.verified(0, ann()), ["recover #1 pid"]);
        script
    }
}

pub(super) fn recoverable(secret: Option<&str>) -> Command {
    let secret = secret.map(|text| Token::new(text.to_owned()));
    let token = Some(Token::new("token".to_owned()));
    Command::Connect { token, acks: Acks::default(), session: Resumption::Recoverable(secret) }
}

pub(super) fn recovered<'a>(names: impl Iterator<Item = &'a str>) -> Recovered {
    let position = Position { epoch: Epoch(1), offset: Offset(2), fingerprint: None };
    let since = Since { position: Some(position), ..Since::default() };
    let subscriptions = names.map(|name| (interest(name), Box::new(since.clone()))).collect();
    Recovered { origin: ConnectionId(3), subscriptions }
}

#[test]
fn a_session_is_kept_with_its_first_channels() {
    let mut script = Script::with(rules());
    assert_eq!(script.send(1, recoverable(None)), ["verify #0 token"]);
    assert_eq!(script.verified(0, ann()), ["join #1 user:ann"]);
    assert_eq!(script.joined(1), ["keep #2"]);
    let open = ["opened", "1: connected user:ann session pid", "deliver user:ann"];
    assert_eq!(script.kept_as(2, Some("pid")), open);
}

#[test]
fn what_was_missed_comes_before_the_answer() {
    let mut script = Script::coming_back();
    let joins = ["join #2 venue:1", "join #3 user:ann"];
    assert_eq!(script.recovered(1, &["venue:1"]), joins);
    assert_eq!(script.joined(3), [""; 0]);
    assert_eq!(script.joined(2), ["keep #4"]);
    assert_eq!(script.kept_as(4, Some("pid")), ["catch up #5 venue:1"]);
    assert_eq!(
        script.caught_up(5, true),
        [
            "opened",
            "1: resumed venue:1 user:ann session pid",
            "deliver venue:1",
            "deliver user:ann"
        ]
    );
    assert_eq!(script.session.origin(), ConnectionId(3));
    assert_eq!(
        script.send(2, unsubscribe("venue:1")),
        ["leave venue:1", "2: unsubscribed venue:1"]
    );
    assert_eq!(script.send(3, unsubscribe("user:ann")), ["3: forbidden"]);
}

#[test]
fn its_own_channel_is_that_of_its_first_connection() {
    let own = |id| format!("connection:{}", ConnectionId(id));
    let joins = [format!("join #2 {}", own(3)), "join #3 user:ann".to_owned()];
    assert_eq!(Script::coming_back().recovered(1, &[&own(3)]), joins);
    let other = Script::coming_back().recovered(1, &[&own(4)]);
    assert_eq!(other[0], "begin anew");
}

#[test]
fn where_not_all_is_left_everything_begins_anew() {
    let mut script = Script::coming_back();
    script.recovered(1, &["venue:1", "user:ann"]);
    script.joined(2);
    script.joined(3);
    assert_eq!(script.kept_as(4, Some("pid")), ["catch up #5 venue:1 user:ann"]);
    assert_eq!(script.caught_up(5, false), ["leave venue:1", "begin anew", "keep #6"]);
    let open = ["opened", "1: connected user:ann session new", "deliver user:ann"];
    assert_eq!(script.kept_as(6, Some("new")), open);
    assert_eq!(script.session.origin(), ConnectionId(7));
}

#[test]
fn what_is_not_allowed_any_more_is_not_gone_on_with() {
    let mut script = Script::coming_back();
    let anew = ["begin anew", "join #2 user:ann"];
    assert_eq!(script.recovered(1, &["venue:1", "staff:1"]), anew);
    assert_eq!(script.joined(2), ["keep #3"]);

    let mut script = Script::coming_back();
    let many: Vec<String> = (0..5).map(|number| format!("venue:{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(script.recovered(1, &many), anew);
}

#[test]
fn without_anything_to_go_on_with_one_connects() {
    let mut script = Script::coming_back();
    script.session.handle_recovered(script.now, OpId(1), None);
    assert_eq!(script.effects(), ["join #2 user:ann"]);
    assert_eq!(script.joined(2), ["keep #3"]);
    let open = ["opened", "1: connected user:ann", "deliver user:ann"];
    assert_eq!(script.kept_as(3, None), open);
}

#[test]
fn who_cannot_be_recovered_again_is_not_recovered() {
    let mut script = Script::coming_back();
    script.recovered(1, &["venue:1"]);
    script.joined(2);
    script.joined(3);
    assert_eq!(
        script.kept_as(4, None),
        ["leave venue:1", "begin anew", "opened", "1: connected user:ann", "deliver user:ann"]
    );
}

#[test]
fn a_token_that_is_refused_recovers_nothing() {
    let mut script = Script::with(rules());
    script.send(1, recoverable(Some("pid")));
    assert_eq!(script.refused(0, ErrorCode::Unauthorized), ["1: unauthorized", "close 4500"]);
}

#[test]
fn a_bus_that_is_away_leaves_the_session_where_it_is() {
    let mut script = Script::coming_back();
    script.recovered(1, &["venue:1"]);
    assert_eq!(
        script.join_outcome(2, Err(BusError::Timeout)),
        ["leave venue:1", "1: unavailable", "close 1013"]
    );
}

use super::*;
use crate::ports::StoreError;

#[test]
fn who_may_see_the_members_is_told() {
    let mut script = Script::open();
    assert_eq!(script.send(1, members("venue:1")), ["members #1 venue:1"]);
    assert_eq!(script.members(1, Ok(nobody_in("venue:1"))), ["1: present venue:1"]);
    assert_eq!(script.send(2, members("venue:1")), ["members #2 venue:1"]);
    assert_eq!(script.members(2, Err(StoreError::Unavailable.into())), ["2: unavailable"]);
}

#[test]
fn who_may_not_is_refused_each_time() {
    let mut script = Script::open();
    assert_eq!(script.send(1, members("staff:1")), ["1: forbidden"]);
    assert_eq!(script.send(2, members("feed:1")), ["2: forbidden"], "has no presence");
    assert_eq!(script.send(3, members("presence:venue:1")), ["3: forbidden"]);
    assert_eq!(script.send(4, members("void:1")), ["4: unknown_namespace"]);
    assert_eq!(script.send(5, publish("presence:venue:1", "a")), ["5: forbidden a"]);
}

#[test]
fn a_drain_waits_for_the_answer() {
    let mut script = Script::open();
    script.send(1, members("venue:1"));
    assert_eq!(script.drain(), ["-: reconnect after 2s"]);
    assert_eq!(script.members(1, Ok(nobody_in("venue:1"))), ["1: present venue:1", "close 1012"]);
}

impl Script {
    fn members(&mut self, op: u32, outcome: Result<Present, Failure>) -> Vec<String> {
        self.session.handle_members(OpId(op), outcome);
        self.effects()
    }
}

pub(super) fn members(channel: &str) -> Command {
    Command::Members(MembersQuery { channel: channel.parse().unwrap(), cursor: None, limit: 100 })
}

pub(super) fn nobody_in(channel: &str) -> Present {
    Present { channel: channel.parse().unwrap(), count: Default::default(), page: None }
}

//! The laws of [`Roster`].

use std::{collections::BTreeSet, future::ready, mem, sync::Arc, time::Duration};

use broker_core::{
    ChannelName, ConnectionId, NodeId, Timestamp, UserId,
    ports::{
        Attendance, BoxFuture, ChannelNews, Lease, Member, MemberCount, MemberEvent,
        MemberEventKind, MemberInfo, MemberPage, Presence, Roster,
    },
};
use parking_lot::Mutex;

use super::PATIENCE;
use crate::eventually;

/// Makes a test of each law; `$make` is a future that gives `(Arc<dyn Presence>, Arc<dyn Roster>,
/// anything)`, with a grace of [`GRACE`].
#[macro_export]
macro_rules! roster_contract {
    ($make:expr) => {
        $crate::__laws! { $crate::contract::roster, $make;
            who_is_noted_is_listed_and_counted
            notes_may_be_repeated
            the_first_in_and_the_last_out_are_told_once
            who_comes_back_within_the_grace_has_not_left
            who_has_no_user_is_counted_and_not_told
            a_dead_gateway_holds_nobody
            who_is_elsewhere_too_does_not_leave_with_a_dead_gateway
            a_gateway_that_stops_leaves_its_members_the_grace
            who_is_told_anew_has_not_left
            it_is_kept_when_a_user_was_last_seen
            pages_hold_every_member
            cursors_of_others_are_refused
        }
    };
}

/// The stores under test, and what must live as long.
pub type Fixture<K> = (Arc<dyn Presence>, Arc<dyn Roster>, K);

/// How long after their last connection a user has not left yet.
pub const GRACE: Duration = Duration::from_millis(400);

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(500);

/// Who was told to have joined or left.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<Mutex<Vec<MemberEvent>>>);

impl Told {
    /// Takes what is told.
    pub fn tell(
        &self,
    ) -> impl Fn(Vec<MemberEvent>) -> BoxFuture<'static, ()> + Send + Sync + use<> {
        let told = Arc::clone(&self.0);
        move |events| {
            told.lock().extend(events);
            Box::pin(ready(()))
        }
    }

    /// What was told since this was asked last.
    #[must_use]
    pub fn take(&self) -> Vec<MemberEvent> {
        mem::take(&mut self.0.lock())
    }
}

fn node(name: &str) -> NodeId {
    name.parse().expect("a node id")
}

fn channel(name: &str) -> ChannelName {
    name.parse().expect("a channel")
}

fn user(name: &str) -> UserId {
    name.parse().expect("a user id")
}

fn member(name: &str) -> Member {
    Member::User(user(name))
}

async fn renew(presence: &dyn Presence, name: &str, ttl: Duration) {
    let lease = Lease {
        node: node(name),
        ttl,
        started: Timestamp(1),
        version: String::new(),
        connections: 0,
        users: 0,
        channels: 0,
        subscriptions: 0,
        bus_ok: true,
    };
    presence.renew(lease).await.expect("renews");
}

/// What a gateway has to say about one member of a channel.
fn news(name: &str, member: Member, connections: u32) -> ChannelNews {
    let since = Timestamp(7_000);
    ChannelNews {
        channel: channel(name),
        members: vec![Attendance { member, connections, since }],
        deserted: connections == 0,
    }
}

async fn note(roster: &dyn Roster, at: &str, news: ChannelNews) -> Vec<MemberEvent> {
    let told = Told::default();
    roster.note(node(at), vec![news], &told.tell()).await.expect("notes");
    told.take()
}

fn joined(name: &str, who: &str) -> MemberEvent {
    MemberEvent { channel: channel(name), user: user(who), kind: MemberEventKind::Joined }
}

async fn count(roster: &dyn Roster, name: &str) -> (u64, u64) {
    let MemberCount { users, connections } = roster.count(channel(name)).await.expect("answers");
    (users, connections)
}

async fn page(roster: &dyn Roster, name: &str, cursor: Option<String>) -> MemberPage {
    roster.members(channel(name), cursor, 100).await.expect("answers")
}

/// Members and their connections, in order.
async fn list(roster: &dyn Roster, name: &str) -> Vec<(Member, u64)> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let MemberPage { members, next } = page(roster, name, cursor).await;
        found.extend(members.into_iter().map(|it| (it.member, it.connections)));
        cursor = next;
        if cursor.is_none() {
            found.sort();
            return found;
        }
    }
}

/// Tidies, and says who left: as `channel user`.
async fn tidy(roster: &dyn Roster) -> Vec<String> {
    let told = Told::default();
    roster.tidy(&told.tell()).await.expect("tidies");
    let left = told.take().into_iter().map(|MemberEvent { channel, user, kind }| {
        assert!(matches!(kind, MemberEventKind::Left(_)), "{kind:?}");
        format!("{channel} {user}")
    });
    left.collect()
}

/// Tidies until somebody leaves, and says who did.
async fn leaves(roster: &dyn Roster) -> Vec<String> {
    eventually("somebody leaves", PATIENCE, async || {
        let mut left = tidy(roster).await;
        left.sort();
        (!left.is_empty()).then_some(left)
    })
    .await
}

/// Members can be listed, with their connections on all gateways, and counted.
pub async fn who_is_noted_is_listed_and_counted<K>((presence, roster, _): &Fixture<K>) {
    renew(&**presence, "a", LONG).await;
    renew(&**presence, "b", LONG).await;
    let strange = "ann:1{x} #~é=2";
    note(&**roster, "a", news("venue:1", member(strange), 2)).await;
    note(&**roster, "b", news("venue:1", member(strange), 1)).await;
    note(&**roster, "b", news("venue:1", member("bob"), 1)).await;
    note(&**roster, "b", news("venue:2", member("bob"), 1)).await;
    let expected = [(member(strange), 3), (member("bob"), 1)];
    assert_eq!(list(&**roster, "venue:1").await, expected);
    assert_eq!(count(&**roster, "venue:1").await, (2, 4));
    let one = page(&**roster, "venue:2", None).await;
    let bob = MemberInfo { member: member("bob"), connections: 1, since: Timestamp(7_000) };
    assert_eq!(one, MemberPage { members: vec![bob], next: None });
    assert_eq!(list(&**roster, "venue:3").await, []);
    assert_eq!(count(&**roster, "venue:3").await, (0, 0));
}

/// Repeating a note changes nothing, and nobody joins twice.
pub async fn notes_may_be_repeated<K>((presence, roster, _): &Fixture<K>) {
    renew(&**presence, "a", LONG).await;
    for expected in [vec![joined("venue:1", "ann")], vec![]] {
        let events = note(&**roster, "a", news("venue:1", member("ann"), 2)).await;
        assert_eq!(events, expected);
        assert_eq!(count(&**roster, "venue:1").await, (1, 2));
    }
    for _ in 0..2 {
        assert_eq!(note(&**roster, "a", news("venue:1", member("ann"), 0)).await, []);
        assert_eq!(note(&**roster, "a", news("venue:1", member("bob"), 0)).await, []);
    }
    assert_eq!(leaves(&**roster).await, ["venue:1 ann"]);
    assert_eq!(note(&**roster, "a", news("venue:1", member("ann"), 0)).await, []);
    assert_eq!(count(&**roster, "venue:1").await, (0, 0));
    assert_eq!(roster.life(node("a")).await, roster.life(node("b")).await);
}

/// A user joins with the first connection anywhere, and leaves with the last.
pub async fn the_first_in_and_the_last_out_are_told_once<K>((presence, roster, _): &Fixture<K>) {
    renew(&**presence, "a", LONG).await;
    renew(&**presence, "b", LONG).await;
    let ann = |connections| news("venue:1", member("ann"), connections);
    assert_eq!(note(&**roster, "a", ann(1)).await, [joined("venue:1", "ann")]);
    assert_eq!(note(&**roster, "a", ann(2)).await, []);
    assert_eq!(note(&**roster, "b", ann(1)).await, []);
    note(&**roster, "a", ann(0)).await;
    note(&**roster, "a", news("venue:1", member("bob"), 1)).await;
    note(&**roster, "a", news("venue:1", member("bob"), 0)).await;
    assert_eq!(leaves(&**roster).await, ["venue:1 bob"], "ann is still at b");
    note(&**roster, "b", ann(0)).await;
    assert_eq!(list(&**roster, "venue:1").await, [(member("ann"), 0)], "within the grace");
    assert_eq!(count(&**roster, "venue:1").await, (1, 0));
    assert_eq!(leaves(&**roster).await, ["venue:1 ann"]);
    assert_eq!(list(&**roster, "venue:1").await, []);
    assert_eq!(count(&**roster, "venue:1").await, (0, 0));
    assert_eq!(note(&**roster, "a", ann(1)).await, [joined("venue:1", "ann")], "once more");
}

/// A reconnect to another gateway goes unnoticed, and so does what was left of the first grace.
pub async fn who_comes_back_within_the_grace_has_not_left<K>((presence, roster, _): &Fixture<K>) {
    renew(&**presence, "a", LONG).await;
    renew(&**presence, "b", LONG).await;
    let ann = |connections| news("venue:1", member("ann"), connections);
    let bob = |connections| news("venue:1", member("bob"), connections);
    note(&**roster, "a", ann(1)).await;
    note(&**roster, "a", bob(1)).await;
    note(&**roster, "a", ann(0)).await;
    note(&**roster, "a", bob(0)).await;
    assert_eq!(note(&**roster, "b", ann(1)).await, []);
    assert_eq!(leaves(&**roster).await, ["venue:1 bob"]);
    assert_eq!(list(&**roster, "venue:1").await, [(member("ann"), 1)]);
    assert_eq!(count(&**roster, "venue:1").await, (1, 1));
}

/// A connection without a user is a member of its own.
pub async fn who_has_no_user_is_counted_and_not_told<K>((presence, roster, _): &Fixture<K>) {
    renew(&**presence, "a", LONG).await;
    let nobody = |id| Member::Anonymous(ConnectionId(id));
    assert_eq!(note(&**roster, "a", news("venue:1", nobody(1), 1)).await, []);
    assert_eq!(note(&**roster, "a", news("venue:1", nobody(2), 1)).await, []);
    assert_eq!(count(&**roster, "venue:1").await, (0, 2));
    assert_eq!(list(&**roster, "venue:1").await, [(nobody(1), 1), (nobody(2), 1)]);
    assert_eq!(note(&**roster, "a", news("venue:1", nobody(1), 0)).await, []);
    assert_eq!(list(&**roster, "venue:1").await, [(nobody(2), 1)], "without grace");
    note(&**roster, "a", news("venue:1", nobody(2), 0)).await;
    assert_eq!(count(&**roster, "venue:1").await, (0, 0));
}

async fn lease_ends(presence: &dyn Presence, name: &str) {
    eventually("the lease ends", PATIENCE, async || {
        let living = presence.gateways().await.expect("answers");
        living.iter().all(|lease| lease.node != node(name)).then_some(())
    })
    .await;
}

/// What a dead gateway held is off the lists at once; counts and leaves follow, without grace.
pub async fn a_dead_gateway_holds_nobody<K>((presence, roster, _): &Fixture<K>) {
    renew(&**presence, "dead", SHORT).await;
    renew(&**presence, "a", LONG).await;
    for name in ["ann", "bob"] {
        note(&**roster, "dead", news("venue:1", member(name), 1)).await;
    }
    note(&**roster, "dead", news("venue:1", Member::Anonymous(ConnectionId(1)), 1)).await;
    note(&**roster, "a", news("venue:1", member("cat"), 1)).await;
    note(&**roster, "dead", news("user:ann", member("ann"), 1)).await;
    lease_ends(&**presence, "dead").await;
    assert_eq!(list(&**roster, "venue:1").await, [(member("cat"), 1)]);
    let mut left = BTreeSet::new();
    while left.len() < 3 {
        left.extend(leaves(&**roster).await);
    }
    assert_eq!(Vec::from_iter(left), ["user:ann ann", "venue:1 ann", "venue:1 bob"]);
    assert_eq!(count(&**roster, "venue:1").await, (1, 1));
    assert_eq!(tidy(&**roster).await, Vec::<String>::new());
    let again = note(&**roster, "a", news("venue:1", member("ann"), 1)).await;
    assert_eq!(again, [joined("venue:1", "ann")]);
}

/// Who came back to another gateway before the lease was over has not left.
pub async fn who_is_elsewhere_too_does_not_leave_with_a_dead_gateway<K>(
    (presence, roster, _): &Fixture<K>,
) {
    renew(&**presence, "dead", SHORT).await;
    renew(&**presence, "a", LONG).await;
    note(&**roster, "dead", news("venue:1", member("ann"), 2)).await;
    note(&**roster, "dead", news("venue:1", member("bob"), 1)).await;
    assert_eq!(note(&**roster, "a", news("venue:1", member("ann"), 1)).await, []);
    lease_ends(&**presence, "dead").await;
    assert_eq!(list(&**roster, "venue:1").await, [(member("ann"), 1)]);
    assert_eq!(leaves(&**roster).await, ["venue:1 bob"]);
    assert_eq!(count(&**roster, "venue:1").await, (1, 1));
}

/// After a rolling restart only those have left who did not come back.
pub async fn a_gateway_that_stops_leaves_its_members_the_grace<K>(
    (presence, roster, _): &Fixture<K>,
) {
    renew(&**presence, "a", LONG).await;
    renew(&**presence, "b", LONG).await;
    for name in ["ann", "bob"] {
        note(&**roster, "a", news("venue:1", member(name), 1)).await;
    }
    for _ in 0..2 {
        roster.retire(node("a")).await.expect("retires");
    }
    assert_eq!(list(&**roster, "venue:1").await, [(member("ann"), 0), (member("bob"), 0)]);
    assert_eq!(note(&**roster, "b", news("venue:1", member("ann"), 1)).await, []);
    assert_eq!(leaves(&**roster).await, ["venue:1 bob"]);
    assert_eq!(list(&**roster, "venue:1").await, [(member("ann"), 1)]);
}

/// However long that takes; but who is known to have left leaves after the grace.
pub async fn who_is_told_anew_has_not_left<K>((presence, roster, _): &Fixture<K>) {
    renew(&**presence, "a", LONG).await;
    for name in ["ann", "bob", "cat"] {
        note(&**roster, "a", news("venue:1", member(name), 1)).await;
    }
    // She has just left, and come back before the store knew.
    note(&**roster, "a", news("venue:1", member("ann"), 0)).await;
    note(&**roster, "a", news("venue:1", member("ann"), 1)).await;
    roster.take_back(node("a")).await.expect("takes back");
    assert_eq!(list(&**roster, "venue:1").await.len(), 3);
    note(&**roster, "a", news("venue:1", member("bob"), 0)).await;
    assert_eq!(leaves(&**roster).await, ["venue:1 bob"], "after the grace");
    assert_eq!(note(&**roster, "a", news("venue:1", member("ann"), 1)).await, []);
    assert_eq!(list(&**roster, "venue:1").await, [(member("ann"), 1), (member("cat"), 0)]);
}

/// Of a user whose own channel nobody is in any more.
pub async fn it_is_kept_when_a_user_was_last_seen<K>((presence, roster, _): &Fixture<K>) {
    renew(&**presence, "a", LONG).await;
    assert_eq!(roster.last_seen(user("ann")).await, Ok(None));
    note(&**roster, "a", news("user:ann", member("ann"), 1)).await;
    note(&**roster, "a", news("venue:1", member("bob"), 1)).await;
    note(&**roster, "a", news("user:ann", member("ann"), 0)).await;
    note(&**roster, "a", news("venue:1", member("bob"), 0)).await;
    let mut left = BTreeSet::new();
    while left.len() < 2 {
        left.extend(leaves(&**roster).await);
    }
    let seen = roster.last_seen(user("ann")).await.expect("answers").expect("was seen");
    assert!(seen > Timestamp(1_700_000_000_000), "{seen:?}");
    assert_eq!(roster.last_seen(user("bob")).await, Ok(None));
}

/// Whoever goes from page to page meets every member.
pub async fn pages_hold_every_member<K>((presence, roster, _): &Fixture<K>) {
    const MANY: usize = 1_500;
    renew(&**presence, "a", LONG).await;
    let names: Vec<Member> = (0..MANY).map(|n| member(&format!("user-{n:04}"))).collect();
    for part in names.chunks(300) {
        let attendance = |member: &Member| Attendance {
            member: member.clone(),
            connections: 1,
            since: Timestamp(7_000),
        };
        let news = ChannelNews {
            channel: channel("venue:1"),
            members: part.iter().map(attendance).collect(),
            deserted: false,
        };
        assert_eq!(note(&**roster, "a", news).await.len(), part.len());
    }
    let listed: BTreeSet<Member> =
        list(&**roster, "venue:1").await.into_iter().map(|(member, _)| member).collect();
    assert_eq!(listed, names.into_iter().collect());
    assert_eq!(count(&**roster, "venue:1").await, (MANY as u64, MANY as u64));
    let first = page(&**roster, "venue:1", None).await;
    assert!(first.members.len() < 200 && first.next.is_some(), "{}", first.members.len());
    roster.retire(node("a")).await.expect("retires");
    let mut left = 0;
    while left < MANY {
        left += leaves(&**roster).await.len();
    }
    assert_eq!(count(&**roster, "venue:1").await, (0, 0));
}

/// A cursor of another kind is refused, or gives some page; nothing breaks.
pub async fn cursors_of_others_are_refused<K>((_, roster, _): &Fixture<K>) {
    for cursor in ["", "a/7", "x y", "é", "-1", "\r\n"] {
        let page = roster.members(channel("venue:1"), Some(cursor.into()), 10).await;
        assert!(page.is_err(), "{cursor:?}: {page:?}");
    }
}

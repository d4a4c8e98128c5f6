//! The laws of [`Presence`].

use std::{collections::BTreeSet, slice::from_ref, sync::Arc, time::Duration};

use broker_core::{
    ConnectionId, NodeId, Timestamp, UserId,
    ports::{ConnectionInfo, Lease, Presence, PresenceChange},
};

use super::PATIENCE;
use crate::eventually;

/// Makes a test of each law; `$make` is a future that gives `(Arc<dyn Presence>, anything)`.
#[macro_export]
macro_rules! presence_contract {
    ($make:expr) => {
        $crate::__laws! { $crate::contract::presence, $make;
            what_is_written_is_listed
            writes_may_be_repeated
            changes_apply_in_order
            without_a_lease_nothing_is_listed
            a_user_may_be_on_several_gateways
            replace_forgets_what_is_gone
            retire_removes_a_gateway
            sweep_removes_what_dead_gateways_left
            pages_hold_every_connection_once
            cursors_of_others_are_refused
        }
    };
}

/// The store under test, and what must live as long.
pub type Fixture<K> = (Arc<dyn Presence>, K);

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(150);

fn node(name: &str) -> NodeId {
    name.parse().expect("a node id")
}

fn user(name: &str) -> UserId {
    name.parse().expect("a user id")
}

fn lease(name: &str, ttl: Duration) -> Lease {
    Lease {
        node: node(name),
        ttl,
        started: Timestamp(1_700_000_000_000),
        version: "1.2.3".into(),
        connections: 3,
        users: 1,
        channels: 2,
        subscriptions: 5,
        bus_ok: true,
    }
}

fn info(id: u128, of: Option<&str>, at: &str) -> ConnectionInfo {
    ConnectionInfo {
        connection: ConnectionId(id),
        user: of.map(user),
        node: node(at),
        transport: "websocket".into(),
        connected_at: Timestamp(1_700_000_000_000 + 7),
        user_agent: Some("curl \"8\" é".into()),
    }
}

fn came(info: &ConnectionInfo) -> PresenceChange {
    PresenceChange::Connected(Arc::new(info.clone()))
}

fn went(info: &ConnectionInfo) -> PresenceChange {
    PresenceChange::Disconnected { connection: info.connection, user: info.user.clone() }
}

async fn renew(store: &dyn Presence, name: &str, ttl: Duration) {
    store.renew(lease(name, ttl)).await.expect("renews");
}

async fn apply(store: &dyn Presence, at: &str, changes: &[PresenceChange]) {
    store.apply(node(at), changes.to_vec()).await.expect("applies");
}

async fn get(store: &dyn Presence, id: u128) -> Option<ConnectionInfo> {
    store.connection(ConnectionId(id)).await.expect("answers")
}

async fn of_user(store: &dyn Presence, name: &str) -> Vec<ConnectionInfo> {
    let mut found = store.connections_of(user(name)).await.expect("answers");
    found.sort_by_key(|info| info.connection);
    found
}

async fn all(store: &dyn Presence, limit: usize) -> Vec<ConnectionInfo> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.connections(cursor, limit).await.expect("answers");
        found.extend(page.connections);
        cursor = page.next;
        if cursor.is_none() {
            return found;
        }
    }
}

/// A connection can be found by its id, by its user, and among all; a gateway by its lease.
pub async fn what_is_written_is_listed<K>((store, _): &Fixture<K>) {
    let (ann, nobody) = (info(1, Some("ann:1{x}"), "a"), info(2, None, "a"));
    renew(&**store, "a", LONG).await;
    apply(&**store, "a", &[came(&ann), came(&nobody)]).await;
    assert_eq!(store.gateways().await, Ok(vec![lease("a", LONG)]));
    assert_eq!(get(&**store, 1).await, Some(ann.clone()));
    assert_eq!(get(&**store, 2).await, Some(nobody.clone()));
    assert_eq!(get(&**store, 3).await, None);
    assert_eq!(of_user(&**store, "ann:1{x}").await, from_ref(&ann));
    assert_eq!(of_user(&**store, "bob").await, []);
    let mut listed = all(&**store, 100).await;
    listed.sort_by_key(|info| info.connection);
    assert_eq!(listed, [ann, nobody]);
}

/// Repeating a write changes nothing.
pub async fn writes_may_be_repeated<K>((store, _): &Fixture<K>) {
    let (ann, bob) = (info(1, Some("ann"), "a"), info(2, Some("bob"), "a"));
    renew(&**store, "a", LONG).await;
    renew(&**store, "a", LONG).await;
    for _ in 0..2 {
        apply(&**store, "a", &[came(&ann), came(&bob), went(&bob)]).await;
        assert_eq!(of_user(&**store, "ann").await, from_ref(&ann));
        assert_eq!(of_user(&**store, "bob").await, []);
        assert_eq!(all(&**store, 10).await, from_ref(&ann));
    }
    for _ in 0..2 {
        store.replace(node("a"), vec![Arc::new(ann.clone())]).await.expect("replaces");
        assert_eq!(all(&**store, 10).await, from_ref(&ann));
    }
    for _ in 0..2 {
        store.retire(node("a")).await.expect("retires");
        assert_eq!(store.gateways().await, Ok(vec![]));
    }
}

/// The last change of a connection counts.
pub async fn changes_apply_in_order<K>((store, _): &Fixture<K>) {
    let (ann, bob) = (info(1, Some("ann"), "a"), info(2, Some("bob"), "a"));
    renew(&**store, "a", LONG).await;
    apply(&**store, "a", &[went(&ann), came(&ann), came(&bob), went(&bob)]).await;
    assert_eq!(all(&**store, 10).await, from_ref(&ann));
    apply(&**store, "a", &[went(&ann), came(&bob)]).await;
    assert_eq!(all(&**store, 10).await, [bob]);
}

/// A gateway that says nothing any more takes its connections off every list at once.
pub async fn without_a_lease_nothing_is_listed<K>((store, _): &Fixture<K>) {
    let ann = info(1, Some("ann"), "a");
    apply(&**store, "a", &[came(&ann)]).await;
    assert_eq!(get(&**store, 1).await, None, "never had a lease");
    renew(&**store, "a", SHORT).await;
    eventually("the lease ends", PATIENCE, async || {
        store.gateways().await.expect("answers").is_empty().then_some(())
    })
    .await;
    assert_eq!(get(&**store, 1).await, None);
    assert_eq!(of_user(&**store, "ann").await, []);
    assert_eq!(all(&**store, 10).await, []);
    renew(&**store, "a", LONG).await;
    assert_eq!(get(&**store, 1).await, Some(ann), "nothing was swept meanwhile");
}

/// Tabs and devices.
pub async fn a_user_may_be_on_several_gateways<K>((store, _): &Fixture<K>) {
    let tabs = [info(1, Some("ann"), "a"), info(2, Some("ann"), "a"), info(3, Some("ann"), "b")];
    renew(&**store, "a", LONG).await;
    renew(&**store, "b", LONG).await;
    apply(&**store, "a", &[came(&tabs[0]), came(&tabs[1])]).await;
    apply(&**store, "b", &[came(&tabs[2])]).await;
    assert_eq!(of_user(&**store, "ann").await, tabs);
    apply(&**store, "a", &[went(&tabs[0])]).await;
    assert_eq!(of_user(&**store, "ann").await, tabs[1..]);
}

/// After `replace`, exactly what was given is there, and other gateways are untouched.
pub async fn replace_forgets_what_is_gone<K>((store, _): &Fixture<K>) {
    let here = [info(1, Some("ann"), "a"), info(2, Some("bob"), "a"), info(3, Some("cat"), "a")];
    let there = info(4, Some("ann"), "b");
    renew(&**store, "a", LONG).await;
    renew(&**store, "b", LONG).await;
    apply(&**store, "a", &[came(&here[0]), came(&here[1])]).await;
    apply(&**store, "b", &[came(&there)]).await;
    store
        .replace(node("a"), vec![Arc::new(here[1].clone()), Arc::new(here[2].clone())])
        .await
        .expect("replaces");
    assert_eq!(of_user(&**store, "ann").await, [there]);
    assert_eq!(of_user(&**store, "bob").await, [here[1].clone()]);
    assert_eq!(of_user(&**store, "cat").await, [here[2].clone()]);
    assert_eq!(get(&**store, 1).await, None);
    assert_eq!(all(&**store, 10).await.len(), 3);
}

/// A gateway that stops leaves nothing.
pub async fn retire_removes_a_gateway<K>((store, _): &Fixture<K>) {
    let (ann, bob) = (info(1, Some("ann"), "a"), info(2, Some("bob"), "b"));
    renew(&**store, "a", LONG).await;
    renew(&**store, "b", LONG).await;
    apply(&**store, "a", &[came(&ann)]).await;
    apply(&**store, "b", &[came(&bob)]).await;
    store.retire(node("a")).await.expect("retires");
    assert_eq!(store.gateways().await, Ok(vec![lease("b", LONG)]));
    assert_eq!(all(&**store, 10).await, [bob]);
    renew(&**store, "a", LONG).await;
    assert_eq!(get(&**store, 1).await, None, "its connections were removed, not hidden");
}

/// Sweeping removes what dead gateways left, says how many that were, and spares the living.
pub async fn sweep_removes_what_dead_gateways_left<K>((store, _): &Fixture<K>) {
    let dead: Vec<_> =
        (0..1200).map(|n| info(n, Some(&format!("user-{}", n % 700)), "a")).collect();
    let alive = info(5000, Some("user-1"), "b");
    renew(&**store, "b", LONG).await;
    apply(&**store, "b", &[came(&alive)]).await;
    renew(&**store, "a", SHORT).await;
    apply(&**store, "a", &dead.iter().map(came).collect::<Vec<_>>()).await;
    eventually("the lease ends", PATIENCE, async || {
        (store.gateways().await.expect("answers").len() == 1).then_some(())
    })
    .await;
    assert_eq!(store.sweep().await, Ok(1200));
    assert_eq!(store.sweep().await, Ok(0));
    renew(&**store, "a", LONG).await;
    assert_eq!(all(&**store, 100).await, from_ref(&alive));
    assert_eq!(of_user(&**store, "user-1").await, [alive]);
}

/// Over 1,000 connections on two gateways, in pages of about 100.
pub async fn pages_hold_every_connection_once<K>((store, _): &Fixture<K>) {
    let mut expected = BTreeSet::new();
    for (name, ids) in [("a", 0..700_u128), ("b", 700..1500), ("empty", 0..0)] {
        renew(&**store, name, LONG).await;
        expected.extend(ids.clone());
        let changes: Vec<_> = ids.map(|id| came(&info(id, None, name))).collect();
        apply(&**store, name, &changes).await;
    }
    let first = store.connections(None, 100).await.expect("answers");
    assert!((50..=500).contains(&first.connections.len()), "{}", first.connections.len());
    assert!(first.next.is_some());
    let found: Vec<u128> = all(&**store, 100).await.iter().map(|info| info.connection.0).collect();
    assert_eq!(found.len(), expected.len(), "each once");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
}

/// A cursor comes from a client: it may hold anything.
pub async fn cursors_of_others_are_refused<K>((store, _): &Fixture<K>) {
    renew(&**store, "a", LONG).await;
    for cursor in ["", "a", "a/", "a/x y", "/7", "é/1", "a/\r\n"] {
        let page = store.connections(Some(cursor.into()), 10).await;
        assert!(page.is_err(), "{cursor:?}: {page:?}");
    }
    let gone = store.connections(Some("b/0".into()), 10).await;
    assert!(gone.is_ok() || gone.is_err(), "no panic");
}

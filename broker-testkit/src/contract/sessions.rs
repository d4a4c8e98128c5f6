//! The laws of [`Sessions`].

use std::{sync::Arc, time::Duration};

use broker_core::{
    Action, ConnectionId, Epoch, Identity, Interest, Offset, Position, Timestamp,
    ports::{Begun, Sessions},
    recovery::{KeptSubscription, KeptSubscriptions},
    resume::{KeptSession, SessionKey},
};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::PATIENCE;
use crate::eventually;

/// Makes a test of each law; `$make` is a future that gives `(Arc<dyn Sessions>, anything)`.
#[macro_export]
macro_rules! sessions_contract {
    ($make:expr) => {
        $crate::__laws! { $crate::contract::sessions, $make;
            the_first_is_new_and_the_second_is_not
            an_answer_is_kept_as_it_is
            another_request_under_the_same_key_is_a_conflict
            an_abandoned_key_is_free_again
            a_key_expires
            one_of_many_is_new
            a_session_comes_back_as_it_was_kept
            one_of_many_takes_a_session
            a_session_that_was_taken_is_not_kept_again
            a_session_that_was_passed_is_kept_for_who_has_it_now
            the_latest_version_of_a_session_is_kept
            what_is_not_kept_or_was_taken_is_not_passed
            a_session_that_is_kept_anew_lasts_longer
            that_a_session_was_taken_is_forgotten_in_the_end
        }
    };
}

/// The store under test, and what must live as long.
pub type Fixture<K> = (Arc<dyn Sessions>, K);

const LONG: Duration = Duration::from_secs(60);

async fn begin(store: &dyn Sessions, key: &str, fingerprint: u64) -> Begun {
    store.begin(key.into(), fingerprint, LONG).await.expect("answers")
}

/// While the first is at work, repetitions are told so.
pub async fn the_first_is_new_and_the_second_is_not<K>((store, _): &Fixture<K>) {
    assert_eq!(begin(&**store, "k", 7).await, Begun::New);
    assert_eq!(begin(&**store, "k", 7).await, Begun::Running);
    assert_eq!(begin(&**store, "other {k} \r\n", 7).await, Begun::New);
}

/// The answer comes back byte for byte.
pub async fn an_answer_is_kept_as_it_is<K>((store, _): &Fixture<K>) {
    for (key, answer) in [("a", &b"{\"id\":1}"[..]), ("b", b""), ("c", &[0, 255, b':', b'\n'])] {
        let answer = Bytes::copy_from_slice(answer);
        assert_eq!(begin(&**store, key, u64::MAX).await, Begun::New);
        store.finish(key.into(), u64::MAX, answer.clone(), LONG).await.expect("finishes");
        store.finish(key.into(), u64::MAX, answer.clone(), LONG).await.expect("again");
        assert_eq!(begin(&**store, key, u64::MAX).await, Begun::Done(answer));
    }
}

/// The fingerprint tells requests apart, running or done.
pub async fn another_request_under_the_same_key_is_a_conflict<K>((store, _): &Fixture<K>) {
    assert_eq!(begin(&**store, "k", 7).await, Begun::New);
    assert_eq!(begin(&**store, "k", 8).await, Begun::Conflict);
    store.finish("k".into(), 7, Bytes::from_static(b"x"), LONG).await.expect("finishes");
    assert_eq!(begin(&**store, "k", 8).await, Begun::Conflict);
    assert_eq!(begin(&**store, "k", 7).await, Begun::Done(Bytes::from_static(b"x")));
}

/// What was not carried out may be tried again, as another request too.
pub async fn an_abandoned_key_is_free_again<K>((store, _): &Fixture<K>) {
    assert_eq!(begin(&**store, "k", 7).await, Begun::New);
    store.abandon("k".into()).await.expect("abandons");
    store.abandon("k".into()).await.expect("again");
    assert_eq!(begin(&**store, "k", 8).await, Begun::New);
}

/// A claim and an answer last as long as they are said to.
pub async fn a_key_expires<K>((store, _): &Fixture<K>) {
    let short = Duration::from_millis(100);
    assert_eq!(store.begin("k".into(), 7, short).await, Ok(Begun::New));
    let again = async || {
        let begun = store.begin("k".into(), 8, LONG).await.expect("answers");
        (begun == Begun::New).then_some(())
    };
    eventually("the claim expires", PATIENCE, again).await;
    store.finish("k".into(), 8, Bytes::new(), short).await.expect("finishes");
    eventually("the answer expires", PATIENCE, again).await;
}

/// At most one caller is told that the key is new.
pub async fn one_of_many_is_new<K>((store, _): &Fixture<K>) {
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let store = Arc::clone(store);
        callers.spawn(async move { begin(&*store, "k", 7).await });
    }
    let begun = callers.join_all().await;
    assert_eq!(begun.iter().filter(|begun| **begun == Begun::New).count(), 1);
    assert_eq!(begun.iter().filter(|begun| **begun == Begun::Running).count(), 49);
}

fn session(key: u8, user: &str) -> KeptSession {
    let identity = Identity {
        user: Some(user.parse().expect("a user")),
        key: Some("kiosk \"1\"".into()),
        roles: vec!["staff".parse().expect("a role")],
        claims: [("tenant".to_owned(), vec!["a \"b\"".to_owned()])].into(),
        grants: vec![
            (Action::Publish, Interest::Channel("venue:%1 é".parse().expect("a channel"))),
            (Action::Wildcard, Interest::Pattern("orders:*".parse().expect("a pattern"))),
        ],
        expires: Some(Timestamp(u64::MAX)),
    };
    KeptSession {
        key: SessionKey([key; 32]),
        connection: ConnectionId(u128::MAX - u128::from(key)),
        origin: ConnectionId(7),
        identity: Arc::new(identity),
        subscriptions: None,
    }
}

/// The same, with subscriptions that the server sees to.
fn recoverable(key: u8, version: u64) -> KeptSession {
    let position = Position { epoch: Epoch(3), offset: Offset(version), fingerprint: None };
    let subscription = |number, interest, from| KeptSubscription { number, interest, from };
    let all = vec![
        subscription(0, Interest::Channel("venue:%1".parse().expect("a channel")), Some(position)),
        subscription(4, Interest::Pattern("orders:*".parse().expect("a pattern")), None),
    ];
    let kept = KeptSubscriptions { version, next: 5, confirmed: Timestamp(9), all };
    // Claims may look like anything.
    let claims = [("\"connection\":\"0\"".to_owned(), vec!["\"version\":99".to_owned()])].into();
    let identity = Arc::new(Identity { claims, ..Identity::default() });
    KeptSession { identity, subscriptions: Some(Box::new(kept)), ..session(key, "ann") }
}

async fn keep(store: &dyn Sessions, sessions: &[KeptSession], ttl: Duration) -> Vec<SessionKey> {
    store.keep(sessions.to_vec(), ttl).await.expect("keeps")
}

async fn take(store: &dyn Sessions, session: &KeptSession) -> Option<KeptSession> {
    store.take(session.key, LONG).await.expect("answers")
}

/// Identity and all, in its latest form; and only that one.
pub async fn a_session_comes_back_as_it_was_kept<K>((store, _): &Fixture<K>) {
    let (ann, bob) = (session(1, "ann"), session(2, "bob: {\"x\"}"));
    assert_eq!(keep(&**store, &[ann.clone(), bob.clone()], LONG).await, []);
    let changed = KeptSession { identity: Arc::default(), ..ann };
    assert_eq!(keep(&**store, std::slice::from_ref(&changed), LONG).await, []);
    assert_eq!(take(&**store, &session(3, "kim")).await, None);
    assert_eq!(take(&**store, &changed).await, Some(changed));
    assert_eq!(take(&**store, &bob).await, Some(bob));
}

/// Whoever else comes gets nothing.
pub async fn one_of_many_takes_a_session<K>((store, _): &Fixture<K>) {
    let ann = session(1, "ann");
    keep(&**store, std::slice::from_ref(&ann), LONG).await;
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let (store, ann) = (Arc::clone(store), ann.clone());
        callers.spawn(async move { take(&*store, &ann).await });
    }
    let taken: Vec<KeptSession> = callers.join_all().await.into_iter().flatten().collect();
    assert_eq!(taken, [ann]);
}

/// The gateway that still has its connection is told so.
pub async fn a_session_that_was_taken_is_not_kept_again<K>((store, _): &Fixture<K>) {
    let (ann, bob) = (session(1, "ann"), session(2, "bob"));
    keep(&**store, &[ann.clone(), bob.clone()], LONG).await;
    assert_eq!(take(&**store, &ann).await.as_ref(), Some(&ann));
    for _ in 0..2 {
        assert_eq!(keep(&**store, &[ann.clone(), bob.clone()], LONG).await, [ann.key]);
    }
    assert_eq!(take(&**store, &ann).await, None);
    assert_eq!(take(&**store, &bob).await, Some(bob));
}

/// Whoever had it before is told that it was taken, however often it is passed on.
pub async fn a_session_that_was_passed_is_kept_for_who_has_it_now<K>((store, _): &Fixture<K>) {
    let first = recoverable(1, 1);
    keep(&**store, std::slice::from_ref(&first), LONG).await;
    let mut last = first.clone();
    for number in 2..4 {
        let next = KeptSession { connection: ConnectionId(number), ..recoverable(1, 2) };
        let passed = store.pass(last.key, next.connection, LONG).await;
        assert_eq!(passed, Ok(Some(last.clone())));
        assert_eq!(keep(&**store, &[last.clone(), first.clone()], LONG).await, [first.key; 2]);
        assert_eq!(keep(&**store, std::slice::from_ref(&next), LONG).await, []);
        last = next;
    }
    assert_eq!(take(&**store, &first).await, Some(last));
}

/// Writers that overtake each other do no harm.
pub async fn the_latest_version_of_a_session_is_kept<K>((store, _): &Fixture<K>) {
    let (old, new) = (recoverable(1, 9), recoverable(1, 10));
    for session in [&new, &old] {
        assert_eq!(keep(&**store, std::slice::from_ref(session), LONG).await, []);
    }
    assert_eq!(take(&**store, &old).await, Some(new));
}

/// Nor does passing bring anything back.
pub async fn what_is_not_kept_or_was_taken_is_not_passed<K>((store, _): &Fixture<K>) {
    let ann = recoverable(1, 1);
    let pass = async || store.pass(ann.key, ConnectionId(2), LONG).await.expect("answers");
    assert_eq!(pass().await, None);
    keep(&**store, std::slice::from_ref(&ann), LONG).await;
    assert_eq!(take(&**store, &ann).await, Some(ann.clone()));
    assert_eq!(pass().await, None);
    assert_eq!(keep(&**store, std::slice::from_ref(&ann), LONG).await, [ann.key]);
}

/// A session ends by itself, but not before what was said last.
pub async fn a_session_that_is_kept_anew_lasts_longer<K>((store, _): &Fixture<K>) {
    let short = Duration::from_millis(100);
    let (ann, bob, kim) = (session(1, "ann"), session(2, "bob"), session(3, "kim"));
    keep(&**store, &[ann.clone(), bob.clone()], short).await;
    keep(&**store, std::slice::from_ref(&bob), LONG).await;
    keep(&**store, std::slice::from_ref(&kim), short).await;
    // By the store's own clock.
    assert_eq!(store.begin("k".into(), 7, 2 * short).await, Ok(Begun::New));
    let later = async || (begin(&**store, "k", 8).await == Begun::New).then_some(());
    eventually("it is later", PATIENCE, later).await;
    assert_eq!(take(&**store, &ann).await, None);
    assert_eq!(take(&**store, &kim).await, None);
    assert_eq!(take(&**store, &bob).await, Some(bob));
}

/// Nothing is remembered for ever.
pub async fn that_a_session_was_taken_is_forgotten_in_the_end<K>((store, _): &Fixture<K>) {
    let ann = session(1, "ann");
    keep(&**store, std::slice::from_ref(&ann), LONG).await;
    let short = Duration::from_millis(100);
    assert_eq!(store.take(ann.key, short).await, Ok(Some(ann.clone())));
    let forgotten = async || keep(&**store, std::slice::from_ref(&ann), LONG).await.is_empty();
    eventually("it is forgotten", PATIENCE, async || forgotten().await.then_some(())).await;
}

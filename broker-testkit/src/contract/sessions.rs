//! The laws of [`Sessions`].

use std::{sync::Arc, time::Duration};

use broker_core::ports::{Begun, Sessions};
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

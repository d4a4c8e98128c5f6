//! One delivery for a message that matches several subscriptions of one connection.
//!
//! A connection subscribed to `orders:7` and to `orders:*` is brought each message on `orders:7`
//! twice, once by each interest, and messages that services put on the bus carry no id to know
//! them by. But each interest brings the *same sequence* of messages, so the n-th copy of a
//! message by one interest belongs to the n-th copy by the other. [`Overlap`] pairs them, at the
//! cost of a few entries for the few connections that have overlapping interests.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::name::Interest;

/// How long a copy waits for its twin.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many copies wait at most.
const CAPACITY: usize = 256;

/// Remembers which copies a connection was given lately.
#[derive(Debug, Default)]
pub struct Overlap {
    given: VecDeque<Copy>,
}

#[derive(Debug)]
struct Copy {
    fingerprint: u64,
    at: Instant,
    brought_by: Vec<Interest>,
}

impl Overlap {
    /// Whether to deliver this copy; `fingerprint` is the same for copies of one message.
    ///
    /// Where the memory is too short (over 256 messages or 5 s between two copies), the answer is
    /// to deliver: twice is better than never.
    pub fn is_first(&mut self, now: Instant, fingerprint: u64, via: &Interest) -> bool {
        self.expire(now);
        let twin = self
            .given
            .iter_mut()
            .find(|copy| copy.fingerprint == fingerprint && !copy.brought_by.contains(via));
        if let Some(copy) = twin {
            copy.brought_by.push(via.clone());
            return false;
        }
        self.note(Copy { fingerprint, at: now, brought_by: vec![via.clone()] });
        true
    }

    /// Whether to deliver this copy of a message that went to several targets; `id` is the same
    /// for all its copies, whichever interest brings them, and for no other message.
    pub fn is_new(&mut self, now: Instant, id: u64) -> bool {
        self.expire(now);
        if self.given.iter().any(|copy| copy.fingerprint == id) {
            return false;
        }
        self.note(Copy { fingerprint: id, at: now, brought_by: Vec::new() });
        true
    }

    fn note(&mut self, copy: Copy) {
        if self.given.len() == CAPACITY {
            self.given.pop_front();
        }
        self.given.push_back(copy);
    }

    fn expire(&mut self, now: Instant) {
        let late = |copy: &Copy| now.saturating_duration_since(copy.at) > PATIENCE;
        while self.given.front().is_some_and(late) {
            self.given.pop_front();
        }
    }

    /// Forgets what this interest has brought: the connection has left it.
    ///
    /// Without its stream, what the others bring cannot be paired with it any more: a later
    /// message with the same body would be taken for the twin that never came.
    pub fn forget(&mut self, via: &Interest) {
        self.given.retain(|copy| !copy.brought_by.contains(via));
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a starting point for made-up times")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn interests() -> [Interest; 2] {
        [
            Interest::Channel("orders:7".parse().unwrap()),
            Interest::Pattern("orders:*".parse().unwrap()),
        ]
    }

    #[test]
    fn a_message_to_several_targets_is_known_by_its_id() {
        let [exact, _] = interests();
        let (mut overlap, now) = (Overlap::default(), Instant::now());
        assert!(overlap.is_new(now, 1));
        assert!(!overlap.is_new(now, 1));
        assert!(overlap.is_new(now, 2));
        assert!(overlap.is_first(now, 3, &exact));
        assert!(overlap.is_new(now + PATIENCE * 2, 1), "forgotten by then");
    }

    #[test]
    fn a_late_twin_is_delivered_rather_than_lost() {
        let [exact, wild] = interests();
        let (mut overlap, start) = (Overlap::default(), Instant::now());
        assert!(overlap.is_first(start, 1, &exact));
        assert!(overlap.is_first(start + PATIENCE * 2, 1, &wild));
    }

    #[test]
    fn what_a_left_interest_brought_suppresses_nothing() {
        let [exact, wild] = interests();
        let (mut overlap, now) = (Overlap::default(), Instant::now());
        assert!(overlap.is_first(now, 1, &exact), "before the pattern was live");
        overlap.forget(&exact);
        assert!(overlap.is_first(now, 1, &wild), "the next message, with the same body");
    }

    proptest! {
        /// However the two streams interleave, and however often a body repeats, each message
        /// is delivered once.
        #[test]
        fn each_message_once(bodies in prop::collection::vec(0u64..3, 0..60), picks in prop::collection::vec(any::<bool>(), 120)) {
            let [exact, wild] = interests();
            let (mut overlap, now) = (Overlap::default(), Instant::now());
            let (mut a, mut b, mut delivered) = (0, 0, Vec::new());
            let mut pick = picks.into_iter();
            while a < bodies.len() || b < bodies.len() {
                let first = b == bodies.len() || (a < bodies.len() && pick.next().unwrap_or(true));
                let (index, via) = if first { (a, &exact) } else { (b, &wild) };
                if overlap.is_first(now, bodies[index], via) {
                    delivered.push(bodies[index]);
                }
                if first { a += 1 } else { b += 1 }
            }
            let (mut want, mut have) = (bodies, delivered);
            want.sort_unstable();
            have.sort_unstable();
            prop_assert_eq!(want, have);
        }
    }
}

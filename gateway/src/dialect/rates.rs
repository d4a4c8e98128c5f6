//! How often one client has done what may only be done so often.

use std::{
    num::NonZeroU32,
    sync::{Arc, Weak},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::profile::{Face, Rate};

/// A limiter for each verb that was used and has a limit.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    /// Whose verbs have these numbers and limits.
    face: Weak<Face>,
    limiters: Vec<(usize, DefaultDirectRateLimiter)>,
}

impl Rates {
    /// Whether the verb of this face with this number may be done once more now. Another face begins
    /// anew.
    pub(crate) fn allow(&mut self, face: &Arc<Face>, (verb, rate): (usize, Rate)) -> bool {
        if !std::ptr::eq(self.face.as_ptr(), Arc::as_ptr(face)) {
            *self = Self { face: Arc::downgrade(face), limiters: Vec::new() };
        }
        let index = self.limiters.iter().position(|(number, _)| *number == verb);
        let index = index.unwrap_or_else(|| {
            self.limiters.push((verb, RateLimiter::direct(quota(rate))));
            self.limiters.len() - 1
        });
        self.limiters[index].1.check().is_ok()
    }
}

/// As many at once as in the whole time.
fn quota(Rate { count, per }: Rate) -> Quota {
    let burst = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    let every = Quota::with_period(per / burst.get()).unwrap_or(Quota::per_second(burst));
    every.allow_burst(burst)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::profile::Profile;

    fn face() -> Arc<Face> {
        Arc::clone(&Profile::built_in().faces["default"])
    }

    #[test]
    fn limits_are_those_of_the_face_that_is_shown() {
        let [old, new] = [face(), face()];
        let hourly = |count| Rate { count, per: Duration::from_secs(3600) };
        let mut rates = Rates::default();
        assert!(rates.allow(&old, (0, hourly(1))));
        assert!(!rates.allow(&old, (0, hourly(1))));
        assert!(rates.allow(&old, (1, hourly(1))), "each verb has its own");
        for _ in 0..2 {
            assert!(rates.allow(&new, (0, hourly(2))), "another face's verb has that number");
        }
        assert!(!rates.allow(&new, (0, hourly(2))));
    }
}

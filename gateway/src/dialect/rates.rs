//! How often one client has done what may only be done so often.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::profile::Rate;

/// A limiter for each verb that was used and has a limit.
#[derive(Debug, Default)]
pub(crate) struct Rates(Vec<(usize, DefaultDirectRateLimiter)>);

impl Rates {
    /// Whether the verb with this number may be done once more now.
    pub(crate) fn allow(&mut self, verb: usize, rate: Rate) -> bool {
        let index = self.0.iter().position(|(number, _)| *number == verb);
        let index = index.unwrap_or_else(|| {
            self.0.push((verb, RateLimiter::direct(quota(rate))));
            self.0.len() - 1
        });
        self.0[index].1.check().is_ok()
    }
}

/// As many at once as in the whole time.
fn quota(Rate { count, per }: Rate) -> Quota {
    let burst = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    let every = Quota::with_period(per / burst.get()).unwrap_or(Quota::per_second(burst));
    every.allow_burst(burst)
}

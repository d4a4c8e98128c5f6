//! The one place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use broker_core::{Timestamp, session::Now};
use tokio::time::Instant;

/// The wall clock, in milliseconds; a clock before 1970 reads as 1970.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Both clocks.
pub(crate) fn now() -> Now {
    Now { instant: Instant::now().into_std(), wall: wall() }
}

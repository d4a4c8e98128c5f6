//! The crate's one wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use broker_core::Timestamp;

/// Now, in milliseconds; a clock before 1970 counts as 1970.
#[expect(clippy::disallowed_methods, reason = "this is the one wall clock of the crate")]
pub(crate) fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

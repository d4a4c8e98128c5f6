//! Waiting for a condition without sleeping for a guessed time.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `probe` gives a value, and returns it.
///
/// # Panics
/// When `deadline` is over, with `what` was waited for.
pub async fn eventually<T, F>(what: &str, deadline: Duration, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}

//! Going away without a stampede: connections are sent elsewhere one after the other.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rand::RngExt;
use tokio::time::{self, Instant};

use crate::{config::Drain, connection::Admission, telemetry::Metrics};

/// Closes all connections at an even pace, each with word when to come back, and waits for the
/// last one. Ends by itself, at the latest after all configured times together.
pub(crate) async fn drain(admission: &Admission, config: &Drain, metrics: &Metrics) {
    metrics.draining.set(1);
    time::sleep(config.delay).await;
    admission.closed.store(true, Ordering::Relaxed);
    let mut outboxes = Vec::new();
    admission.deps.hub.for_each_connection(|outbox| outboxes.push(Arc::clone(outbox)));
    tracing::info!(connections = outboxes.len(), "draining");
    let pace = Pace::new(outboxes.len(), config);
    for (index, outbox) in outboxes.iter().enumerate() {
        time::sleep_until(pace.turn_of(index)).await;
        let after = rand::rng().random_range(Duration::ZERO..=config.reconnect_within);
        let after = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
        outbox.tell(|notices| notices.drain = Some(after));
    }
    drop(outboxes);
    admission.tasks.close();
    if time::timeout(config.grace, admission.tasks.wait()).await.is_err() {
        let left = admission.deps.hub.connection_count();
        tracing::warn!(left, "connections were still open at the end of the grace time");
    }
}

/// When each connection has its turn.
#[derive(Debug)]
struct Pace {
    start: Instant,
    /// Between two closes; jittered by half either way.
    interval: Duration,
}

impl Pace {
    /// Over the configured duration, but no faster than the configured rate; a few connections
    /// are not made to wait for theirs.
    fn new(connections: usize, config: &Drain) -> Self {
        let count = u32::try_from(connections).unwrap_or(u32::MAX).max(1);
        let fastest = Duration::from_secs(1) / config.max_rate.max(1);
        let leisure = Duration::from_millis(100);
        Self {
            start: Instant::now(),
            interval: (config.duration / count).min(leisure).max(fastest),
        }
    }

    fn turn_of(&self, index: usize) -> Instant {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let jitter = self.interval.mul_f64(rand::rng().random_range(-0.5..0.5_f64).max(0.0));
        self.start + self.interval * index + jitter
    }
}

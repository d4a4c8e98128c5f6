//! Going away without a stampede: connections are sent elsewhere one after the other.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use broker_core::CloseCode;
use rand::RngExt;
use tokio::time::{self, Instant};

use crate::{config::Drain, connection::Admission, hub::Hub, outbox::Outbox, telemetry::Metrics};

/// Of the grace time, what is left for those that are cut to take their last bytes.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// Closes all connections at an even pace, each with word when to come back, and waits for the
/// last one. Ends by itself, at the latest after all configured times together; later only where
/// `max_rate` has the closing take longer than `duration`.
pub(crate) async fn drain(admission: &Admission, config: &Drain, metrics: &Metrics) {
    metrics.draining.set(1);
    time::sleep(config.delay).await;
    // Whoever comes through the door after this turns away by itself.
    admission.closed.store(true, Ordering::SeqCst);
    send_away(&admission.deps.hub, config).await;
    admission.tasks.close();
    let cut = LAST_BYTES.min(config.grace / 2);
    if time::timeout(config.grace - cut, admission.tasks.wait()).await.is_ok() {
        return;
    }
    let left = admission.deps.hub.connection_count();
    tracing::warn!(left, "connections were still open at the end of the grace time");
    admission.deps.hub.for_each_connection(|outbox| {
        outbox.tell(|notices| notices.close = Some(CloseCode::ServiceRestart));
    });
    if time::timeout(cut, admission.tasks.wait()).await.is_err() {
        tracing::debug!("some clients did not take their last bytes");
    }
}

/// Tells connections to come back elsewhere, one after the other.
async fn send_away(hub: &Hub, config: &Drain) {
    // Those that go by themselves meanwhile are not to be kept.
    let mut outboxes: Vec<Weak<Outbox>> = Vec::new();
    hub.for_each_connection(|outbox| outboxes.push(Arc::downgrade(outbox)));
    let pace = Pace::new(outboxes.len(), config);
    let takes = pace.interval.mul_f64(outboxes.len() as f64);
    tracing::info!(connections = outboxes.len(), ?takes, "draining");
    if takes > config.duration {
        tracing::warn!(
            ?takes,
            duration = ?config.duration,
            "drain.max_rate has the drain take longer than drain.duration"
        );
    }
    for (index, outbox) in outboxes.into_iter().enumerate() {
        time::sleep_until(pace.turn_of(index)).await;
        let Some(outbox) = outbox.upgrade() else { continue };
        let after = rand::rng().random_range(Duration::ZERO..=config.reconnect_within);
        let after = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
        outbox.tell(|notices| notices.drain = Some(after));
    }
}

/// When each connection has its turn.
#[derive(Debug)]
struct Pace {
    start: Instant,
    /// Each connection's share of the time; its turn is at some random moment of it.
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
        let within = self.interval.mul_f64(rand::rng().random_range(0.0..1.0));
        self.start + self.interval.saturating_mul(index) + within
    }
}

#[cfg(test)]
mod tests {
    use broker_backends::EmbeddedOptions;
    use broker_core::ConnectionId;

    use super::*;
    use crate::socket::FakeSocket;

    fn config(duration: u64, max_rate: u32) -> Drain {
        Drain { duration: Duration::from_secs(duration), max_rate, ..Drain::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_spread_over_the_duration_and_never_faster_than_the_rate() {
        for (connections, duration, rate, expected) in [
            (1_000, 20, 1_000, Duration::from_secs(20)),
            (10, 20, 1_000, Duration::from_secs(1)),
            (1_000, 20, 10, Duration::from_secs(100)),
            (1_000, 0, 1_000, Duration::from_secs(1)),
        ] {
            let pace = Pace::new(connections, &config(duration, rate));
            assert_eq!(pace.interval * u32::try_from(connections).unwrap(), expected);
            let mut before = pace.start;
            for index in 0..connections {
                let turn = pace.turn_of(index);
                assert!(turn >= before && turn <= pace.start + expected);
                before = turn;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_connection_is_told_once_and_none_is_kept() {
        let backends = broker_backends::embedded(&EmbeddedOptions::default()).await;
        let hub = Arc::new(Hub::new(backends.bus, Duration::ZERO));
        let outboxes: Vec<Arc<Outbox>> = (0..20)
            .map(|id| Arc::new(Outbox::new(ConnectionId(id), Box::<FakeSocket>::default(), 1024)))
            .collect();
        outboxes.iter().for_each(|outbox| hub.add(outbox));
        let gone = Arc::downgrade(&outboxes[7]);
        let draining = Arc::clone(&hub);
        let started = Instant::now();
        let drained = tokio::spawn(async move { send_away(&draining, &config(20, 1_000)).await });
        tokio::task::yield_now().await;
        hub.remove(ConnectionId(7));
        let outboxes: Vec<_> =
            outboxes.into_iter().filter(|outbox| outbox.id() != ConnectionId(7)).collect();
        assert!(gone.upgrade().is_none(), "its socket must close now, not after the drain");
        drained.await.unwrap();
        assert!(started.elapsed() <= Duration::from_secs(2));
        for outbox in outboxes {
            let after = outbox.take_notices().drain.unwrap();
            assert!(after <= 2_000);
        }
    }
}

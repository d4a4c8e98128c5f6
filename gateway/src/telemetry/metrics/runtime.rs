use prometheus::{Counter, IntGauge};
use tokio::runtime::Handle;

use super::{Make, gauge};

/// How busy the threads are that run everything.
#[derive(Debug)]
pub(super) struct RuntimeMetrics {
    workers: IntGauge,
    busy: Counter,
}

impl RuntimeMetrics {
    pub(super) fn new(make: &Make) -> prometheus::Result<Self> {
        let busy = Counter::with_opts(make.note(
            "counter",
            "worker_busy_seconds_total",
            "How long the worker threads were busy, together: at as many seconds a second as there are workers, everything waits.",
            &[],
        ))?;
        make.registry.register(Box::new(busy.clone()))?;
        Ok(Self { workers: make.gauge("workers", "Threads that run everything.")?, busy })
    }

    /// What the runtime of whoever calls this counts by itself.
    pub(super) fn take(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let runtime = runtime.metrics();
        let workers = runtime.num_workers();
        self.workers.set(gauge(workers));
        let busy: f64 =
            (0..workers).map(|n| runtime.worker_total_busy_duration(n).as_secs_f64()).sum();
        // A counter only grows; what it has is what was read here before.
        self.busy.inc_by((busy - self.busy.get()).max(0.0));
    }
}

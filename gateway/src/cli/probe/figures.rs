//! What a prober has counted, for Prometheus and for people.

use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use tokio::sync::Notify;

use super::ledger::Outcome;

/// Upper bounds in seconds.
const LATENCY_BUCKETS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

const UP: &str = "Whether messages come: 1 while every client is subscribed, and the last message was accepted and came.";
const MESSAGES: &str = "Messages by what became of them at each client: ok, late, lost, duplicate, reordered; or refused, when they were published.";
const LATENCY: &str = "From before a message was published until a client had it.";
const CONNECTS: &str = "Attempts to connect and subscribe.";

#[derive(Debug)]
pub(super) struct Figures {
    registry: Registry,
    up: IntGauge,
    messages: IntCounterVec,
    latency: Histogram,
    connects: IntCounterVec,
    slowest: Mutex<Duration>,
    /// Told of each message that is judged.
    judged: Notify,
}

impl Figures {
    pub(super) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let up = IntGauge::new("fanfare_probe_up", UP)?;
        let messages = Opts::new("fanfare_probe_messages_total", MESSAGES);
        let messages = IntCounterVec::new(messages, &["result"])?;
        let latency = HistogramOpts::new("fanfare_probe_latency_seconds", LATENCY);
        let latency = Histogram::with_opts(latency.buckets(LATENCY_BUCKETS.to_vec()))?;
        let connects = Opts::new("fanfare_probe_connects_total", CONNECTS);
        let connects = IntCounterVec::new(connects, &["result"])?;
        registry.register(Box::new(up.clone()))?;
        registry.register(Box::new(messages.clone()))?;
        registry.register(Box::new(latency.clone()))?;
        registry.register(Box::new(connects.clone()))?;
        // So that an increase from nothing shows.
        for outcome in Outcome::ALL {
            messages.with_label_values(&[outcome.as_str()]);
        }
        for result in ["ok", "failed"] {
            connects.with_label_values(&[result]);
        }
        let (slowest, judged) = (Mutex::default(), Notify::new());
        Ok(Self { registry, up, messages, latency, connects, slowest, judged })
    }

    pub(super) fn connected(&self, ok: bool) {
        self.connects.with_label_values(&[if ok { "ok" } else { "failed" }]).inc();
    }

    /// Counts messages of which nothing is known but what became of them.
    pub(super) fn count(&self, outcome: Outcome, messages: u64) {
        if messages > 0 {
            self.messages.with_label_values(&[outcome.as_str()]).inc_by(messages);
            self.judged.notify_one();
        }
    }

    pub(super) fn arrived(&self, outcome: Outcome, took: Option<Duration>) {
        if let Some(took) = took {
            self.latency.observe(took.as_secs_f64());
            let mut slowest = self.slowest.lock();
            *slowest = slowest.max(took);
        }
        self.count(outcome, 1);
    }

    /// Returns once more messages are judged than when it returned last. For one task alone.
    pub(super) async fn judged(&self) {
        self.judged.notified().await;
    }

    pub(super) fn of(&self, outcome: Outcome) -> u64 {
        self.messages.with_label_values(&[outcome.as_str()]).get()
    }

    pub(super) fn render(&self, up: bool) -> prometheus::Result<Vec<u8>> {
        self.up.set(up.into());
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// `20 ok, 0 late, …; 1.3 ms on average, 4.1 ms at most`
    pub(super) fn summary(&self) -> String {
        let counts = Outcome::ALL.map(|it| format!("{} {}", self.of(it), it.as_str())).join(", ");
        let came = self.latency.get_sample_count();
        if came == 0 {
            return counts;
        }
        #[expect(clippy::cast_precision_loss, reason = "messages are far fewer than 2^52")]
        let average = self.latency.get_sample_sum() / came as f64 * 1000.0;
        let slowest = self.slowest.lock().as_secs_f64() * 1000.0;
        format!("{counts}; {average:.1} ms on average, {slowest:.1} ms at most")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_every_outcome() {
        let figures = Figures::new().unwrap();
        assert_eq!(figures.summary(), "0 ok, 0 late, 0 lost, 0 duplicate, 0 reordered, 0 refused");
        figures.arrived(Outcome::Ok, Some(Duration::from_millis(1)));
        figures.arrived(Outcome::Late, Some(Duration::from_millis(3)));
        figures.count(Outcome::Lost, 2);
        let summary = figures.summary();
        assert!(summary.starts_with("1 ok, 1 late, 2 lost, "), "{summary}");
        assert!(summary.ends_with("; 2.0 ms on average, 3.0 ms at most"), "{summary}");
    }

    #[test]
    fn every_result_is_scraped_before_it_happens() {
        let text = String::from_utf8(Figures::new().unwrap().render(true).unwrap()).unwrap();
        for outcome in Outcome::ALL {
            let line = format!("fanfare_probe_messages_total{{result=\"{}\"}} 0", outcome.as_str());
            assert!(text.contains(&line), "{text}");
        }
        assert!(text.contains("fanfare_probe_connects_total{result=\"failed\"} 0"), "{text}");
        assert!(text.contains("fanfare_probe_up 1"), "{text}");
    }
}

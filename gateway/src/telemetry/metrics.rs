//! Every metric of the gateway, by the names of `docs/metrics.md`.
//!
//! Labels hold only values from closed sets: configured namespaces, codes, reasons. A user, channel
//! or event in a label would let clients fill the memory of whoever stores them.

mod forwarding;
mod held;
mod history;
mod presence;
mod reloads;
mod retained;
mod runtime;
mod sessions;
mod tickets;
mod webhooks;

use std::{
    cell::RefCell,
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use broker_backends::BusStats;
use broker_core::ports::GapReason;
use broker_protocol::ws::deflate::Compressed;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector, process_collector::ProcessCollector,
};

use crate::hub::Hub;
use forwarding::ForwardingMetrics;
use held::HeldMetrics;
use history::HistoryMetrics;
pub(crate) use presence::PresenceMetrics;
use reloads::ReloadMetrics;
pub(crate) use retained::Load;
use retained::RetainedMetrics;
use runtime::RuntimeMetrics;
use sessions::SessionMetrics;
use tickets::TicketMetrics;
pub(crate) use webhooks::Asked;
use webhooks::WebhookMetrics;

/// Upper bounds in seconds; 0.25 and 1 are the bounds of the objectives.
const LATENCY_BUCKETS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Kept by the tracer, where traces are exported.
const SPANS_HELP: &str = "Spans of traces, by what became of them: exported, failed, dropped. Where traces are exported.";
/// Why deliveries do not happen; the values of a label.
const DROP_REASONS: [&str; 4] = ["expired", "queue_full", "connection_lost", "unwanted"];
/// What becomes of attempts to connect, but for what only odd clients do; the values of a label.
const HANDSHAKES: [&str; 4] = ["ok", "failed", "draining", "overloaded"];
/// Label for namespaces that are not declared.
const OTHER: &str = "other";

/// The gateway's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    namespaces: ArcSwap<BTreeSet<String>>,
    pub(crate) connections: IntGauge,
    connections_opened: IntCounterVec,
    connections_closed: IntCounterVec,
    handshakes: IntCounterVec,
    pub(crate) connection_limit: IntGauge,
    pub(crate) commands: IntCounterVec,
    pub(crate) client_requests: IntCounterVec,
    pub(crate) errors: IntCounterVec,
    held: HeldMetrics,
    runtime: RuntimeMetrics,
    messages_out: IntCounterVec,
    bytes_out: IntCounter,
    pub(crate) compression: CompressionMetrics,
    messages_dropped: IntCounterVec,
    delivery_latency: Histogram,
    gaps: IntCounterVec,
    pub(crate) history: HistoryMetrics,
    pub(crate) sessions: SessionMetrics,
    pub(crate) tickets: TicketMetrics,
    pub(crate) forwarding: ForwardingMetrics,
    pub(crate) webhooks: WebhookMetrics,
    slow_clients: IntCounter,
    canary: IntGauge,
    canary_latency: Histogram,
    store_up: IntGauge,
    store_errors: IntCounter,
    pub(crate) presence: PresenceMetrics,
    pub(crate) retained: RetainedMetrics,
    pub(crate) draining: IntGauge,
    pub(crate) reloads: ReloadMetrics,
    http_requests: IntCounterVec,
    bus: BusMetrics,
}

const ASKS_HELP: &str = "What services asked single clients, by what came of it: answered, timed_out, ended (the connection), closed, unable (its protocol has no acknowledgements), overloaded.";

impl Metrics {
    /// `namespaces`: those that may be a label.
    pub(crate) fn new(namespaces: impl IntoIterator<Item = String>) -> prometheus::Result<Self> {
        Self::make(namespaces).map(|(metrics, _)| metrics)
    }

    fn make(namespaces: impl IntoIterator<Item = String>) -> prometheus::Result<(Self, Vec<Row>)> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let make = Make { registry: registry.clone(), rows: RefCell::default() };
        make.build_info()?;
        let metrics = Self {
            connections: make.gauge("connections", "Open client connections.")?,
            connections_opened: make.counters("connections_opened_total", "Client connections that were opened, by transport (websocket, envelope, sse, poll, socketio, socketio_polling).", &["transport"])?,
            connections_closed: make.counters(
                "connections_closed_total",
                "Client connections that ended, by WebSocket close code and by who ended them (server, client, network).",
                &["code", "initiator"],
            )?,
            handshakes: make.counters(
                "handshakes_total",
                "Attempts to connect: ok (authenticated), failed, or why they were turned away.",
                &["result"],
            )?,
            connection_limit: make.gauge("connection_limit", "Connections that this gateway takes.")?,
            commands: make.counters("commands_total", "Commands of clients.", &["command"])?,
            client_requests: make.counters("client_requests_total", ASKS_HELP, &["outcome"])?,
            errors: make.counters("errors_total", "Errors told to clients, by code.", &["code"])?,
            held: HeldMetrics::new(&make)?,
            runtime: RuntimeMetrics::new(&make)?,
            messages_out: make.counters(
                "messages_out_total",
                "Messages handed to connections, by how they came (live) and namespace.",
                &["path", "channel_namespace"],
            )?,
            bytes_out: make.counter("message_bytes_out_total", "Bytes of message frames handed to connections.")?,
            compression: CompressionMetrics::new(&make)?,
            messages_dropped: make.counters(
                "messages_dropped_total",
                "Deliveries that did not happen, by reason: expired, queue_full, connection_lost, unwanted (came after the last subscriber had gone).",
                &["reason"],
            )?,
            delivery_latency: make.histogram(
                "delivery_latency_seconds",
                "From the publish of a message to the writing of its last delivery on this gateway.",
            )?,
            gaps: make.counters(
                "gaps_total",
                "Times that messages may have been lost on the way here, by reason; subscribers were told.",
                &["reason"],
            )?,
            history: HistoryMetrics::new(&make)?,
            sessions: SessionMetrics::new(&make)?,
            tickets: TicketMetrics::new(&make)?,
            forwarding: ForwardingMetrics::new(&make)?,
            webhooks: WebhookMetrics::new(&make)?,
            slow_clients: make.counter("slow_client_disconnects_total", "Connections closed because their queue was full.")?,
            canary: make.gauge("canary_up", "Whether the last canary message came back through bus and fan-out.")?,
            canary_latency: make.histogram("canary_latency_seconds", "How long the canary message took.")?,
            store_up: make.gauge("store_up", "Whether the last call to the store of connections succeeded.")?,
            store_errors: make.counter("store_errors_total", "Calls to the store of connections that failed.")?,
            presence: PresenceMetrics::new(&make)?,
            retained: RetainedMetrics::new(&make)?,
            draining: make.gauge("draining", "Whether this gateway is going away.")?,
            http_requests: make.counters(
                "http_requests_total",
                "Requests to the HTTP API, by status class.",
                &["status"],
            )?,
            bus: BusMetrics::new(&make)?,
            namespaces: ArcSwap::from_pointee(namespaces.into_iter().collect()),
            reloads: ReloadMetrics::new(&make)?,
            registry,
        };
        make.note("counter", "trace_spans_total", SPANS_HELP, &["result"]);
        metrics.show_reasons();
        Ok((metrics, make.rows.into_inner()))
    }

    /// A series that appears with its first event hides that event from `rate` and `increase`.
    fn show_reasons(&self) {
        for reason in DROP_REASONS {
            self.messages_dropped.with_label_values(&[reason]);
        }
        for result in HANDSHAKES {
            self.handshakes.with_label_values(&[result]);
        }
        for reason in GapReason::ALL {
            self.gaps.with_label_values(&[reason.as_str()]);
        }
    }

    /// Replaces the namespaces that may be a label.
    pub(crate) fn know(&self, namespaces: impl IntoIterator<Item = String>) {
        self.namespaces.store(Arc::new(namespaces.into_iter().collect()));
    }

    /// Adds what the tracer counts by itself.
    pub(crate) fn register_spans(&self, spans: Box<dyn Collector>) -> prometheus::Result<()> {
        self.registry.register(spans)
    }

    pub(crate) fn connection_opened(&self, transport: &str) {
        self.connections_opened.with_label_values(&[transport]).inc();
    }

    pub(crate) fn connection_closed(&self, code: u16, initiator: &str) {
        let code = if (1000..5000).contains(&code) { code } else { 1006 };
        self.connections_closed.with_label_values(&[&*code.to_string(), initiator]).inc();
    }

    pub(crate) fn handshake(&self, result: &str) {
        self.handshakes.with_label_values(&[result]).inc();
    }

    pub(crate) fn delivered(&self, namespace: &str, messages: u64, bytes: u64) {
        let namespace = if self.namespaces.load().contains(namespace) { namespace } else { OTHER };
        self.messages_out.with_label_values(&["live", namespace]).inc_by(messages);
        self.bytes_out.inc_by(bytes);
    }

    pub(crate) fn dropped(&self, reason: &str, count: u64) {
        self.messages_dropped.with_label_values(&[reason]).inc_by(count);
    }

    pub(crate) fn delivery_latency(&self, milliseconds: u64) {
        self.delivery_latency.observe(seconds(milliseconds));
    }

    pub(crate) fn gap(&self, reason: GapReason) {
        self.gaps.with_label_values(&[reason.as_str()]).inc();
    }

    /// A client's queue was full, and given up with these messages in it.
    pub(crate) fn slow_client(&self, lost: u32) {
        self.slow_clients.inc();
        self.dropped("queue_full", lost.into());
    }

    pub(crate) fn canary(&self, latency: Option<std::time::Duration>) {
        self.canary.set(i64::from(latency.is_some()));
        if let Some(latency) = latency {
            self.canary_latency.observe(latency.as_secs_f64());
        }
    }

    pub(crate) fn store_up(&self, up: bool) {
        self.store_up.set(i64::from(up));
    }

    pub(crate) fn store_error(&self) {
        self.store_errors.inc();
    }

    pub(crate) fn http_request(&self, status: u16) {
        let class =
            ["1xx", "2xx", "3xx", "4xx", "5xx"].get(usize::from(status / 100).wrapping_sub(1));
        self.http_requests.with_label_values(&[class.unwrap_or(&"other")]).inc();
    }

    /// Everything in Prometheus's text format, with hub and bus counted at this moment.
    pub(crate) fn render(&self, hub: &Hub, bus: &BusStats) -> prometheus::Result<Vec<u8>> {
        self.bus.take(bus);
        self.retained.take(hub.retained());
        self.held.take(hub);
        self.runtime.take();
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// What compression costs and brings.
#[derive(Debug)]
pub(crate) struct CompressionMetrics {
    pub(crate) messages: IntCounter,
    bytes_before: IntCounter,
    bytes_after: IntCounter,
}

impl CompressionMetrics {
    fn new(make: &Make) -> prometheus::Result<Self> {
        Ok(Self {
            messages: make.counter(
                "compressed_messages_total",
                "Messages that were compressed, each once for all connections that get it so.",
            )?,
            bytes_before: make.counter(
                "compression_before_bytes_total",
                "Bytes of the messages that were compressed, before that.",
            )?,
            bytes_after: make.counter(
                "compression_after_bytes_total",
                "Bytes of the messages that were compressed, after that.",
            )?,
        })
    }

    pub(crate) fn note(&self, compressed: &Compressed) {
        self.messages.inc_by(compressed.messages);
        self.bytes_before.inc_by(compressed.bytes_before);
        self.bytes_after.inc_by(compressed.bytes_after);
    }
}

/// What the bus counts by itself, copied when it is asked for.
#[derive(Debug)]
struct BusMetrics {
    connected: IntGauge,
    reconnects: IntCounter,
    published: IntCounterVec,
    received: IntCounter,
    overruns: IntCounter,
    malformed: IntCounter,
    questions_dropped: IntCounter,
    subscribes_denied: IntCounter,
}

impl BusMetrics {
    fn new(make: &Make) -> prometheus::Result<Self> {
        Ok(Self {
            connected: make.gauge("bus_connected", "Whether the bus is in reach.")?,
            reconnects: make.counter("bus_reconnects_total", "Times that one of the two connections to the bus was made anew.")?,
            published: make.counters(
                "messages_in_total",
                "Messages handed to the bus here, by outcome: ok, or why the bus did not take them.",
                &["result"],
            )?,
            received: make.counter("bus_messages_received_total", "Messages that came from the bus.")?,
            overruns: make.counter(
                "bus_slow_consumer_total",
                "Messages lost because they came from the bus faster than they were taken.",
            )?,
            malformed: make.counter(
                "bus_malformed_total",
                "Messages on the bus that were not of a form that can be delivered.",
            )?,
            questions_dropped: make.counter(
                "bus_questions_dropped_total",
                "Requests to this gateway over the bus that were dropped or whose answer was.",
            )?,
            subscribes_denied: make.counter(
                "bus_subscribes_denied_total",
                "Subscriptions that NATS does not permit this gateway: look at its user's permissions.",
            )?,
        })
    }

    fn take(&self, stats: &BusStats) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.connected.set(i64::from(stats.connected.load(Ordering::Relaxed)));
        set(&self.reconnects, load(&stats.reconnects));
        set(&self.received, load(&stats.received));
        set(&self.overruns, load(&stats.overruns));
        set(&self.malformed, load(&stats.malformed));
        set(&self.questions_dropped, load(&stats.questions_dropped) + load(&stats.answers_dropped));
        set(&self.subscribes_denied, load(&stats.subscribes_denied));
        let outcomes = [
            ("ok", &stats.published),
            ("unavailable", &stats.publish_unavailable),
            ("overloaded", &stats.publish_overloaded),
            ("message_too_large", &stats.publish_too_large),
            ("unknown", &stats.publish_unknown),
        ];
        for (outcome, count) in outcomes {
            set(&self.published.with_label_values(&[outcome]), load(count));
        }
    }
}

/// Brings a counter to a count that only grows.
fn set(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

/// One line of `docs/metrics.md`.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "the page is written and checked by a test"))]
struct Row {
    name: String,
    kind: &'static str,
    labels: String,
    help: String,
}

/// Makes metrics, registers them and notes them for the documentation.
struct Make {
    registry: Registry,
    rows: RefCell<Vec<Row>>,
}

impl Make {
    fn note(&self, kind: &'static str, name: &str, help: &str, labels: &[&str]) -> Opts {
        let name = format!("fanfare_{name}");
        let row =
            Row { name: name.clone(), kind, labels: labels.join(", "), help: help.to_owned() };
        self.rows.borrow_mut().push(row);
        Opts::new(name, help)
    }

    fn build_info(&self) -> prometheus::Result<()> {
        let help = "Always 1; the label tells the version.";
        let info = self.gauges("build_info", help, &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(())
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let gauge = IntGauge::with_opts(self.note("gauge", name, help, &[]))?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        let gauges = IntGaugeVec::new(self.note("gauge", name, help, labels), labels)?;
        self.registry.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let counter = IntCounter::with_opts(self.note("counter", name, help, &[]))?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let counters = IntCounterVec::new(self.note("counter", name, help, labels), labels)?;
        self.registry.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    fn histogram(&self, name: &str, help: &str) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::from(self.note("histogram", name, help, &[]));
        let histogram = Histogram::with_opts(options.buckets(LATENCY_BUCKETS.to_vec()))?;
        self.registry.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a latency in milliseconds is far below 2^52")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn gauge(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
const PAGE_HEAD: &str = "# Metrics

`GET /metrics` on the admin address, in Prometheus's text format; beside these, the `process_*` metrics that \
Prometheus users know. This page is checked against the code: `UPDATE_DOCS=1 cargo test -p gateway metrics` writes it.

Labels come from closed sets. `channel_namespace` is a declared namespace, `user`, `role`, or `other` (`namespace` alone is \
Kubernetes' label, and a target's labels win); no user, channel, event or address is ever a label, and a gateway exports at most 500 series.

| metric | kind | labels | meaning |
|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// The page that lists every metric.
    fn page() -> String {
        let (_, rows) = Metrics::make([]).unwrap();
        let mut page = PAGE_HEAD.to_owned();
        for Row { name, kind, labels, help } in &rows {
            let labels = if labels.is_empty() { "–" } else { labels };
            writeln!(page, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
        }
        page
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a switch for developers, not configuration")]
    fn the_page_lists_every_metric() {
        let page = page();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        if std::env::var("UPDATE_DOCS").is_ok() {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(page, std::fs::read_to_string(path).unwrap(), "UPDATE_DOCS=1 writes the page");
    }

    #[test]
    fn undeclared_namespaces_share_one_label() {
        let metrics = Metrics::new(["venue".to_owned()]).unwrap();
        for n in 0..100 {
            metrics.delivered(&format!("made-up-{n}"), 1, 10);
        }
        metrics.delivered("venue", 2, 10);
        let count =
            |namespace: &str| metrics.messages_out.with_label_values(&["live", namespace]).get();
        assert_eq!((count(OTHER), count("venue")), (100, 2));
    }
}

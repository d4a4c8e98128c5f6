//! From finished spans to the collector: a bounded queue, its thread, and HTTP.

use std::{
    error::Error,
    iter,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hyper::Uri;
use opentelemetry::Context;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor},
};
use prometheus::{IntCounter, IntCounterVec, Opts};
use reqwest::redirect::Policy;
use tokio::runtime::Handle;
use tokio_rustls::rustls::crypto::ring;

/// Spans that wait to be sent; those beyond are dropped, and counted.
pub(super) const QUEUE_SPANS: usize = 8192;
/// Most spans in one request.
const BATCH_SPANS: usize = 512;
/// Longest wait of a span for others to be sent with.
const BATCH_DELAY: Duration = Duration::from_secs(2);
/// How long the collector may take to answer one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of finished spans.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    family: IntCounterVec,
    pub(super) exported: IntCounter,
    pub(super) failed: IntCounter,
    pub(super) dropped: IntCounter,
}

impl Counts {
    pub(super) fn new() -> Self {
        let options = Opts::new(
            "fanfare_trace_spans_total",
            "Finished spans: exported, failed (the collector did not take them) or dropped (the queue was full).",
        );
        let family =
            IntCounterVec::new(options, &["result"]).expect("the name and the label are valid");
        let of = |result| family.with_label_values(&[result]);
        Self { exported: of("exported"), failed: of("failed"), dropped: of("dropped"), family }
    }

    pub(super) fn collector(&self) -> Box<dyn prometheus::core::Collector> {
        Box::new(self.family.clone())
    }
}

/// A queue before the SDK's, of the same length, since the SDK's drops without telling how many.
#[derive(Debug)]
pub(super) struct Queue {
    batches: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    counts: Counts,
}

impl Queue {
    /// Starts the thread that sends.
    pub(super) fn new<E: SpanExporter + 'static>(exporter: E, counts: Counts) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let exporter = Counted { exporter, waiting: Arc::clone(&waiting), counts: counts.clone() };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS)
            .with_max_export_batch_size(BATCH_SPANS)
            .with_scheduled_delay(BATCH_DELAY)
            .build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        Self { batches, waiting, counts }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE_SPANS {
            self.batches.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// An exporter whose outcomes are counted.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
    counts: Counts,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let outcome = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let count = if outcome.is_ok() { &self.counts.exported } else { &self.counts.failed };
        count.inc_by(spans as u64);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// HTTP on the gateway's own runtime, asked for by the thread that sends.
///
/// The SDK's default would be a blocking client, with one more runtime on one more thread.
#[derive(Debug)]
pub(super) struct Http {
    client: reqwest::Client,
    runtime: Handle,
    failing: AtomicBool,
}

impl Http {
    /// Reads the system's certificates where the collector needs them, and only there: a container
    /// may have none.
    pub(super) fn new(collector: &Uri) -> reqwest::Result<Self> {
        // An error means that the process has a provider already, which is as good.
        drop(ring::default_provider().install_default());
        let client = reqwest::Client::builder().timeout(ATTEMPT_TIMEOUT).redirect(Policy::none());
        let client = if collector.scheme_str() == Some("https") {
            client
        } else {
            client.tls_certs_only([])
        };
        Ok(Self {
            client: client.build()?,
            runtime: Handle::current(),
            failing: AtomicBool::new(false),
        })
    }

    /// Logs when it begins to fail and when it ends to: the SDK's own log has a line for each batch,
    /// and does not tell why.
    fn note(&self, outcome: &Result<Response<Bytes>, HttpError>) {
        let problem = match outcome {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answered {}", response.status())),
            Err(error) => Some(with_causes(&**error)),
        };
        let was_failing = self.failing.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(problem) if !was_failing => {
                tracing::warn!(problem, "the collector does not take traces")
            }
            None if was_failing => tracing::info!("the collector takes traces again"),
            _ => {}
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let outcome = self.runtime.spawn(async move { client.send_bytes(request).await }).await?;
        self.note(&outcome);
        outcome
    }
}

/// An error and what is behind it: reqwest's own words do not say.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let causes = iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    /// Takes nothing before it is let go.
    #[derive(Debug)]
    struct Held(Mutex<mpsc::Receiver<()>>);

    impl SpanExporter for Held {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            // Held by the sender that is dropped at last.
            assert!(self.0.lock().unwrap().recv().is_err());
            Ok(())
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (let_go, held) = mpsc::channel();
        let counts = Counts::new();
        let queue = Queue::new(Held(Mutex::new(held)), counts.clone());
        let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
        let tracer = provider.tracer("test");
        for _ in 0..QUEUE_SPANS + 10 {
            tracer.start("span").end();
        }
        assert_eq!(counts.dropped.get(), 10);
        drop(let_go);
        provider.shutdown().unwrap();
        assert_eq!((counts.exported.get(), counts.failed.get()), (QUEUE_SPANS as u64, 0));
    }
}

//! Traces of messages: who published, which gateways delivered, what a service answered.
//!
//! Spans are made here by hand, not from `tracing`'s spans: a message that is not sampled costs a
//! comparison, and one without a trace context that arrives from the bus costs nothing.
//! `docs/tracing.md` says what is recorded.

mod context;
mod export;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc, time::Duration};

use broker_core::{
    Message, MessageId, NodeId, message::Options, ports::ServiceRequest, session::Failure,
};
use hyper::Uri;
use opentelemetry::{
    Context, KeyValue,
    trace::{
        Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _,
        Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkError,
    trace::{Sampler, SdkTracer, SdkTracerProvider, Span},
};
use tokio::task;

use crate::clock;

/// How long the last spans may take to be sent.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// Where collectors take traces, below an endpoint that names no path.
const TRACES_PATH: &str = "/v1/traces";

/// What is traced, and where that goes.
#[derive(Debug, Clone)]
pub(crate) struct TelemetryOptions {
    /// OTLP/HTTP endpoint; without it nothing is traced.
    pub(crate) otlp_endpoint: Option<String>,
    /// Share of the publishes and requests without a trace context of their own that is traced.
    pub(crate) trace_sample: f64,
    /// Whether clients' trace contexts are continued.
    pub(crate) trust_client_trace: bool,
    /// What carries the messages: `nats`, or `fanfare` for the embedded bus.
    pub(crate) system: &'static str,
    /// Who reports.
    pub(crate) node: NodeId,
}

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    /// The endpoint is no URL of HTTP.
    #[error("the OTLP endpoint `{0}` is no URL such as http://localhost:4318")]
    Endpoint(String),
    /// There is no HTTP client to send with; for HTTPS, it wants the system's certificates.
    #[error("traces cannot be sent: {}", export::with_causes(.0))]
    Client(#[from] reqwest::Error),
    /// The exporter refuses its settings, perhaps those of `OTEL_*` variables.
    #[error("traces cannot be exported: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Where a publish came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A client's connection.
    Client,
    /// A service, by the HTTP API.
    Http,
    /// A service, by the API on the bus.
    Nats,
}

impl Source {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Http => "http",
            Self::Nats => "nats",
        }
    }
}

/// A message that is about to be published, perhaps to several channels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publication<'a> {
    /// Namespace of its channel; of the first one if there are several.
    pub(crate) namespace: &'a str,
    /// The message's id.
    pub(crate) id: &'a MessageId,
    /// Size of the body in bytes.
    pub(crate) body_size: usize,
    /// How many channels it goes to.
    pub(crate) targets: usize,
}

/// Starts the spans of a gateway. Without an endpoint, every call is a cheap nothing.
#[derive(Debug)]
pub(crate) struct Tracing {
    sample: f64,
    trust_client: bool,
    active: Option<Active>,
}

#[derive(Debug)]
struct Active {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    system: &'static str,
    counts: export::Counts,
}

impl Tracing {
    /// Starts the thread that sends; on the runtime whose connections it is to use.
    ///
    /// # Errors
    /// Where the endpoint is unusable. Whether a collector listens there is not asked.
    pub(crate) fn start(options: &TelemetryOptions) -> Result<Self, TraceError> {
        let active = match &options.otlp_endpoint {
            Some(endpoint) => Some(Active::start(&collector(endpoint)?, options)?),
            None => None,
        };
        Ok(Self { sample: options.trace_sample, trust_client: options.trust_client_trace, active })
    }

    /// Traces nothing, and trusts no client.
    #[cfg(test)]
    pub(crate) fn disabled() -> Self {
        Self { sample: 0.0, trust_client: false, active: None }
    }

    /// Counter of what became of finished spans, for `Metrics::register`.
    pub(crate) fn collector(&self) -> Option<Box<dyn prometheus::core::Collector>> {
        self.active.as_ref().map(|active| active.counts.collector())
    }

    /// Sends what waits; nothing is traced after it. To be called before the runtime stops.
    pub(crate) async fn shutdown(&self) {
        let Some(active) = &self.active else { return };
        let provider = active.provider.clone();
        // The thread that sends needs this runtime, and its caller waits for it.
        let ended =
            task::spawn_blocking(move || provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT)).await;
        match ended {
            Ok(Ok(()) | Err(OTelSdkError::AlreadyShutdown)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last traces may not have been sent"),
            Err(error) => tracing::warn!(%error, "the last traces may not have been sent"),
        }
    }

    /// Traces the publish of one message, and puts into the message what its trace context is from
    /// now on: a client's that is not trusted goes no further.
    pub(crate) fn publish_message(
        &self,
        message: &mut Message,
        source: Source,
    ) -> Option<ActiveSpan> {
        let mut trace = message.options.as_mut().and_then(|options| options.trace.take());
        let publication = Publication {
            namespace: message.channel.namespace(),
            id: &message.id,
            body_size: message.data.len(),
            targets: 1,
        };
        let span = self.publish(&mut trace, publication, source);
        if trace.is_some() {
            message.options.get_or_insert_default().trace = trace;
        } else if message.options.as_deref().is_some_and(|options| *options == Options::default()) {
            // Messages without options are delivered in blocks.
            message.options = None;
        }
        span
    }

    /// Traces a publish. `trace` holds the publisher's trace context, and then the message's.
    pub(crate) fn publish(
        &self,
        trace: &mut Option<Arc<str>>,
        publication: Publication<'_>,
        source: Source,
    ) -> Option<ActiveSpan> {
        let trusted = source != Source::Client || self.trust_client;
        self.begin(trace, trusted, |active| {
            let size = i64::try_from(publication.body_size).unwrap_or(i64::MAX);
            let mut attributes = active.attributes("publish", "send", publication.namespace);
            attributes
                .push(KeyValue::new("messaging.message.id", publication.id.as_str().to_owned()));
            attributes.push(KeyValue::new("messaging.message.body.size", size));
            attributes.push(KeyValue::new("fanfare.source", source.as_str()));
            if publication.targets > 1 {
                let targets = i64::try_from(publication.targets).unwrap_or(i64::MAX);
                attributes.push(KeyValue::new("fanfare.targets", targets));
            }
            builder("publish", SpanKind::Producer, publication.namespace, attributes)
        })
    }

    /// Traces a client's request to a service, and puts into it what its trace context is from
    /// now on.
    pub(crate) fn request(&self, request: &mut ServiceRequest) -> Option<ActiveSpan> {
        let (namespace, size) = (request.address.namespace(), request.data.len());
        self.begin(&mut request.trace, self.trust_client, |active| {
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            let mut attributes = active.attributes("request", "send", namespace);
            attributes.push(KeyValue::new("messaging.message.body.size", size));
            builder("request", SpanKind::Client, namespace, attributes)
        })
    }

    /// Traces the fan-out of a message on this gateway, if its publish was sampled.
    ///
    /// The span is a child of the publish, as the convention allows where one message is processed
    /// at a time: there are no more of them than gateways. It links to the publish too, as the
    /// convention asks.
    pub(crate) fn deliver(&self, message: &Message) -> Option<ActiveSpan> {
        let active = self.active.as_ref()?;
        let trace = message.options.as_ref()?.trace.as_ref()?;
        let publish = context::parse(trace).filter(SpanContext::is_sampled)?;
        let namespace = message.channel.namespace();
        let age = clock::wall().0.saturating_sub(message.time.0);
        let mut attributes = active.attributes("deliver", "process", namespace);
        attributes.push(KeyValue::new("messaging.message.id", message.id.as_str().to_owned()));
        attributes
            .push(KeyValue::new("fanfare.message.age_ms", i64::try_from(age).unwrap_or(i64::MAX)));
        let builder = builder("deliver", SpanKind::Consumer, namespace, attributes)
            .with_links(vec![link(publish.clone())]);
        active.start_span(builder, Some(publish))
    }

    /// A child of a trusted context, sampled as that one is; else a new trace, by chance, with a
    /// link to the context that was given.
    fn begin(
        &self,
        trace: &mut Option<Arc<str>>,
        trusted: bool,
        describe: impl FnOnce(&Active) -> SpanBuilder,
    ) -> Option<ActiveSpan> {
        let given = trace.as_deref().and_then(context::parse);
        let parent = given.clone().filter(|_| trusted);
        if parent.is_none() {
            *trace = None;
        }
        let active = self.active.as_ref()?;
        let sampled = parent.as_ref().map_or_else(|| self.takes_sample(), SpanContext::is_sampled);
        if !sampled {
            return None;
        }
        let links = match (&parent, given) {
            (None, Some(given)) => vec![link(given)],
            _ => Vec::new(),
        };
        let span = active.start_span(describe(active).with_links(links), parent)?;
        *trace = Some(span.traceparent());
        Some(span)
    }

    fn takes_sample(&self) -> bool {
        self.sample > 0.0 && rand::random::<f64>() < self.sample
    }
}

impl Active {
    fn start(collector: &Uri, options: &TelemetryOptions) -> Result<Self, TraceError> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(export::Http::new(collector)?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(collector.to_string())
            .build()?;
        let counts = export::Counts::new();
        // Only what is sampled is ever started.
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource(&options.node))
            .with_span_processor(export::Queue::new(exporter, counts.clone()))
            .build();
        let tracer = provider.tracer("fanfare");
        Ok(Self { provider, tracer, system: options.system, counts })
    }

    fn start_span(&self, builder: SpanBuilder, parent: Option<SpanContext>) -> Option<ActiveSpan> {
        let mut context = Context::new();
        if let Some(parent) = parent {
            context = context.with_remote_span_context(parent);
        }
        let span = self.tracer.build_with_context(builder, &context);
        // After the shutdown, spans have no ids.
        span.span_context().is_valid().then(|| ActiveSpan(Box::new(span)))
    }

    fn attributes(
        &self,
        operation: &'static str,
        kind: &'static str,
        namespace: &str,
    ) -> Vec<KeyValue> {
        vec![
            KeyValue::new("messaging.system", self.system),
            KeyValue::new("messaging.operation.name", operation),
            KeyValue::new("messaging.operation.type", kind),
            KeyValue::new("messaging.destination.template", template(namespace)),
        ]
    }
}

/// A span that has started. Dropped unfinished, such as when a connection ends before the bus
/// answers, it ends without an outcome.
#[derive(Debug)]
pub(crate) struct ActiveSpan(Box<Span>);

impl ActiveSpan {
    /// The trace context that what follows carries on.
    pub(crate) fn traceparent(&self) -> Arc<str> {
        context::format(self.0.span_context())
    }

    /// Ends a span, if there is one, with what became of its operation.
    pub(crate) fn finish<T, E: Clone + Into<Failure>>(span: Option<Self>, outcome: &Result<T, E>) {
        if let Some(span) = span {
            span.end(outcome.as_ref().err().map(|error| error.clone().into().code.as_str()));
        }
    }

    /// Ends the span of a fan-out that gave the message to this many connections.
    pub(crate) fn delivered(mut self, connections: u64) {
        let connections = i64::try_from(connections).unwrap_or(i64::MAX);
        self.0.set_attribute(KeyValue::new("fanfare.fanout", connections));
        self.end(None);
    }

    /// Ends the span.
    pub(crate) fn end(mut self, error: Option<&'static str>) {
        if let Some(code) = error {
            self.0.set_attribute(KeyValue::new("error.type", code));
            self.0.set_status(Status::error(Cow::Borrowed(code)));
        }
        self.0.end();
    }
}

fn builder(
    operation: &str,
    kind: SpanKind,
    namespace: &str,
    attributes: Vec<KeyValue>,
) -> SpanBuilder {
    SpanBuilder::from_name(format!("{operation} {}", template(namespace)))
        .with_kind(kind)
        .with_attributes(attributes)
}

/// Stands for all channels of a namespace: their names would be too many, and tell of users.
fn template(namespace: &str) -> String {
    format!("{namespace}:{{}}")
}

fn link(context: SpanContext) -> Link {
    Link::new(context, Vec::new(), 0)
}

/// `OTEL_RESOURCE_ATTRIBUTES` adds to these, and overrides them.
fn resource(node: &NodeId) -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "fanfare"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", node.to_string()),
        ])
        .with_detector(Box::new(opentelemetry_sdk::resource::TelemetryResourceDetector))
        .with_detector(Box::new(opentelemetry_sdk::resource::EnvResourceDetector::new()))
        .build()
}

/// Where traces are sent: the SDK would take an endpoint without scheme for HTTPS, and one without
/// path as it is.
fn collector(endpoint: &str) -> Result<Uri, TraceError> {
    let invalid = || TraceError::Endpoint(endpoint.to_owned());
    let uri: Uri = endpoint.parse().map_err(|_| invalid())?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(invalid());
    }
    if uri.port_u16() == Some(4317) {
        tracing::warn!(%endpoint, "collectors mostly speak gRPC at port 4317; OTLP over HTTP is at 4318");
    }
    if uri.path().trim_end_matches('/').is_empty() {
        return format!("{}{TRACES_PATH}", endpoint.trim_end_matches('/'))
            .parse()
            .map_err(|_| invalid());
    }
    Ok(uri)
}

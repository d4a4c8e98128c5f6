use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use broker_core::{
    Data, JsonText,
    message::Exclude,
    ports::{Caller, PublishError, RequestError},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message as _;
use tokio::net::TcpListener;

use super::*;

const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const GIVEN_UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// A stand-in for an OpenTelemetry collector.
#[derive(Default)]
struct Collector {
    spans: Mutex<Vec<Span>>,
    resource: Mutex<Vec<KeyValue>>,
}

impl Collector {
    /// Listens on a free port.
    async fn start() -> (Arc<Self>, String) {
        let collector = Arc::<Self>::default();
        let router =
            Router::new().route("/v1/traces", post(Self::take)).with_state(Arc::clone(&collector));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, endpoint)
    }

    async fn take(State(collector): State<Arc<Self>>, body: Bytes) -> Result<Vec<u8>, StatusCode> {
        let request =
            ExportTraceServiceRequest::decode(body).map_err(|_| StatusCode::BAD_REQUEST)?;
        for resource in request.resource_spans {
            collector
                .resource
                .lock()
                .unwrap()
                .extend(resource.resource.unwrap_or_default().attributes);
            collector
                .spans
                .lock()
                .unwrap()
                .extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        Ok(ExportTraceServiceResponse::default().encode_to_vec())
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }

    fn only_span(&self) -> Span {
        <[Span; 1]>::try_from(self.spans()).unwrap().into_iter().next().unwrap()
    }
}

fn tracing(endpoint: Option<&str>, sample: f64, trust_client_trace: bool) -> Tracing {
    Tracing::start(&TelemetryOptions {
        otlp_endpoint: endpoint.map(ToOwned::to_owned),
        trace_sample: sample,
        trust_client_trace,
        system: "nats",
        node: "gateway-1".parse().unwrap(),
    })
    .unwrap()
}

fn message(trace: Option<&str>) -> Message {
    let options =
        trace.map(|trace| Box::new(Options { trace: Some(trace.into()), ..Options::default() }));
    Message {
        id: "order-7".parse().unwrap(),
        channel: "venue:42".parse().unwrap(),
        event: None,
        data: Data::Json(JsonText::from_checked("true".into())),
        time: clock::wall(),
        stored: None,
        options,
    }
}

fn request(trace: Option<&str>) -> ServiceRequest {
    ServiceRequest {
        address: "orders:new".parse().unwrap(),
        event: None,
        data: Data::Binary(vec![1, 2].into()),
        caller: Caller { connection: broker_core::ConnectionId(1), user: None, roles: Vec::new() },
        timeout: Duration::from_secs(1),
        trace: trace.map(Into::into),
    }
}

fn trace_of(message: &Message) -> Option<&str> {
    message.options.as_ref()?.trace.as_deref()
}

fn attributes(list: &[KeyValue]) -> BTreeMap<&str, String> {
    let text =
        |attribute: &KeyValue| match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(number) => number.to_string(),
            other => format!("{other:?}"),
        };
    list.iter().map(|attribute| (attribute.key.as_str(), text(attribute))).collect()
}

fn context_of(span: &Span) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
}

fn parent_of(span: &Span) -> &[u8] {
    &span.parent_span_id
}

fn linked(span: &Span) -> Vec<(&[u8], &[u8])> {
    span.links.iter().map(|link| (&link.trace_id[..], &link.span_id[..])).collect()
}

fn given_ids() -> ([u8; 16], [u8; 8]) {
    let given = context::parse(GIVEN).unwrap();
    (given.trace_id().to_bytes(), given.span_id().to_bytes())
}

#[tokio::test]
async fn a_publish_and_its_deliveries_are_one_trace() {
    let (collector, endpoint) = Collector::start().await;
    let tracing = tracing(Some(&endpoint), 1.0, false);
    let mut message = message(None);
    let publish = tracing.publish_message(&mut message, Source::Http);
    assert_eq!(trace_of(&message), Some(&*publish.as_ref().unwrap().traceparent()));
    ActiveSpan::finish(publish, &Ok::<(), PublishError>(()));
    tracing.deliver(&message).unwrap().delivered(3);
    tracing.shutdown().await;

    let [publish, deliver] = <[Span; 2]>::try_from(collector.spans()).unwrap();
    assert_eq!(Some(&*context_of(&publish)), trace_of(&message));
    assert_eq!((&*publish.name, publish.kind()), ("publish venue:{}", span_kind::Producer));
    assert_eq!((parent_of(&publish), linked(&publish)), (&[][..], vec![]));
    assert_eq!(
        attributes(&publish.attributes),
        BTreeMap::from([
            ("messaging.system", "nats".to_owned()),
            ("messaging.operation.name", "publish".to_owned()),
            ("messaging.operation.type", "send".to_owned()),
            ("messaging.destination.template", "venue:{}".to_owned()),
            ("messaging.message.id", "order-7".to_owned()),
            ("messaging.message.body.size", "4".to_owned()),
            ("fanfare.source", "http".to_owned()),
        ])
    );
    assert_eq!((&*deliver.name, deliver.kind()), ("deliver venue:{}", span_kind::Consumer));
    assert_eq!(deliver.trace_id, publish.trace_id);
    assert_eq!(parent_of(&deliver), publish.span_id);
    assert_eq!(linked(&deliver), [(&publish.trace_id[..], &publish.span_id[..])]);
    let attributes_of_delivery = attributes(&deliver.attributes);
    assert_eq!(attributes_of_delivery["fanfare.fanout"], "3");
    assert_eq!(attributes_of_delivery["messaging.operation.type"], "process");
    assert!(attributes_of_delivery["fanfare.message.age_ms"].parse::<u64>().unwrap() < 60_000);
    let resource = collector.resource.lock().unwrap().clone();
    let resource = attributes(&resource);
    assert_eq!(
        (&*resource["service.name"], &*resource["service.instance.id"]),
        ("fanfare", "gateway-1")
    );
}

mod span_kind {
    pub(super) use opentelemetry_proto::tonic::trace::v1::span::SpanKind::{
        Client, Consumer, Producer,
    };
}

#[tokio::test]
async fn a_service_s_own_trace_is_continued() {
    let (collector, endpoint) = Collector::start().await;
    let tracing = tracing(Some(&endpoint), 0.0, false);
    let mut message = message(Some(GIVEN));
    let publish = tracing.publish_message(&mut message, Source::Nats);
    ActiveSpan::finish(publish, &Err::<(), _>(PublishError::Unavailable));
    tracing.shutdown().await;

    let span = collector.only_span();
    let (trace_id, span_id) = given_ids();
    assert_eq!((&span.trace_id[..], parent_of(&span)), (&trace_id[..], &span_id[..]));
    assert_eq!(linked(&span), []);
    assert_eq!(trace_of(&message), Some(&*context_of(&span)));
    assert_eq!(attributes(&span.attributes)["error.type"], "unavailable");
    assert_eq!(
        span.status.unwrap().code(),
        opentelemetry_proto::tonic::trace::v1::status::StatusCode::Error
    );
}

#[tokio::test]
async fn a_client_s_trace_is_linked_to_and_not_continued() {
    let (collector, endpoint) = Collector::start().await;
    let tracing = tracing(Some(&endpoint), 1.0, false);
    let mut message = message(Some(GIVEN));
    drop(tracing.publish_message(&mut message, Source::Client).unwrap());
    tracing.shutdown().await;

    let span = collector.only_span();
    let (trace_id, span_id) = given_ids();
    assert_ne!(span.trace_id, trace_id);
    assert_eq!((parent_of(&span), linked(&span)), (&[][..], vec![(&trace_id[..], &span_id[..])]));
    assert_eq!(trace_of(&message), Some(&*context_of(&span)));
}

#[tokio::test]
async fn a_request_carries_its_span_to_the_service() {
    let (collector, endpoint) = Collector::start().await;
    let tracing = tracing(Some(&endpoint), 0.0, true);
    let mut request = request(Some(GIVEN));
    let span = tracing.request(&mut request);
    ActiveSpan::finish(span, &Err::<(), _>(RequestError::NoService));
    tracing.shutdown().await;

    let span = collector.only_span();
    assert_eq!((&*span.name, span.kind()), ("request orders:{}", span_kind::Client));
    assert_eq!(parent_of(&span), given_ids().1);
    assert_eq!(request.trace.as_deref(), Some(&*context_of(&span)));
    assert_eq!(attributes(&span.attributes)["error.type"], "no_service");
}

#[tokio::test]
async fn what_is_not_sampled_is_not_sent() {
    let (collector, endpoint) = Collector::start().await;
    let tracing = tracing(Some(&endpoint), 0.0, false);
    let mut plain = message(None);
    assert!(tracing.publish_message(&mut plain, Source::Client).is_none());
    assert!(tracing.deliver(&plain).is_none());
    assert!(tracing.deliver(&message(Some("nonsense"))).is_none());

    let mut of_client = message(Some(GIVEN));
    assert!(tracing.publish_message(&mut of_client, Source::Client).is_none());
    assert_eq!(of_client.options, None, "goes no further, and is delivered in blocks");

    let mut of_service = message(Some(GIVEN_UNSAMPLED));
    assert!(tracing.publish_message(&mut of_service, Source::Http).is_none());
    assert!(tracing.deliver(&of_service).is_none());
    assert_eq!(trace_of(&of_service), Some(GIVEN_UNSAMPLED), "other services may use it");
    tracing.shutdown().await;
    assert_eq!(collector.spans(), []);
}

#[tokio::test]
async fn without_an_endpoint_nothing_is_traced() {
    let tracing = tracing(None, 1.0, false);
    assert!(tracing.collector().is_none());
    let mut of_service = message(Some(GIVEN));
    assert!(tracing.publish_message(&mut of_service, Source::Nats).is_none());
    assert!(tracing.deliver(&of_service).is_none());
    assert_eq!(trace_of(&of_service), Some(GIVEN), "passed on");

    let mut of_client = message(Some(GIVEN));
    let excluded = Exclude { connections: vec![broker_core::ConnectionId(9)], users: Vec::new() };
    of_client.options.as_mut().unwrap().exclude = excluded.clone();
    assert!(tracing.publish_message(&mut of_client, Source::Client).is_none());
    assert_eq!(
        of_client.options,
        Some(Box::new(Options { exclude: excluded, ..Options::default() }))
    );

    let mut request = request(Some(GIVEN));
    assert!(tracing.request(&mut request).is_none());
    assert_eq!(request.trace, None);
    tracing.shutdown().await;
}

#[tokio::test]
async fn about_the_configured_share_is_sampled() {
    let (_collector, endpoint) = Collector::start().await;
    let tracing = tracing(Some(&endpoint), 0.25, false);
    let sampled = (0..4000).filter(|_| tracing.takes_sample()).count();
    assert!((800..1200).contains(&sampled), "{sampled}");
    tracing.shutdown().await;
}

#[tokio::test]
async fn a_collector_that_is_not_there_delays_the_end_only_a_little() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let tracing = tracing(Some(&format!("http://{gone}/")), 1.0, false);
    drop(tracing.publish_message(&mut message(None), Source::Client));
    let started = tokio::time::Instant::now();
    tracing.shutdown().await;
    tracing.shutdown().await;
    assert!(started.elapsed() < SHUTDOWN_TIMEOUT + Duration::from_secs(1));
    assert_eq!(tracing.active.as_ref().unwrap().counts.failed.get(), 1);
    let mut late = message(Some(GIVEN));
    assert!(tracing.publish_message(&mut late, Source::Http).is_none());
    assert_eq!(trace_of(&late), Some(GIVEN));
}

#[test]
fn an_endpoint_is_a_url_and_may_name_its_path() {
    let whole = |endpoint| collector(endpoint).unwrap().to_string();
    assert_eq!(whole("http://otel:4318"), "http://otel:4318/v1/traces");
    assert_eq!(whole("https://otel/"), "https://otel/v1/traces");
    assert_eq!(whole("https://otel/in/v1/traces"), "https://otel/in/v1/traces");
    for bad in ["otel:4318", "localhost", "grpc://otel:4317", "http://", ""] {
        assert!(matches!(collector(bad), Err(TraceError::Endpoint(_))), "{bad}");
    }
}

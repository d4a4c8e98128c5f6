//! A message's span lasts until the message is written.

use crate::telemetry::TelemetryOptions;

use super::*;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn a_span_ends_when_the_sockets_have_the_message() {
    let tracing = Tracing::start(&TelemetryOptions {
        otlp_endpoint: Some("http://127.0.0.1:1".to_owned()),
        trace_sample: 0.0,
        trust_client_trace: false,
        system: "nats",
        node: "gateway-1".parse().unwrap(),
    });
    let fanout = Fanout { tracing: Arc::new(tracing.unwrap()), ..fanout().await };
    let client = Client::new(&fanout, 1, &["venue:1"]);
    let traced = Options { trace: Some(TRACE.into()), ..Options::default() };
    let message = message("venue:1", "a", Some(traced));

    let mut touched = Touched::default();
    assert_eq!(fanout.deliver_single(&interest("venue:1"), &message, &mut touched), 1);
    assert_eq!((client.got("\"a\""), touched.spans.len()), (0, 1));
    touched.write();
    assert_eq!((client.got("\"a\""), touched.spans.len()), (1, 0));
}

"""A stand-in for an OpenTelemetry collector: takes traces by OTLP over HTTP, as protobuf."""

import dataclasses
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from harness import wait_until


@dataclasses.dataclass(frozen=True)
class Span:
    """As it was exported; ids are hexadecimal."""

    trace: str
    id: str
    parent: str
    name: str
    kind: str
    attributes: dict
    resource: dict
    links: list
    started: int
    ended: int
    failed: bool

    @property
    def texts(self):
        """All that an operator could read in it."""
        values = [*self.attributes.values(), *self.resource.values()]
        return [self.name, *map(str, values)]


class Collector(ThreadingHTTPServer):
    """Use as a context manager."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.spans = []

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def trace(self, trace, count):
        """The spans of a trace, once there are so many, in the order in which they began."""
        of_trace = lambda: [span for span in list(self.spans) if span.trace == trace]
        wait_until(lambda: len(of_trace()) >= count, f"{count} spans of {trace} are exported")
        return sorted(of_trace(), key=lambda span: span.started)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        is_otlp = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        if is_otlp:
            self.server.spans.extend(spans_of(ExportTraceServiceRequest.FromString(body)))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200 if is_otlp else 400)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def spans_of(request):
    for of_resource in request.resource_spans:
        resource = values(of_resource.resource.attributes)
        for span in (span for scope in of_resource.scope_spans for span in scope.spans):
            yield Span(
                trace=span.trace_id.hex(),
                id=span.span_id.hex(),
                parent=span.parent_span_id.hex(),
                name=span.name,
                kind=WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                attributes=values(span.attributes),
                resource=resource,
                links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                started=span.start_time_unix_nano,
                ended=span.end_time_unix_nano,
                failed=span.status.code == Status.STATUS_CODE_ERROR,
            )


def values(attributes):
    return {it.key: getattr(it.value, it.value.WhichOneof("value")) for it in attributes}

//! Server-sent events: one response that does not end, each object of the server's an event.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use broker_core::ErrorCode;
use broker_protocol::{native, sse};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use rand::RngExt as _;

use super::{
    Deps,
    cursor::{Cursor, Earlier},
    line::{Line, Said, closed},
    object::Object,
    wanted::Query,
};
use crate::{
    api::Pass,
    clock,
    connection::{Client, Transport},
    problem::Problem,
    socket::CommandKey,
};

/// What is written at once; more waits for its turn.
const CHUNK_BYTES: usize = 16 * 1024;
/// How long a browser is to wait before it comes back, in milliseconds. By itself it would come
/// back with all others that were cut off with it.
const RETRY: std::ops::Range<u64> = 500..3_000;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::CONTENT_TYPE, HeaderValue::from_static(sse::MEDIA_TYPE)),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    // nginx would hold events back.
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
];

/// `GET /v1/sse`
pub(super) async fn open(
    State(deps): State<Arc<Deps>>,
    request: Request,
) -> Result<Response, Problem> {
    let metrics = &deps.admission.deps.metrics;
    deps.admission
        .admit(request.headers())
        .inspect_err(|problem| metrics.handshake(problem.code))?;
    let query = Query::read(request.uri().query().unwrap_or_default())?;
    let client = Client::of(request.headers(), Transport::Sse);
    let pass = Pass { node: deps.node.mark(), key: CommandKey::random() };
    let token = deps.admission.token(request.headers(), request.uri());
    let mut line = Line::open(&deps.admission, client, token, pass.key);
    let connected = line.connected().await?;
    let earlier = last_event_id(request.headers()).unwrap_or(&query.cursor);
    let cursor = line.subscribe(&connected, query.wanted, Earlier::read(earlier));
    let events = Events::begin(line, cursor, connected, &pass)?;
    Ok((HEADERS, Body::from_stream(events)).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(LAST_EVENT_ID)?.to_str().ok()
}

/// The body of the response.
#[derive(Debug)]
struct Events {
    line: Line,
    cursor: Cursor,
    /// What has not been written yet.
    out: BytesMut,
    ended: bool,
}

impl Events {
    fn begin(
        line: Line,
        cursor: Cursor,
        mut connected: Object,
        pass: &Pass,
    ) -> Result<Self, Problem> {
        let mut out = BytesMut::new();
        sse::put_retry(&mut out, rand::rng().random_range(RETRY));
        if !native::append_text(&mut connected.json, "secret", &pass.reveal()) {
            return Err(Problem::new(ErrorCode::Internal, "`connected` is no object"));
        }
        sse::put_event(&mut out, "connected", None, &connected.json);
        Ok(Self { line, cursor, out, ended: false })
    }

    fn write(&mut self, said: &Said) {
        match said {
            Said::Object(object) => {
                let moved = self.cursor.note(object);
                let id = moved.then(|| self.cursor.text(clock::wall())).flatten();
                if let Some(after) = object.after {
                    sse::put_retry(&mut self.out, after);
                }
                sse::put_event(&mut self.out, &object.kind, id.as_deref(), &object.json);
            }
            Said::Ping => {
                let id = self.cursor.text(clock::wall());
                sse::put_heartbeat(&mut self.out, id.as_deref());
            }
            Said::Closed { code, reason } => {
                sse::put_event(&mut self.out, "close", None, &closed(*code, reason));
                self.ended = true;
            }
        }
    }
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let events = self.get_mut();
        while !events.ended && events.out.len() < CHUNK_BYTES {
            match events.line.poll_next(cx) {
                Poll::Ready(Some(said)) => events.write(&said),
                Poll::Ready(None) => events.ended = true,
                Poll::Pending => break,
            }
        }
        match std::mem::take(&mut events.out) {
            out if !out.is_empty() => Poll::Ready(Some(Ok(out.freeze()))),
            _ if events.ended => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }
}

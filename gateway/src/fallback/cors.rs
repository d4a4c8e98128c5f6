//! Pages of other origins: only those that may open a WebSocket, too, and they may read answers.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::connection::Admission;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
const HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, last-event-id, traceparent");
/// How long a browser may go by the answer, in seconds; Chromium takes no more.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Turns away what pages of foreign origins ask, and lets others read what is answered.
pub(super) async fn guard(
    State(admission): State<Arc<Admission>>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    if let Err(problem) = admission.check_origin(request.headers()) {
        admission.deps.metrics.handshake(problem.code);
        return vary(problem.into_response());
    }
    let preflight = request.method() == Method::OPTIONS;
    let mut response = match (preflight, origin.is_some()) {
        (true, true) => preflight_answer(),
        _ => next.run(request).await,
    };
    if let Some(origin) = origin {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    vary(response)
}

fn preflight_answer() -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn vary(mut response: Response) -> Response {
    response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    response
}

//! Pages of other origins: only those that may open a WebSocket, too, and they may read answers.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{api, config::AllowedOrigins, connection::Admission, problem::Problem};

/// All that is served to pages anywhere; what a path has is said by its 405.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, DELETE");
/// What pages may send: faces name the headers where tokens stand, so it is what they ask for.
const HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, last-event-id, traceparent");
/// How long a browser may go by the answer, in seconds; Chromium takes no more.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Whether pages may have cookies sent along, as some clients do unasked; nothing here reads them.
const CREDENTIALS: HeaderValue = HeaderValue::from_static("true");
/// What pages may read beside the body.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after");

/// For what pages may ask of the API; the rest of it is for servers.
pub(crate) async fn guard_api(
    State(admission): State<Arc<Admission>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    if !path.is_some_and(|path| api::FOR_PAGES.contains(&path.as_str())) {
        return next.run(request).await;
    }
    let_in(&admission, request, next).await.unwrap_or_else(|problem| {
        admission.deps.metrics.http_request(problem.status.as_u16());
        turn_away(problem)
    })
}

/// For what pages load.
pub(crate) async fn guard_scripts(
    State(admission): State<Arc<Admission>>,
    request: Request,
    next: Next,
) -> Response {
    let_in(&admission, request, next).await.unwrap_or_else(turn_away)
}

/// For the ways in.
pub(crate) async fn guard(
    State(admission): State<Arc<Admission>>,
    request: Request,
    next: Next,
) -> Response {
    let_in(&admission, request, next).await.unwrap_or_else(|problem| {
        admission.deps.metrics.handshake(problem.code);
        turn_away(problem)
    })
}

/// Lets pages read what is answered, but for those of foreign origins, which are not answered.
async fn let_in(admission: &Admission, request: Request, next: Next) -> Result<Response, Problem> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    admission.check_origin(request.headers())?;
    let preflight = request.method() == Method::OPTIONS;
    let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    // Pages of all origins may ask, but not with what a browser keeps for one of them.
    let trusted = admission.origins != AllowedOrigins::All;
    let mut response = match (preflight, origin.is_some()) {
        (true, true) => preflight_answer(wanted),
        _ => next.run(request).await,
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if trusted {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, CREDENTIALS);
        }
    }
    Ok(vary(response))
}

fn turn_away(problem: Problem) -> Response {
    vary(problem.into_response())
}

fn preflight_answer(wanted: Option<HeaderValue>) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.unwrap_or(HEADERS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn vary(mut response: Response) -> Response {
    response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    response
}

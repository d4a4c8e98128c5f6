//! The API over HTTP.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, FromRequest, FromRequestParts, MatchedPath, Path, Query, Request, State,
        rejection::BytesRejection,
    },
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use broker_core::{ErrorCode, message, session::Rules};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time;
use tracing::Instrument as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Deps, ask,
    caller::{Admin, Publisher},
    channels::{self, ChannelsBody, ChannelsQuery},
    connections::{
        self, CloseQuery, ClosedBody, ConnectionBody, ConnectionsBody, ConnectionsQuery,
    },
    history::{self, MessagesBody, MessagesQuery, Reader},
    idempotency::{self, Kept, Key},
    members::{self, CountBody, MembersBody, PageQuery, UserBody},
    openapi::{self, AdminErrors, HistoryErrors, PublishErrors, SnapshotErrors},
    publish::{self, AnswerBody, Ids, PublishBody},
    queue::{self, PeekQuery, PurgedBody, QueueBody, QueueStatsBody},
    snapshot::{self, SnapshotBody, SnapshotQuery},
    stats::{self, StatsBody},
    tickets,
};
use crate::{problem::Problem, telemetry::Source};

/// Largest body of a request; larger where a single message may be.
const BODY_BYTES: usize = 8 << 20;

/// What clients may ask with their token, and so pages, too.
pub(crate) const FOR_PAGES: [&str; 2] = [MESSAGES, SNAPSHOT];
const MESSAGES: &str = "/v1/channels/{channel}/messages";
const SNAPSHOT: &str = "/v1/snapshot";

/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(30);

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// All routes of the API, below `/v1`, with `/openapi.json` and `/docs`.
pub(crate) fn router(deps: Arc<Deps>) -> Router {
    let body_bytes = body_bytes(&deps.rules);
    let (router, document) = documented().split_for_parts();
    let document = Bytes::from(super::json(&document));
    router
        .route("/openapi.json", get(move || async move { openapi::json(document) }))
        .route("/docs", get(openapi::page))
        .route("/v1/{*rest}", any(no_route))
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(body_bytes))
        .layer(middleware::from_fn(trace))
        .with_state(deps)
}

/// Largest body of a request. In base64, with escapes and names around it, a message takes less
/// than twice its size.
pub(crate) fn body_bytes(rules: &Rules) -> usize {
    BODY_BYTES.max(rules.limits.message_bytes.saturating_mul(2).saturating_add(1 << 20))
}

/// The routes with their specification.
fn documented() -> OpenApiRouter<Arc<Deps>> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(publish_messages))
        .routes(routes!(read_messages))
        .routes(routes!(read_snapshot))
        .routes(routes!(list_channels))
        .routes(routes!(count_members))
        .routes(routes!(list_members))
        .routes(routes!(list_connections))
        .routes(routes!(find_connection, close_connection))
        .routes(routes!(ask::ask_client))
        .routes(routes!(close_user))
        .routes(routes!(tickets::make_ticket))
        .routes(routes!(find_user))
        .routes(routes!(read_stats))
        .routes(routes!(read_queue_stats))
        .routes(routes!(peek_queue, purge_queue))
}

/// Publish
///
/// One message, or a batch whose messages are published in order, each with its own result.
///
/// A batch is answered with 200, whatever became of its messages; a single message is, if it
/// reached at least one of its targets. With an `Idempotency-Key`, a request that is repeated
/// within two minutes is carried out once and answered as the first time. Where that answer was
/// such that a repetition could better it (`retry` other than `no`), it publishes everything
/// anew, under the same message ids. While the store is away, requests with a key are refused.
#[utoipa::path(
    post,
    path = "/v1/publish",
    operation_id = "publish",
    tag = "messages",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the request safe to repeat: 1 to 255 printable characters, fresh for each request."),
        ("traceparent" = Option<String>, Header, description = "W3C trace context."),
    ),
    request_body = PublishBody<'static>,
    responses(
        (status = 200, description = "What became of it.", body = AnswerBody<'static>, headers(
            ("Idempotent-Replayed" = bool, description = "`true` where the request had been carried out before."),
        )),
        PublishErrors<'static>,
    ),
)]
async fn publish_messages(
    State(deps): State<Arc<Deps>>,
    caller: Publisher,
    headers: HeaderMap,
    Payload(body): Payload,
) -> Result<Response, Problem> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let name = message::Publisher::Service((*caller.key_id).into());
    let publisher = deps.publisher(name, Source::Http, text("traceparent").map(Into::into));
    let command = publish::read(&body, &deps.rules, publisher.now)?;
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else {
        let answer = publish::publish(&publisher, command, &Ids::Random).await?;
        return Ok(json(answer.body));
    };
    let key = Key::new(&format!("key:{}", caller.key_id), key.to_str().unwrap_or(""), &body)?;
    let kept = {
        let ids = Ids::Of(key.clone());
        let work = async move { publish::publish(&publisher, command, &ids).await };
        idempotency::once(&deps.sessions, key, work).await?
    };
    let Kept { body, replayed } = kept;
    let mut response = json(body);
    if replayed {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Read messages
///
/// What is kept of a channel whose namespace has history. For operators, and for clients with a
/// token: what it lets them subscribe to. Who follows a channel without a connection hands back
/// `next` as `since` each time, and gets nothing twice and misses nothing, unless `recovered` is
/// false.
#[utoipa::path(
    get,
    path = MESSAGES,
    operation_id = "readMessages",
    tag = "messages",
    params(("channel" = String, Path, description = "The channel."), MessagesQuery),
    responses(
        (status = 200, description = "Messages that are kept.", body = MessagesBody),
        HistoryErrors<'static>,
    ),
)]
async fn read_messages(
    State(deps): State<Arc<Deps>>,
    reader: Reader,
    Segment(channel): Segment,
    Params(query): Params<MessagesQuery>,
) -> Result<Response, Problem> {
    Ok(unstored(&history::read(&deps, &reader, &channel, query).await?))
}

/// Read a snapshot
///
/// The newest message of every channel that matches a pattern, in a namespace with
/// `history.retained`. For operators, and for clients with a token that lets them subscribe to the
/// pattern. Pages are made one by one: each shows its channels as they are then. To follow them
/// too, subscribe to the pattern first; of a channel, what came live counts more than what a page
/// has.
#[utoipa::path(
    get,
    path = SNAPSHOT,
    operation_id = "readSnapshot",
    tag = "messages",
    params(SnapshotQuery),
    responses(
        (status = 200, description = "The newest messages.", body = SnapshotBody),
        SnapshotErrors<'static>,
    ),
)]
async fn read_snapshot(
    State(deps): State<Arc<Deps>>,
    reader: Reader,
    Params(query): Params<SnapshotQuery>,
) -> Result<Response, Problem> {
    Ok(unstored(&snapshot::read(&deps, &reader, query).await?))
}

/// List channels
///
/// Channels and patterns with subscribers, counted over all gateways.
#[utoipa::path(
    get,
    path = "/v1/channels",
    operation_id = "listChannels",
    tag = "cluster",
    params(ChannelsQuery),
    responses((status = 200, description = "Channels, by name.", body = ChannelsBody), AdminErrors<'static>),
)]
async fn list_channels(
    State(deps): State<Arc<Deps>>,
    _: Admin,
    Params(query): Params<ChannelsQuery>,
) -> Result<Response, Problem> {
    Ok(answer(&channels::list(&deps, query).await?))
}

/// Count the members of a channel
///
/// In namespaces with presence. What a gateway that died held is counted until its lease is over
/// and some seconds more.
#[utoipa::path(
    get,
    path = "/v1/channels/{channel}",
    operation_id = "countMembers",
    tag = "cluster",
    params(("channel" = String, Path, description = "The channel's name.")),
    responses((status = 200, description = "How many there are.", body = CountBody), AdminErrors<'static>),
)]
async fn count_members(
    State(deps): State<Arc<Deps>>,
    _: Admin,
    Segment(channel): Segment,
) -> Result<Response, Problem> {
    Ok(answer(&members::count(&deps, &channel).await?))
}

/// List the members of a channel
///
/// In namespaces with presence: users, and connections without a user, that are subscribed to the
/// channel by its very name, on all gateways. A member may be in two pages while others come and
/// go.
#[utoipa::path(
    get,
    path = "/v1/channels/{channel}/members",
    operation_id = "listMembers",
    tag = "cluster",
    params(("channel" = String, Path, description = "The channel's name."), PageQuery),
    responses((status = 200, description = "Members.", body = MembersBody), AdminErrors<'static>),
)]
async fn list_members(
    State(deps): State<Arc<Deps>>,
    _: Admin,
    Segment(channel): Segment,
    Params(query): Params<PageQuery>,
) -> Result<Response, Problem> {
    Ok(answer(&members::list(&deps, &channel, query).await?))
}

/// List connections
///
/// With the store away: those of the gateway that answers.
#[utoipa::path(
    get,
    path = "/v1/connections",
    operation_id = "listConnections",
    tag = "cluster",
    params(ConnectionsQuery),
    responses((status = 200, description = "Connections.", body = ConnectionsBody), AdminErrors<'static>),
)]
async fn list_connections(
    State(deps): State<Arc<Deps>>,
    _: Admin,
    Params(query): Params<ConnectionsQuery>,
) -> Result<Response, Problem> {
    Ok(answer(&connections::list(&deps, query).await?))
}

/// Get a connection
#[utoipa::path(
    get,
    path = "/v1/connections/{id}",
    operation_id = "getConnection",
    tag = "cluster",
    params(("id" = String, Path, description = "The connection's id.")),
    responses((status = 200, description = "The connection.", body = ConnectionBody), AdminErrors<'static>),
)]
async fn find_connection(
    State(deps): State<Arc<Deps>>,
    _: Admin,
    Segment(id): Segment,
) -> Result<Response, Problem> {
    Ok(answer(&connections::find(&deps, &id).await?))
}

/// Close a connection
#[utoipa::path(
    delete,
    path = "/v1/connections/{id}",
    operation_id = "closeConnection",
    tag = "cluster",
    params(("id" = String, Path, description = "The connection's id."), CloseQuery),
    responses((status = 200, description = "How many were told to end.", body = ClosedBody), AdminErrors<'static>),
)]
async fn close_connection(
    State(deps): State<Arc<Deps>>,
    _: Admin,
    Segment(id): Segment,
    Params(query): Params<CloseQuery>,
) -> Result<Response, Problem> {
    Ok(answer(&connections::close(&deps, &id, &query).await?))
}

/// Get a user
///
/// Whether the user is online, and when they were last seen.
#[utoipa::path(
    get,
    path = "/v1/users/{user}",
    operation_id = "getUser",
    tag = "cluster",
    params(("user" = String, Path, description = "The user's id.")),
    responses((status = 200, description = "The user.", body = UserBody), AdminErrors<'static>),
)]
async fn find_user(
    State(deps): State<Arc<Deps>>,
    _: Admin,
    Segment(user): Segment,
) -> Result<Response, Problem> {
    Ok(answer(&members::user(&deps, &user).await?))
}

/// Close a user's connections
///
/// Wherever they are. That there were none is no error.
#[utoipa::path(
    delete,
    path = "/v1/users/{user}/connections",
    operation_id = "closeUser",
    tag = "cluster",
    params(("user" = String, Path, description = "The user's id."), CloseQuery),
    responses((status = 200, description = "How many were told to end.", body = ClosedBody), AdminErrors<'static>),
)]
async fn close_user(
    State(deps): State<Arc<Deps>>,
    _: Admin,
    Segment(user): Segment,
    Params(query): Params<CloseQuery>,
) -> Result<Response, Problem> {
    Ok(answer(&connections::close_user(&deps, &user, &query).await?))
}

/// Read statistics
///
/// Sums over all gateways, and each gateway's share.
#[utoipa::path(
    get,
    path = "/v1/stats",
    operation_id = "readStats",
    tag = "cluster",
    responses((status = 200, description = "The figures.", body = StatsBody), AdminErrors<'static>),
)]
async fn read_stats(State(deps): State<Arc<Deps>>, _: Admin) -> Response {
    answer(&stats::read(&deps).await)
}

/// Read the offline queues' statistics
#[utoipa::path(
    get,
    path = "/v1/queue",
    operation_id = "readQueueStats",
    tag = "messages",
    responses((status = 200, description = "The figures.", body = QueueStatsBody), AdminErrors<'static>),
)]
async fn read_queue_stats(State(deps): State<Arc<Deps>>, _: Admin) -> Result<Response, Problem> {
    Ok(answer(&queue::stats(&deps).await?))
}

/// Look into a user's offline queue
#[utoipa::path(
    get,
    path = "/v1/users/{user}/queue",
    operation_id = "peekQueue",
    tag = "messages",
    params(("user" = String, Path, description = "The user's id."), PeekQuery),
    responses((status = 200, description = "The oldest messages.", body = QueueBody), AdminErrors<'static>),
)]
async fn peek_queue(
    State(deps): State<Arc<Deps>>,
    _: Admin,
    Segment(user): Segment,
    Params(query): Params<PeekQuery>,
) -> Result<Response, Problem> {
    Ok(answer(&queue::peek(&deps, &user, query).await?))
}

/// Empty a user's offline queue
///
/// Its messages count as evicted, and the user is told how many.
#[utoipa::path(
    delete,
    path = "/v1/users/{user}/queue",
    operation_id = "purgeQueue",
    tag = "messages",
    params(("user" = String, Path, description = "The user's id.")),
    responses((status = 200, description = "How many were dropped.", body = PurgedBody), AdminErrors<'static>),
)]
async fn purge_queue(
    State(deps): State<Arc<Deps>>,
    _: Admin,
    Segment(user): Segment,
) -> Result<Response, Problem> {
    Ok(answer(&queue::purge(&deps, &user).await?))
}

fn answer(body: &impl Serialize) -> Response {
    json(super::json(body).into())
}

/// An answer that no cache may keep.
pub(super) fn unstored(body: &impl Serialize) -> Response {
    let cache = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (cache, answer(body)).into_response()
}

fn json(body: Bytes) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

pub(crate) async fn no_route(uri: Uri) -> Problem {
    let text = format!("there is no {}; /docs lists what there is", uri.path());
    Problem::new(ErrorCode::NotFound, text)
}

pub(crate) async fn no_method(request: Request) -> Problem {
    let text = format!("{} is not for {}", request.uri().path(), request.method());
    Problem::http(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text)
}

/// One span for each request.
async fn trace(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let span = tracing::info_span!("api", method = %request.method(), route);
    next.run(request).instrument(span).await
}

/// The JSON of a request.
pub(crate) struct Payload(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Payload {
    type Rejection = Problem;

    async fn from_request(request: Request, deps: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let text = "the body must be JSON: send `Content-Type: application/json`";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Problem::http(status, "unsupported_media_type", text));
        }
        match time::timeout(BODY_TIME, Bytes::from_request(request, deps)).await {
            Ok(Ok(body)) => Ok(Self(body)),
            Ok(Err(rejection)) => Err(unreadable(&rejection)),
            Err(_) => {
                let text = format!("the body took longer than {} s", BODY_TIME.as_secs());
                let status = StatusCode::REQUEST_TIMEOUT;
                Err(Problem::http(status, "request_timeout", text).retryable())
            }
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn unreadable(rejection: &BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let text = "the body is larger than this gateway takes: send a batch in parts";
        return Problem::new(ErrorCode::MessageTooLarge, text);
    }
    Problem::bad_request(format!("the body broke off: {rejection}"))
}

/// What stands behind `?`.
struct Params<T>(T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Deps>> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Deps>) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Problem::bad_request(rejection.body_text())),
        }
    }
}

/// The one variable segment of a path.
pub(super) struct Segment(pub(super) String);

impl FromRequestParts<Arc<Deps>> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, deps: &Arc<Deps>) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, deps).await {
            Ok(Path(segment)) => Ok(Self(segment)),
            Err(rejection) => Err(Problem::bad_request(rejection.body_text())),
        }
    }
}

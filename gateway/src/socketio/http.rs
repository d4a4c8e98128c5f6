//! What comes with a request: a new session, a poll of one, or a WebSocket.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::{Bytes, HttpBody as _},
    extract::{DefaultBodyLimit, FromRequest as _, Query, Request, State},
    http::{Method, StatusCode, header},
    middleware,
    response::{IntoResponse as _, Response},
    routing::any,
};
use broker_protocol::engineio::decode_payload;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{self, Instant};

use super::{
    Handshake, Mount, Sid,
    engine::Engine,
    forward::{self, Forwarder, NotForwarded},
    polled::{Gone, Polled},
    sid::Owner,
    upgrade,
};
use crate::{
    connection::{self, Client, Credentials, Transport, accept_plain},
    cors,
    problem::Problem,
    socket::{CommandKey, pipe},
};

/// Packets of one POST.
const MAX_PACKETS: usize = 1024;
/// The version of Engine.IO that Socket.IO v3 and v4 speak.
const EIO: &str = "4";

/// What clients write behind the path; the rest is the application's.
#[derive(Debug, Deserialize)]
struct Parameters {
    #[serde(rename = "EIO")]
    eio: Option<String>,
    transport: Option<String>,
    sid: Option<String>,
}

/// Why a request is refused: the numbers are the reference server's.
#[derive(Debug)]
enum Refusal {
    UnknownTransport,
    UnknownSession,
    BadMethod,
    BadRequest(&'static str),
    UnsupportedVersion,
    TooLarge,
    Problem(Problem),
}

/// The routes, with a slash at the end and without.
pub(crate) fn router(mounts: &[Arc<Mount>]) -> Router {
    let mut all = Router::new();
    for mount in mounts {
        let path = mount.path();
        let router = Router::new().route(path, any(serve)).route(&format!("{path}/"), any(serve));
        let scripts = mount.bundle.router(path);
        let limit = DefaultBodyLimit::max(mount.options.max_payload);
        let admission = || Arc::clone(&mount.admission);
        let cors = middleware::from_fn_with_state(admission(), cors::guard);
        all = all.merge(router.layer(limit).layer(cors).with_state(Arc::clone(mount)));
        let cors = middleware::from_fn_with_state(admission(), cors::guard_scripts);
        all = all.merge(scripts.layer(cors));
    }
    all
}

async fn serve(State(mount): State<Arc<Mount>>, request: Request) -> Response {
    let Ok(Query(parameters)) = Query::<Parameters>::try_from_uri(request.uri()) else {
        return Refusal::BadRequest("Bad request").into_response();
    };
    if forward::is_forwarded(&request) && parameters.sid.is_none() {
        return Refusal::BadRequest("Bad request").into_response();
    }
    let upgrade = request.headers().contains_key(header::UPGRADE);
    if upgrade && parameters.eio.is_none() && parameters.transport.is_none() {
        return connection::upgrade_native(&mount.admission, request).into_response();
    }
    let outcome = match mount.elsewhere(&parameters, &request) {
        Some((forwarder, owner)) => mount.forward(forwarder, owner, request).await,
        None => mount.serve(&parameters, request).await,
    };
    outcome.unwrap_or_else(|refusal| {
        mount.admission.deps.metrics.handshake(refusal.name());
        refusal.into_response()
    })
}

impl Mount {
    async fn serve(
        self: &Arc<Self>,
        parameters: &Parameters,
        request: Request,
    ) -> Result<Response, Refusal> {
        match (parameters.transport.as_deref(), &parameters.sid) {
            (Some("polling"), None) => self.open(parameters, request).await,
            (Some("polling"), Some(sid)) => self.poll(sid, request).await,
            (Some("websocket"), None) => self.open_websocket(parameters, request),
            (Some("websocket"), Some(sid)) => self.upgrade(sid, request),
            _ => Err(Refusal::UnknownTransport),
        }
    }

    /// At which other gateway the session of a request is. What was forwarded already ends here.
    fn elsewhere(
        &self,
        parameters: &Parameters,
        request: &Request,
    ) -> Option<(&Arc<Forwarder>, Owner)> {
        let forwarder = self.forwarder.as_ref()?;
        let owner = parameters.sid.as_ref()?.parse::<Sid>().ok()?.owner();
        let ends_here = owner == self.owner
            || request.method() == Method::OPTIONS
            || forward::is_forwarded(request);
        (!ends_here).then_some((forwarder, owner))
    }

    async fn forward(
        &self,
        forwarder: &Arc<Forwarder>,
        owner: Owner,
        request: Request,
    ) -> Result<Response, Refusal> {
        // The other gateway would refuse it too, but before it has taken it all.
        if request.body().size_hint().lower() > self.options.max_payload as u64 {
            return Err(Refusal::TooLarge);
        }
        Ok(forwarder.forward(owner, request).await?)
    }

    /// A session over HTTP long polling.
    async fn open(
        self: &Arc<Self>,
        parameters: &Parameters,
        request: Request,
    ) -> Result<Response, Refusal> {
        if request.method() != Method::GET {
            return Err(Refusal::BadMethod);
        }
        let handshake = self.handshake(parameters, &request, Transport::SocketIoPolling)?;
        let sid = Sid::new(self.owner);
        let (socket, pipe) = pipe(CommandKey::random(), self.options.max_payload);
        let silence = self.options.ping_interval + self.options.ping_timeout;
        let polled = Polled::new(pipe, Instant::now() + silence);
        let registration = Some(self.register(sid, Arc::clone(&polled)));
        let engine =
            Engine::open(Arc::clone(self), Box::new(socket), handshake, (sid, registration));
        self.admission.tasks.spawn(engine);
        self.answer_poll(&polled).await
    }

    async fn poll(&self, sid: &str, request: Request) -> Result<Response, Refusal> {
        let polled = self.find(sid)?;
        match *request.method() {
            Method::GET => self.answer_poll(&polled).await,
            Method::POST => take_post(&polled, request).await,
            _ => Err(Refusal::BadRequest("Bad request")),
        }
    }

    async fn answer_poll(&self, polled: &Arc<Polled>) -> Result<Response, Refusal> {
        let packets = polled.poll(self.options.max_payload).await?;
        let headers = [
            (header::CONTENT_TYPE, "text/plain; charset=UTF-8"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        Ok((headers, packets).into_response())
    }

    /// A session over WebSocket from the beginning.
    fn open_websocket(
        self: &Arc<Self>,
        parameters: &Parameters,
        mut request: Request,
    ) -> Result<Response, Refusal> {
        if !request.headers().contains_key(header::UPGRADE) {
            return Err(Refusal::BadRequest("Bad request"));
        }
        let handshake = self.handshake(parameters, &request, Transport::SocketIo)?;
        let (response, socket) = accept_plain(&mut request).map_err(Refusal::Problem)?;
        let mount = Arc::clone(self);
        self.admission.tasks.spawn(async move {
            let Some((socket, unread)) = socket.await else { return };
            let sid = Sid::new(mount.owner);
            let mut engine = Engine::open(Arc::clone(&mount), socket, handshake, (sid, None));
            engine.start(unread);
            mount.admission.tasks.spawn(engine);
        });
        Ok(response)
    }

    /// A WebSocket for a session over HTTP long polling.
    fn upgrade(&self, sid: &str, mut request: Request) -> Result<Response, Refusal> {
        let polled = self.find(sid)?;
        self.admission.check_origin(request.headers()).map_err(Refusal::Problem)?;
        let (response, socket) = accept_plain(&mut request).map_err(Refusal::Problem)?;
        let patience = self.options.upgrade_timeout;
        let upgrade = polled.begin_upgrade();
        if upgrade.is_err() {
            self.admission.deps.metrics.handshake("upgrade_refused");
        }
        self.admission.tasks.spawn(async move {
            let Some((socket, unread)) = socket.await else { return };
            // As the reference server, which accepts it and closes it at once.
            let Ok(upgrade) = upgrade else { return };
            if time::timeout(patience, upgrade::run(socket, unread, upgrade)).await.is_err() {
                tracing::debug!("a client did not go on with the upgrade that it began");
            }
        });
        Ok(response)
    }

    fn find(&self, sid: &str) -> Result<Arc<Polled>, Refusal> {
        let sid: Sid = sid.parse().map_err(|_| Refusal::UnknownSession)?;
        let polled = self.polled.get(&sid).map(|polled| Arc::clone(&polled));
        polled.ok_or(Refusal::UnknownSession)
    }

    fn handshake(
        &self,
        parameters: &Parameters,
        request: &Request,
        transport: Transport,
    ) -> Result<Handshake, Refusal> {
        if parameters.eio.as_deref() != Some(EIO) {
            return Err(Refusal::UnsupportedVersion);
        }
        let headers = request.headers();
        self.admission.admit(headers).map_err(Refusal::Problem)?;
        let faces = self.faces();
        let faces = faces.iter().map(|face| &**face);
        let credentials = Credentials::new(&self.admission, faces, request);
        Ok(Handshake { credentials, client: Client::of(headers, transport) })
    }
}

impl From<NotForwarded> for Refusal {
    fn from(why: NotForwarded) -> Self {
        let (status, code) = match why {
            NotForwarded::Unknown => return Self::UnknownSession,
            NotForwarded::Unreachable => (StatusCode::BAD_GATEWAY, "session_unreachable"),
            NotForwarded::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "session_unreachable"),
            NotForwarded::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
        };
        Self::Problem(Problem::http(status, code, why.to_string()).retryable())
    }
}

/// What is broken off, or cannot be read, ends the session; what is only too large does not.
async fn take_post(polled: &Polled, request: Request) -> Result<Response, Refusal> {
    let posting = polled.posting()?;
    let body = match Bytes::from_request(request, &()).await {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            posting.end();
            return Err(Refusal::TooLarge);
        }
        Err(_) => return Err(Gone.into()),
    };
    posting.take(decode_payload(&body, MAX_PACKETS).map_err(|_| Gone)?).await?;
    Ok(([(header::CONTENT_TYPE, "text/html")], "ok").into_response())
}

impl From<Gone> for Refusal {
    fn from(_: Gone) -> Self {
        Self::BadRequest("Bad request")
    }
}

impl Refusal {
    /// In metrics.
    fn name(&self) -> &'static str {
        match self {
            Self::UnknownTransport => "unknown_transport",
            Self::UnknownSession => "unknown_session",
            Self::BadMethod | Self::BadRequest(_) => "bad_request",
            Self::UnsupportedVersion => "unsupported_version",
            Self::TooLarge => "message_too_large",
            Self::Problem(problem) => problem.code,
        }
    }

    fn into_response(self) -> Response {
        let (code, message) = match self {
            Self::UnknownTransport => (0, "Transport unknown"),
            Self::UnknownSession => (1, "Session ID unknown"),
            Self::BadMethod => (2, "Bad handshake method"),
            Self::BadRequest(message) => (3, message),
            Self::UnsupportedVersion => (5, "Unsupported protocol version"),
            Self::TooLarge => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            Self::Problem(problem) => return problem.into_response(),
        };
        let body = Json(json!({ "code": code, "message": message }));
        (StatusCode::BAD_REQUEST, body).into_response()
    }
}

//! From an HTTP request to a connection: origin, dialect, token, and the raw socket.

use std::{
    iter,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, StatusCode, Uri, Version, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use broker_core::{ErrorCode, session::Token};
use broker_protocol::{
    native,
    ws::{deflate, handshake},
};
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use super::{
    Client, Connection, Credentials, Deps, Transport, echo,
    mount::{Chosen, Mount, Mounts, offers},
};
use crate::{
    config::AllowedOrigins,
    problem::Problem,
    socket::{Socket, TlsSocket},
};

/// A page to try the broker with; it needs nothing from elsewhere.
const WELCOME: &str = include_str!("../../assets/welcome.html");

/// Who is let in.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) deps: Arc<Deps>,
    pub(crate) tasks: TaskTracker,
    pub(crate) origins: AllowedOrigins,
    pub(crate) query_token: bool,
    pub(crate) max_connections: usize,
    /// Whether to show the welcome page to browsers that open `/`.
    pub(crate) welcome: bool,
    /// Whether `fanfare.echo` may be asked for.
    pub(crate) echo: bool,
    /// Set while the gateway drains.
    pub(crate) closed: Arc<AtomicBool>,
}

/// What the request is answered with.
struct Accepted {
    key: String,
    chosen: Chosen,
    /// Compression, if it was negotiated, as it is answered.
    extensions: Option<&'static str>,
}

/// Routes that speak WebSocket.
pub(crate) fn router(admission: &Arc<Admission>, mounts: &Mounts) -> Router {
    let mut router = Router::new();
    for (path, mount) in mounts.iter() {
        let (admission, mount) = (Arc::clone(admission), Arc::new(mount.clone()));
        let serve = move |request: Request| {
            let (admission, mount) = (Arc::clone(&admission), Arc::clone(&mount));
            async move { upgrade(&admission, &mount, request) }
        };
        router = router.route(path, get(serve));
    }
    router
}

/// Opens a connection in the native dialect.
pub(crate) fn upgrade_native(admission: &Arc<Admission>, request: Request) -> Response {
    upgrade(admission, &Mount::native(), request).into_response()
}

fn upgrade(
    admission: &Arc<Admission>,
    mount: &Mount,
    mut request: Request,
) -> Result<Response, Problem> {
    if admission.welcome
        && request.uri().path() == "/"
        && !request.headers().contains_key(header::UPGRADE)
    {
        return Ok(Html(WELCOME).into_response());
    }
    let accepted = admission
        .check(&request, mount)
        .inspect_err(|problem| admission.deps.metrics.handshake(problem.code))?;
    let upgraded = hyper::upgrade::on(&mut request);
    admission.open(&accepted, &request, upgraded);
    Ok(switching_protocols(&accepted))
}

/// A socket, with what came right behind the request.
type RawSocket = (Box<dyn Socket>, Bytes);

/// Takes a WebSocket without sub-protocol or extensions: what to answer, and the socket to be.
///
/// # Errors
/// The request is no WebSocket upgrade.
pub(crate) fn accept_plain(
    request: &mut Request,
) -> Result<(Response, impl Future<Output = Option<RawSocket>> + use<>), Problem> {
    let key = check_handshake(request)?;
    let chosen = Chosen::Native { named: false };
    let response = switching_protocols(&Accepted { key, chosen, extensions: None });
    Ok((response, raw_socket(hyper::upgrade::on(request))))
}

fn check_handshake(request: &Request) -> Result<String, Problem> {
    let version = if request.version() == Version::HTTP_11 { (1, 1) } else { (1, 0) };
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    handshake::accept_upgrade(request.method().as_str(), version, headers).map_err(|error| {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let detail = format!(
            "this is a WebSocket endpoint, and the request is no WebSocket upgrade: {error}"
        );
        let problem = Problem::http(status, "bad_upgrade", detail);
        match error.header() {
            Some((name, value)) => {
                problem.with_header(header::HeaderName::from_static(name), value)
            }
            None => problem,
        }
    })
}

fn switching_protocols(accepted: &Accepted) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    if let Ok(key) = accepted.key.parse() {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    }
    if let Some(extensions) = accepted.extensions {
        let value = header::HeaderValue::from_static(extensions);
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, value);
    }
    let Some(named) = accepted.chosen.subprotocol() else { return response };
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, header::HeaderValue::from_static(named));
    response
}

impl Admission {
    fn check(&self, request: &Request, mount: &Mount) -> Result<Accepted, Problem> {
        let key = check_handshake(request)?;
        self.admit(request.headers())?;
        let chosen = mount.choose(request.headers(), request.uri(), self.echo)?;
        let compresses = self.deps.wire.compression.is_some() && chosen.may_be_compressed();
        let extensions = compresses.then(|| negotiate_compression(request.headers())).flatten();
        Ok(Accepted { key, chosen, extensions })
    }

    /// Opens what was chosen, once the client has changed to it.
    fn open(self: &Arc<Self>, accepted: &Accepted, request: &Request, upgraded: OnUpgrade) {
        let host = Arc::clone(self);
        let compressed = accepted.extensions.is_some();
        let client = |transport| Client::of(request.headers(), transport);
        match &accepted.chosen {
            Chosen::Echo => drop(self.tasks.spawn(async move {
                if let Some((socket, unread)) = raw_socket(upgraded).await {
                    echo::run(&host.deps, socket, unread, compressed).await;
                }
            })),
            Chosen::Native { .. } => {
                let client = client(Transport::WebSocket);
                let token = self.token(request.headers(), request.uri());
                drop(self.tasks.spawn(async move {
                    if let Some((socket, unread)) = raw_socket(upgraded).await {
                        let deps = Arc::clone(&host.deps);
                        let connection = Connection::new(deps, socket, client, compressed);
                        host.serve(connection, token, unread);
                    }
                }));
            }
            Chosen::Envelope { framing, .. } => {
                let (client, framing) = (client(Transport::Envelope), Arc::clone(framing));
                let face = framing.face();
                let credentials = Credentials::new(self, iter::once(&*face), request);
                let token = credentials.token(&face, None);
                let said = credentials.handshake(&face, None);
                drop(self.tasks.spawn(async move {
                    if let Some((socket, unread)) = raw_socket(upgraded).await {
                        let deps = Arc::clone(&host.deps);
                        let connection =
                            Connection::with_face(deps, socket, client, (framing, said));
                        host.serve(connection, token, unread);
                    }
                }));
            }
        }
    }

    /// Serves a connection from here on, in a task of its own: which is as small as the
    /// connection, unlike the caller's.
    pub(crate) fn serve(&self, mut connection: Connection, token: Option<Token>, unread: Bytes) {
        // A drain looks for connections after it has closed the door.
        if self.closed.load(Ordering::SeqCst) {
            connection.turn_away();
        }
        connection.start(token, unread);
        self.tasks.spawn(connection);
    }

    /// Whether a connection may come in.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<(), Problem> {
        self.check_room()?;
        self.check_origin(headers)
    }

    fn check_room(&self) -> Result<(), Problem> {
        if self.closed.load(Ordering::Relaxed) {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let problem = Problem::http(status, "draining", "this gateway is going away");
            return Err(problem.retryable());
        }
        // Those that are closing count: they hold a socket until their last bytes are taken.
        let held = usize::try_from(self.deps.metrics.connections.get()).unwrap_or(0);
        if held >= self.max_connections {
            let detail =
                format!("this gateway holds {} connections, its limit", self.max_connections);
            let problem = Problem::new(ErrorCode::Overloaded, detail);
            return Err(problem.with_header(header::RETRY_AFTER, "5"));
        }
        Ok(())
    }

    /// Whether a page that is asking, if it is one, may.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        // What is there but is no text matches nothing.
        let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("?"));
        if self.origins.allow(origin, header_text(headers, header::HOST)) {
            return Ok(());
        }
        let origin = origin.unwrap_or_default();
        let detail = format!("pages of {origin} may not connect: add it to http.allowed_origins");
        Err(Problem::http(StatusCode::FORBIDDEN, "forbidden_origin", detail))
    }

    /// From the `Authorization` header, a `fanfare.token.…` sub-protocol or the query: a ticket,
    /// which is of no use once it is in a log, or, where that is allowed, a token. Without one, the
    /// client sends it in `connect`.
    pub(crate) fn token(&self, headers: &HeaderMap, uri: &Uri) -> Option<Token> {
        let bearer = header_text(headers, header::AUTHORIZATION)
            .and_then(|text| text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("bearer ")));
        let offered = || offers(headers).find_map(|offer| offer.strip_prefix(native::TOKEN_PREFIX));
        let query = |name| {
            let mut pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        let token = bearer.or_else(offered).map(|text| Token::new(text.trim().to_owned()));
        let ticket = || query("ticket").map(|text| Token::ticket(text.to_owned()));
        let in_query = || query("token").filter(|_| self.query_token);
        token.or_else(ticket).or_else(|| in_query().map(|text| Token::new(text.trim().to_owned())))
    }
}

/// A value that is no text offers nothing and spoils what stands beside it, as one that breaks the
/// grammar does.
fn negotiate_compression(headers: &HeaderMap) -> Option<&'static str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
    deflate::negotiate(values.map(|value| value.to_str().unwrap_or("?=")))
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Takes the upgraded connection apart: what is left of hyper is dropped here, buffers and all.
pub(crate) async fn raw_socket(upgrade: OnUpgrade) -> Option<RawSocket> {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "the client was gone before the upgrade");
            return None;
        }
    };
    take_apart::<TcpStream>(upgraded, |tcp| Box::new(tcp))
        .or_else(|upgraded| {
            take_apart::<tokio_rustls::server::TlsStream<TcpStream>>(upgraded, TlsSocket::boxed)
        })
        .map_err(|_| tracing::error!("the upgraded connection is of a kind that no listener makes"))
        .ok()
}

fn take_apart<T: hyper_util_io::Stream>(
    upgraded: Upgraded,
    socket: impl FnOnce(T) -> Box<dyn Socket>,
) -> Result<(Box<dyn Socket>, Bytes), Upgraded> {
    let parts = upgraded.downcast::<TokioIo<T>>()?;
    Ok((socket(parts.io.into_inner()), parts.read_buf))
}

/// What can be upgraded: hyper needs to name the type that it hands back.
mod hyper_util_io {
    use tokio::io::{AsyncRead, AsyncWrite};

    pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {}
    impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Stream for T {}
}

//! Accepts TCP and TLS connections and serves HTTP on them, until they become something else.
//!
//! `axum::serve` knows no time limit for request headers, so the loop is our own.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// How long to wait after an accept that failed for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is served, until something else is. Connections that are open go on.
pub(crate) struct Site {
    router: ArcSwap<Router>,
    tls: ArcSwapOption<TlsAcceptor>,
}

impl Site {
    pub(crate) fn new(router: Router, tls: Option<TlsAcceptor>) -> Arc<Self> {
        let (router, tls) = (ArcSwap::from_pointee(router), ArcSwapOption::from_pointee(tls));
        Arc::new(Self { router, tls })
    }

    pub(crate) fn replace(&self, router: Router, tls: Option<TlsAcceptor>) {
        self.router.store(Arc::new(router));
        self.tls.store(tls.map(Arc::new));
    }
}

/// How requests are served.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) site: Arc<Site>,
    /// For the TLS handshake, and again for the request's headers.
    pub(crate) header_timeout: Duration,
    pub(crate) max_header_bytes: usize,
    /// How long what was sent may go unconfirmed by the other side before the connection counts as
    /// broken. Who only listens gives no other sign of life.
    pub(crate) silence: Duration,
    /// Requests under way, so that a drain can wait for them.
    pub(crate) tasks: TaskTracker,
    /// Once cancelled, nothing is accepted and idle HTTP connections are closed.
    pub(crate) stop: CancellationToken,
}

impl Server {
    /// Accepts until stopped.
    pub(crate) async fn run(self, listener: TcpListener) {
        let server = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = server.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    server.tasks.spawn(Arc::clone(&server).serve(stream, peer));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = prepare(&stream, self.silence) {
            tracing::trace!(%error, "the client was gone at once");
            return;
        }
        match self.site.tls.load_full() {
            // Boxed, or those without TLS would pay for its room too.
            Some(tls) => Box::pin(self.serve_tls(&tls, stream, peer)).await,
            None => self.serve_http(stream, peer).await,
        }
    }

    async fn serve_tls(&self, tls: &TlsAcceptor, stream: TcpStream, peer: SocketAddr) {
        match time::timeout(self.header_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.serve_http(stream, peer).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    }

    async fn serve_http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
    ) {
        let site = Arc::clone(&self.site);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let router = Router::clone(&site.router.load());
            async move {
                let mut request: Request = request.map(Body::new);
                request.extensions_mut().insert(ConnectInfo(peer));
                Ok::<_, Infallible>(
                    router.oneshot(request).await.unwrap_or_else(|never| match never {}),
                )
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .max_buf_size(self.max_header_bytes)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "an HTTP connection ended badly");
        }
    }
}

fn prepare(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(silence))?;
    #[cfg(not(target_os = "linux"))]
    let _ = silence;
    stream.set_nodelay(true)
}

/// Loads the certificate chain and key of the public listener.
///
/// # Errors
/// What is wrong with the files.
pub(crate) fn tls_acceptor(
    cert: &std::path::Path,
    key: &std::path::Path,
) -> io::Result<TlsAcceptor> {
    use tokio_rustls::rustls::{
        ServerConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    };
    let invalid = |error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, error.to_string())
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| invalid(&format!("{}: {error}", cert.display())))?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| invalid(&format!("{}: {error}", key.display())))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| invalid(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

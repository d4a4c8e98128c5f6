//! The listeners, and what is served on each.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, middleware, response::Response};
use tokio::{net::TcpListener, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Gateway, StartError, Started, internal::Internal, paths, settings};
use crate::{
    api,
    config::Config,
    connection, cors, fallback,
    listener::{self, Server},
    probes,
    profile::Profile,
    rest, socketio,
    telemetry::Metrics,
};

/// How long requests under way may take to end, once the gateway is drained.
const LAST_REQUESTS: Duration = Duration::from_secs(2);
/// What a gateway that forwards a request adds to its headers, in bytes.
const FORWARDED_HEADERS: usize = 1024;

/// Sockets that are bound, so that a start fails before anything else is touched.
pub(super) struct Listeners {
    public: Vec<TcpListener>,
    admin: TcpListener,
}

/// What listens.
pub(super) struct Servers {
    pub(super) started: Started,
    requests: TaskTracker,
    stop: CancellationToken,
}

impl Listeners {
    pub(super) async fn bind(config: &Config) -> Result<Self, StartError> {
        let mut public = Vec::new();
        for address in &config.http.listen {
            public.push(bind(*address).await?);
        }
        Ok(Self { public, admin: bind(config.http.admin_listen).await? })
    }

    /// Clients and, where it is public, the API on the public listeners; health, metrics and the
    /// API on the admin listener; what profiles answer on all; what other gateways forward, at the
    /// door.
    pub(super) fn serve(
        self,
        (config, profiles): (&Config, &[Profile]),
        gateway: &Gateway,
        internal: Option<Internal>,
    ) -> Result<Servers, StartError> {
        let api = counted(api::router(Arc::clone(&gateway.api)), &gateway.metrics);
        let mut mounts = settings::mounts(config, profiles)?;
        let socketio = gateway.socketio.iter().flat_map(|mount| mount.paths());
        let taken = paths::settle(&mut mounts, socketio)?;
        let rest = rest::router(&gateway.api, &gateway.admission, profiles, &taken)?;
        let rest = rest.map(|router| counted(router, &gateway.metrics));
        let mut public = connection::router(&gateway.admission, &mounts)
            .merge(fallback::router(&gateway.admission, &gateway.api))
            .merge(socketio::router(&gateway.socketio));
        if config.http.public_api {
            let admission = Arc::clone(&gateway.admission);
            let guard = middleware::from_fn_with_state(admission, cors::guard_api);
            public = public.merge(api.clone().layer(guard));
        }
        let mut admin = probes::router(Arc::clone(&gateway.probes)).merge(api);
        if let Some(rest) = rest {
            public = public.fallback_service(rest.clone());
            admin = admin.fallback_service(rest);
        }
        let tls = match config.http.tls() {
            Some((cert, key)) => Some(listener::tls_acceptor(cert, key).map_err(StartError::Tls)?),
            None => None,
        };
        let (requests, stop) = (TaskTracker::new(), CancellationToken::new());
        let server = |router: Router, tls| Server {
            router,
            tls,
            header_timeout: config.http.header_timeout,
            max_header_bytes: config.http.max_header_bytes,
            // By then, a WebSocket has long been closed.
            silence: 2 * (config.heartbeat.interval + config.heartbeat.timeout),
            tasks: requests.clone(),
            stop: stop.clone(),
        };
        let mut started = Started { public: Vec::new(), admin: local_address(&self.admin)? };
        for listener in self.public {
            started.public.push(local_address(&listener)?);
            tokio::spawn(server(public.clone(), tls.clone()).run(listener));
        }
        tokio::spawn(server(admin, None).run(self.admin));
        if let Some(Internal { listener, door }) = internal {
            let routes = socketio::door(door.key, socketio::router(&gateway.socketio));
            let mut server = server(routes, None);
            server.max_header_bytes += FORWARDED_HEADERS;
            tokio::spawn(server.run(listener));
        }
        Ok(Servers { started, requests, stop })
    }
}

impl Servers {
    /// Accepts nothing more, and waits a moment for requests under way.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.requests.close();
        if time::timeout(LAST_REQUESTS, self.requests.wait()).await.is_err() {
            tracing::debug!("requests were still under way at the end");
        }
    }
}

fn counted(router: Router, metrics: &Arc<Metrics>) -> Router {
    let metrics = Arc::clone(metrics);
    router.layer(middleware::map_response(move |response: Response| {
        let metrics = Arc::clone(&metrics);
        async move {
            metrics.http_request(response.status().as_u16());
            response
        }
    }))
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| StartError::Listen(address, error))
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|error| StartError::Other(error.to_string()))
}

//! The listeners, and what is served on each.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, middleware, response::Response};
use tokio::{net::TcpListener, time};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{StartError, Started, internal::Internal, paths, settings::Configured};
use crate::{
    api,
    config::Config,
    connection::{self, Admission, Mounts},
    cors, fallback,
    listener::{self, Server, Site},
    probes::{self, Probes},
    rest,
    socketio::{self, Mount},
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

/// Who answers requests, by listener.
pub(super) struct Routes {
    public: Router,
    admin: Router,
    door: Router,
    /// Of the public listeners.
    tls: Option<TlsAcceptor>,
}

/// Where they can be replaced.
#[derive(Clone)]
pub(super) struct Sites {
    public: Arc<Site>,
    admin: Arc<Site>,
    door: Arc<Site>,
}

/// What listens.
pub(super) struct Servers {
    pub(super) started: Started,
    pub(super) sites: Sites,
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

    /// Serves what can be replaced: who gets what is said by [`routes`].
    pub(super) fn serve(
        self,
        config: &Config,
        routes: &Routes,
        internal: Option<Internal>,
    ) -> Result<Servers, StartError> {
        let (requests, stop) = (TaskTracker::new(), CancellationToken::new());
        let sites = Sites::new(routes);
        let server = |site: &Arc<Site>| Server {
            site: Arc::clone(site),
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
            tokio::spawn(server(&sites.public).run(listener));
        }
        tokio::spawn(server(&sites.admin).run(self.admin));
        if let Some(Internal { listener, .. }) = internal {
            let mut server = server(&sites.door);
            server.max_header_bytes += FORWARDED_HEADERS;
            tokio::spawn(server.run(listener));
        }
        Ok(Servers { started, sites, requests, stop })
    }
}

/// Clients and, where it is public, the API on the public listeners; health, metrics and the API on
/// the admin listener; what profiles answer on all; what other gateways forward, at the door.
pub(super) fn routes(
    Configured { config, profiles }: &Configured,
    (admission, api, probes): (&Arc<Admission>, &Arc<api::Deps>, &Arc<Probes>),
    (socketio, websockets): (&[Arc<Mount>], &mut Mounts),
) -> Result<Routes, StartError> {
    let metrics = &admission.deps.metrics;
    let router = counted(api::router(Arc::clone(api)), metrics);
    let taken = paths::settle(websockets, socketio.iter().map(|mount| mount.path()))?;
    let rest = rest::router(api, admission, profiles, &taken)?;
    let rest = rest.map(|router| counted(router, metrics));
    let mut public = connection::router(admission, websockets)
        .merge(fallback::router(admission, api))
        .merge(socketio::router(socketio));
    if config.http.public_api {
        let guard = middleware::from_fn_with_state(Arc::clone(admission), cors::guard_api);
        public = public.merge(router.clone().layer(guard));
    }
    let mut admin = probes::router(Arc::clone(probes)).merge(router);
    if let Some(rest) = rest {
        public = public.fallback_service(rest.clone());
        admin = admin.fallback_service(rest);
    }
    let door = api.door.as_ref();
    let door = door.map(|door| socketio::door(door.key.clone(), socketio::router(socketio)));
    let tls = config.http.tls().map(|(cert, key)| listener::tls_acceptor(cert, key));
    let tls = tls.transpose().map_err(StartError::Tls)?;
    Ok(Routes { public, admin, door: door.unwrap_or_default(), tls })
}

impl Sites {
    fn new(Routes { public, admin, door, tls }: &Routes) -> Self {
        Self {
            public: Site::new(public.clone(), tls.clone()),
            admin: Site::new(admin.clone(), None),
            door: Site::new(door.clone(), None),
        }
    }

    /// Requests are answered by these from now on.
    pub(super) fn replace(&self, Routes { public, admin, door, tls }: &Routes) {
        self.public.replace(public.clone(), tls.clone());
        self.admin.replace(admin.clone(), None);
        self.door.replace(door.clone(), None);
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

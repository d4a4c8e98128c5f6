//! What a change of the configuration replaces, as a whole. What holds connections, messages and
//! stores is shared with the generation before.

use std::sync::Arc;

use broker_core::NodeId;

use super::{
    StartError,
    servers::{self, Routes},
    settings::{self, Configured},
};
use crate::{
    api,
    auth::Verifier,
    connection::{Admission, Deps, Latest, Mounts},
    dialect::Shown,
    probes::Probes,
    public_url::PublicUrl,
    socketio::{Forwarder, Mount},
};

/// The parts of a gateway that go by its configuration.
pub(super) struct Generation {
    pub(super) admission: Arc<Admission>,
    pub(super) api: Arc<api::Deps>,
    /// Of Socket.IO, in a cluster.
    pub(super) forwarder: Option<Arc<Forwarder>>,
    /// As the admission's, but that sessions of Socket.IO leave silence to the transport.
    socketio_deps: Arc<Deps>,
    socketio: Vec<Arc<Mount>>,
    websockets: Mounts,
    probes: Arc<Probes>,
    pub(super) routes: Routes,
    /// What clients are to be shown that are connected already.
    faces: Vec<Shown>,
    by: Configured,
}

impl Generation {
    pub(super) fn first(
        by: Configured,
        (deps, api): (Arc<Deps>, Arc<api::Deps>),
        probes: Arc<Probes>,
    ) -> Result<Self, StartError> {
        let admission = Arc::new(settings::admission(&by.config, deps, None));
        let socketio_deps = settings::without_pings(&admission.deps, Latest::default());
        let first = Self::build(by, (admission, socketio_deps), (api, probes), None)?;
        first.show_limit();
        Ok(first)
    }

    /// The one that follows with this configuration. Nothing goes by it yet.
    pub(super) fn next(&self, by: Configured) -> Result<Self, StartError> {
        if self.lacks_door(&by) {
            let text = "Socket.IO is served for the first time, which needs a listener for other \
                        gateways: restart";
            return Err(StartError::Other(text.to_owned()));
        }
        let (config, deps) = (&by.config, &self.admission.deps);
        let same = self.by.config.webhooks == config.webhooks
            && self.by.config.limits.message_bytes == config.limits.message_bytes;
        let services = match same {
            true => Arc::clone(&deps.services),
            false => settings::services(config, &deps.bus, &deps.metrics)?,
        };
        let (store, before) = (&self.api.sessions, Some(&deps.authenticator));
        let authenticator = settings::authenticator(config, store, &deps.metrics, before)?;
        let deps = Arc::new(Deps {
            rules: Arc::new(settings::rules(config)),
            services,
            authenticator,
            wire: settings::wire_limits(config),
            ..(**deps).clone()
        });
        let api = Arc::new(api::Deps {
            rules: Arc::clone(&deps.rules),
            authenticator: deps.authenticator.clone(),
            public_url: PublicUrl::new(&config.http),
            ..(*self.api).clone()
        });
        let latest = self.socketio_deps.latest.clone();
        let socketio_deps = settings::without_pings(&deps, latest);
        let admission = Arc::new(settings::admission(config, deps, Some(&self.admission)));
        let parts = (admission, socketio_deps);
        Self::build(by, parts, (api, Arc::clone(&self.probes)), Some(self))
    }

    fn build(
        by: Configured,
        (admission, socketio_deps): (Arc<Admission>, Arc<Deps>),
        (api, probes): (Arc<api::Deps>, Arc<Probes>),
        before: Option<&Self>,
    ) -> Result<Self, StartError> {
        let forwarder = match before {
            Some(before) => before.forwarder.clone(),
            None => api.door.as_ref().map(|_| settings::forwarder(&by.config, &api, &admission)),
        };
        let mut faces = Vec::new();
        let mut socketio = settings::socketio(&by, &admission, &socketio_deps, &api.node)?;
        let mut websockets = settings::mounts(&by)?;
        if let Some(before) = before {
            websockets = websockets.after(&before.websockets, &mut faces);
            let after = |mount: Mount| mount.after(&before.socketio, &mut faces);
            socketio = socketio.into_iter().map(after).collect();
        }
        let with_forwarder = |mount: Mount| Arc::new(mount.with_forwarder(forwarder.clone()));
        let socketio: Vec<Arc<Mount>> = socketio.into_iter().map(with_forwarder).collect();
        let parts = (&admission, &api, &probes);
        let routes = servers::routes(&by, parts, (&socketio, &mut websockets))?;
        Ok(Self {
            admission,
            api,
            forwarder,
            socketio_deps,
            socketio,
            websockets,
            probes,
            routes,
            faces,
            by,
        })
    }

    fn lacks_door(&self, by: &Configured) -> bool {
        let clustered = !by.config.nats.url.is_empty();
        clustered && self.api.door.is_none() && settings::serves_socketio(by)
    }

    /// Connections that are open go by it from now on.
    pub(super) fn take_over(&self) {
        let deps = &self.admission.deps;
        deps.metrics.know(settings::known_namespaces(&self.by.config));
        self.show_limit();
        deps.replace_earlier();
        self.socketio_deps.replace_earlier();
        for (framing, face) in &self.faces {
            framing.show(Arc::clone(face));
        }
        deps.hub.for_each_connection(|outbox| outbox.tell(|notices| notices.changed = true));
    }

    fn show_limit(&self) {
        let limit = i64::try_from(self.admission.max_connections).unwrap_or(i64::MAX);
        self.admission.deps.metrics.connection_limit.set(limit);
    }

    pub(super) fn verifier(&self) -> &Arc<Verifier> {
        &self.admission.deps.authenticator.verifier
    }

    pub(super) fn node(&self) -> &NodeId {
        &self.api.node
    }
}

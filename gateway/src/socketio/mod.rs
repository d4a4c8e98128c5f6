//! Socket.IO v4 over Engine.IO v4, for unmodified clients.
//!
//! 1. [`http`]: what comes with a request: a new session, a poll, or a WebSocket.
//! 2. [`engine`]: one session, whatever carries it; it owns a
//!    [`Conversation`](crate::connection::Conversation) for each namespace.
//! 3. [`events`]: what a client's packets say.
//! 4. [`polled`] and [`upgrade`]: sessions over HTTP long polling, and their way to WebSocket;
//!    [`sid`]: by which name they are found. [`forward`]: those that are at another gateway.
//! 5. [`bundle`]: the client's own script, for pages.

mod bundle;
mod engine;
mod events;
mod forward;
mod http;
mod polled;
mod sid;
mod upgrade;

use std::{collections::HashMap, sync::Arc};

use broker_core::NodeId;
use broker_protocol::socketio::{Namespace, Parser};
use dashmap::DashMap;

use crate::{
    config::SocketIo as Options,
    connection::{Admission, Client, Credentials, Deps},
    dialect::{Form, Framing, Shown, Space},
    profile::Face,
};
pub(crate) use bundle::Bundle;
pub(crate) use forward::{Forwarder, Limits as ForwardLimits, door};
pub(crate) use http::router;
use polled::Polled;
use sid::{Owner, Sid};

/// What is served at a path. None shares anything with another's: a reload may change one of them.
#[derive(Debug)]
pub(crate) struct Mount {
    admission: Arc<Admission>,
    /// As the admission's, but that sessions leave silence to the transport.
    deps: Arc<Deps>,
    options: Options,
    /// Without a slash at its end.
    path: String,
    bundle: Arc<Bundle>,
    /// Whether messages come back as they are, below Socket.IO.
    echo: bool,
    framings: HashMap<(Namespace, Parser), Arc<Framing>>,
    owner: Owner,
    /// To other gateways, in a cluster.
    forwarder: Option<Arc<Forwarder>>,
    polled: Arc<DashMap<Sid, Arc<Polled>>>,
}

/// Where clients come, and who serves them in which namespace.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) path: String,
    pub(crate) faces: Vec<(Namespace, Arc<Face>)>,
    pub(crate) echo: Echo,
}

/// What conformance suites want back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    Nothing,
    /// Events of Socket.IO.
    Events,
    /// Messages of Engine.IO.
    Messages,
}

/// What a client has said of itself with its first request, for all namespaces that it comes to.
#[derive(Debug)]
struct Handshake {
    credentials: Credentials,
    client: Client,
}

/// A session that can be found by its name, until this is dropped.
#[derive(Debug)]
struct Registration {
    sid: Sid,
    polled: Arc<Polled>,
    all: Arc<DashMap<Sid, Arc<Polled>>>,
}

impl Mount {
    pub(crate) fn new(
        admission: Arc<Admission>,
        deps: Arc<Deps>,
        options: Options,
        site: Site,
        node: &NodeId,
    ) -> Self {
        let Site { path, faces, echo } = site;
        let path = path.trim_end_matches('/').to_owned();
        // So long a client that has gone may seem to be there.
        let silence = options.ping_interval + options.ping_timeout;
        let recovery = (options.recovery && echo == Echo::Nothing).then_some(silence);
        let mut framings = HashMap::new();
        for (namespace, face) in faces {
            for parser in [Parser::Json, Parser::MsgPack] {
                let framing = Framing {
                    form: Form::SocketIo(Space { namespace: namespace.clone(), parser, recovery }),
                    face: Arc::clone(&face).into(),
                    echo: echo == Echo::Events,
                };
                framings.insert((namespace.clone(), parser), Arc::new(framing));
            }
        }
        let (owner, polled) = (Owner::of(node), Arc::new(DashMap::new()));
        let (echo, forwarder, bundle) = (echo == Echo::Messages, None, Arc::default());
        Self { admission, deps, options, path, bundle, echo, framings, owner, forwarder, polled }
    }

    /// Where clients connect, without a slash at the end.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Who serves clients here.
    fn faces(&self) -> Vec<Arc<Face>> {
        self.framings.values().map(|framing| framing.face()).collect()
    }

    /// The same, in the place of what was served at its path: the sessions there go on. `faces`:
    /// what their clients are to be shown, is added.
    pub(crate) fn after(mut self, before: &[Arc<Self>], faces: &mut Vec<Shown>) -> Self {
        let before = before.iter().find(|before| before.path == self.path);
        let Some(before) = before else { return self };
        self.polled = Arc::clone(&before.polled);
        for (place, framing) in &mut self.framings {
            if let Some(known) = before.framings.get(place) {
                faces.push((Arc::clone(known), framing.face()));
                *framing = Arc::clone(known);
            }
        }
        self
    }

    /// The same, with scripts for pages.
    pub(crate) fn with_bundle(self, bundle: &Arc<Bundle>) -> Self {
        Self { bundle: Arc::clone(bundle), ..self }
    }

    /// The same, in a cluster.
    pub(crate) fn with_forwarder(self, forwarder: Option<Arc<Forwarder>>) -> Self {
        Self { forwarder, ..self }
    }

    /// How a namespace's clients are written to; `None` if there is no such namespace.
    fn framing(&self, namespace: &Namespace, parser: Parser) -> Option<Arc<Framing>> {
        self.framings.get(&(namespace.clone(), parser)).cloned()
    }

    fn register(&self, sid: Sid, polled: Arc<Polled>) -> Registration {
        self.polled.insert(sid, Arc::clone(&polled));
        Registration { sid, polled, all: Arc::clone(&self.polled) }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.all.remove(&self.sid);
        self.polled.close();
    }
}

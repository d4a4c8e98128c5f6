//! Socket.IO v4 over Engine.IO v4, for unmodified clients.
//!
//! 1. [`http`]: what comes with a request: a new session, a poll, or a WebSocket.
//! 2. [`engine`]: one session, whatever carries it; it owns a
//!    [`Conversation`](crate::connection::Conversation) for each namespace.
//! 3. [`events`]: what a client's events ask for.
//! 4. [`polled`] and [`upgrade`]: sessions over HTTP long polling, and their way to WebSocket;
//!    [`sid`]: by which name they are found.

mod engine;
mod events;
mod handshake;
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
    connection::{Admission, Deps},
    dialect::Framing,
};
pub(crate) use http::router;
use polled::Polled;
use sid::{Owner, Sid};

/// What is served under the configured paths.
#[derive(Debug)]
pub(crate) struct Mount {
    admission: Arc<Admission>,
    /// As the admission's, but that sessions leave silence to the transport.
    deps: Arc<Deps>,
    options: Options,
    /// Whether messages come back as they are, below Socket.IO.
    echo: bool,
    echo_events: bool,
    framings: HashMap<(Namespace, Parser), Arc<Framing>>,
    owner: Owner,
    polled: Arc<DashMap<Sid, Arc<Polled>>>,
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
        echo: Echo,
        node: &NodeId,
    ) -> Self {
        let mut framings = HashMap::new();
        for namespace in &options.namespaces {
            for parser in [Parser::Json, Parser::MsgPack] {
                let echo = echo == Echo::Events;
                let framing = Framing { namespace: namespace.0.clone(), parser, echo };
                framings.insert((namespace.0.clone(), parser), Arc::new(framing));
            }
        }
        let polled = Arc::new(DashMap::new());
        let (echo, echo_events) = (echo == Echo::Messages, echo == Echo::Events);
        Self {
            admission,
            deps,
            options,
            echo,
            echo_events,
            framings,
            owner: Owner::of(node),
            polled,
        }
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

//! The sections, each with its options, their defaults and their checks.
//!
//! The doc comments of the options are their one documentation: `docs/configuration.md` is made
//! from them.

pub(crate) mod access;
pub(crate) mod auth;
pub(crate) mod cluster;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod limits;
pub(crate) mod process;
pub(crate) mod reload;
pub(crate) mod session;
pub(crate) mod socketio;
pub(crate) mod tickets;
pub(crate) mod webhooks;
pub(crate) mod websocket;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything that can be configured, as it is written.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    pub(crate) http: http::Http,
    pub(crate) websocket: websocket::WebSocket,
    pub(crate) socketio: socketio::SocketIo,
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) auth: auth::RawAuth,
    pub(crate) namespaces: access::RawNamespaces,
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) connect: access::RawConnect,
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) webhooks: webhooks::RawWebhooks,
    pub(crate) history: history::HistoryStorage,
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) limits: limits::Limits,
    pub(crate) heartbeat: limits::Heartbeat,
    pub(crate) nats: cluster::RawNats,
    pub(crate) redis: cluster::RawRedis,
    pub(crate) presence: cluster::Presence,
    pub(crate) session: session::Session,
    pub(crate) drain: limits::Drain,
    pub(crate) reload: reload::Reload,
    pub(crate) telemetry: process::Telemetry,
    pub(crate) testing: process::Testing,
}

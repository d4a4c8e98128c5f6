//! Configuration: from defaults, a file, the environment and flags to one checked [`Config`].
//!
//! 1. [`sections`]: every option, documented where it is declared.
//! 2. [`load`]: how the sources become a [`Config`].
//! 3. [`layers`]: values with their origins; [`mod@env`]: the environment.
//! 4. [`problems`]: what is wrong, all at once.
//! 5. [`change`]: what a running gateway takes over.
//! 6. [`show`] and [`docs`]: what is in force, and what there is.
//!
//! Why the layers are merged by our own code: `docs/decisions/0004-configuration.md`.

pub(crate) mod change;
pub(crate) mod docs;
pub(crate) mod env;
pub(crate) mod key;
pub(crate) mod layers;
pub(crate) mod load;
pub(crate) mod problems;
pub(crate) mod schema;
pub(crate) mod secret;
pub(crate) mod sections;
pub(crate) mod show;
pub(crate) mod text;

use broker_backends::Histories;
use broker_core::{History, Namespace, access::Namespaces, history::Queue};
pub(crate) use change::Change;
pub(crate) use env::Environment;
pub(crate) use load::{Loaded, Sources};
pub(crate) use secret::{Secret, SigningKey};
pub(crate) use sections::{
    auth::{Algorithm, ApiKeyEntry, Auth, Claims, Key, Scope},
    cluster::{Nats, Presence, Redis},
    history::HistoryStorage,
    http::{AllowedOrigins, HostPort, Http, WebUrl},
    limits::{Drain, Heartbeat, Limits},
    process::{LogFormat, Telemetry, Testing},
    reload::Reload,
    session::Session,
    socketio::{SocketIo, SpaceName},
    tickets::{MAX_TTL as MAX_TICKET_TTL, Tickets},
    webhooks::Webhook,
    websocket::WebSocket,
};

use crate::sabotage::Sabotage;

/// Everything that was configured, checked and ready to use.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Listeners, and what they accept from strangers.
    pub(crate) http: Http,
    /// How messages go over WebSockets.
    pub(crate) websocket: WebSocket,
    /// How Socket.IO is served.
    pub(crate) socketio: SocketIo,
    /// Who may connect.
    pub(crate) auth: Auth,
    /// Who may do what, and what the server subscribes connections to.
    pub(crate) namespaces: Namespaces,
    /// Services that are asked over HTTP.
    pub(crate) webhooks: Vec<Webhook>,
    /// How messages with history are stored.
    pub(crate) history: HistoryStorage,
    /// What one connection may use.
    pub(crate) limits: Limits,
    /// How a connection that is gone is noticed.
    pub(crate) heartbeat: Heartbeat,
    /// The bus between gateways.
    pub(crate) nats: Nats,
    /// Where presence is kept.
    pub(crate) redis: Redis,
    /// How gateways know of each other's connections.
    pub(crate) presence: Presence,
    /// How clients come back without a token.
    pub(crate) session: Session,
    /// How connections are handed over when the gateway stops.
    pub(crate) drain: Drain,
    /// How changes are taken over.
    pub(crate) reload: Reload,
    /// Logs and traces.
    pub(crate) telemetry: Telemetry,
    /// Switches for conformance tests.
    pub(crate) testing: Testing,
    /// A deliberate bug, by the command line alone.
    pub(crate) sabotage: Option<Sabotage>,
    /// What `fanfare dev` made up, to be shown at its start.
    pub(crate) dev: Option<DevSecrets>,
}

/// Secrets made for one start of `fanfare dev`.
#[derive(Debug, Clone)]
pub(crate) struct DevSecrets {
    /// The API key with all scopes.
    pub(crate) api_key: Secret,
    /// Signs tokens.
    pub(crate) for_tokens: Secret,
}

impl DevSecrets {
    /// Fresh ones.
    #[must_use]
    pub(crate) fn random() -> Self {
        Self { api_key: Secret::api_key(), for_tokens: Secret::random() }
    }
}

impl Config {
    /// The insecure settings of `fanfare dev`, with a fresh secret and API key, for tests.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn dev() -> Self {
        let sources = Sources { dev: Some(DevSecrets::random()), ..Sources::default() };
        sources.load().expect("dev.toml is tested").config
    }

    /// What is kept, by namespace.
    #[must_use]
    pub(crate) fn histories(&self) -> Histories {
        let declared = self.namespaces.declared.iter();
        declared.filter_map(|(name, rules)| Some((name.clone(), rules.history.clone()?))).collect()
    }

    /// The namespaces that are retained, with what is kept of them.
    pub(crate) fn retained(&self) -> impl Iterator<Item = (&Namespace, &History)> {
        let declared = self.namespaces.declared.iter();
        declared
            .filter_map(|(name, rules)| Some((name, rules.history.as_ref()?, rules.retained)))
            .filter_map(|(name, history, retained)| retained.then_some((name, history)))
    }

    /// How messages for users who are away are queued.
    #[must_use]
    pub(crate) fn queue(&self) -> Option<Queue> {
        self.namespaces.declared.values().find_map(|rules| rules.queue.clone())
    }

    /// What is allowed but probably not meant, for the log at start.
    #[must_use]
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |text: &str| warnings.push(text.to_owned());
        if self.namespaces.declared.is_empty() && self.namespaces.fallback.is_none() {
            warn(
                "no namespace is declared, so clients can subscribe to nothing but their own \
                 `user:` and `role:` channels: add [namespaces.NAME] to the configuration",
            );
        }
        if self.auth.keys.is_empty() && self.auth.jwks_url.is_none() && !self.auth.anonymous {
            warn(
                "no key for tokens is configured, so nobody can connect: set auth.hmac_secret, \
                 auth.keys or auth.jwks_url",
            );
        }
        if self.dev.is_none() && self.http.allowed_origins == AllowedOrigins::All {
            warn("http.allowed_origins lets pages of every web site connect: list your origins");
        }
        for key in &self.auth.keys {
            if key.algorithm.is_symmetric() && key.material.reveal().len() < 32 {
                warn(
                    "a secret for tokens has less than 32 bytes and might be guessed: make one \
                     with `openssl rand -base64 32`",
                );
            }
        }
        for webhook in &self.webhooks {
            webhook.unheard(&self.namespaces).for_each(|text| warn(&text));
        }
        if let Some(bug) = self.sabotage {
            warn(&format!("THIS GATEWAY IS SABOTAGED ({bug}): it breaks its promises on purpose"));
        }
        if self.http.query_token {
            warn("http.query_token is on: keep URLs with tokens out of the logs of your proxies");
        }
        warnings
    }
}

#[cfg(test)]
mod tests;

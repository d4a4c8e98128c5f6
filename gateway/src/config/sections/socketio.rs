//! `[socketio]`

use std::{path::PathBuf, time::Duration};

use broker_protocol::socketio::Namespace;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{problems::Checks, text};

/// Socket.IO v4 (and v3), for unmodified clients. The defaults are those of its own server.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SocketIo {
    /// Paths of the public listeners on which it is served, each with and without a slash at its
    /// end; a WebSocket there that is no Socket.IO's speaks the native protocol. Empty: nowhere.
    pub(crate) paths: Vec<String>,
    /// Socket.IO's namespaces that clients may come to. They have nothing to do with those of
    /// channels.
    pub(crate) namespaces: Vec<SpaceName>,
    /// How often the server pings. Proxies must not end what is silent for so long.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) ping_interval: Duration,
    /// How long a client may take to answer.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) ping_timeout: Duration,
    /// How long a client may take to change from polling to WebSocket.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) upgrade_timeout: Duration,
    /// How long a client may take to come to a first namespace.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) connect_timeout: Duration,
    /// Whether clients are recovered after their connections broke (Socket.IO's connection state
    /// recovery), with the channels they are in and what they missed there, for as long as
    /// `session.window`. Only clients all of whose channels have history are. Every event that they
    /// get then has a further argument, as with Socket.IO's own server.
    pub(crate) recovery: bool,
    /// Most bytes that a client may send at once: in one packet, or in the packets of one POST.
    #[serde(with = "text::size")]
    #[schemars(with = "String")]
    pub(crate) max_payload: usize,
    /// Directory with the client for browsers, such as `node_modules/socket.io-client/dist`, read
    /// at the start: `socket.io.js`, `socket.io.min.js`, `socket.io.esm.min.js`,
    /// `socket.io.msgpack.min.js` and their `.map` are served below each path, as Socket.IO's own
    /// server has them there. Without it, pages load the client from elsewhere.
    pub(crate) client_bundle: Option<PathBuf>,
}

/// A namespace's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", inline)]
pub(crate) struct SpaceName(pub(crate) Namespace);

impl Default for SocketIo {
    fn default() -> Self {
        Self {
            paths: vec!["/socket.io".to_owned()],
            namespaces: vec![SpaceName(Namespace::MAIN)],
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(45),
            recovery: false,
            max_payload: 1_000_000,
            client_bundle: None,
        }
    }
}

impl TryFrom<String> for SpaceName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Namespace::new(&name).map(Self).map_err(|error| error.to_string())
    }
}

impl From<SpaceName> for String {
    fn from(SpaceName(name): SpaceName) -> Self {
        name.as_str().to_owned()
    }
}

impl SocketIo {
    pub(in crate::config) fn check(&self, checks: &mut Checks<'_>) {
        for (index, path) in self.paths.iter().enumerate() {
            if !text::is_path(path) || path == "/" {
                checks.fail(&format!("socketio.paths[{index}]"), text::WANTED_PATH);
            }
        }
        if let Some(directory) = &self.client_bundle
            && !directory.join("socket.io.js").is_file()
        {
            let text =
                "there is no file socket.io.js: give the directory `dist` of socket.io-client";
            checks.fail("socketio.client_bundle", text);
        }
        checks.positive("socketio.ping_interval", self.ping_interval);
        checks.positive("socketio.ping_timeout", self.ping_timeout);
        checks.positive("socketio.upgrade_timeout", self.upgrade_timeout);
        checks.positive("socketio.connect_timeout", self.connect_timeout);
    }
}

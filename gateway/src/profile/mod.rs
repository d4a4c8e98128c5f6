//! Profiles: how an application's clients are served without any code of it.
//!
//! A profile is a TOML file. It is checked as a whole when it is read, and evaluated without
//! input or output: what is to be done goes out as values, and what came of it comes back.
//!
//! 1. [`raw`]: the file as it is written; [`compile`]: from there to a [`Profile`].
//! 2. [`template`]: texts and payloads with holes.
//! 3. [`face`]: what clients can say and are told: [`verb`]s, [`outgoing`] rules, [`auth`].
//! 4. [`step`]: what verbs and requests consist of, and the [`Action`]s that come of them.
//! 5. [`rest`]: HTTP requests that a profile answers.

mod auth;
mod compile;
mod emission;
mod face;
mod outgoing;
mod pattern;
mod rate;
mod raw;
mod require;
mod rest;
mod step;
mod summary;
mod template;
mod verb;

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

pub(crate) use auth::{Input, Refusal};
pub(crate) use emission::Emission;
pub(crate) use face::Face;
pub(crate) use outgoing::Outgoing;
pub(crate) use rate::Rate;
pub(crate) use raw::Caller;
pub(crate) use rest::{Rest, RestRequest, is_own_path};
pub(crate) use step::{Action, Call, Read, Snapshot};
pub(crate) use template::RenderError;
pub(crate) use verb::{Ack, Context, Failure, Reaction};

use crate::config::{
    layers::{Layers, Origin},
    load,
    problems::{ConfigErrors, Problem},
};

/// The face of clients for whom no profile says anything.
const DEFAULT: &str = include_str!("../../assets/default-profile.toml");
/// What problems with it are said to be in.
const DEFAULT_NAME: &str = "default-profile.toml";

/// How an application's clients are served.
pub(crate) struct Profile {
    /// Where Socket.IO clients connect.
    pub(crate) socketio: Vec<SocketIoMount>,
    /// Where plain WebSockets connect.
    pub(crate) websocket: Vec<WebSocketMount>,
    /// What clients can say and are told, by name.
    pub(crate) faces: BTreeMap<String, Arc<Face>>,
    /// HTTP requests that it answers.
    pub(crate) rest: Vec<Arc<Rest>>,
    config: Layers,
}

/// What it brings to the configuration may hold secrets.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { socketio, websocket, faces, rest, config: _ } = self;
        f.debug_struct("Profile")
            .field("socketio", socketio)
            .field("websocket", websocket)
            .field("faces", faces)
            .field("rest", rest)
            .finish_non_exhaustive()
    }
}

/// Where Socket.IO clients connect.
#[derive(Debug)]
pub(crate) struct SocketIoMount {
    /// Paths without a slash at their end; with one, they are the same.
    pub(crate) paths: Vec<String>,
    /// The face of each Socket.IO namespace.
    pub(crate) namespaces: BTreeMap<String, Arc<Face>>,
}

/// Where plain WebSockets connect.
#[derive(Debug)]
pub(crate) struct WebSocketMount {
    /// Paths without a slash at their end, but for `/`.
    pub(crate) paths: Vec<String>,
    /// The face of those who speak in envelopes; `None` for the native protocol.
    pub(crate) envelope: Option<Arc<Face>>,
}

impl Profile {
    /// Reads a file.
    ///
    /// # Errors
    /// All that is wrong with it, with lines.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::default();
        load::add_file(&mut layers, path).map_err(|problem| ConfigErrors(vec![problem]))?;
        Self::compile(&layers)
    }

    /// Reads text; `name` is the file that problems are said to be in.
    ///
    /// # Errors
    /// All that is wrong with it, with lines.
    pub(crate) fn parse(text: &str, name: &str) -> Result<Self, ConfigErrors> {
        let mut layers = Layers::default();
        let path: Arc<Path> = Path::new(name).into();
        let at = |line| Origin::File { path: Arc::clone(&path), line };
        layers.add_toml(text, at).map_err(|(origin, wanted)| {
            ConfigErrors(vec![Problem { key: String::new(), value: None, origin, wanted }])
        })?;
        Self::compile(&layers)
    }

    /// The profile that serves where no other does: a face called `default`.
    #[must_use]
    pub(crate) fn built_in() -> Self {
        Self::parse(DEFAULT, DEFAULT_NAME).expect("the default profile is tested")
    }

    /// What it brings to the configuration: [`Sources`](crate::config::Sources) takes it.
    #[must_use]
    pub(crate) fn config(&self) -> &Layers {
        &self.config
    }

    /// What is allowed but probably not meant.
    #[must_use]
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mounted = |face: &Arc<Face>| {
            let of_socketio = self.socketio.iter().flat_map(|mount| mount.namespaces.values());
            let mut mounted =
                of_socketio.chain(self.websocket.iter().flat_map(|mount| &mount.envelope));
            mounted.any(|mounted| Arc::ptr_eq(mounted, face))
        };
        let idle = self.faces.values().filter(|face| !mounted(face));
        idle.map(|face| {
            let name = &face.name;
            format!("nobody comes to faces.{name}: name it in a [[socketio]] or [[websocket]]")
        })
        .collect()
    }

    fn compile(layers: &Layers) -> Result<Self, ConfigErrors> {
        let config = layers.table("config");
        load::read_document(layers, |raw, checks| compile::profile(raw, config, checks))
    }
}

#[cfg(test)]
mod tests;

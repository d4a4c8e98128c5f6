//! From what was written to a [`Profile`], or to all that is wrong with it.
//!
//! 1. [`vars`]: which variables templates may use, and where.
//! 2. [`payload`]: texts, payloads, events; [`step`]: what verbs and requests consist of.
//! 3. [`face`] and [`rest`]: what holds them together.

mod face;
mod payload;
mod rest;
mod step;
mod vars;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Profile, SocketIoMount, WebSocketMount,
    face::Face,
    is_own_path,
    raw::{Dialect, RawProfile, RawSocketIo, RawWebSocket},
};
use crate::config::{key::Key, layers::Layers, problems::Checks, text};

/// Compiles a profile; what is wrong goes to `checks`, and what it has then is of no use.
pub(super) fn profile(raw: RawProfile, config: Layers, checks: &mut Checks<'_>) -> Profile {
    let mut compiler = Compiler { checks, asks_for_handshake: false };
    let root = Key::default();
    if raw.config.as_ref().is_some_and(|config| !config.0.is_table()) {
        compiler.fail(&root.entry("config"), "write a table, such as [config.namespaces.NAME]");
    }
    let faces = raw.faces.into_iter().map(|(name, face)| {
        let key = root.entry("faces").entry(&name);
        let face = compiler.face(&key, name.clone(), face);
        (name, Arc::new(face))
    });
    let faces: BTreeMap<_, _> = faces.collect();
    let key = root.entry("socketio");
    let socketio = raw.socketio.into_iter().enumerate();
    let socketio: Vec<SocketIoMount> = socketio
        .map(|(index, mount)| compiler.socketio(&key.element(index), mount, &faces))
        .collect();
    compiler.one_mount_for_each_path(&key, &socketio);
    let key = root.entry("websocket");
    let websocket = raw.websocket.into_iter().enumerate();
    let websocket: Vec<_> = websocket
        .map(|(index, mount)| compiler.websocket(&key.element(index), mount, &faces))
        .collect();
    compiler.one_face_each(&key, &websocket);
    let rest = compiler.rests(&root.entry("rest"), raw.rest);
    Profile { config, socketio, websocket, faces, rest }
}

/// Compiles parts of a profile, and notes what is wrong with them.
struct Compiler<'c, 'a> {
    checks: &'c mut Checks<'a>,
    /// Whether the templates compiled so far look at `handshake`.
    asks_for_handshake: bool,
}

impl Compiler<'_, '_> {
    fn fail(&mut self, key: &Key, wanted: impl Into<String>) {
        self.checks.fail_at(key, wanted);
    }

    fn socketio(
        &mut self,
        key: &Key,
        raw: RawSocketIo,
        faces: &BTreeMap<String, Arc<Face>>,
    ) -> SocketIoMount {
        let mut namespaces = BTreeMap::new();
        if raw.namespaces.is_empty() {
            self.fail(key, "say which face serves: namespaces = { \"/\" = \"FACE\" }");
        }
        for (name, face) in raw.namespaces {
            let key = key.entry("namespaces").entry(&name);
            if !name.starts_with('/') {
                self.fail(&key, "a Socket.IO namespace starts with `/`");
            }
            if let Some(face) = self.known_face(&key, &face, faces) {
                namespaces.insert(name, face);
            }
        }
        SocketIoMount { paths: self.paths(&key.entry("paths"), raw.paths), namespaces }
    }

    fn one_mount_for_each_path(&mut self, key: &Key, mounts: &[SocketIoMount]) {
        let mut known = BTreeSet::new();
        for (index, mount) in mounts.iter().enumerate() {
            let key = key.element(index).entry("paths");
            for path in &mount.paths {
                if path == "/" {
                    self.fail(&key, "Socket.IO needs a path of its own, such as \"/socket.io\"");
                }
                if !known.insert(path) {
                    self.fail(&key, format!("an entry before serves {path} already"));
                }
            }
        }
    }

    fn websocket(
        &mut self,
        key: &Key,
        raw: RawWebSocket,
        faces: &BTreeMap<String, Arc<Face>>,
    ) -> WebSocketMount {
        let face = key.entry("face");
        let envelope = match (raw.dialect, raw.face) {
            (Dialect::Envelope, Some(name)) => self.known_face(&face, &name, faces),
            (Dialect::Envelope, None) => {
                self.fail(key, "say which face serves: face = \"FACE\"");
                None
            }
            (Dialect::Native, Some(_)) => {
                self.fail(&face, "the native dialect has commands of its own: leave this out");
                None
            }
            (Dialect::Native, None) => None,
        };
        WebSocketMount { paths: self.paths(&key.entry("paths"), raw.paths), envelope }
    }

    fn one_face_each(&mut self, key: &Key, mounts: &[WebSocketMount]) {
        let mut taken = BTreeSet::new();
        for (index, mount) in mounts.iter().enumerate().filter(|(_, it)| it.envelope.is_some()) {
            for path in mount.paths.iter().filter(|path| !taken.insert(path.as_str())) {
                let wanted = format!("envelopes are served at {path} by another face");
                self.fail(&key.element(index).entry("paths"), wanted);
            }
        }
    }

    fn known_face(
        &mut self,
        key: &Key,
        name: &str,
        faces: &BTreeMap<String, Arc<Face>>,
    ) -> Option<Arc<Face>> {
        let face = faces.get(name).cloned();
        if face.is_none() {
            let names: Vec<&str> = faces.keys().map(String::as_str).collect();
            let there = if names.is_empty() { "none" } else { &names.join(", ") };
            self.fail(key, format!("declare it as [faces.{name}]; there are: {there}"));
        }
        face
    }

    /// Paths for upgrades, without a slash at their end.
    fn paths(&mut self, key: &Key, raw: Vec<String>) -> Vec<String> {
        if raw.is_empty() {
            self.fail(key, "write at least one path, such as [\"/ws\"]");
        }
        let mut paths = BTreeSet::new();
        for (index, path) in raw.into_iter().enumerate() {
            let key = key.element(index);
            if !text::is_path(&path) {
                self.fail(&key, text::WANTED_PATH);
            }
            if is_own_path(&path) {
                self.fail(&key, "the gateway itself answers there: choose another path");
            }
            let path = if path == "/" { path } else { path.trim_end_matches('/').to_owned() };
            if !paths.insert(path) {
                self.fail(&key, "this path is there already");
            }
        }
        paths.into_iter().collect()
    }
}

//! The client for browsers, `{path}/socket.io.js` and its kin, as Socket.IO's own server has it there.

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use broker_core::ErrorCode;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::problem::Problem;

/// What the npm package `socket.io-client` has in its `dist`.
const FILES: [&str; 8] = [
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
    "socket.io.msgpack.min.js",
    "socket.io.msgpack.min.js.map",
];

/// The files, read once: whoever puts others there starts the gateway anew.
#[derive(Debug, Default)]
pub(crate) struct Bundle(BTreeMap<&'static str, File>);

#[derive(Debug)]
struct File {
    body: Bytes,
    /// Of what is in it.
    tag: HeaderValue,
}

impl Bundle {
    /// Reads those files of a directory that are there.
    ///
    /// # Errors
    /// One cannot be read.
    pub(crate) fn load(directory: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for name in FILES {
            match fs::read(directory.join(name)) {
                Ok(body) => drop(files.insert(name, File::new(body.into()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self(files))
    }

    /// Where they are served, below a path without a slash at its end.
    pub(crate) fn paths(path: &str) -> impl Iterator<Item = String> {
        FILES.into_iter().map(move |name| format!("{path}/{name}"))
    }

    /// The routes below a path without a slash at its end.
    pub(super) fn router(self: &Arc<Self>, path: &str) -> Router {
        FILES.into_iter().fold(Router::new(), |router, name| {
            let answer = async move |State(bundle): State<Arc<Self>>, headers: HeaderMap| {
                bundle.answer(name, &headers)
            };
            router.route(&format!("{path}/{name}"), get(answer).with_state(Arc::clone(self)))
        })
    }

    fn answer(&self, name: &str, headers: &HeaderMap) -> Result<Response, Problem> {
        let file = self.0.get(name).ok_or_else(|| missing(self.0.is_empty()))?;
        let caching = [
            (header::ETAG, file.tag.clone()),
            (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=0")),
        ];
        if headers.get(header::IF_NONE_MATCH).is_some_and(|known| file.is(known)) {
            return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
        }
        let script = Path::new(name).extension().is_some_and(|it| it == "js");
        let kind = if script { "text/javascript; charset=utf-8" } else { "application/json" };
        let kind = [(header::CONTENT_TYPE, kind), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
        Ok((caching, kind, file.body.clone()).into_response())
    }
}

impl File {
    fn new(body: Bytes) -> Self {
        let hash: String =
            Sha256::digest(&body).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let tag = HeaderValue::from_str(&format!("\"{hash}\"")).expect("quotes and hex digits");
        Self { body, tag }
    }

    /// Whether a list of tags, strong or weak, names this file.
    fn is(&self, known: &HeaderValue) -> bool {
        let tag = self.tag.to_str().unwrap_or_default();
        let mut known = known.to_str().unwrap_or_default().split(',').map(str::trim);
        known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
    }
}

fn missing(all: bool) -> Problem {
    let text = if all {
        "no client is served here: set socketio.client_bundle to the directory `dist` of the npm \
         package socket.io-client, or load the client from elsewhere"
    } else {
        "this file is not in the directory of socketio.client_bundle"
    };
    Problem::new(ErrorCode::NotFound, text)
}

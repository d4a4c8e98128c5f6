//! What is spoken over WebSockets at which path.

use std::{collections::BTreeMap, sync::Arc};

use axum::http::{HeaderMap, StatusCode, Uri, header};
use broker_protocol::{envelope, native, ws::handshake};

use crate::{
    dialect::{Framing, Shown},
    problem::Problem,
};

/// Sub-protocol of the echo that conformance suites test the socket path with.
const ECHO: &str = "fanfare.echo";

/// What is spoken at each path.
#[derive(Debug, Default)]
pub(crate) struct Mounts(BTreeMap<String, Mount>);

/// What is spoken at a path: one of these at least.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mount {
    native: bool,
    envelope: Option<Arc<Framing>>,
}

/// What a client and this path have come to.
#[derive(Debug)]
pub(super) enum Chosen {
    /// The native dialect; whether the client named it, and so must be answered with its name.
    Native {
        named: bool,
    },
    Envelope {
        named: bool,
        framing: Arc<Framing>,
    },
    Echo,
}

/// Another face has this path already.
#[derive(Debug, thiserror::Error)]
#[error("envelopes are served at {path} by two faces: leave one of them out")]
pub(crate) struct TwoFaces {
    path: String,
}

impl Mounts {
    pub(crate) fn add_native(&mut self, path: &str) {
        self.0.entry(path.to_owned()).or_default().native = true;
    }

    /// # Errors
    /// Another face is served there in the same way.
    pub(crate) fn add_envelope(&mut self, path: &str, framing: Framing) -> Result<(), TwoFaces> {
        let mount = self.0.entry(path.to_owned()).or_default();
        match mount.envelope.replace(Arc::new(framing)) {
            Some(_) => Err(TwoFaces { path: path.to_owned() }),
            None => Ok(()),
        }
    }

    /// The same, in the place of others: who is shown a face at a path goes on there. `faces`: what
    /// they are to be shown, is added.
    pub(crate) fn after(mut self, before: &Self, faces: &mut Vec<Shown>) -> Self {
        for (path, Mount { envelope, .. }) in &mut self.0 {
            let known = before.0.get(path).and_then(|mount| mount.envelope.as_ref());
            if let (Some(framing), Some(known)) = (envelope, known) {
                faces.push((Arc::clone(known), framing.face()));
                *framing = Arc::clone(known);
            }
        }
        self
    }

    /// Leaves the native dialect at a path to somebody else.
    pub(crate) fn remove_native(&mut self, path: &str) {
        if let Some(mount) = self.0.get_mut(path) {
            mount.native = false;
        }
        self.0.retain(|_, mount| mount.native || mount.envelope.is_some());
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Mount)> {
        self.0.iter()
    }
}

impl Mount {
    /// Where the native dialect alone is spoken.
    pub(super) const fn native() -> Self {
        Self { native: true, envelope: None }
    }

    /// The first known sub-protocol that is offered; else the `dialect` of the query; else, where a
    /// face is served, that: its clients name nothing.
    pub(super) fn choose(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        echo: bool,
    ) -> Result<Chosen, Problem> {
        let mut unknown = Vec::new();
        for offer in offers(headers) {
            match (offer, &self.envelope) {
                (native::SUBPROTOCOL, _) if self.native => {
                    return Ok(Chosen::Native { named: true });
                }
                (envelope::SUBPROTOCOL, Some(framing)) => {
                    let framing = Arc::clone(framing);
                    return Ok(Chosen::Envelope { named: true, framing });
                }
                (ECHO, _) if echo => return Ok(Chosen::Echo),
                _ if offer.starts_with(native::TOKEN_PREFIX) => {}
                _ => unknown.push(offer),
            }
        }
        if unknown.is_empty() { self.choose_unnamed(uri) } else { Err(self.unknown(&unknown)) }
    }

    fn choose_unnamed(&self, uri: &Uri) -> Result<Chosen, Problem> {
        let mut pairs = uri.query().unwrap_or_default().split('&');
        let wanted = pairs.find_map(|pair| pair.strip_prefix("dialect="));
        match (wanted, &self.envelope) {
            (None | Some("envelope"), Some(framing)) => {
                Ok(Chosen::Envelope { named: false, framing: Arc::clone(framing) })
            }
            (None | Some("native"), _) if self.native => Ok(Chosen::Native { named: false }),
            (wanted, _) => {
                let detail = format!(
                    "the dialect {} is not spoken here; there is {}",
                    wanted.unwrap_or_default(),
                    self.spoken(["native", "envelope"]),
                );
                Err(Problem::http(StatusCode::BAD_REQUEST, "unknown_dialect", detail))
            }
        }
    }

    fn unknown(&self, offered: &[&str]) -> Problem {
        let detail = format!(
            "none of the sub-protocols {} is known here; offer {}",
            offered.join(", "),
            self.spoken([native::SUBPROTOCOL, envelope::SUBPROTOCOL]),
        );
        Problem::http(StatusCode::BAD_REQUEST, "unknown_subprotocol", detail)
    }

    /// What is spoken here, of names for the native dialect and for envelopes.
    fn spoken(&self, [native, envelope]: [&str; 2]) -> String {
        let native = self.native.then_some(native);
        let envelope = self.envelope.is_some().then_some(envelope);
        native.into_iter().chain(envelope).collect::<Vec<_>>().join(" or ")
    }
}

impl Chosen {
    /// What the client is told to have chosen, if it has offered names.
    pub(super) const fn subprotocol(&self) -> Option<&'static str> {
        match self {
            Self::Native { named: true } => Some(native::SUBPROTOCOL),
            Self::Envelope { named: true, .. } => Some(envelope::SUBPROTOCOL),
            Self::Native { named: false } | Self::Envelope { named: false, .. } => None,
            Self::Echo => Some(ECHO),
        }
    }

    /// A face's frames are not compressed.
    pub(super) const fn may_be_compressed(&self) -> bool {
        !matches!(self, Self::Envelope { .. })
    }
}

/// The sub-protocols that a client offers, in its order.
pub(super) fn offers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(handshake::protocols)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dialect::Form, profile::Profile};

    fn choose(mount: &Mount, offer: &str, uri: &'static str) -> Result<String, &'static str> {
        let mut headers = HeaderMap::new();
        if !offer.is_empty() {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offer.parse().unwrap());
        }
        match mount.choose(&headers, &Uri::from_static(uri), false) {
            Ok(Chosen::Native { named }) => Ok(format!("native, {named}")),
            Ok(Chosen::Envelope { named, .. }) => Ok(format!("envelope, {named}")),
            Ok(Chosen::Echo) => Ok("echo".to_owned()),
            Err(problem) => Err(problem.code),
        }
    }

    fn framing() -> Framing {
        let face = Arc::clone(&Profile::built_in().faces["default"]);
        Framing { form: Form::Envelope, face: face.into(), echo: false }
    }

    #[test]
    fn the_first_known_dialect_is_spoken() {
        let choose = |offer| choose(&Mount::native(), offer, "/ws");
        assert_eq!(choose("").unwrap(), "native, false");
        assert_eq!(choose("mqtt, fanfare.v1").unwrap(), "native, true");
        assert_eq!(choose("fanfare.token.abc").unwrap(), "native, false");
        assert_eq!(choose("fanfare.v1, fanfare.token.abc").unwrap(), "native, true");
        for offer in ["fanfare.echo", "mqtt", "fanfare.envelope.v1"] {
            assert_eq!(choose(offer), Err("unknown_subprotocol"), "{offer}");
        }
    }

    #[test]
    fn where_a_face_is_served_who_names_nothing_is_shown_it() {
        let both = Mount { native: true, envelope: Some(framing().into()) };
        assert_eq!(choose(&both, "", "/ws?token=x").unwrap(), "envelope, false");
        assert_eq!(choose(&both, "", "/ws?dialect=envelope").unwrap(), "envelope, false");
        assert_eq!(choose(&both, "", "/ws?token=x&dialect=native").unwrap(), "native, false");
        assert_eq!(choose(&both, "fanfare.v1", "/ws").unwrap(), "native, true");
        assert_eq!(choose(&both, "fanfare.envelope.v1", "/ws").unwrap(), "envelope, true");
        assert_eq!(choose(&both, "fanfare.token.abc", "/ws").unwrap(), "envelope, false");
        assert_eq!(choose(&both, "", "/ws?dialect=mqtt"), Err("unknown_dialect"));
        let alone = Mount { native: false, envelope: Some(framing().into()) };
        assert_eq!(choose(&alone, "", "/ws?dialect=native"), Err("unknown_dialect"));
        assert_eq!(choose(&alone, "fanfare.v1", "/ws"), Err("unknown_subprotocol"));
        assert_eq!(choose(&Mount::native(), "", "/ws?dialect=envelope"), Err("unknown_dialect"));
    }

    #[test]
    fn a_path_has_one_face() {
        let mut mounts = Mounts::default();
        mounts.add_native("/ws");
        mounts.add_envelope("/ws", framing()).unwrap();
        mounts.add_envelope("/", framing()).unwrap();
        assert!(mounts.add_envelope("/ws", framing()).is_err());
        assert_eq!(mounts.paths().collect::<Vec<_>>(), ["/", "/ws"]);
        mounts.remove_native("/");
        assert_eq!(mounts.paths().collect::<Vec<_>>(), ["/", "/ws"], "an envelope is left");
    }
}

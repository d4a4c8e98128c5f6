//! Which variables templates may use, and where.

use std::collections::BTreeSet;

/// Names further apart than this are no misspellings of each other.
const MIN_SIMILARITY: f64 = 0.75;

/// What a client's first request said: who remembers that for those who do not ask wastes memory.
pub(super) const HANDSHAKE: &str = "handshake";

/// The variables of a place.
#[derive(Debug, Clone, Default)]
pub(super) struct Vars(BTreeSet<String>);

impl Vars {
    /// Of what concerns no client: the times.
    #[must_use]
    pub(super) fn times() -> Self {
        Self::default().and(&["now_ms", "now_iso"])
    }

    /// Of what concerns a client.
    #[must_use]
    pub(super) fn client() -> Self {
        Self::times().and(&["connection", "user", "role", "roles", "claims", HANDSHAKE])
    }

    /// Of what a client's event causes.
    #[must_use]
    pub(super) fn verb() -> Self {
        Self::client().and(&["event", "data", "args"])
    }

    /// Of what clients are told of a message.
    #[must_use]
    pub(super) fn message() -> Self {
        Self::default().and(&["message", "data"])
    }

    /// Of an HTTP request.
    #[must_use]
    pub(super) fn rest() -> Self {
        Self::times().and(&["user", "role", "roles", "claims", "query", "data", "ws_url"])
    }

    /// These and others.
    #[must_use]
    pub(super) fn and(&self, more: &[&str]) -> Self {
        let mut all = self.clone();
        all.0.extend(more.iter().map(|name| (*name).to_owned()));
        all
    }

    /// Whether this is one of them.
    #[must_use]
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// What to write in place of a name that is none of them.
    #[must_use]
    pub(super) fn instead_of(&self, name: &str) -> String {
        let nearest = self
            .0
            .iter()
            .map(|known| (strsim::jaro_winkler(name, known), known))
            .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match nearest {
            Some((_, known)) => format!("there is no `{name}` here; did you mean `{known}`?"),
            None => {
                let all: Vec<&str> = self.0.iter().map(String::as_str).collect();
                let hint = if self.has("data") {
                    format!("; what was sent is `data`, so perhaps `data.{name}`")
                } else {
                    String::new()
                };
                format!("there is no `{name}` here; there are {}{hint}", all.join(", "))
            }
        }
    }
}

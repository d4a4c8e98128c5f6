//! Where things are. What people choose is escaped: nobody chooses a hash slot by a brace.

use broker_core::{NodeId, UserId};

use crate::escape::{escape_into, is_plain};

#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Set: every gateway that may have left something.
    pub(super) fn gateways(&self) -> String {
        format!("{}:gateways", self.prefix)
    }

    /// String that expires: a gateway's sign of life.
    pub(super) fn lease(&self, node: &NodeId) -> String {
        format!("{}:gw:{{{node}}}:lease", self.prefix)
    }

    /// Hash: a gateway's connections.
    pub(super) fn connections(&self, node: &NodeId) -> String {
        format!("{}:gw:{{{node}}}:conns", self.prefix)
    }

    /// String that expires: somebody removes what this gateway left.
    pub(super) fn sweep(&self, node: &NodeId) -> String {
        format!("{}:gw:{{{node}}}:sweep", self.prefix)
    }

    /// Hash: a user's connections, with the gateway of each.
    pub(super) fn user(&self, user: &UserId) -> String {
        self.of("user", user.as_str())
    }

    /// String that expires: what became of a request that may be repeated.
    pub(super) fn request(&self, key: &str) -> String {
        self.of("once", key)
    }

    fn of(&self, kind: &str, name: &str) -> String {
        let mut key = format!("{}:{kind}:{{", self.prefix);
        escape_into(&mut key, name, is_plain);
        key.push('}');
        key
    }
}

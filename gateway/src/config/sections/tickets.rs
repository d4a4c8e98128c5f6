//! `[auth.tickets]`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{problems::Checks, text};

/// A ticket stands in a URL: it must not be of use for long.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(300);

/// Tickets with which users connect once: a service with the scope `tickets` asks for them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tickets {
    /// How long a ticket is good for, where the service does not say. At most 5 min.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) ttl: Duration,
    /// How long a client that came with a ticket may stay; by then it needs another ticket, or a
    /// token.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) connection_ttl: Duration,
}

impl Default for Tickets {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { ttl: Duration::from_secs(30), connection_ttl: day }
    }
}

impl Tickets {
    pub(in crate::config) fn check(&self, checks: &mut Checks<'_>) {
        if self.ttl > MAX_TTL {
            checks.fail("auth.tickets.ttl", "write at most \"5m\"");
        }
        checks.positive("auth.tickets.ttl", self.ttl);
        checks.positive("auth.tickets.connection_ttl", self.connection_ttl);
    }
}

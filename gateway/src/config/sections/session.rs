//! `[session]`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{problems::Checks, text};

/// Shorter windows would have sessions written more than once in a second.
const SHORTEST: Duration = Duration::from_secs(1);

/// How clients that ask for it come back, after their connections broke, without a token.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Session {
    /// How long after its connection broke a session can be resumed, at least; half as long again
    /// at most. In a cluster, sessions are in Redis, and the same for all gateways.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) window: Duration,
}

impl Default for Session {
    fn default() -> Self {
        Self { window: Duration::from_secs(120) }
    }
}

impl Session {
    pub(in crate::config) fn check(&self, checks: &mut Checks<'_>) {
        if self.window < SHORTEST {
            checks.fail("session.window", "write a second or more, such as \"2m\"");
        }
    }
}

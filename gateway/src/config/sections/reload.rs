//! `[reload]`

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::text;

/// How a running gateway takes over what has changed in its files. It does so on SIGHUP in any
/// case. See [reload.md](reload.md).
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Reload {
    /// How often the gateway looks whether its files have changed: the configuration, profiles, and
    /// the files that options name, such as secrets and certificates. What counts is what they hold,
    /// so ConfigMaps and Secrets that Kubernetes mounts are noticed too, for which `"5s"` is good.
    /// `"0s"`: it does not look.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) watch: Duration,
}

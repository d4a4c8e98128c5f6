//! `[telemetry]` and `[testing]`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::problems::Checks;

/// Logs and traces. Metrics are always served, on `http.admin_listen`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Telemetry {
    /// Form of the log on standard output: `text`, `json`, or `auto`, which is text on a terminal
    /// and JSON elsewhere.
    pub(crate) log_format: LogFormat,
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels by module as
    /// in `info,fanfare=debug`.
    pub(crate) log_level: String,
    /// OTLP endpoint that traces are sent to, such as `http://localhost:4317`. Without it, none
    /// are.
    pub(crate) otlp_endpoint: Option<String>,
    /// Share of publishes that are traced where the publisher sent no trace context: 0 to 1.
    pub(crate) trace_sample: f64,
    /// Whether a client's own trace context is taken over. It lets clients choose what is traced:
    /// leave it off on the internet.
    pub(crate) trust_client_trace: bool,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Auto,
            log_level: "info".to_owned(),
            otlp_endpoint: None,
            trace_sample: 0.01,
            trust_client_trace: false,
        }
    }
}

impl Telemetry {
    pub(in crate::config) fn check(&self, checks: &mut Checks<'_>) {
        if !(0.0..=1.0).contains(&self.trace_sample) {
            checks.fail("telemetry.trace_sample", "write a share from 0 to 1, such as 0.01");
        }
        if let Some(endpoint) = &self.otlp_endpoint
            && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
        {
            checks.fail("telemetry.otlp_endpoint", "write a URL, such as http://localhost:4317");
        }
    }
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum LogFormat {
    Auto,
    Text,
    Json,
}

/// Switches for conformance tests.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Testing {
    /// Whether WebSockets with the subprotocol `fanfare.echo` get their messages back.
    pub(crate) echo: bool,
}

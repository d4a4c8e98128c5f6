//! What operators see: metrics, logs and traces.

pub(crate) mod logs;
mod metrics;
pub(crate) mod trace;

pub(crate) use metrics::{Asked, Load, Metrics};
pub(crate) use trace::{ActiveSpan, Publication, Source, TelemetryOptions, Tracing};

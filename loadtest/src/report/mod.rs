//! The result: one flat document, a table of it, a plot of its latencies.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::failure::Failure;

mod plot;
mod table;

pub(crate) use table::{grouped, micros};

/// `README.md` says what each field means.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) workload: &'static str,
    pub(crate) mode: Option<&'static str>,
    pub(crate) target: String,
    pub(crate) connections: usize,
    pub(crate) channels: usize,
    pub(crate) publishers: usize,
    pub(crate) payload_bytes: usize,
    pub(crate) compression: bool,
    pub(crate) window: Option<u64>,
    pub(crate) rate: Option<f64>,
    pub(crate) passed: bool,
    #[serde(flatten)]
    pub(crate) measured: Measured,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) strays: u64,
    pub(crate) outage_lost: Option<u64>,
    pub(crate) refused: u64,
    pub(crate) closed: u64,
    #[serde(flatten)]
    pub(crate) handshakes: Handshakes,
    pub(crate) rss_before_bytes: Option<u64>,
    pub(crate) rss_after_bytes: Option<u64>,
    pub(crate) rss_bytes_per_connection: Option<f64>,
    pub(crate) idle_seconds: Option<f64>,
    pub(crate) idle_cpu_us_per_connection_second: Option<f64>,
    pub(crate) stalled: Option<usize>,
    pub(crate) stalled_closed: Option<usize>,
    pub(crate) stalled_close_codes: Option<String>,
    pub(crate) stalled_first_closed_seconds: Option<f64>,
    pub(crate) stalled_last_closed_seconds: Option<f64>,
    pub(crate) stalled_rss_growth_bytes: Option<u64>,
    pub(crate) baseline_p50_us: Option<f64>,
    pub(crate) baseline_p99_us: Option<f64>,
    pub(crate) baseline_p999_us: Option<f64>,
    pub(crate) baseline_max_us: Option<f64>,
    pub(crate) p50_above_baseline_us: Option<f64>,
    pub(crate) joined: Option<u64>,
    pub(crate) left: Option<u64>,
    pub(crate) disconnected: Option<u64>,
    pub(crate) close_codes: Option<String>,
    pub(crate) failed_attempts: Option<u64>,
    pub(crate) recovered: Option<usize>,
    pub(crate) unrecovered: Option<usize>,
    pub(crate) away_p50_seconds: Option<f64>,
    pub(crate) away_max_seconds: Option<f64>,
    pub(crate) ends_peak_per_second: Option<usize>,
    pub(crate) handshakes_peak_per_second: Option<usize>,
    pub(crate) publishes_repeated: Option<u64>,
    pub(crate) back_seconds: Option<f64>,
    pub(crate) back_p50_seconds: Option<f64>,
}

/// One measured stretch.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) seconds: Option<f64>,
    pub(crate) messages: Option<u64>,
    pub(crate) deliveries: Option<u64>,
    pub(crate) messages_per_second: Option<f64>,
    pub(crate) deliveries_per_second: Option<f64>,
    pub(crate) messages_per_cpu_second: Option<f64>,
    pub(crate) deliveries_per_cpu_second: Option<f64>,
    pub(crate) server_cpu_seconds: Option<f64>,
    pub(crate) server_cpu_us_per_delivery: Option<f64>,
    pub(crate) client_cpu_seconds: Option<f64>,
    pub(crate) client_cpu_us_per_delivery: Option<f64>,
    pub(crate) client_cpu_share: Option<f64>,
    pub(crate) bytes_received: Option<u64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) p999_us: Option<f64>,
    pub(crate) max_us: Option<f64>,
}

impl Measured {
    pub(crate) fn set_latency(&mut self, latency: &Histogram<u64>) {
        if !latency.is_empty() {
            let at = |quantile| Some(latency.value_at_quantile(quantile) as f64 / 1e3);
            (self.p50_us, self.p99_us, self.p999_us) = (at(0.5), at(0.99), at(0.999));
            self.max_us = Some(latency.max() as f64 / 1e3);
        }
    }
}

/// Opening all connections.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Handshakes {
    pub(crate) handshakes: u64,
    pub(crate) handshake_seconds: f64,
    pub(crate) handshakes_per_second: f64,
    pub(crate) handshake_cpu_ms: Option<f64>,
    pub(crate) handshake_p50_us: f64,
    pub(crate) handshake_p99_us: f64,
}

impl Report {
    /// Whether nothing is wrong that the workload does not bring about itself.
    pub(crate) fn is_clean(&self) -> bool {
        let wrong = self.lost + self.duplicated + self.reordered + self.strays;
        wrong + self.refused + self.closed == 0 && self.unrecovered.unwrap_or(0) == 0
    }
}

/// Latencies under a name.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) latency: Histogram<u64>,
}

/// Where results go, and what counts as success.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) json: Option<PathBuf>,
    pub(crate) plot: Option<PathBuf>,
    pub(crate) allow_loss: bool,
}

/// A workload that was run.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) report: Report,
    pub(crate) curves: Vec<Curve>,
    pub(crate) output: Output,
}

impl Finished {
    /// Tells the result wherever it is wanted.
    pub(crate) fn conclude(self) -> Result<ExitCode, Failure> {
        let Self { report, curves, output } = &self;
        // A reader that has gone away has what it wanted.
        drop(io::stdout().lock().write_all(table::render(report).as_bytes()));
        if let Some(path) = &output.json {
            let text = serde_json::to_string_pretty(report)
                .map_err(|error| Failure::io("the result")(error.into()))?;
            write(path, &(text + "\n"))?;
        }
        if let Some(path) = &output.plot {
            write(path, &plot::draw(report, curves))?;
        }
        let is_success = report.passed || output.allow_loss;
        Ok(if is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(Failure::io(format!("{} cannot be written", path.display())))
}

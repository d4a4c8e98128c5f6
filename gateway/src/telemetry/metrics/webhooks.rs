use std::time::Duration;

use broker_core::{Data, ports::RequestError};
use prometheus::{Histogram, IntCounterVec};

use super::Make;

/// What became of a request to a webhook.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    Ok,
    Refused,
    NoService,
    TimedOut,
    Overloaded,
    Lost,
    /// Whoever asked was gone before the answer came.
    Abandoned,
}

impl Asked {
    const ALL: [Self; 7] = [
        Self::Ok,
        Self::Refused,
        Self::NoService,
        Self::TimedOut,
        Self::Overloaded,
        Self::Lost,
        Self::Abandoned,
    ];

    pub(crate) fn of(outcome: &Result<Data, RequestError>) -> Self {
        match outcome {
            Ok(_) => Self::Ok,
            Err(RequestError::Refused { .. }) => Self::Refused,
            Err(RequestError::NoService | RequestError::Unavailable) => Self::NoService,
            Err(RequestError::Timeout) => Self::TimedOut,
            Err(RequestError::Overloaded) => Self::Overloaded,
            Err(RequestError::Lost) => Self::Lost,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::NoService => "no_service",
            Self::TimedOut => "timed_out",
            Self::Overloaded => "overloaded",
            Self::Lost => "lost",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Requests to services that are asked over HTTP.
#[derive(Debug)]
pub(crate) struct WebhookMetrics {
    requests: IntCounterVec,
    duration: Histogram,
}

impl WebhookMetrics {
    pub(super) fn new(make: &Make) -> prometheus::Result<Self> {
        Ok(Self {
            requests: make.counters(
                "webhook_requests_total",
                "Requests to webhooks, by webhook and outcome: ok, refused, no_service, timed_out, overloaded, lost (the connection broke before the answer), abandoned (the client was gone before it).",
                &["webhook", "result"],
            )?,
            duration: make.histogram(
                "webhook_duration_seconds",
                "How long requests to webhooks took, whatever became of them.",
            )?,
        })
    }

    /// Has all series of a webhook from the start.
    pub(crate) fn show(&self, webhook: &str) {
        for outcome in Asked::ALL {
            self.requests.with_label_values(&[webhook, outcome.as_str()]);
        }
    }

    pub(crate) fn asked(&self, webhook: &str, outcome: Asked, took: Duration) {
        self.requests.with_label_values(&[webhook, outcome.as_str()]).inc();
        self.duration.observe(took.as_secs_f64());
    }

    #[cfg(test)]
    pub(crate) fn count(&self, webhook: &str, outcome: Asked) -> u64 {
        self.requests.with_label_values(&[webhook, outcome.as_str()]).get()
    }
}

//! Where requests of clients go: to a webhook that serves the address, else over the bus.
//!
//! 1. [`webhook`]: one service that is asked over HTTP, within its bounds.
//! 2. [`letter`]: what is posted to it, and how that is signed; [`answer`]: what it says.

mod answer;
mod letter;
mod webhook;

use std::sync::Arc;

use broker_core::{
    Data,
    ports::{BoxFuture, Bus, RequestError, ServiceRequest},
};
use futures_util::FutureExt as _;

use crate::{config, telemetry::Metrics};
use webhook::Webhook;

/// Everything that clients can ask.
#[derive(Debug)]
pub(crate) struct Services {
    bus: Arc<dyn Bus>,
    webhooks: Vec<Arc<Webhook>>,
}

impl Services {
    /// Those on the bus alone.
    pub(crate) fn new(bus: Arc<dyn Bus>) -> Self {
        Self { bus, webhooks: Vec::new() }
    }

    /// With those that are asked over HTTP, whose answers have at most `answer_bytes`.
    ///
    /// # Errors
    /// The certificate authorities of this host cannot be read.
    pub(crate) fn with_webhooks(
        self,
        webhooks: &[config::Webhook],
        answer_bytes: usize,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        let open = |it| Webhook::new(it, answer_bytes, Arc::clone(metrics)).map(Arc::new);
        let webhooks = webhooks.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { webhooks, ..self })
    }

    /// Asks the service at the request's address.
    pub(crate) fn ask(
        &self,
        request: ServiceRequest,
    ) -> BoxFuture<'static, Result<Data, RequestError>> {
        match self.webhooks.iter().find(|webhook| webhook.serves(&request.address)) {
            Some(webhook) => Arc::clone(webhook).ask(request).boxed(),
            None => self.bus.request(request),
        }
    }
}

#[cfg(test)]
mod tests;

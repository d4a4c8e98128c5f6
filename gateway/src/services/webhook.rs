//! One service that is asked over HTTP, within its bounds.

use std::{
    error::Error,
    iter,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use broker_core::{
    ChannelName, Data, Interest, MessageId,
    ports::{RequestError, ServiceRequest},
};
use bytes::{Bytes, BytesMut};
use reqwest::{
    Client, RequestBuilder, Response,
    header::{CONTENT_TYPE, HeaderValue},
    redirect::Policy,
};
use tokio::{
    sync::Semaphore,
    time::{self, Instant},
};
use url::Url;

use super::{
    answer::{Answer, refused},
    letter::Letter,
};
use crate::{
    auth, clock,
    config::{self, SigningKey, text},
    telemetry::{Asked, Metrics},
};

/// How long a connection is kept for the next request: less than what common servers wait, so that
/// none is closed by them just as it is used.
const KEPT: Duration = Duration::from_secs(4);
const USER_AGENT: &str = concat!("fanfare/", env!("CARGO_PKG_VERSION"));

#[derive(Debug)]
pub(super) struct Webhook {
    name: String,
    addresses: Vec<Interest>,
    url: Url,
    keys: Vec<SigningKey>,
    timeout: Duration,
    answer_bytes: usize,
    client: Client,
    /// One permit for each request that may be under way.
    room: Semaphore,
    /// Whether the last request did not get through: the log says it once.
    broken: AtomicBool,
    metrics: Arc<Metrics>,
}

/// A request under way, counted whatever becomes of it.
struct Counted<'a> {
    webhook: &'a Webhook,
    since: Instant,
    outcome: Asked,
}

impl Webhook {
    pub(super) fn new(
        configured: &config::Webhook,
        answer_bytes: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        let config::Webhook { name, addresses, url, keys, timeout, in_flight } = configured.clone();
        auth::ensure_tls_provider();
        let client = Client::builder()
            .redirect(Policy::none())
            .https_only(url.scheme() == "https")
            .pool_idle_timeout(KEPT)
            .user_agent(USER_AGENT);
        // What a proxy of the operator's network calls this host is another one.
        let client = if text::is_this_host(&url) { client.no_proxy() } else { client };
        metrics.webhooks.show(&name);
        Ok(Self {
            name,
            addresses,
            url,
            keys,
            timeout,
            answer_bytes,
            client: client.build()?,
            room: Semaphore::new(in_flight.min(Semaphore::MAX_PERMITS)),
            broken: AtomicBool::new(false),
            metrics,
        })
    }

    /// Whether the address is one of its own.
    pub(super) fn serves(&self, address: &ChannelName) -> bool {
        self.addresses.iter().any(|own| own.matches(address))
    }

    pub(super) async fn ask(
        self: Arc<Self>,
        request: ServiceRequest,
    ) -> Result<Data, RequestError> {
        let mut counted =
            Counted { webhook: &self, since: Instant::now(), outcome: Asked::Abandoned };
        let deadline = request.timeout.min(self.timeout);
        let outcome = match self.room.try_acquire() {
            Ok(_turn) => time::timeout(deadline, self.exchange(&request)).await,
            Err(_) => Ok(Err(RequestError::Overloaded)),
        };
        let outcome = outcome.unwrap_or(Err(RequestError::Timeout));
        counted.outcome = Asked::of(&outcome);
        outcome
    }

    async fn exchange(&self, request: &ServiceRequest) -> Result<Data, RequestError> {
        let letter = Letter::new(MessageId::random(rand::random()), request, clock::wall());
        let posted = self.post(letter, request.trace.as_deref());
        let response = posted.send().await.map_err(|error| self.not_answered(error))?;
        if self.broken.swap(false, Ordering::Relaxed) {
            tracing::info!(webhook = self.name, "a webhook answers again");
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.body(response).await?;
        Answer { status, headers, body }.read()
    }

    fn post(&self, letter: Letter, trace: Option<&str>) -> RequestBuilder {
        let mut post = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("webhook-id", letter.id.as_str())
            .header("webhook-timestamp", letter.timestamp);
        if !self.keys.is_empty() {
            post = post.header("webhook-signature", letter.signatures(&self.keys));
        }
        if let Some(trace) = trace {
            post = post.header("traceparent", trace);
        }
        post.body(letter.body)
    }

    async fn body(&self, mut response: Response) -> Result<Bytes, RequestError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.not_answered(error))? {
            if body.len() + chunk.len() > self.answer_bytes {
                let most = self.answer_bytes;
                return Err(refused(format!("the service's answer has more than {most} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    fn not_answered(&self, error: reqwest::Error) -> RequestError {
        // Before anything was sent.
        let unreached = error.is_connect();
        if !self.broken.swap(true, Ordering::Relaxed) {
            let error = error.without_url();
            let cause = iter::successors(error.source(), |&cause| cause.source()).last();
            let cause = cause.map(ToString::to_string);
            tracing::warn!(webhook = self.name, %error, cause, "a webhook does not answer");
        }
        if unreached { RequestError::NoService } else { RequestError::Lost }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let Self { webhook, since, outcome } = self;
        webhook.metrics.webhooks.asked(&webhook.name, *outcome, since.elapsed());
    }
}

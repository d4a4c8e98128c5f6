//! Requests to JetStream's API, which answers in JSON, or message by message.

use async_nats::{HeaderMap, Message, StatusCode, message::OutboundMessage};
use broker_core::Offset;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{
    link::Link,
    place::{Place, PlaceHeaders},
};

const SUBJECT: &str = "Nats-Subject";
/// How many messages of a batch are still to come, or to be asked for.
const PENDING: &str = "Nats-Num-Pending";
/// How far the log went when the batch was made.
const UP_TO: &str = "Nats-UpTo-Sequence";
/// What ends a batch.
const END_OF_BATCH: u16 = 204;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// Not in reach, or no answer in time.
    #[error("JetStream does not answer in time")]
    Silent,
    /// Nobody listens: there is no JetStream, or no such stream.
    #[error("nobody answers for JetStream")]
    Nobody,
    #[error("{description} ({number})")]
    Refused {
        /// As HTTP has it.
        code: u16,
        /// What it is about.
        number: u32,
        description: String,
    },
    #[error("JetStream's answer cannot be read")]
    Unreadable,
    /// The stream is older than it was: restored from a backup, or its server does not know yet
    /// that it leads no more.
    #[error("the stream has lost its newest messages")]
    SetBack,
}

/// What is wrong, in JetStream's JSON.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) code: u16,
    #[serde(default, rename = "err_code")]
    pub(super) number: u32,
    #[serde(default)]
    pub(super) description: String,
}

/// Messages of a stream, as one server has them.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) messages: Vec<(Message, Place)>,
    /// There are more behind the last one.
    pub(super) more: bool,
    /// How far the log went, where the server says it.
    pub(super) up_to: Option<u64>,
}

/// One question to JetStream.
#[derive(Debug)]
pub(super) struct Api<'a> {
    pub(super) link: &'a Link,
    /// When there must be an answer.
    pub(super) end: Instant,
}

impl Api<'_> {
    /// Asks for one answer in JSON.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        operation: &str,
        stream: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let mut ticket = self.link.shared.returns.one();
        self.send(subject(operation, stream), &ticket.subject(), body).await?;
        let answer = timeout_at(self.end, &mut ticket.answers).await;
        let answer = answer.ok().and_then(Result::ok).ok_or(ApiError::Silent)?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(ApiError::Nobody);
        }
        // What went well has no error, and what did not lacks the rest.
        serde_json::from_slice(&answer.payload).map_err(|_| refusal(&answer.payload))
    }

    /// Asks whichever server has the stream for up to `size` messages.
    pub(super) async fn batch(
        &self,
        stream: &str,
        body: &Value,
        size: usize,
    ) -> Result<Batch, ApiError> {
        // One more, for the end.
        let mut ticket = self.link.shared.returns.many(size + 1);
        self.send(subject("DIRECT.GET", stream), &ticket.subject(), body).await?;
        let mut batch = Batch::default();
        loop {
            let answer = timeout_at(self.end, ticket.answers.recv()).await;
            let answer = answer.ok().flatten().ok_or(ApiError::Silent)?;
            match answer.status.map(|status| status.as_u16()) {
                None => batch.add(answer)?,
                Some(404) => return Ok(Batch::default()),
                Some(END_OF_BATCH) => return batch.ended(answer.headers.as_ref()),
                Some(503) => return Err(ApiError::Nobody),
                Some(code) => {
                    let description = answer.description.unwrap_or_default();
                    return Err(ApiError::Refused { code, number: 0, description });
                }
            }
        }
    }

    async fn send(
        &self,
        subject: String,
        reply: &str,
        body: &impl Serialize,
    ) -> Result<(), ApiError> {
        self.link.stamp().ok_or(ApiError::Silent)?;
        let payload = serde_json::to_vec(body).map_err(|_| ApiError::Unreadable)?.into();
        let reply = Some(reply.into());
        let message = OutboundMessage { subject: subject.into(), reply, payload, headers: None };
        self.link.send(message, self.end).await.map_err(|_| ApiError::Silent)
    }
}

impl Batch {
    /// Each says which one it follows, so that one that was lost on the way shows.
    fn add(&mut self, message: Message) -> Result<(), ApiError> {
        let headers = message.headers.as_ref().map(PlaceHeaders::of);
        let place = headers.and_then(PlaceHeaders::place).ok_or(ApiError::Unreadable)?;
        self.follows(place.previous)?;
        self.messages.push((message, place));
        Ok(())
    }

    fn ended(mut self, headers: Option<&HeaderMap>) -> Result<Self, ApiError> {
        let headers = headers.ok_or(ApiError::Unreadable)?;
        self.follows(PlaceHeaders::of(headers).previous())?;
        let number = |name| headers.get(name)?.as_str().parse::<u64>().ok();
        self.more = number(PENDING) != Some(0);
        self.up_to = number(UP_TO);
        Ok(self)
    }

    fn follows(&self, previous: Option<Offset>) -> Result<(), ApiError> {
        let last = self.messages.last().map(|(_, last)| last.offset);
        if previous == last { Ok(()) } else { Err(ApiError::Silent) }
    }
}

/// The subject of a message in a batch.
pub(super) fn subject_of(message: &Message) -> Option<&str> {
    Some(message.headers.as_ref()?.get_last(SUBJECT)?.as_str())
}

fn subject(operation: &str, stream: &str) -> String {
    format!("$JS.API.{operation}.{stream}")
}

fn refusal(payload: &[u8]) -> ApiError {
    #[derive(Deserialize)]
    struct Refused {
        error: Refusal,
    }
    match serde_json::from_slice(payload) {
        Ok(Refused { error: Refusal { code, number, description } }) => {
            ApiError::Refused { code, number, description }
        }
        Err(_) => ApiError::Unreadable,
    }
}

//! The publish command, for HTTP and NATS alike.

mod read;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use broker_core::{
    ChannelName, Data, EventName, Message, MessageId, Timestamp,
    code::Retry,
    message::{self, Options},
    ports::{Accepted, BoxFuture, Bus, PublishError},
    session::Failure,
};
use futures_util::{FutureExt as _, StreamExt as _, future, stream};
use serde::Serialize;
use utoipa::ToSchema;

pub(super) use read::{Command, Draft, PublishBody, data, present, read};

use super::idempotency::{Answer, Key};
use crate::{
    problem::{ErrorBody, Problem},
    telemetry::{ActiveSpan, Publication, Source, Tracing},
};

/// Copies of one request that are on their way to the bus at a time.
const WINDOW: usize = 256;

/// What happens to a message that names no id.
#[derive(Debug)]
pub(super) enum Ids {
    /// It gets a random one.
    Random,
    /// It gets one that depends on the request's key, so that a retry has the same.
    Of(Key),
}

impl Ids {
    fn make(&self, index: usize) -> MessageId {
        match self {
            Self::Random => MessageId::random(rand::random()),
            Self::Of(key) => key.message_id(index),
        }
    }
}

/// A message that was published, at least to some of its targets.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Published)]
pub(super) struct PublishedBody<'a> {
    /// The message's id.
    id: &'a str,
    /// Where it was published.
    channels: Vec<&'a str>,
    /// Where it is stored: its places in the logs of those channels that have history.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stored: Vec<StoredBody<'a>>,
    /// Where it was not, or perhaps was. A retry with the same id goes to all targets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<FailedBody<'a>>,
}

/// A message's place in a channel's log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StoredIn)]
pub(super) struct StoredBody<'a> {
    channel: &'a str,
    /// Subscribe with it to get all that is later.
    position: String,
    /// Whether the message had been published before, under the same id.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

impl<'a> StoredBody<'a> {
    fn of((channel, accepted): &(&'a ChannelName, Accepted)) -> Option<Self> {
        let position = accepted.position?.to_string();
        Some(Self { channel: channel.as_str(), position, duplicate: accepted.duplicate })
    }
}

/// A target that a message was not published to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FailedTarget)]
pub(super) struct FailedBody<'a> {
    channel: &'a str,
    error: ErrorBody<'a>,
}

/// A message of a batch that was not published to any target, or perhaps was.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NotPublished)]
pub(super) struct NotPublishedBody<'a> {
    /// The message's id, where it got as far as having one.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    error: ErrorBody<'a>,
}

/// What became of a message of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Result)]
pub(super) enum ResultBody<'a> {
    Published(PublishedBody<'a>),
    NotPublished(NotPublishedBody<'a>),
}

/// What became of the messages of a batch, in their order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Results)]
pub(super) struct ResultsBody<'a> {
    results: Vec<ResultBody<'a>>,
}

/// What became of a publish.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[schema(as = PublishAnswer)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum AnswerBody<'a> {
    One(PublishedBody<'a>),
    Batch(ResultsBody<'a>),
}

/// What a publish came with, and what carries it out.
#[derive(Debug, Clone)]
pub(super) struct Publisher {
    pub(super) bus: Arc<dyn Bus>,
    /// For whom the log remembers message ids.
    pub(super) name: message::Publisher,
    pub(super) tracing: Arc<Tracing>,
    /// The way that it came.
    pub(super) source: Source,
    /// The publisher's `traceparent`, not checked yet.
    pub(super) trace: Option<Arc<str>>,
    /// When it came.
    pub(super) now: Timestamp,
}

impl Publisher {
    fn parcel(&self, draft: Draft, id: MessageId) -> (Parcel, Option<ActiveSpan>) {
        let mut trace = self.trace.clone();
        let publication = Publication {
            namespace: draft.targets.first().map_or("", ChannelName::namespace),
            id: &id,
            body_size: draft.data.len(),
            targets: draft.targets.len(),
        };
        let span = self.tracing.publish(&mut trace, publication, self.source);
        (Parcel::new(draft, id, trace, self.now), span)
    }
}

/// Publishes, in order.
///
/// # Errors
/// Where the command is a single message, and it reached no target.
pub(super) async fn publish(
    publisher: &Publisher,
    command: Command,
    ids: &Ids,
) -> Result<Answer, Problem> {
    let parcel = |index, draft: Draft| {
        let id = draft.id.clone().unwrap_or_else(|| ids.make(index));
        publisher.parcel(draft, id)
    };
    match command {
        Command::One(draft) => {
            let (parcel, span) = parcel(0, draft);
            let outcomes = hand_over(publisher, parcel.copies().collect()).await;
            let sent = parcel.sent(outcomes);
            finish(span, &sent);
            let sent = sent?;
            Ok(Answer { body: super::json(&sent.body()).into(), definitive: sent.is_definitive() })
        }
        Command::Batch(drafts) => {
            let mut parcels = Vec::with_capacity(drafts.len());
            let mut spans = Vec::with_capacity(drafts.len());
            for (index, draft) in drafts.into_iter().enumerate() {
                match draft {
                    Ok(draft) => {
                        let (parcel, span) = parcel(index, draft);
                        parcels.push(Ok(parcel));
                        spans.push(span);
                    }
                    Err(error) => {
                        parcels.push(Err(error));
                        spans.push(None);
                    }
                }
            }
            let copies = parcels.iter().flatten().flat_map(Parcel::copies).collect();
            let outcomes = hand_over(publisher, copies).await;
            Ok(batch_answer(&parcels, spans, outcomes))
        }
    }
}

fn finish(span: Option<ActiveSpan>, sent: &Result<Sent<'_>, Problem>) {
    if let Some(span) = span {
        span.end(sent.as_ref().err().map(|error| error.code));
    }
}

fn batch_answer(
    parcels: &[Result<Parcel, Problem>],
    spans: Vec<Option<ActiveSpan>>,
    outcomes: Vec<Outcome>,
) -> Answer {
    let mut outcomes = outcomes.into_iter();
    let results: Vec<Result<Sent<'_>, Problem>> = parcels
        .iter()
        .map(|parcel| match parcel {
            Ok(parcel) => parcel.sent(outcomes.by_ref().take(parcel.targets.len())),
            Err(error) => Err(error.clone()),
        })
        .collect();
    for (span, sent) in spans.into_iter().zip(&results) {
        finish(span, sent);
    }
    let body = ResultsBody {
        results: results
            .iter()
            .map(|result| match result {
                Ok(sent) => ResultBody::Published(sent.body()),
                Err(error) => ResultBody::NotPublished(NotPublishedBody {
                    id: error.message(),
                    error: error.body(),
                }),
            })
            .collect(),
    };
    let definitive = results.iter().all(|result| match result {
        Ok(sent) => sent.is_definitive(),
        Err(error) => error.retry == Retry::No,
    });
    Answer { body: super::json(&body).into(), definitive }
}

type Outcome = Result<Accepted, PublishError>;

/// Publishes the copies in their order. Once the bus proves to be away, the rest is refused
/// untried: each could take as long as the bus's deadline.
async fn hand_over(publisher: &Publisher, copies: Vec<Message>) -> Vec<Outcome> {
    let away = Arc::new(AtomicBool::new(false));
    let attempts = copies.into_iter().map(|copy| attempt(publisher, copy, &away));
    stream::iter(attempts).buffered(WINDOW).collect().await
}

fn attempt(
    publisher: &Publisher,
    copy: Message,
    away: &Arc<AtomicBool>,
) -> BoxFuture<'static, Outcome> {
    if away.load(Ordering::Relaxed) {
        return future::ready(Err(PublishError::Unavailable)).boxed();
    }
    let publishing = publisher.bus.publish(copy, publisher.name.clone());
    let away = Arc::clone(away);
    async move {
        let outcome = publishing.await;
        if matches!(outcome, Err(PublishError::Unavailable | PublishError::Unknown)) {
            away.store(true, Ordering::Relaxed);
        }
        outcome
    }
    .boxed()
}

/// A message before it is copied for each of its targets.
#[derive(Debug)]
struct Parcel {
    targets: Arc<[ChannelName]>,
    id: MessageId,
    event: Option<EventName>,
    data: Data,
    time: Timestamp,
    options: Option<Box<Options>>,
}

impl Parcel {
    fn new(draft: Draft, id: MessageId, trace: Option<Arc<str>>, time: Timestamp) -> Self {
        let targets: Arc<[ChannelName]> = draft.targets.into_iter().collect();
        let several = (targets.len() > 1).then(|| Arc::clone(&targets));
        let Draft { event, data, expires, exclude, .. } = draft;
        let options = Options { expires, exclude, targets: several, trace };
        let options = (options != Options::default()).then(|| Box::new(options));
        Self { targets, id, event, data, time, options }
    }

    fn copies(&self) -> impl Iterator<Item = Message> {
        self.targets.iter().map(|channel| Message {
            id: self.id.clone(),
            channel: channel.clone(),
            event: self.event.clone(),
            data: self.data.clone(),
            time: self.time,
            stored: None,
            options: self.options.clone(),
        })
    }

    /// What became of it; an error where it reached no target.
    fn sent(&self, outcomes: impl IntoIterator<Item = Outcome>) -> Result<Sent<'_>, Problem> {
        let mut sent = Sent { id: &self.id, channels: Vec::new(), failed: Vec::new() };
        for (channel, outcome) in self.targets.iter().zip(outcomes) {
            match outcome {
                Ok(accepted) => sent.channels.push((channel, accepted)),
                Err(error) => {
                    let failure = Failure::from(error).about(self.id.clone());
                    sent.failed.push((channel, failure.into()));
                }
            }
        }
        let gravest = sent.failed.iter().map(|(_, error)| error).max_by_key(|error| gravity(error));
        match gravest {
            Some(error) if sent.channels.is_empty() => Err(error.clone()),
            _ => Ok(sent),
        }
    }
}

/// What may have been done weighs more than what was not.
const fn gravity(error: &Problem) -> u8 {
    match error.retry {
        Retry::No => 0,
        Retry::Later => 1,
        Retry::Unknown => 2,
    }
}

struct Sent<'a> {
    id: &'a MessageId,
    channels: Vec<(&'a ChannelName, Accepted)>,
    failed: Vec<(&'a ChannelName, Problem)>,
}

impl Sent<'_> {
    fn is_definitive(&self) -> bool {
        self.failed.iter().all(|(_, error)| error.retry == Retry::No)
    }

    fn body(&self) -> PublishedBody<'_> {
        PublishedBody {
            id: self.id.as_str(),
            channels: self.channels.iter().map(|(channel, _)| channel.as_str()).collect(),
            stored: self.channels.iter().filter_map(StoredBody::of).collect(),
            failed: self
                .failed
                .iter()
                .map(|(channel, error)| FailedBody {
                    channel: channel.as_str(),
                    error: error.body(),
                })
                .collect(),
        }
    }
}

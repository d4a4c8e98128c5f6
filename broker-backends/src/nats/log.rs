use std::{future::ready, sync::Arc};

use broker_core::{
    ChannelName, Message, Namespace, Offset,
    history::{Slice, Top},
    ports::{BoxFuture, Log, LogError},
    retained::Listing,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    api::ApiError,
    link::Link,
    lookup::{Asked, Lookup},
    reading::Reading,
    rounds::Rounds,
    streams::Streams,
    subject::Subjects,
};

/// Channels of which the tops are asked for at once, and the length of their subjects together.
const CHUNK: (usize, usize) = (1024, 65_536);
/// Questions to JetStream that are under way at once.
const QUESTIONS: usize = 64;

/// The logs of the namespaces with history, in their streams.
#[derive(Debug, Clone)]
pub(crate) struct NatsLog {
    lookup: Arc<Lookup>,
    subjects: Arc<Subjects>,
    tops: Arc<Rounds<ChannelName, Result<Top, LogError>>>,
    questions: Arc<Semaphore>,
}

impl NatsLog {
    pub(super) fn new(link: Link, streams: Arc<Streams>, subjects: Arc<Subjects>) -> Self {
        Self {
            lookup: Arc::new(Lookup { link, streams }),
            subjects,
            tops: Arc::default(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
        }
    }

    fn asked(&self, channel: ChannelName) -> Result<Asked, LogError> {
        let stream = self.lookup.streams.of(channel.namespace()).ok_or(LogError::NoHistory)?;
        let subject = self.subjects.of_channel(&channel);
        Ok(Asked { stream: Arc::clone(stream), channel, subject })
    }

    /// Answers in time, with one of the questions that may be under way at once.
    fn within<T: Send + 'static>(
        &self,
        answer: impl FnOnce(Arc<Lookup>, Instant) -> BoxFuture<'static, Result<T, ApiError>>
        + Send
        + 'static,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        let (lookup, questions) = (Arc::clone(&self.lookup), Arc::clone(&self.questions));
        Box::pin(async move {
            let end = Instant::now() + lookup.link.shared.deadline;
            let outcome = timeout_at(end, async {
                let permit = questions.acquire().await;
                let _permit = permit.map_err(|_| ApiError::Silent)?;
                answer(Arc::clone(&lookup), end).await
            });
            let outcome = outcome.await.unwrap_or(Err(ApiError::Silent));
            outcome.map_err(|error| {
                lookup.streams.note(&error);
                tracing::debug!(%error, "the log does not answer");
                LogError::Unavailable
            })
        })
    }
}

impl Log for NatsLog {
    fn top(&self, channel: ChannelName) -> BoxFuture<'static, Result<Top, LogError>> {
        let asked = match self.asked(channel) {
            Ok(asked) => asked,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        let end = Instant::now() + self.lookup.link.shared.deadline;
        let channel = asked.channel.clone();
        let log = self.clone();
        let answer = self.tops.ask(&self.lookup.link, &channel, move || {
            let asked = asked.clone();
            log.within(move |lookup, end| Box::pin(async move { lookup.top(&asked, end).await }))
        });
        Box::pin(async move {
            let answer = timeout_at(end, answer).await;
            answer.ok().and_then(Result::ok).unwrap_or(Err(LogError::Unavailable))
        })
    }

    fn tops(&self, channels: Vec<ChannelName>) -> BoxFuture<'static, Result<Vec<Top>, LogError>> {
        let asked: Result<Vec<Asked>, _> =
            channels.into_iter().map(|channel| self.asked(channel)).collect();
        match asked {
            Err(error) => Box::pin(ready(Err(error))),
            Ok(asked) => self.within(move |lookup, end| {
                Box::pin(async move {
                    let mut tops = Vec::with_capacity(asked.len());
                    for chunk in chunks(&asked) {
                        tops.extend(lookup.tops_of(chunk, end).await?);
                    }
                    Ok(tops)
                })
            }),
        }
    }

    fn read(
        &self,
        channel: ChannelName,
        slice: Slice,
    ) -> BoxFuture<'static, Result<Vec<Message>, LogError>> {
        match self.asked(channel) {
            Err(error) => Box::pin(ready(Err(error))),
            Ok(asked) => self.within(move |lookup, end| {
                Box::pin(async move { Reading::new(&lookup, asked, slice, end)?.run().await })
            }),
        }
    }

    fn channels(&self, namespace: Namespace) -> BoxFuture<'static, Result<Listing, LogError>> {
        let Some(stream) = self.lookup.streams.of(namespace.as_str()).cloned() else {
            return Box::pin(ready(Err(LogError::NoHistory)));
        };
        let subjects = Arc::clone(&self.subjects);
        self.within(move |lookup, end| {
            Box::pin(async move { lookup.channels(&stream, &subjects, end).await })
        })
    }

    fn newest(
        &self,
        channels: Vec<ChannelName>,
        until: Offset,
    ) -> BoxFuture<'static, Result<Vec<Message>, LogError>> {
        let asked: Result<Vec<Asked>, _> =
            channels.into_iter().map(|channel| self.asked(channel)).collect();
        match asked {
            Err(error) => Box::pin(ready(Err(error))),
            Ok(asked) => self.within(move |lookup, end| {
                Box::pin(async move {
                    let mut messages = Vec::with_capacity(asked.len());
                    for chunk in chunks(&asked) {
                        messages.extend(lookup.newest_since(chunk, until, end).await?);
                    }
                    Ok(messages)
                })
            }),
        }
    }
}

/// Parts that one question may ask for.
fn chunks(mut asked: &[Asked]) -> impl Iterator<Item = &[Asked]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |asked: &&Asked| {
            bytes += asked.subject.len();
            bytes <= CHUNK.1
        };
        let count = asked.iter().take(CHUNK.0).take_while(fits).count();
        let (chunk, rest) = asked.split_at(count);
        asked = rest;
        (!chunk.is_empty()).then_some(chunk)
    })
}

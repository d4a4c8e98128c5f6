//! Where the logs of channels end.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use broker_core::{ChannelName, Epoch, Offset, Position, history::Top, position::Fingerprint};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{
    api::{self, Api, ApiError},
    envelope,
    link::Link,
    place::{self, Place},
    streams::{State, Stream, Streams},
};

/// Bytes of messages in one answer.
pub(super) const ANSWER_BYTES: usize = 1 << 20;

const NO_MESSAGE: u32 = 10037;

/// Asks where logs end.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) link: Link,
    pub(super) streams: Arc<Streams>,
}

/// A channel that is asked about.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) stream: Arc<Stream>,
    pub(super) channel: ChannelName,
    pub(super) subject: String,
}

/// The newest messages, by subject.
pub(super) type Found<'a> = HashMap<&'a str, (async_nats::Message, Place)>;

/// The newest message of a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newest {
    pub(super) place: Place,
    fingerprint: Option<Fingerprint>,
}

impl Lookup {
    pub(super) fn api(&self, end: Instant) -> Api<'_> {
        Api { link: &self.link, end }
    }

    /// The channel's newest message, as the stream's leader knows it.
    pub(super) async fn newest(
        &self,
        asked: &Asked,
        end: Instant,
    ) -> Result<Option<Newest>, ApiError> {
        #[derive(Deserialize)]
        struct Found {
            message: Stored,
        }
        #[derive(Deserialize)]
        struct Stored {
            seq: u64,
            time: String,
            #[serde(default)]
            hdrs: String,
        }
        let body = json!({ "last_by_subj": asked.subject });
        match self.api(end).call("STREAM.MSG.GET", &asked.stream.name, &body).await {
            Ok(Found { message: Stored { seq, time, hdrs } }) => {
                let at = place::nanoseconds(&time).ok_or(ApiError::Unreadable)?;
                let place = Place { offset: Offset(seq), previous: None, at };
                let headers = BASE64_STANDARD.decode(hdrs).map_err(|_| ApiError::Unreadable)?;
                let id = envelope::id_in_log(&asked.channel, &headers, place);
                Ok(Some(Newest { place, fingerprint: id.ok().as_ref().map(Fingerprint::of) }))
            }
            Err(ApiError::Refused { number: NO_MESSAGE, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What `look` finds in the one life of the stream that is there afterwards.
    pub(super) async fn in_one_epoch<T, F: Future<Output = Result<T, ApiError>>>(
        &self,
        stream: &Arc<Stream>,
        end: Instant,
        look: impl Fn() -> F,
    ) -> Result<(T, State), ApiError> {
        loop {
            let before = stream.epoch();
            let found = look().await?;
            let state = self.streams.state(stream, end).await?;
            if before == Some(state.epoch) {
                return Ok((found, state));
            }
        }
    }

    pub(super) async fn top(&self, asked: &Asked, end: Instant) -> Result<Top, ApiError> {
        let look = || self.newest(asked, end);
        let (newest, state) = self.in_one_epoch(&asked.stream, end, look).await?;
        Ok(top(state.epoch, newest, state.end))
    }

    /// The tops of channels that one question may ask for.
    pub(super) async fn tops_of(
        &self,
        asked: &[Asked],
        end: Instant,
    ) -> Result<Vec<Top>, ApiError> {
        let Some(Asked { stream, .. }) = asked.first() else { return Ok(Vec::new()) };
        let look = || self.newest_of(stream, asked, end);
        let ((newest, up_to), state) = self.in_one_epoch(stream, end, look).await?;
        let end = up_to.map_or(state.end, Offset);
        Ok(newest.into_iter().map(|newest| top(state.epoch, newest, end)).collect())
    }

    /// The channels' newest messages, in their order, as one server of the stream has them; and how
    /// far it had got.
    async fn newest_of(
        &self,
        stream: &Stream,
        asked: &[Asked],
        end: Instant,
    ) -> Result<(Vec<Option<Newest>>, Option<u64>), ApiError> {
        let (found, up_to) = self.newest_messages(stream, asked, end).await?;
        let newest = asked.iter().map(|asked| {
            let (message, place) = found.get(asked.subject.as_str())?;
            Some(Newest::of(&asked.channel, message, *place))
        });
        Ok((newest.collect(), up_to))
    }

    /// The same as whole messages, by subject.
    pub(super) async fn newest_messages<'a>(
        &self,
        stream: &Stream,
        asked: &'a [Asked],
        end: Instant,
    ) -> Result<(Found<'a>, Option<u64>), ApiError> {
        let mut missing: HashSet<&str> = asked.iter().map(|it| it.subject.as_str()).collect();
        let (mut found, mut up_to) = (HashMap::new(), None);
        loop {
            let size = missing.len();
            let subjects: Vec<&str> = missing.iter().copied().collect();
            let body = json!({
                "multi_last": subjects,
                "batch": size,
                "max_bytes": ANSWER_BYTES,
                "up_to_seq": up_to.unwrap_or_default(),
            });
            let batch = self.api(end).batch(&stream.name, &body, size).await?;
            up_to = up_to.or(batch.up_to);
            for (message, place) in batch.messages {
                let subject = api::subject_of(&message).and_then(|subject| missing.take(subject));
                found.insert(subject.ok_or(ApiError::Unreadable)?, (message, place));
            }
            if !batch.more || missing.is_empty() {
                return Ok((found, up_to));
            }
        }
    }
}

impl Newest {
    fn of(channel: &ChannelName, message: &async_nats::Message, place: Place) -> Self {
        let id = envelope::id_in_map(channel, message.headers.as_ref(), place);
        Self { place, fingerprint: id.ok().as_ref().map(Fingerprint::of) }
    }
}

fn top(epoch: Epoch, newest: Option<Newest>, end: Offset) -> Top {
    let newest = newest.map(|Newest { place, fingerprint }| Position {
        epoch,
        offset: place.offset,
        fingerprint,
    });
    Top { epoch, newest, end: newest.map_or(end, |newest| end.max(newest.offset)) }
}

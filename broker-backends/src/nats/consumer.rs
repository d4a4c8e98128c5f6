//! The stream of users' messages, as all gateways together read it: each message is given to one
//! of them, and again to one, until it is acknowledged.
//!
//! JetStream keeps how far they are, in a durable consumer. Its name has the stream's epoch in it,
//! so that what it gives out is of that stream, and of none of the same name before or after it.

use std::{sync::Arc, time::Duration};

use async_nats::{Message, Subject, Subscriber, message::OutboundMessage};
use broker_core::{Epoch, Offset, history::Queue, ports::Queued};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    select,
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    api::{Api, ApiError},
    envelope,
    link::{Home, Link},
    place::Place,
    streams::{Stream, Streams},
    subject::Subjects,
};
use crate::queue;

/// Messages that are asked for, and handled, at once.
const BATCH: usize = 500;
/// How long messages are gathered after the first one.
const GATHER: Duration = Duration::from_millis(50);
/// How long the server keeps a question for messages; after [`SLACK`] more it counts as lost.
const WAIT: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(1);
/// A message that is not acknowledged for so long is given to another gateway.
const ACKNOWLEDGE_IN: Duration = Duration::from_secs(10);
/// Messages that all gateways together may have, and not have acknowledged.
const MOST_GIVEN: usize = 10 * BATCH;

/// What the consumers' names begin with.
const NAME: &str = "queue-";

const NO_CONSUMER: u32 = 10014;
/// The question's time is over: nothing came.
const TIME_OVER: u16 = 408;

/// This gateway's end of it.
#[derive(Debug)]
pub(crate) struct Consumer {
    link: Link,
    streams: Arc<Streams>,
    stream: Arc<Stream>,
    subjects: Arc<Subjects>,
    queue: Queue,
    inbox: Subject,
    arrivals: Subscriber,
    home: watch::Receiver<Option<Home>>,
    asked: Asked,
    /// The connection is another one since the stream was looked at.
    moved: bool,
}

/// A question for messages that is under way.
#[derive(Debug)]
struct Asked {
    /// Whose consumer it was put to.
    epoch: Option<Epoch>,
    /// How many may still come.
    left: usize,
    until: Instant,
}

/// A message of the stream.
#[derive(Debug)]
pub(crate) struct Given {
    /// `None`: it is for no user's queue.
    pub(crate) queued: Option<Queued>,
    /// How many were not given to any gateway yet.
    pub(crate) waiting: u64,
    acknowledge_to: Subject,
}

/// What a message's reply subject says.
#[derive(Debug, PartialEq, Eq)]
struct Delivery<'a> {
    stream: &'a str,
    consumer: &'a str,
    place: Place,
    waiting: u64,
}

impl Consumer {
    /// `None`: users' messages are not stored.
    pub(super) async fn open(
        (link, inbox): (&Link, String),
        streams: &Arc<Streams>,
        subjects: &Arc<Subjects>,
        queue: &Queue,
    ) -> Result<Option<Self>, async_nats::SubscribeError> {
        let stream = streams.of("user").map(Arc::clone);
        let (Some(stream), Some(client)) = (stream, link.client()) else { return Ok(None) };
        let inbox = Subject::from(inbox);
        Ok(Some(Self {
            arrivals: client.subscribe(inbox.clone()).await?,
            inbox,
            home: link.shared.home.subscribe(),
            link: link.clone(),
            streams: Arc::clone(streams),
            stream,
            subjects: Arc::clone(subjects),
            queue: queue.clone(),
            asked: Asked { epoch: None, left: 0, until: Instant::now() },
            moved: false,
        }))
    }

    /// Which life of the stream it is, if that is known.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.stream.epoch()
    }

    /// Looks whether the stream still has what was given in this epoch, up to `least`.
    pub(crate) async fn confirm(&self, epoch: Epoch, least: Offset) -> Result<(), ApiError> {
        self.stream.note_given(epoch, least);
        let end = Instant::now() + self.link.shared.deadline;
        self.streams.state(&self.stream, end).await.map(drop)
    }

    /// Up to where all messages were acknowledged; `None`: there is no consumer.
    pub(crate) async fn floor(&self, epoch: Epoch) -> Result<Option<Offset>, ApiError> {
        #[derive(Deserialize)]
        struct Info {
            ack_floor: Floor,
        }
        #[derive(Deserialize)]
        struct Floor {
            stream_seq: u64,
        }
        match self.call::<Info>("CONSUMER.INFO", epoch, &json!({})).await {
            Ok(info) => Ok(Some(Offset(info.ack_floor.stream_seq))),
            Err(ApiError::Refused { number: NO_CONSUMER, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the consumer (anew), to give out what comes after this message. Those of earlier
    /// epochs go: a gateway that has not heard of this one must not feed from them.
    pub(crate) async fn start_after(&self, epoch: Epoch, offset: Offset) -> Result<(), ApiError> {
        #[derive(Deserialize)]
        struct Names {
            #[serde(default)]
            consumers: Option<Vec<String>>,
        }
        let known: Names = self.ask_api("CONSUMER.NAMES", &self.stream.name, &json!({})).await?;
        for name in known.consumers.into_iter().flatten().filter(|name| name.starts_with(NAME)) {
            let consumer = format!("{}.{name}", self.stream.name);
            match self.ask_api::<Value>("CONSUMER.DELETE", &consumer, &json!({})).await {
                Ok(_) | Err(ApiError::Refused { number: NO_CONSUMER, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let config = json!({
            "durable_name": name(epoch),
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": offset.0 + 1,
            "ack_policy": "explicit",
            "ack_wait": nanoseconds(ACKNOWLEDGE_IN),
            "max_ack_pending": MOST_GIVEN,
            "replay_policy": "instant",
            // All that is needed is who it is for, and when it expires.
            "headers_only": true,
        });
        let request =
            json!({ "stream_name": self.stream.name, "config": config, "action": "create" });
        self.call::<Value>("CONSUMER.CREATE", epoch, &request).await.map(drop)
    }

    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        operation: &str,
        epoch: Epoch,
        body: &Value,
    ) -> Result<T, ApiError> {
        let consumer = format!("{}.{}", self.stream.name, name(epoch));
        self.ask_api(operation, &consumer, body).await
    }

    async fn ask_api<T: serde::de::DeserializeOwned>(
        &self,
        operation: &str,
        about: &str,
        body: &Value,
    ) -> Result<T, ApiError> {
        let api = Api { link: &self.link, end: Instant::now() + self.link.shared.deadline };
        let answer = api.call(operation, about, body).await;
        answer.inspect_err(|error| self.streams.note(error))
    }

    /// The next messages; none, if none comes until `end`.
    pub(crate) async fn next(&mut self, end: Instant) -> Result<Vec<Given>, ApiError> {
        if self.moved {
            let until = Instant::now() + self.link.shared.deadline;
            self.streams.state(&self.stream, until).await?;
            self.moved = false;
        }
        let epoch = self.epoch().ok_or(ApiError::Silent)?;
        let Asked { epoch: of, left, until } = self.asked;
        if of != Some(epoch) || left == 0 || Instant::now() >= until {
            self.ask(epoch).await?;
        }
        let mut end = end.min(self.asked.until);
        let mut given = Vec::new();
        while given.len() < BATCH {
            let arrived = select! {
                arrived = timeout_at(end, self.arrivals.next()) => arrived,
                // The question may be lost with the connection.
                _ = self.home.changed() => {
                    (self.asked.left, self.moved) = (0, true);
                    break;
                }
            };
            let Ok(arrived) = arrived else { break };
            let message = arrived.ok_or(ApiError::Silent)?;
            if let Some(status) = message.status {
                self.asked.left = 0;
                if status.as_u16() == TIME_OVER || !given.is_empty() {
                    break;
                }
                // There is no consumer any more, or it has moved.
                self.streams.note(&ApiError::Nobody);
                return Err(ApiError::Nobody);
            }
            if given.is_empty() {
                end = end.min(Instant::now() + GATHER);
            }
            given.extend(self.read(&message, epoch));
            self.asked.left = self.asked.left.saturating_sub(1);
            if self.asked.left == 0 {
                break;
            }
        }
        Ok(given)
    }

    async fn ask(&mut self, epoch: Epoch) -> Result<(), ApiError> {
        let subject =
            format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream.name, name(epoch)).into();
        let question = json!({ "batch": BATCH, "expires": nanoseconds(WAIT) });
        let message = OutboundMessage {
            subject,
            reply: Some(self.inbox.clone()),
            payload: question.to_string().into(),
            headers: None,
        };
        self.link.stamp().ok_or(ApiError::Silent)?;
        let end = Instant::now() + self.link.shared.deadline;
        self.link.send(message, end).await.map_err(|_| ApiError::Silent)?;
        let until = Instant::now() + WAIT + SLACK;
        self.asked = Asked { epoch: Some(epoch), left: BATCH, until };
        Ok(())
    }

    /// `None`: it is of another stream or consumer.
    fn read(&self, message: &Message, epoch: Epoch) -> Option<Given> {
        let acknowledge_to = message.reply.clone()?;
        let Delivery { stream, consumer, place, waiting } = delivery(&acknowledge_to)?;
        if stream != self.stream.name || consumer != name(epoch) {
            return None;
        }
        let user = self.subjects.published(&message.subject).and_then(|channel| channel.user());
        let queued = user.and_then(|user| {
            // One that cannot be read cannot be delivered either.
            let own = envelope::expires_in_log(message.headers.as_ref(), place).ok()?;
            let expires = queue::expiry(&self.queue, own, place.time());
            Some(Queued { user, epoch, offset: place.offset, expires })
        });
        Some(Given { queued, waiting, acknowledge_to })
    }

    /// Says that the messages need not be given again. One that is lost on the way comes again.
    pub(crate) async fn acknowledge(&self, given: Vec<Given>) -> Result<(), ApiError> {
        let end = Instant::now() + self.link.shared.deadline;
        for Given { acknowledge_to: subject, .. } in given {
            let message =
                OutboundMessage { subject, reply: None, payload: Bytes::new(), headers: None };
            self.link.send(message, end).await.map_err(|_| ApiError::Silent)?;
        }
        Ok(())
    }
}

fn name(epoch: Epoch) -> String {
    format!("{NAME}{:x}", epoch.0)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<delivery>.<time>.<waiting>`; newer
/// servers put the domain and a hash of the account before the stream, and perhaps more at the end.
fn delivery(reply: &str) -> Option<Delivery<'_>> {
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let tokens = if tokens.len() == 7 { &tokens[..] } else { tokens.get(2..9)? };
    let number = |index: usize| tokens[index].parse::<u64>().ok();
    let place = Place { offset: Offset(number(3)?), previous: None, at: number(5)? };
    Some(Delivery { stream: tokens[0], consumer: tokens[1], place, waiting: number(6)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_subjects_of_old_and_new_servers_are_read() {
        let place = Place { offset: Offset(7), previous: None, at: 1_795_258_828_591_801_760 };
        let known = Delivery { stream: "fanfare=user", consumer: "queue-1", place, waiting: 9 };
        let tail = "fanfare=user.queue-1.1.7.3.1795258828591801760.9";
        for reply in [
            format!("$JS.ACK.{tail}"),
            format!("$JS.ACK._.aHash.{tail}"),
            format!("$JS.ACK.domain.aHash.{tail}.token"),
        ] {
            assert_eq!(delivery(&reply).as_ref(), Some(&known), "{reply}");
        }
        for reply in ["", "$JS.ACK", "$JS.ACK.a.b.c.d.e.f.g", "$JS.ACK.a.b.1.2.3.4.5.6"] {
            assert_eq!(delivery(reply), None, "{reply}");
        }
    }
}

//! Publishes that JetStream stores, in order.
//!
//! JetStream acknowledges each message for itself: a change of its leader may swallow one and
//! store the next. So one publisher has one message at a time on its way to a channel; the next
//! goes when that is stored, and when it is not, those that wait behind it are refused. Publishers
//! and channels do not wait for each other.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use async_nats::{Message as Answer, StatusCode, message::OutboundMessage};
use broker_core::{
    ChannelName, Epoch, Message, MessageId, Offset, Position,
    message::Publisher,
    ports::{Accepted, PublishError},
    position::Fingerprint,
};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    api::Refusal,
    envelope,
    link::{Link, NotSent},
    place::dedupe_id,
    streams::{Stream, Streams},
    subject::Subjects,
};

/// Messages that wait in one lane.
const LANE: usize = 1024;

const STORE_FAILED: u32 = 10077;
const NO_ROOM: [u32; 4] = [10023, 10028, 10047, STORE_FAILED];
const TOO_LARGE: u32 = 10054;
const TOO_MANY: u16 = 429;

type Outcome = Result<Accepted, PublishError>;

/// All publishes that wait to be stored.
#[derive(Debug)]
pub(super) struct Lanes {
    link: Link,
    streams: Arc<Streams>,
    subjects: Arc<Subjects>,
    room: Arc<Semaphore>,
    /// Who waits behind the one that is on its way; no entry: none is.
    waiting: Mutex<HashMap<Lane, VecDeque<Publish>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Lane {
    publisher: Publisher,
    channel: ChannelName,
}

/// A message that is to be stored, and who waits for its fate.
#[derive(Debug)]
struct Publish {
    message: Message,
    called: Instant,
    done: oneshot::Sender<Outcome>,
    _room: OwnedSemaphorePermit,
}

/// JetStream's answer to a publish.
#[derive(Debug, Deserialize)]
pub(super) struct Ack {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<Refusal>,
}

impl Lanes {
    /// `capacity`: publishes that may wait, in all lanes together.
    pub(super) fn new(
        link: Link,
        streams: Arc<Streams>,
        subjects: Arc<Subjects>,
        capacity: usize,
    ) -> Self {
        let room = Arc::new(Semaphore::new(capacity));
        Self { link, streams, subjects, room, waiting: Mutex::default() }
    }

    /// Takes the message; its fate follows, and what is refused at once is not published.
    pub(super) fn publish(
        self: &Arc<Self>,
        stream: &Arc<Stream>,
        message: Message,
        publisher: Publisher,
    ) -> Result<oneshot::Receiver<Outcome>, PublishError> {
        let room = Arc::clone(&self.room).try_acquire_owned();
        let room = room.map_err(|_| PublishError::Overloaded)?;
        let lane = Lane { publisher, channel: message.channel.clone() };
        let (done, outcome) = oneshot::channel();
        let publish = Publish { message, called: Instant::now(), done, _room: room };
        let mut waiting = self.waiting.lock();
        match waiting.get_mut(&lane) {
            Some(behind) if behind.len() >= LANE => return Err(PublishError::Overloaded),
            Some(behind) => behind.push_back(publish),
            None => {
                waiting.insert(lane.clone(), VecDeque::new());
                let run = Arc::clone(self).run(Arc::clone(stream), lane, publish);
                self.link.shared.tasks.spawn(run);
            }
        }
        Ok(outcome)
    }

    async fn run(self: Arc<Self>, stream: Arc<Stream>, lane: Lane, first: Publish) {
        let mut next = Some(first);
        while let Some(Publish { message, called, done, _room }) = next.take() {
            let outcome = self.store(&stream, message, &lane.publisher, called).await;
            match outcome {
                // What is too large is not tried again: nothing can overtake it.
                Ok(_) | Err(PublishError::TooLarge) => {
                    self.settle(done, outcome);
                    next = self.next(&lane);
                }
                Err(_) => self.refuse(&lane, done, outcome),
            }
        }
    }

    fn next(&self, lane: &Lane) -> Option<Publish> {
        let mut waiting = self.waiting.lock();
        let next = waiting.get_mut(lane).and_then(VecDeque::pop_front);
        if next.is_none() {
            waiting.remove(lane);
        }
        next
    }

    /// Tells of a failure, and refuses all that was called before it was told.
    fn refuse(&self, lane: &Lane, done: oneshot::Sender<Outcome>, outcome: Outcome) {
        let mut waiting = self.waiting.lock();
        self.settle(done, outcome);
        for behind in waiting.remove(lane).into_iter().flatten() {
            self.settle(behind.done, Err(PublishError::Unavailable));
        }
    }

    fn settle(&self, done: oneshot::Sender<Outcome>, outcome: Outcome) {
        self.link.shared.stats.note_publish(outcome.map(drop));
        // Nobody may wait any more: the publisher's connection may be gone.
        done.send(outcome).unwrap_or_else(drop);
    }

    async fn store(
        &self,
        stream: &Arc<Stream>,
        message: Message,
        publisher: &Publisher,
        called: Instant,
    ) -> Outcome {
        let deadline = self.link.shared.deadline;
        // Later than this, the server would not be left the time to answer.
        let (hand_over, end) = (called + deadline / 2, called + deadline);
        let permit = timeout_at(hand_over, stream.window.acquire()).await;
        let _permit = permit.ok().and_then(Result::ok).ok_or(PublishError::Unavailable)?;
        let epoch = self.link.stamp().and(stream.epoch()).ok_or(PublishError::Unavailable)?;
        let known = (epoch, stream.given());
        let mut ticket = self.link.shared.returns.one();
        let outbound = self.encode(&message, publisher, ticket.subject());
        self.link.send(outbound, hand_over).await.map_err(|error| match error {
            NotSent::TooLarge => PublishError::TooLarge,
            NotSent::Unavailable => PublishError::Unavailable,
        })?;
        let Ok(answer) = timeout_at(end, &mut ticket.answers).await else {
            self.link.doubt();
            return Err(PublishError::Unknown);
        };
        let answer = answer.map_err(|_| PublishError::Unknown)?;
        let ack = self.read(stream, &answer)?;
        self.accepted(stream, &message.id, (ack, known), end).await
    }

    fn encode(&self, message: &Message, publisher: &Publisher, reply: String) -> OutboundMessage {
        let (mut headers, payload) = envelope::encode(message);
        let id = dedupe_id(publisher, &message.id, &message.channel);
        headers.insert(envelope::MESSAGE_ID, id);
        let subject = self.subjects.of_channel(&message.channel).into();
        OutboundMessage { subject, reply: Some(reply.into()), payload, headers: Some(headers) }
    }

    fn read(&self, stream: &Stream, answer: &Answer) -> Result<Ack, PublishError> {
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            // Nobody stores it: the stream is gone.
            self.streams.doubt();
            return Err(PublishError::Unavailable);
        }
        read_ack(&stream.name, &answer.payload)
    }

    /// Where it is stored. When it was published, an offset was `given` in the epoch `before`: if
    /// its own is not larger, it was stored earlier, or the stream was set back, or is another one.
    async fn accepted(
        &self,
        stream: &Arc<Stream>,
        id: &MessageId,
        (ack, (before, given)): (Ack, (Epoch, u64)),
        end: Instant,
    ) -> Outcome {
        if ack.seq <= given {
            if !ack.duplicate {
                stream.note_given_again(before);
            }
            self.streams.state(stream, end).await.map_err(|_| PublishError::Unknown)?;
        }
        let offset = Offset(ack.seq);
        let epoch = stream.epoch().ok_or(PublishError::Unknown)?;
        stream.note_given(epoch, offset);
        let fingerprint = Some(Fingerprint::of(id));
        let position = Some(Position { epoch, offset, fingerprint });
        Ok(Accepted { position, duplicate: ack.duplicate })
    }
}

/// What JetStream says of a message for a stream.
pub(super) fn read_ack(stream: &str, answer: &[u8]) -> Result<Ack, PublishError> {
    match serde_json::from_slice(answer) {
        Ok(Ack { error: Some(refusal), .. }) => Err(refused(stream, &refusal)),
        Ok(ack) if ack.seq > 0 => Ok(ack),
        Ok(_) | Err(_) => Err(PublishError::Unknown),
    }
}

/// Nothing was stored.
fn refused(stream: &str, refusal: &Refusal) -> PublishError {
    match refusal.number {
        number if NO_ROOM.contains(&number) => PublishError::Full,
        TOO_LARGE => PublishError::TooLarge,
        _ if refusal.code == TOO_MANY => PublishError::Overloaded,
        _ => {
            tracing::debug!(stream, reason = refusal.description, "JetStream refuses a message");
            PublishError::Unavailable
        }
    }
}

use std::{future::ready, sync::Arc, time::Duration};

use async_nats::{StatusCode, message::OutboundMessage};
use broker_core::{
    Data, Interest, Message, NodeMark, message,
    ports::{Accepted, BoxFuture, Bus, BusError, PublishError, RequestError, ServiceRequest},
};
use bytes::Bytes;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::DropGuard;

use super::{
    envelope,
    lanes::Lanes,
    link::{Link, NotSent},
    orders::Orders,
    publisher::{self, Publisher},
    streams::Streams,
    subject::Subjects,
};

/// Most answers that wait to be collected.
const ANSWERS: usize = 1024;

/// A bus between the gateways of a cluster.
#[derive(Debug)]
pub(crate) struct NatsBus {
    link: Link,
    subjects: Arc<Subjects>,
    publisher: Publisher,
    streams: Arc<Streams>,
    lanes: Arc<Lanes>,
    orders: Arc<Orders>,
    _ends_tasks: DropGuard,
}

impl NatsBus {
    pub(super) fn new(
        link: Link,
        subjects: Arc<Subjects>,
        streams: Arc<Streams>,
        orders: Arc<Orders>,
        capacity: usize,
    ) -> Self {
        let publisher = publisher::start(&link, capacity);
        let lanes = (link.clone(), Arc::clone(&streams), Arc::clone(&subjects));
        let lanes = Arc::new(Lanes::new(lanes.0, lanes.1, lanes.2, capacity));
        let guard = link.shared.cancelled.clone().drop_guard();
        Self { link, subjects, publisher, streams, lanes, orders, _ends_tasks: guard }
    }

    /// Queues the message, so that the order of the calls is the order on the wire.
    fn queue(&self, message: Message, by: message::Publisher) -> Result<Fate, PublishError> {
        if !self.link.takes() {
            return Err(PublishError::Unavailable);
        }
        if let Some(stream) = self.streams.of(message.channel.namespace()) {
            return self.lanes.publish(stream, message, by).map(Fate::Stored);
        }
        let (headers, payload) = envelope::encode(&message);
        let subject = self.subjects.of_channel(&message.channel).into();
        let headers = Some(headers);
        let message = OutboundMessage { subject, reply: None, payload, headers };
        self.publisher.publish(message).map(Fate::Sent)
    }
}

/// Where the fate of a publish is told.
enum Fate {
    /// By the barrier behind it.
    Sent(oneshot::Receiver<Result<(), PublishError>>),
    /// By JetStream.
    Stored(oneshot::Receiver<Result<Accepted, PublishError>>),
}

impl Fate {
    async fn told(self) -> Result<Accepted, PublishError> {
        match self {
            Self::Sent(outcome) => {
                let outcome = outcome.await.unwrap_or(Err(PublishError::Unknown));
                outcome.map(|()| Accepted::default())
            }
            Self::Stored(outcome) => outcome.await.unwrap_or(Err(PublishError::Unknown)),
        }
    }
}

impl Bus for NatsBus {
    fn publish(
        &self,
        message: Message,
        publisher: message::Publisher,
    ) -> BoxFuture<'static, Result<Accepted, PublishError>> {
        match self.queue(message, publisher) {
            Ok(fate) => Box::pin(fate.told()),
            Err(error) => {
                self.link.shared.stats.note_publish(Err(error));
                Box::pin(ready(Err(error)))
            }
        }
    }

    fn subscribe(&self, interest: Interest) -> BoxFuture<'static, Result<(), BusError>> {
        // Without the epoch, nobody could say what arrives.
        let stream = self.streams.of(interest.namespace());
        if !self.link.is_connected() || stream.is_some_and(|stream| stream.epoch().is_none()) {
            return Box::pin(ready(Err(BusError::Unavailable)));
        }
        let subscribed = self.orders.subscribe(interest);
        Box::pin(async { subscribed.await.unwrap_or(Err(BusError::Unavailable)) })
    }

    fn unsubscribe(&self, interest: &Interest) {
        self.orders.unsubscribe(interest.clone());
    }

    fn request(&self, request: ServiceRequest) -> BoxFuture<'static, Result<Data, RequestError>> {
        let (link, subject) = (self.link.clone(), self.subjects.of_request(&request.address));
        Box::pin(async move { ask_service(&link, subject, &request).await })
    }

    fn ask_gateways(
        &self,
        question: Bytes,
        expected: usize,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, BusError>> {
        let (link, subject) = (self.link.clone(), self.subjects.of_ask().to_owned());
        Box::pin(async move {
            let end = Instant::now() + wait;
            let stamp = link.stamp().ok_or(BusError::Unavailable)?;
            let mut ticket = link.shared.returns.many(expected.clamp(1, ANSWERS));
            let message = OutboundMessage {
                subject: subject.into(),
                reply: Some(ticket.subject().into()),
                payload: question,
                headers: None,
            };
            let hand_over = Instant::now() + link.shared.deadline / 2;
            link.send(message, hand_over).await.map_err(|_| BusError::Unavailable)?;
            let mut answers = Vec::new();
            while answers.len() < expected {
                match timeout_at(end, ticket.answers.recv()).await {
                    // That nobody is there to answer is none.
                    Ok(Some(answer)) if answer.status.is_some() => {}
                    Ok(Some(answer)) => answers.push(answer.payload),
                    Ok(None) if link.stamp() != Some(stamp) => return Err(BusError::Unavailable),
                    Ok(None) | Err(_) => break,
                }
            }
            Ok(answers)
        })
    }

    fn ask_gateway(
        &self,
        node: NodeMark,
        question: Bytes,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Option<Bytes>, BusError>> {
        let (link, subject) = (self.link.clone(), self.subjects.of_gateway(node));
        Box::pin(async move {
            link.stamp().ok_or(BusError::Unavailable)?;
            let mut ticket = link.shared.returns.one();
            let reply = Some(ticket.subject().into());
            let message = OutboundMessage {
                subject: subject.into(),
                reply,
                payload: question,
                headers: None,
            };
            let hand_over = Instant::now() + link.shared.deadline / 2;
            link.send(message, hand_over).await.map_err(|error| match error {
                NotSent::Unavailable => BusError::Unavailable,
                NotSent::TooLarge => BusError::TooLarge,
            })?;
            let answer = timeout(wait, &mut ticket.answers).await;
            let answer = answer.ok().and_then(Result::ok).ok_or(BusError::Timeout)?;
            let nobody = answer.status == Some(StatusCode::NO_RESPONDERS);
            Ok((!nobody).then_some(answer.payload))
        })
    }

    fn is_connected(&self) -> bool {
        self.link.is_connected()
    }
}

async fn ask_service(
    link: &Link,
    subject: String,
    request: &ServiceRequest,
) -> Result<Data, RequestError> {
    link.stamp().ok_or(RequestError::Unavailable)?;
    let (headers, payload) = envelope::encode_request(request);
    let mut ticket = link.shared.returns.one();
    let reply = Some(ticket.subject().into());
    let message =
        OutboundMessage { subject: subject.into(), reply, payload, headers: Some(headers) };
    let hand_over = Instant::now() + link.shared.deadline / 2;
    link.send(message, hand_over).await.map_err(|error| match error {
        NotSent::Unavailable => RequestError::Unavailable,
        NotSent::TooLarge => RequestError::Refused {
            code: None,
            message: "the request is larger than the bus takes".into(),
        },
    })?;
    // Lost on the way, or late: either way the service may have done it.
    let answer = timeout(request.timeout, &mut ticket.answers).await;
    let answer = answer.ok().and_then(Result::ok).ok_or(RequestError::Timeout)?;
    if answer.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(RequestError::NoService);
    }
    envelope::decode_answer(answer.headers.as_ref(), answer.payload)
}

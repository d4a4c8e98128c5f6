use std::{
    collections::HashSet,
    future::ready,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use broker_core::{
    ChannelName, ChannelPattern, Data, Interest, Message, NodeMark,
    message::Publisher,
    ports::{
        Accepted, BoxFuture, Bus, BusError, BusEvent, PublishError, RequestError, ServiceRequest,
    },
};
use bytes::Bytes;
use parking_lot::RwLock;
use tokio::{
    sync::{mpsc, oneshot},
    time::{timeout, timeout_at},
};

use super::MemoryLog;
use crate::{
    arrivals::{BusEvents, Handled, Inbound, worker_of},
    inbox::{Inbox, Question, QuestionKind, Reply},
    options::EmbeddedOptions,
    stats::{BusStats, add},
};

/// Questions that wait to be taken.
const INBOX_CAPACITY: usize = 1024;

/// A bus within one process.
#[derive(Debug)]
pub(crate) struct MemoryBus {
    interests: RwLock<Interests>,
    workers: Vec<mpsc::Sender<Inbound>>,
    log: Arc<MemoryLog>,
    inbox: mpsc::Sender<Question>,
    deadline: Duration,
    stats: Arc<BusStats>,
}

#[derive(Debug, Default)]
struct Interests {
    channels: HashSet<ChannelName>,
    /// Few, so that a walk over all of them is cheap.
    patterns: Vec<ChannelPattern>,
}

pub(crate) fn bus(
    options: &EmbeddedOptions,
    log: Arc<MemoryLog>,
    stats: Arc<BusStats>,
) -> (MemoryBus, Vec<BusEvents>, Inbox) {
    let (workers, queues): (Vec<_>, Vec<_>) =
        (0..options.workers.max(1)).map(|_| mpsc::channel(options.queue_capacity)).unzip();
    let (inbox, questions) = mpsc::channel(INBOX_CAPACITY);
    stats.connected.store(true, Ordering::Relaxed);
    let bus = MemoryBus {
        interests: RwLock::default(),
        workers,
        log,
        inbox,
        deadline: options.deadline,
        stats,
    };
    (bus, queues.into_iter().map(BusEvents::new).collect(), Inbox::new(questions))
}

impl Interests {
    fn matching(&self, channel: &ChannelName) -> Vec<Interest> {
        let exact = self.channels.get(channel).cloned().map(Interest::Channel);
        let wild = self.patterns.iter().filter(|pattern| pattern.matches(channel));
        exact.into_iter().chain(wild.cloned().map(Interest::Pattern)).collect()
    }

    fn len(&self) -> u64 {
        (self.channels.len() + self.patterns.len()) as u64
    }
}

impl MemoryBus {
    /// Hands the message to the workers; what is returned ends when they have handled it.
    fn hand_over(&self, message: &Message) -> Result<Option<oneshot::Receiver<()>>, PublishError> {
        let interests = self.interests.read().matching(&message.channel);
        if interests.is_empty() {
            return Ok(None);
        }
        // Room for all copies first: a refused message must not arrive by one way only.
        let permits: Vec<_> = interests
            .iter()
            .map(|via| self.workers[worker_of(via, self.workers.len())].try_reserve())
            .collect::<Result<_, _>>()
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(()) => PublishError::Overloaded,
                mpsc::error::TrySendError::Closed(()) => PublishError::Unavailable,
            })?;
        let (handled, done) = Handled::new();
        add(&self.stats.received, permits.len() as u64);
        for (permit, via) in permits.into_iter().zip(interests) {
            let event = BusEvent::Message { via, message: message.clone() };
            permit.send(Inbound { event, handled: Some(handled.clone()) });
        }
        Ok(Some(done))
    }
}

impl Bus for MemoryBus {
    fn publish(
        &self,
        message: Message,
        publisher: Publisher,
    ) -> BoxFuture<'static, Result<Accepted, PublishError>> {
        let (stats, deadline) = (Arc::clone(&self.stats), self.deadline);
        let handed_over = if self.log.has(&message.channel) {
            self.log.append(message, publisher, |message| self.hand_over(message))
        } else {
            self.hand_over(&message).map(|done| (Accepted::default(), done))
        };
        Box::pin(async move {
            let outcome = match handed_over {
                // What is stored is accepted, however long its delivery takes.
                Ok((accepted, None)) => Ok(accepted),
                // Nothing is ever sent: that the sender was dropped is the sign.
                Ok((accepted, Some(done))) => match timeout(deadline, done).await {
                    Err(_) if accepted.position.is_none() => Err(PublishError::Unknown),
                    _ => Ok(accepted),
                },
                Err(error) => Err(error),
            };
            stats.note_publish(outcome.map(drop));
            outcome
        })
    }

    fn subscribe(&self, interest: Interest) -> BoxFuture<'static, Result<(), BusError>> {
        let mut interests = self.interests.write();
        match interest {
            Interest::Channel(channel) => {
                interests.channels.insert(channel);
            }
            Interest::Pattern(pattern) if interests.patterns.contains(&pattern) => {}
            Interest::Pattern(pattern) => interests.patterns.push(pattern),
        }
        self.stats.subscriptions.store(interests.len(), Ordering::Relaxed);
        Box::pin(ready(Ok(())))
    }

    fn unsubscribe(&self, interest: &Interest) {
        let mut interests = self.interests.write();
        match interest {
            Interest::Channel(channel) => drop(interests.channels.take(channel)),
            Interest::Pattern(pattern) => interests.patterns.retain(|known| known != pattern),
        }
        self.stats.subscriptions.store(interests.len(), Ordering::Relaxed);
    }

    fn request(&self, _: ServiceRequest) -> BoxFuture<'static, Result<Data, RequestError>> {
        Box::pin(ready(Err(RequestError::NoService)))
    }

    fn ask_gateways(
        &self,
        question: Bytes,
        expected: usize,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, BusError>> {
        let (asker, mut answers) = mpsc::channel(1);
        let question = Question {
            kind: QuestionKind::Gateway,
            body: question,
            trace: None,
            message_id: None,
            // Full or closed: the asker has its answer, or has given up.
            reply: Reply(Some(Box::new(move |answer| drop(asker.try_send(answer))))),
        };
        if self.inbox.try_send(question).is_err() {
            add(&self.stats.questions_dropped, 1);
        }
        Box::pin(async move {
            let end = tokio::time::Instant::now() + wait;
            let mut given = Vec::new();
            while given.len() < expected {
                let Ok(answer) = timeout_at(end, answers.recv()).await else { break };
                // The one gateway has answered, or never will.
                let Some(answer) = answer else { break };
                given.push(answer);
            }
            Ok(given)
        })
    }

    /// There is no other gateway.
    fn ask_gateway(
        &self,
        _: NodeMark,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Option<Bytes>, BusError>> {
        Box::pin(ready(Ok(None)))
    }

    fn is_connected(&self) -> bool {
        true
    }
}

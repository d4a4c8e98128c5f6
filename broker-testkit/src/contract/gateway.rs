//! One gateway's end of a bus, as the suites see it.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use broker_core::{
    ChannelName, Interest, Message,
    ports::{BoxFuture, Bus, BusEvent, GapReason},
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{contract::PATIENCE, eventually};

/// The stream of events of an implementation.
pub trait Arrivals: Send {
    /// Waits for events and adds them; `false` when the bus is closed.
    fn next<'a>(&'a mut self, batch: &'a mut Vec<BusEvent>) -> BoxFuture<'a, bool>;
}

/// Gives the answer to a question.
pub type Answer = Box<dyn FnOnce(Bytes) + Send>;

/// The stream of questions of an implementation.
pub trait Questions: Send {
    /// The next question of a gateway; `None` when the bus is closed.
    fn next(&mut self) -> BoxFuture<'_, Option<(Bytes, Answer)>>;
}

/// A gateway under test: notes all that arrives, and answers each question with
/// `<its name> heard <question>`.
pub struct Gateway {
    /// The bus under test.
    pub bus: Arc<dyn Bus>,
    arrived: Arc<Mutex<Vec<BusEvent>>>,
    _tasks: JoinSet<()>,
    _kept: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("bus", &self.bus).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Starts to note arrivals and to answer; `kept` lives as long as the gateway.
    pub fn new(
        name: &str,
        bus: Arc<dyn Bus>,
        arrivals: Vec<Box<dyn Arrivals>>,
        questions: Box<dyn Questions>,
        kept: impl Any + Send + Sync,
    ) -> Self {
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for source in arrivals {
            tasks.spawn(note(source, Arc::clone(&arrived)));
        }
        tasks.spawn(answer(questions, name.to_owned()));
        Self { bus, arrived, _tasks: tasks, _kept: Box::new(kept) }
    }

    /// All events so far.
    #[must_use]
    pub fn events(&self) -> Vec<BusEvent> {
        self.arrived.lock().clone()
    }

    /// The messages so far on a channel, with what brought each.
    #[must_use]
    pub fn messages(&self, on: &ChannelName) -> Vec<(Interest, Message)> {
        let message = |event| match event {
            BusEvent::Message { via, message } if message.channel == *on => Some((via, message)),
            _ => None,
        };
        self.events().into_iter().filter_map(message).collect()
    }

    /// Waits for `count` messages on a channel.
    pub async fn wait_for(&self, on: &ChannelName, count: usize) -> Vec<(Interest, Message)> {
        eventually(&format!("{count} messages on {on}"), PATIENCE, async || {
            Some(self.messages(on)).filter(|messages| messages.len() >= count)
        })
        .await
    }

    /// Waits for a gap with this reason; says where it is.
    pub async fn wait_for_gap(&self, wanted: GapReason, deadline: Duration) -> Option<Interest> {
        eventually(&format!("a gap: {}", wanted.as_str()), deadline, async || {
            self.events().into_iter().find_map(|event| match event {
                BusEvent::Gap { interest, reason } if reason == wanted => Some(interest),
                _ => None,
            })
        })
        .await
    }
}

async fn note(mut source: Box<dyn Arrivals>, arrived: Arc<Mutex<Vec<BusEvent>>>) {
    let mut batch = Vec::new();
    while source.next(&mut batch).await {
        arrived.lock().append(&mut batch);
    }
}

async fn answer(mut questions: Box<dyn Questions>, name: String) {
    while let Some((question, answer)) = questions.next().await {
        answer(format!("{name} heard {}", String::from_utf8_lossy(&question)).into());
    }
}

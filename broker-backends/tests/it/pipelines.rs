//! Publishers who do not wait for one message to be stored before they publish the next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use broker_core::{
    Message, MessageId, Offset,
    history::{From, Slice},
    message::Publisher,
    ports::{Accepted, BoxFuture, Bus, PublishError},
};
use broker_testkit::{
    contract::{
        bus::{channel_name, message},
        log::Logged,
    },
    eventually,
};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::{nats::RECONNECT, nats_order::look};

/// Between the bursts of one publisher in one channel: the log has to hold them all.
const PACE: Duration = Duration::from_millis(50);

type Outcome = Result<Accepted, PublishError>;
type Call = BoxFuture<'static, Outcome>;

/// Three publishers, each in two channels.
pub(crate) struct Pipelines {
    tasks: Vec<JoinHandle<Pipeline>>,
    done: Arc<AtomicBool>,
}

/// What one publisher published to one channel, and what became of it.
struct Pipeline {
    user: &'static str,
    channel: String,
    outcomes: Vec<(String, Outcome)>,
}

impl Pipelines {
    pub(crate) fn start(logged: &Logged) -> Self {
        let done = Arc::<AtomicBool>::default();
        let each = ["ann", "bob", "cy"].into_iter().flat_map(|user| [(user, 1), (user, 2)]);
        let tasks = each.map(|(user, channel)| {
            let (bus, done) = (Arc::clone(&logged.gateways[0].bus), Arc::clone(&done));
            let channel = format!("long:{channel}");
            let mut pipeline = Pipeline { user, channel, outcomes: Vec::new() };
            tokio::spawn(async move {
                let mut pace = interval(PACE);
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !done.load(Ordering::Relaxed) {
                    pace.tick().await;
                    pipeline.burst(&*bus).await;
                }
                pipeline
            })
        });
        Self { tasks: tasks.collect(), done }
    }

    /// Waits until some more messages are stored.
    pub(crate) async fn store_more(&self, logged: &Logged) {
        let end = async || Some(logged.log.top(channel_name("long:1")).await.ok()?.end.0);
        let before = eventually("the log's end", RECONNECT, &end).await;
        eventually("messages are stored", RECONNECT, async || {
            end().await.filter(|now| *now > before + 100)
        })
        .await;
    }

    /// What was acknowledged is in the log, in its publisher's order, and what was refused is not.
    pub(crate) async fn check(self, logged: &Logged) {
        self.done.store(true, Ordering::Relaxed);
        for pipeline in self.tasks {
            pipeline.await.unwrap().check(logged).await;
        }
    }
}

impl Pipeline {
    /// Publishes as a connection does: not waiting for outcomes, but nothing once a failure is
    /// known. Behind a failure, nothing is acknowledged.
    async fn burst(&mut self, bus: &dyn Bus) {
        let publisher = Publisher::User(self.user.parse().unwrap());
        let mut calls: Vec<(String, Call)> = Vec::new();
        let mut told: Vec<Outcome> = Vec::new();
        while calls.len() < 20 && told.iter().all(Result::is_ok) {
            let id = format!("{}-{:06}", self.user, self.outcomes.len() + calls.len());
            let message = message(&self.channel, &id, "1");
            calls.push((id, bus.publish(message, publisher.clone())));
            let known = told.len();
            told.extend(calls.iter_mut().skip(known).map_while(|(_, call)| look(call)));
        }
        let last = calls.len() - 1;
        let mut failed = false;
        for (index, (id, call)) in calls.into_iter().enumerate() {
            let outcome = match told.get(index) {
                Some(outcome) => *outcome,
                None => call.await,
            };
            // A failure may have been told between the last look and the last call.
            assert!(!failed || outcome.is_err() || index == last, "{id} overtook one that failed");
            failed |= outcome.is_err();
            self.outcomes.push((id, outcome));
        }
    }

    async fn check(self, logged: &Logged) {
        let Self { user, channel, outcomes } = self;
        let read = all(logged, &channel).await;
        let own: Vec<&str> =
            read.iter().map(|id| id.as_str()).filter(|id| id.starts_with(user)).collect();
        assert!(own.is_sorted() && !own.is_empty(), "{user} on {channel}");
        let stored = |id: &str| own.binary_search(&id).is_ok();
        for (id, outcome) in &outcomes {
            match outcome {
                Ok(_) => assert!(stored(id), "{id} was acknowledged on {channel}"),
                Err(PublishError::Unavailable) => assert!(!stored(id), "{id} was refused"),
                Err(PublishError::Unknown) => {}
                Err(error) => panic!("{id}: {error}"),
            }
        }
    }
}

/// The ids of all messages in the channel's log.
async fn all(logged: &Logged, channel: &str) -> Vec<MessageId> {
    let channel = channel_name(channel);
    let top = eventually("a top", RECONNECT, async || logged.log.top(channel.clone()).await.ok());
    let until = top.await.end;
    let mut ids = Vec::new();
    let mut from = Offset(0);
    loop {
        let slice = Slice { from: From::Offset(from), until, messages: 2000 };
        let read = logged.log.read(channel.clone(), slice).await.unwrap();
        ids.extend(read.iter().map(|message| message.id.clone()));
        match read.last().and_then(Message::position) {
            Some(last) => from = Offset(last.offset.0 + 1),
            None => return ids,
        }
    }
}

//! Health means delivery: a message goes through the bus and the fan-out to a pretended client.

use std::{
    io::{self, ErrorKind, IoSlice},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use broker_core::{
    ChannelName, ConnectionId, Interest, Message, MessageId, NodeId,
    message::{Data, JsonText, Publisher},
    ports::Bus,
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{self, Instant, MissedTickBehavior},
};

use crate::{
    clock,
    hub::{CANARY_NAMESPACE, Hub},
    outbox::Outbox,
    socket::Socket,
    telemetry::Metrics,
};

/// How often the canary flies.
const EVERY: Duration = Duration::from_secs(5);
/// How long it may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long it may take until a bus that is cut off is noticed.
pub(crate) const NOTICED_WITHIN: Duration = EVERY.saturating_add(DEADLINE);

/// What canaries tell of this gateway.
#[derive(Debug, Default)]
pub(crate) struct Verdict(Mutex<Health>);

/// Whether messages are delivered here.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// No canary has come back since the start.
    #[default]
    Starting,
    Delivering,
    /// Canaries came back until this moment, and do not any more.
    Failing {
        since: Instant,
    },
}

impl Verdict {
    pub(crate) fn health(&self) -> Health {
        *self.0.lock()
    }

    pub(crate) fn is_delivering(&self) -> bool {
        self.health() == Health::Delivering
    }

    /// Notes whether a canary came back.
    pub(crate) fn note(&self, came_back: bool) {
        let mut health = self.0.lock();
        *health = match *health {
            _ if came_back => Health::Delivering,
            Health::Delivering => Health::Failing { since: Instant::now() },
            before => before,
        };
    }
}

/// Sends canaries until dropped, the first at once.
pub(crate) async fn run(
    bus: Arc<dyn Bus>,
    hub: Arc<Hub>,
    verdict: Arc<Verdict>,
    metrics: Arc<Metrics>,
    node: NodeId,
) {
    let Ok(channel) = format!("{CANARY_NAMESPACE}:{node}").parse::<ChannelName>() else {
        tracing::error!(%node, "the canary has no channel: its verdict stays bad");
        return;
    };
    let perch = Arc::new(Perch::default());
    let id = ConnectionId(rand::random());
    let outbox = Arc::new(Outbox::new(id, Box::new(Arc::clone(&perch)), usize::MAX));
    let interest = Interest::Channel(channel.clone());
    let mut ticks = time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut joined = false;
    loop {
        ticks.tick().await;
        if !joined {
            joined = hub.join(&interest, None).await.is_ok();
            if !joined {
                hub.leave(&interest, id);
                verdict.note(false);
                metrics.canary(None);
                continue;
            }
            hub.deliver(interest.clone(), Arc::clone(&outbox));
        }
        let started = Instant::now();
        let flown = time::timeout(DEADLINE, perch.fly(&*bus, channel.clone())).await;
        let latency = matches!(flown, Ok(true)).then(|| started.elapsed());
        if latency.is_none() && verdict.is_delivering() {
            tracing::warn!("the canary did not come back: messages are not being delivered");
        }
        verdict.note(latency.is_some());
        metrics.canary(latency);
    }
}

/// Where the canary lands: a socket that only looks whether what is written is the message.
#[derive(Debug, Default)]
struct Perch {
    /// The id of the canary in the air; empty once it has landed.
    awaited: Mutex<String>,
    landed: Notify,
}

impl Perch {
    async fn fly(&self, bus: &dyn Bus, channel: ChannelName) -> bool {
        let id = MessageId::random(rand::random());
        id.as_str().clone_into(&mut self.awaited.lock());
        let data = Data::Json(JsonText::from_checked(Bytes::from_static(b"null")));
        let message = Message {
            id,
            channel,
            event: None,
            data,
            time: clock::wall(),
            stored: None,
            options: None,
        };
        if bus.publish(message, Publisher::Service(CANARY_NAMESPACE.into())).await.is_err() {
            return false;
        }
        // An earlier canary that landed too late has left its word behind.
        while !self.awaited.lock().is_empty() {
            self.landed.notified().await;
        }
        true
    }
}

impl Socket for Arc<Perch> {
    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut awaited = self.awaited.lock();
        let lands = |part: &&IoSlice<'_>| {
            let bytes: &[u8] = part;
            !awaited.is_empty()
                && bytes.windows(awaited.len()).any(|window| window == awaited.as_bytes())
        };
        if parts.iter().any(|part| lands(&part)) {
            awaited.clear();
            self.landed.notify_one();
        }
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn try_read(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn finish(&self) {}
}

#[cfg(test)]
mod tests {
    use broker_backends::EmbeddedOptions;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_canary_that_comes_too_late_does_not_speak_for_the_next_one() {
        // Nothing is fanned out here: the test lands the canaries.
        let bus = broker_backends::embedded(&EmbeddedOptions::default()).await.bus;
        let perch = Arc::new(Perch::default());
        let channel: ChannelName = format!("{CANARY_NAMESPACE}:a").parse().unwrap();
        assert!(time::timeout(DEADLINE, perch.fly(&*bus, channel.clone())).await.is_err());
        let late = perch.awaited.lock().clone();
        perch.try_write_vectored(&[IoSlice::new(late.as_bytes())]).unwrap();
        assert!(time::timeout(DEADLINE, perch.fly(&*bus, channel.clone())).await.is_err());
        let flying = perch.fly(&*bus, channel);
        tokio::pin!(flying);
        assert!(time::timeout(DEADLINE / 2, flying.as_mut()).await.is_err());
        let id = perch.awaited.lock().clone();
        perch.try_write_vectored(&[IoSlice::new(format!("[{id}]").as_bytes())]).unwrap();
        assert_eq!(time::timeout(DEADLINE, flying).await, Ok(true));
    }
}

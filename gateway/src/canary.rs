//! Health means delivery: a message goes through the bus and the fan-out to a pretended client.

use std::{
    io::{self, ErrorKind, IoSlice},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use broker_core::{
    ChannelName, ConnectionId, Interest, Message, MessageId, NodeId,
    message::{Data, JsonText},
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

/// Sends canaries until dropped, the first at once; `metrics` know how the last one fared.
pub(crate) async fn run(bus: Arc<dyn Bus>, hub: Arc<Hub>, metrics: Arc<Metrics>, node: NodeId) {
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
            joined = hub.join(&interest).await.is_ok();
            if !joined {
                hub.leave(&interest, id);
                metrics.canary(None);
                continue;
            }
            hub.deliver(interest.clone(), Arc::clone(&outbox));
        }
        let started = Instant::now();
        let flown = time::timeout(DEADLINE, perch.fly(&*bus, channel.clone())).await;
        let latency = matches!(flown, Ok(true)).then(|| started.elapsed());
        if latency.is_none() && metrics.canary_ok() {
            tracing::warn!("the canary did not come back: messages are not being delivered");
        }
        metrics.canary(latency);
    }
}

/// Where the canary lands: a socket that only looks whether what is written is the message.
#[derive(Debug, Default)]
struct Perch {
    awaited: Mutex<String>,
    landed: Notify,
}

impl Perch {
    async fn fly(&self, bus: &dyn Bus, channel: ChannelName) -> bool {
        let id = MessageId::random(rand::random());
        id.as_str().clone_into(&mut self.awaited.lock());
        let landed = self.landed.notified();
        let data = Data::Json(JsonText::from_checked(Bytes::from_static(b"null")));
        let message =
            Message { id, channel, event: None, data, time: clock::wall(), options: None };
        if bus.publish(message).await.is_err() {
            return false;
        }
        landed.await;
        true
    }
}

impl Socket for Arc<Perch> {
    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let awaited = self.awaited.lock();
        let lands = |part: &&IoSlice<'_>| {
            let bytes: &[u8] = part;
            !awaited.is_empty()
                && bytes.windows(awaited.len()).any(|window| window == awaited.as_bytes())
        };
        if parts.iter().any(|part| lands(&part)) {
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

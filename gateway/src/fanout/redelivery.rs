//! Messages to users who are connected, and yet have not acknowledged them.

use std::{sync::Arc, time::Duration};

use broker_core::{Interest, feed::Wanted};
use futures_util::{StreamExt as _, stream};
use tokio::time::{self, MissedTickBehavior};

use super::Fanout;
use crate::{
    clock,
    hub::feeds::{ChannelFeed, Feeds},
};

/// How often they are looked for; transports that acknowledge by themselves are asked then.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a message waits for its acknowledgement before it is sent again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Users who are looked after at once.
const AT_ONCE: usize = 64;

/// Runs until dropped.
pub(crate) async fn run(feeds: Arc<Feeds>, fanout: Arc<Fanout>) {
    let mut ticks = time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        stream::iter(feeds.unacknowledged(clock::now().instant))
            .for_each_concurrent(AT_ONCE, |(channel, age)| fanout.look_after(&feeds, channel, age))
            .await;
    }
}

impl Fanout {
    pub(super) async fn look_after(&self, feeds: &Feeds, channel: Arc<ChannelFeed>, age: Duration) {
        let via = Interest::Channel(channel.channel.clone());
        let subscribers = self.hub.subscribers();
        subscribers.for_each(&via, |_, it| it.outbox.tell(|notices| notices.probe = true));
        if channel.was_given() && age < PATIENCE {
            return;
        }
        // Another gateway's connection may have acknowledged them meanwhile.
        let Some(backlog) = feeds.read_backlog(&channel).await else { return };
        if feeds.prepare_window(&channel, Wanted::Pending(&backlog)).await.is_err() {
            return;
        }
        channel.note_backlog(Some(backlog));
        let now = clock::now();
        let mut feed = channel.lock();
        let Some(backlog) = channel.give_backlog(&feed) else { return };
        let wanted = Wanted::Pending(&backlog);
        let given = feed.position();
        let replay = feed.replay((now.instant, now.wall), &channel.history, wanted);
        let mut messages = replay.map_or(Vec::new(), |replay| replay.messages);
        messages.retain(|message| !channel.has_waited_out(message, now.wall));
        self.metrics.history.redelivered.inc_by(messages.len() as u64);
        self.give_out_again(&via, &messages);
        let nothing_waits = messages.is_empty();
        drop(feed);
        match given {
            Some(given) if nothing_waits => channel.settle(given),
            _ => channel.wait_anew(now.instant),
        }
    }
}

//! Filling holes from the log.

use std::{sync::Arc, time::Duration};

use broker_core::ports::LogError;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time;

use super::Fanout;
use crate::{
    clock,
    hub::feeds::{ChannelFeed, Feeds},
};

/// Channels that are read at once.
const AT_ONCE: usize = 64;
/// Pauses between attempts while the log is away: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Has every feed that is behind catch up with its log. Runs until dropped.
pub(crate) async fn run(feeds: Arc<Feeds>, fanout: Arc<Fanout>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            feed = feeds.next_behind(), if under_way.len() < AT_ONCE => {
                under_way.push(catch_up(&feeds, &fanout, feed));
            }
            Some(()) = under_way.next() => {}
        }
    }
}

async fn catch_up(feeds: &Feeds, fanout: &Fanout, feed: Arc<ChannelFeed>) {
    let (mut pause, longest) = PAUSES;
    // Nobody wants it any more once it is closed.
    while feeds.is_open(&feed) {
        match attempt(feeds, fanout, &feed).await {
            Ok(true) => {}
            Ok(false) => return feed.note_caught_up(),
            Err(error) => {
                tracing::debug!(channel = %feed.channel, %error, "a feed cannot catch up yet");
                time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}

/// Says whether more came meanwhile.
async fn attempt(feeds: &Feeds, fanout: &Fanout, channel: &ChannelFeed) -> Result<bool, LogError> {
    let asked = clock::now().instant;
    let plan = channel.lock().plan();
    let top = match plan.known {
        Some(top) => top,
        None => feeds.log().top(channel.channel.clone()).await?,
    };
    let read = match plan.slice(&channel.history, &top) {
        Some(slice) => feeds.log().read(channel.channel.clone(), slice).await?,
        None => Vec::new(),
    };
    let mut feed = channel.lock();
    let caught_up = feed.caught_up(asked, &channel.history, &top, read);
    fanout.give_out_read(channel, &mut feed, (caught_up.lost, &caught_up.messages));
    Ok(caught_up.again)
}

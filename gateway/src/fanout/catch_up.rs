//! Filling holes from the log.

use std::{sync::Arc, time::Duration};

use broker_core::{Namespace, ports::LogError};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time;

use super::Fanout;
use crate::{
    clock,
    hub::feeds::{ChannelFeed, Feeds},
};

/// Channels of a namespace that are read at once.
const AT_ONCE: usize = 16;
/// Pauses between attempts while the log is away: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A feed that is behind, and how long it rests should the next attempt fail.
struct Attempt {
    feed: Arc<ChannelFeed>,
    pause: Duration,
}

/// Has every feed of a namespace that is behind catch up with its log. Runs until dropped.
pub(crate) async fn run(feeds: Arc<Feeds>, fanout: Arc<Fanout>, namespace: Namespace) {
    let mut under_way = FuturesUnordered::new();
    // While it rests, a feed takes nobody's place.
    let mut resting = FuturesUnordered::new();
    loop {
        let has_room = under_way.len() < AT_ONCE;
        let next = tokio::select! {
            Some(feed) = feeds.next_behind(&namespace), if has_room => {
                Attempt { feed, pause: PAUSES.0 }
            }
            Some(rested) = resting.next(), if has_room => rested,
            Some(outcome) = under_way.next() => {
                if let Err(failed) = outcome {
                    resting.push(rest(failed));
                }
                continue;
            }
            else => return,
        };
        under_way.push(catch_up(&feeds, &fanout, next));
    }
}

/// Gives it back where the log did not answer.
async fn catch_up(feeds: &Feeds, fanout: &Fanout, this: Attempt) -> Result<(), Attempt> {
    // Nobody wants it any more once it is closed.
    while feeds.is_open(&this.feed) {
        match attempt(feeds, fanout, &this.feed).await {
            Ok(true) => {}
            Ok(false) => {
                this.feed.note_caught_up();
                break;
            }
            Err(error) => {
                tracing::debug!(channel = %this.feed.channel, %error, "a feed cannot catch up yet");
                return Err(this);
            }
        }
    }
    Ok(())
}

async fn rest(Attempt { feed, pause }: Attempt) -> Attempt {
    time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
    Attempt { feed, pause: (pause * 2).min(PAUSES.1) }
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

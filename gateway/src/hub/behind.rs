//! Feeds that have to catch up: a queue for each namespace, so that one whose log is away is in
//! nobody else's way.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use broker_core::Namespace;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::feeds::ChannelFeed;

/// The queues of all namespaces with history.
#[derive(Debug)]
pub(super) struct Behind(BTreeMap<Namespace, Queue>);

/// Each feed is in it once.
#[derive(Debug, Default)]
struct Queue {
    feeds: Mutex<VecDeque<Arc<ChannelFeed>>>,
    wake: Notify,
}

impl Behind {
    pub(super) fn of(namespaces: impl Iterator<Item = Namespace>) -> Self {
        Self(namespaces.map(|namespace| (namespace, Queue::default())).collect())
    }

    pub(super) fn push(&self, feed: Arc<ChannelFeed>) {
        if let Some(queue) = self.0.get(feed.channel.namespace()) {
            queue.feeds.lock().push_back(feed);
            queue.wake.notify_one();
        }
    }

    /// The next of a namespace, for one task each; `None` of one without history. May be cancelled
    /// without loss.
    pub(super) async fn next(&self, namespace: &Namespace) -> Option<Arc<ChannelFeed>> {
        let queue = self.0.get(namespace)?;
        loop {
            let next = queue.feeds.lock().pop_front();
            match next {
                Some(feed) => return Some(feed),
                None => queue.wake.notified().await,
            }
        }
    }
}

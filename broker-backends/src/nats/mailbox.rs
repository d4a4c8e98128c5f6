//! What the connection's tasks tell a fan-out worker, without ever waiting for it.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Waker},
};

use broker_core::{
    Interest,
    ports::{BusEvent, GapReason},
};
use parking_lot::Mutex;

use super::feed::Feed;

/// Overrun interests that are told one by one; beyond, the gap is everywhere.
const MAX_OVERRUNS: usize = 1024;

/// News for one worker. Feeds are as many as the worker has interests, gaps are bounded.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// Whether there is anything to take, so that a busy worker need not lock.
    pending: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    news: News,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
pub(super) struct News {
    /// New subscriptions to poll.
    pub(super) feeds: Vec<Feed>,
    reconnected: bool,
    overrun_everywhere: bool,
    overruns: HashSet<Interest>,
    /// Whether the bus was closed.
    pub(super) closed: bool,
}

impl Mailbox {
    pub(super) fn add_feed(&self, feed: Feed) {
        self.put(|news| news.feeds.push(feed));
    }

    pub(super) fn reconnected(&self) {
        self.put(|news| news.reconnected = true);
    }

    /// Messages were dropped; `None`: it is not known of which interest.
    pub(super) fn overrun(&self, interest: Option<Interest>) {
        self.put(|news| match interest {
            Some(interest) if news.overruns.len() < MAX_OVERRUNS => {
                news.overruns.insert(interest);
            }
            _ => news.overrun_everywhere = true,
        });
    }

    pub(super) fn close(&self) {
        self.put(|news| news.closed = true);
    }

    fn put(&self, change: impl FnOnce(&mut News)) {
        let waker = {
            let mut state = self.state.lock();
            change(&mut state.news);
            self.pending.store(true, Ordering::Release);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the news, and wakes the task of `context` when there are more.
    pub(super) fn take(
        &self,
        context: &Context<'_>,
        registered: &mut Option<Waker>,
    ) -> Option<News> {
        let known = registered.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
        if known && !self.pending.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.state.lock();
        state.waker = Some(context.waker().clone());
        *registered = Some(context.waker().clone());
        if !self.pending.swap(false, Ordering::AcqRel) {
            return None;
        }
        let closed = state.news.closed;
        Some(std::mem::replace(&mut state.news, News { closed, ..News::default() }))
    }
}

impl News {
    /// The gaps, as events.
    pub(super) fn gaps(&mut self) -> impl Iterator<Item = BusEvent> {
        let gap = |interest, reason| BusEvent::Gap { interest, reason };
        let reconnected = self.reconnected.then(|| gap(None, GapReason::Reconnected));
        let everywhere = self.overrun_everywhere.then(|| gap(None, GapReason::Overrun));
        let overruns = std::mem::take(&mut self.overruns).into_iter();
        let overruns = overruns.map(move |interest| gap(Some(interest), GapReason::Overrun));
        reconnected.into_iter().chain(everywhere).chain(overruns)
    }
}

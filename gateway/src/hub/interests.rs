//! What the bus is asked for: once for all connections that want it, and a while longer.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use broker_core::{
    Interest,
    ports::{BoxFuture, Bus, BusError},
};
use futures_util::{
    FutureExt,
    future::{self, Shared},
};
use parking_lot::Mutex;
use tokio::time::{self, Instant, MissedTickBehavior};

/// How often lingering interests are looked at.
const TIDY_EVERY: Duration = Duration::from_secs(1);

type Joining = Shared<BoxFuture<'static, Result<(), BusError>>>;

#[derive(Debug)]
pub(super) struct Interests {
    bus: Arc<dyn Bus>,
    linger: Duration,
    book: Arc<Mutex<Book>>,
}

#[derive(Debug, Default)]
struct Book {
    entries: HashMap<Interest, Entry>,
    /// Interests that lost their last user and when to look at them, oldest first; some have found
    /// a new one since. Each is in it once at most.
    unused: VecDeque<(Instant, Interest)>,
}

#[derive(Debug)]
struct Entry {
    usage: Usage,
    state: State,
    /// Whether it is among [`Book::unused`].
    listed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Usage {
    By(u32),
    NobodySince(Instant),
}

#[derive(Debug)]
enum State {
    /// The bus has not confirmed yet. Boxed: most are live.
    Joining(Box<Joining>),
    Live,
    /// The bus has refused, or may have ended it; the next user asks again.
    Failed,
}

impl Interests {
    pub(super) fn new(bus: Arc<dyn Bus>, linger: Duration) -> Self {
        Self { bus, linger, book: Arc::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.book.lock().entries.len()
    }

    /// Counts one more user, and resolves when the interest is live.
    pub(super) fn acquire(&self, interest: &Interest) -> BoxFuture<'static, Result<(), BusError>> {
        let mut book = self.book.lock();
        if let Some(entry) = book.entries.get_mut(interest) {
            entry.usage = match entry.usage {
                Usage::By(users) => Usage::By(users + 1),
                Usage::NobodySince(_) => Usage::By(1),
            };
            return match &entry.state {
                State::Joining(joining) => joining.as_ref().clone().boxed(),
                State::Live => future::ready(Ok(())).boxed(),
                State::Failed => {
                    let joining = self.join(interest.clone());
                    entry.state = State::Joining(Box::new(joining.clone()));
                    joining.boxed()
                }
            };
        }
        let joining = self.join(interest.clone());
        let state = State::Joining(Box::new(joining.clone()));
        let entry = Entry { usage: Usage::By(1), state, listed: false };
        book.entries.insert(interest.clone(), entry);
        joining.boxed()
    }

    /// Counts one user less.
    pub(super) fn release(&self, interest: &Interest) {
        let now = Instant::now();
        let mut book = self.book.lock();
        let Some(entry) = book.entries.get_mut(interest) else { return };
        match entry.usage {
            Usage::By(users) if users > 1 => entry.usage = Usage::By(users - 1),
            Usage::By(_) => {
                entry.usage = Usage::NobodySince(now);
                if !std::mem::replace(&mut entry.listed, true) {
                    book.unused.push_back((now, interest.clone()));
                }
            }
            Usage::NobodySince(_) => {}
        }
    }

    /// The bus may bring it no longer: the next user asks again.
    pub(super) fn doubt(&self, interest: &Interest) {
        if let Some(entry) = self.book.lock().entries.get_mut(interest)
            && matches!(entry.state, State::Live)
        {
            entry.state = State::Failed;
        }
    }

    /// Lets go what nobody used for the linger time, and says what. Runs until dropped.
    pub(super) async fn tidy(&self, gone: impl Fn(&Interest)) {
        let mut ticks = time::interval(TIDY_EVERY.min(self.linger.max(Duration::from_millis(10))));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            // The book stays locked meanwhile: whoever wants one of them again must ask the bus
            // after it was let go, not before.
            let mut book = self.book.lock();
            for interest in book.take_unused(now, self.linger) {
                self.bus.unsubscribe(&interest);
                gone(&interest);
            }
        }
    }

    /// One request to the bus, shared by all who wait for it.
    fn join(&self, interest: Interest) -> Joining {
        let confirmed = self.bus.subscribe(interest.clone());
        let book = Arc::clone(&self.book);
        async move {
            let outcome = confirmed.await;
            if let Some(entry) = book.lock().entries.get_mut(&interest) {
                entry.state = if outcome.is_ok() { State::Live } else { State::Failed };
            }
            outcome
        }
        .boxed()
        .shared()
    }
}

impl Book {
    fn take_unused(&mut self, now: Instant, linger: Duration) -> Vec<Interest> {
        let is_due = |since: Instant| now.saturating_duration_since(since) >= linger;
        let mut gone = Vec::new();
        while let Some((_, interest)) = self.unused.pop_front_if(|(since, _)| is_due(*since)) {
            let Some(entry) = self.entries.get_mut(&interest) else { continue };
            match entry.usage {
                Usage::NobodySince(since) if is_due(since) => {
                    self.entries.remove(&interest);
                    gone.push(interest);
                }
                // It was used in between: from its last user on, the time counts anew.
                Usage::NobodySince(since) => self.unused.push_back((since, interest)),
                Usage::By(_) => entry.listed = false,
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests;

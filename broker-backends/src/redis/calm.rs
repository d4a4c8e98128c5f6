use std::{fmt, time::Duration};

use fred::types::config::Server;
use parking_lot::Mutex;
use tokio::{
    sync::broadcast::{Receiver, error::TryRecvError},
    time::Instant,
};

/// Knows whether the store was away lately. Then others may not have had the time to say that
/// they live, and nobody is to be taken for dead.
pub(super) struct Calm(Mutex<State>);

struct State {
    reconnects: Receiver<Server>,
    /// For how long leases are given.
    lease: Duration,
    until: Option<Instant>,
}

impl fmt::Debug for Calm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calm").field("until", &self.0.lock().until).finish_non_exhaustive()
    }
}

impl State {
    fn begin(&mut self) {
        self.until = Some(Instant::now() + self.lease);
    }
}

impl Calm {
    /// `reconnects`: of every connection that is made.
    pub(super) fn new(reconnects: Receiver<Server>) -> Self {
        Self(Mutex::new(State { reconnects, lease: Duration::ZERO, until: None }))
    }

    /// Connections made until now count as the first.
    pub(super) fn forget_reconnects(&self) {
        let mut state = self.0.lock();
        state.reconnects = state.reconnects.resubscribe();
    }

    pub(super) fn note_renewal(&self, lease: Duration, succeeded: bool) {
        let mut state = self.0.lock();
        state.lease = lease;
        if !succeeded {
            state.begin();
        }
    }

    /// Whether nobody is to be taken for dead.
    pub(super) fn holds(&self) -> bool {
        let mut state = self.0.lock();
        while let Ok(_) | Err(TryRecvError::Lagged(_)) = state.reconnects.try_recv() {
            state.begin();
        }
        state.until.is_some_and(|end| Instant::now() < end)
    }
}

//! A session that goes on after its connection broke.

use std::mem;

use super::{Failure, Now, OpId, Pending, Session, State, Token, connecting::Keeping};
use crate::resume::Resumed;

impl Session {
    /// The outcome of [`super::Effect::Resume`].
    pub fn handle_resumed(&mut self, now: Now, op: OpId, outcome: Result<Resumed, Failure>) {
        if let Some(Pending::Resume) = self.finish(op) {
            match outcome {
                Ok(resumed) => self.resume(now, resumed),
                Err(failure) => self.open_anew(now, failure),
            }
        }
        self.close_if_drained();
    }

    /// The outcome of [`super::Effect::Keep`]: the secret that resumes the session, unless it
    /// could not be kept.
    pub fn handle_kept(&mut self, now: Now, op: OpId, secret: Option<Token>) {
        if let (Some(Pending::Keep), State::Connecting(connecting)) =
            (self.finish(op), &mut self.state)
        {
            self.kept = secret.is_some();
            connecting.keeping = Keeping::Done(secret);
            self.open_if_joined(now);
        }
        self.close_if_drained();
    }

    fn resume(&mut self, now: Now, resumed: Resumed) {
        self.origin = resumed.origin;
        if let State::Connecting(connecting) = &mut self.state {
            connecting.resumed = true;
        }
        self.join_own_channels(now, resumed.identity);
    }

    /// The client may still connect with a token. One attempt to resume is all that a connection
    /// has, lest strangers keep the store busy.
    fn open_anew(&mut self, now: Now, failure: Failure) {
        let State::Connecting(connecting) = &mut self.state else { return };
        let (request, waiting) = (connecting.request, mem::take(&mut connecting.waiting));
        let until = now.instant + self.rules.limits.connect_timeout;
        self.state = State::Opening { until, lost: true };
        self.fail(request, failure);
        for (request, entropy) in waiting {
            self.handle_request(now, request, entropy);
        }
    }
}

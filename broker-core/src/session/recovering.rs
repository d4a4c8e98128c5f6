//! A client that goes on after its connection broke, with its subscriptions, and what it missed.

use super::{Effect, Now, OpId, Pending, Session, State, Subscription, Token, connecting::Keeping};
use crate::{access::Identity, name::Interest, recovery::Recovered};

impl Session {
    /// The outcome of [`Effect::Recover`]; `None`: there is nothing that it could go on with.
    pub fn handle_recovered(&mut self, now: Now, op: OpId, outcome: Option<Recovered>) {
        if let Some(Pending::Recover(identity)) = self.finish(op) {
            match outcome {
                Some(recovered) => self.recover(now, *identity, recovered),
                None => self.join_own_channels(now, *identity),
            }
        }
        self.close_if_drained();
    }

    /// The outcome of [`Effect::CatchUp`]: whether everything that was missed is written.
    pub fn handle_caught_up(&mut self, now: Now, op: OpId, all: bool) {
        if let (Some(Pending::CatchUp), State::Connecting(connecting)) =
            (self.finish(op), &mut self.state)
        {
            connecting.resumed = all;
            if !all {
                connecting.keeping = Keeping::WantedLast;
                self.begin_anew();
            }
            self.open_if_joined(now);
        }
        self.close_if_drained();
    }

    pub(super) fn ask_to_recover(&mut self, now: Now, identity: Identity, secret: Token) {
        self.set_identity(now, identity.clone());
        let op = self.begin(Pending::Recover(Box::new(identity)));
        self.effects.push_back(Effect::Recover { op, secret });
    }

    fn recover(&mut self, now: Now, identity: Identity, recovered: Recovered) {
        let Recovered { origin, subscriptions: missed } = recovered;
        let own = self.rules.namespaces.channels_on_connect(&self.identity);
        let is_new = |own: &Interest| missed.iter().all(|(interest, _)| interest != own);
        let new = own.into_iter().map(Interest::Channel).filter(is_new);
        let kept = missed.iter().map(|(interest, since)| (interest.clone(), Some(since.clone())));
        let channels: Vec<_> = kept.chain(new.map(|interest| (interest, None))).collect();
        // Its own channel is that of its first connection.
        let before = std::mem::replace(&mut self.origin, origin);
        let all = missed.iter().all(|(interest, _)| self.may_have(interest));
        if !all || channels.len() > self.rules.limits.subscriptions {
            self.origin = before;
            self.effects.push_back(Effect::BeginAnew);
            return self.join_own_channels(now, identity);
        }
        if let State::Connecting(connecting) = &mut self.state {
            connecting.missed = Some(missed);
        }
        self.join_at_once(now, channels);
    }

    /// Says whether something is to be caught up with before the client is answered. A session that
    /// could not be kept under its secret is none to go on with.
    pub(super) fn catches_up(&mut self) -> bool {
        let State::Connecting(connecting) = &mut self.state else { return false };
        let Some(subscriptions) = connecting.missed.take() else { return false };
        if !matches!(connecting.keeping, Keeping::Done(Some(_))) {
            self.begin_anew();
            return false;
        }
        let op = self.begin(Pending::CatchUp);
        self.effects.push_back(Effect::CatchUp { op, subscriptions });
        true
    }

    pub(super) fn may_have(&self, interest: &Interest) -> bool {
        self.is_own(interest) || self.may_subscribe(interest).is_ok()
    }

    pub(super) fn is_own(&self, interest: &Interest) -> bool {
        let Interest::Channel(channel) = interest else { return false };
        self.rules.namespaces.channels_on_connect(&self.identity).contains(channel)
    }

    fn begin_anew(&mut self) {
        self.origin = self.id;
        let asked_for = |(_, state): &(Interest, Subscription)| *state != Subscription::Server;
        while let Some(index) = self.subscriptions.iter().position(asked_for) {
            self.leave(index);
        }
        self.effects.push_back(Effect::BeginAnew);
    }
}

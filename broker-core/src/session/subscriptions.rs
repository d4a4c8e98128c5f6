//! What a session is subscribed to.

use super::{Command, Effect, Failure, Now, Outgoing, Pending, Request, RequestId, Session, Since};
use crate::{access::Action, code::ErrorCode, name::Interest, ports::BusError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscription {
    /// The bus has not confirmed yet.
    Joining,
    Live,
    /// Made by the server; the client cannot leave it.
    Server,
}

impl Session {
    pub(super) fn subscribe(
        &mut self,
        id: RequestId,
        interest: Interest,
        since: Option<Box<Since>>,
    ) {
        if self.is_changing(&interest) {
            return self.defer(id, Command::Subscribe { interest, since });
        }
        if let Some(since) = &since
            && let Err(failure) = self.has_past(&interest, since)
        {
            return self.fail(id, failure);
        }
        if self.subscription(&interest).is_some() {
            let text = format!("`{interest}` is subscribed already");
            return self.fail(id, Failure::new(ErrorCode::AlreadySubscribed, text));
        }
        let limit = self.rules.limits.subscriptions;
        if self.subscriptions.len() >= limit {
            let text = format!("a connection may have {limit} subscriptions");
            return self.fail(id, Failure::new(ErrorCode::TooManySubscriptions, text));
        }
        if let Err(denied) = self.authorize(action(&interest), &interest) {
            return self.fail(id, denied.into());
        }
        if self.subscriptions.len() < 4 {
            // Most connections have few: hold no more than they need.
            self.subscriptions.reserve_exact(1);
        }
        self.subscriptions.push((interest.clone(), Subscription::Joining));
        let op = self.begin(Pending::Join(id, interest.clone(), since.clone()));
        self.effects.push_back(Effect::Join { op, interest, since });
    }

    fn has_past(&self, interest: &Interest, since: &Since) -> Result<(), Failure> {
        let namespaces = &self.rules.namespaces;
        if since.is_snapshot() && !namespaces.retains(interest.namespace()) {
            let text = format!("there are no snapshots of the namespace of `{interest}`");
            return Err(Failure::new(ErrorCode::NoHistory, text));
        }
        let only_snapshot = since.is_snapshot() && since.position.is_none();
        let is_there = match interest {
            Interest::Channel(channel) => namespaces.history(channel.namespace()).is_some(),
            Interest::Pattern(_) => only_snapshot,
        };
        if is_there { Ok(()) } else { Err(no_history(interest)) }
    }

    pub(super) fn unsubscribe(&mut self, id: RequestId, interest: Interest) {
        let Some(index) = self.subscription(&interest) else {
            let text = format!("`{interest}` is not subscribed");
            return self.fail(id, Failure::new(ErrorCode::NotSubscribed, text));
        };
        match self.subscriptions[index].1 {
            Subscription::Joining => self.defer(id, Command::Unsubscribe { interest }),
            Subscription::Server => {
                let text =
                    format!("`{interest}` was subscribed by the server, which alone can end it");
                self.fail(id, Failure::new(ErrorCode::Forbidden, text));
            }
            Subscription::Live => {
                self.leave(index);
                self.reply(id, Outgoing::Unsubscribed { interest });
            }
        }
    }

    pub(super) fn joined(
        &mut self,
        now: Now,
        id: RequestId,
        (interest, since): (&Interest, Option<Box<Since>>),
        outcome: Result<(), BusError>,
    ) {
        let Some(index) = self.subscription(interest) else { return };
        // A refresh may have taken the right away while the bus was asked.
        let admitted = outcome
            .map_err(Failure::from)
            .and_then(|()| Ok(self.authorize(action(interest), interest)?));
        match admitted {
            Ok(()) => {
                self.subscriptions[index].1 = Subscription::Live;
                let interest = interest.clone();
                self.effects.push_back(Effect::Deliver { interest, answers: Some(id), since });
            }
            Err(failure) => {
                self.fail(id, failure);
                self.leave(index);
            }
        }
        for request in self.take_deferred(interest) {
            self.command(now, request, 0);
        }
    }

    /// A subscription that was to be delivered could not begin as it was asked for.
    pub(super) fn refused(&mut self, id: RequestId, interest: &Interest, failure: Failure) {
        let Some(index) = self.subscription(interest) else { return };
        self.fail(id, failure);
        self.leave(index);
    }

    /// A fresh token may allow less than the old one did, and name fewer channels of its own.
    pub(super) fn leave_what_is_denied(&mut self) {
        let own = self.rules.namespaces.channels_on_connect(&self.identity);
        let denied: Vec<Interest> = self
            .subscriptions
            .iter()
            .filter(|(interest, state)| match (state, interest) {
                (Subscription::Server, Interest::Channel(channel)) => !own.contains(channel),
                (Subscription::Live, _) => self.authorize(action(interest), interest).is_err(),
                _ => false,
            })
            .map(|(interest, _)| interest.clone())
            .collect();
        for interest in denied {
            let Some(index) = self.subscription(&interest) else { continue };
            self.leave(index);
            self.reply(None, Outgoing::Unsubscribed { interest });
        }
    }

    pub(super) fn subscription(&self, interest: &Interest) -> Option<usize> {
        self.subscriptions.iter().position(|(known, _)| known == interest)
    }

    pub(super) fn leave(&mut self, index: usize) {
        let (interest, _) = self.subscriptions.swap_remove(index);
        if self.subscriptions.is_empty() {
            self.subscriptions = Vec::new();
        }
        self.effects.push_back(Effect::Leave { interest });
    }

    /// Whether commands on the interest wait for its join. Others must then queue behind them:
    /// answers come as if the client had waited for each.
    fn is_changing(&self, interest: &Interest) -> bool {
        self.pending.iter().any(|(_, pending)| pending.waits_for(interest))
    }

    fn defer(&mut self, id: RequestId, command: Command) {
        self.begin(Pending::Deferred(Box::new(Request { id, command })));
    }

    fn take_deferred(&mut self, interest: &Interest) -> Vec<Request> {
        let deferred = self.pending.extract_if(.., |(_, pending)| pending.waits_for(interest));
        let requests = deferred
            .filter_map(|(_, pending)| match pending {
                Pending::Deferred(request) => Some(*request),
                _ => None,
            })
            .collect();
        self.release_pending();
        requests
    }
}

impl Pending {
    fn waits_for(&self, interest: &Interest) -> bool {
        let Self::Deferred(request) = self else { return false };
        match &request.command {
            Command::Subscribe { interest: wanted, .. }
            | Command::Unsubscribe { interest: wanted } => wanted == interest,
            _ => false,
        }
    }
}

fn no_history(interest: &Interest) -> Failure {
    let text = match interest {
        Interest::Channel(_) => {
            format!("the namespace of `{interest}` has no history: leave out what asks for it")
        }
        Interest::Pattern(_) => {
            "patterns have no history but `snapshot`: subscribe to each channel".to_owned()
        }
    };
    Failure::new(ErrorCode::NoHistory, text)
}

fn action(interest: &Interest) -> Action {
    match interest {
        Interest::Channel(_) => Action::Subscribe,
        Interest::Pattern(_) => Action::Wildcard,
    }
}

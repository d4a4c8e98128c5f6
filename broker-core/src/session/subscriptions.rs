//! What a session is subscribed to.

use super::{Command, Effect, Failure, Now, Outgoing, Pending, Request, RequestId, Session, Since};
use crate::{
    access::{Action, Denied},
    code::ErrorCode,
    id::ConnectionId,
    name::{CONNECTION_NAMESPACE, Interest},
    ports::BusError,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscription {
    /// The bus has not confirmed yet.
    Joining,
    Live,
    /// Live by the server's right: no rule ends it, but the client may leave it.
    Admitted,
    /// Made by the server; the client cannot leave it.
    Server,
}

/// By whose right a client is subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// Its own: the rules decide.
    Own,
    /// The server's, who asks none.
    Server,
}

/// A subscription that the bus is asked for.
#[derive(Debug)]
pub(super) struct Join {
    answers: RequestId,
    interest: Interest,
    since: Option<Box<Since>>,
    right: Right,
}

impl Session {
    pub(super) fn subscribe(
        &mut self,
        id: RequestId,
        interest: Interest,
        since: Option<Box<Since>>,
    ) {
        if self.is_changing(&interest) {
            return self.defer(id, Command::Subscribe { interest, since }, Right::Own);
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
        self.join(Join { answers: id, interest, since, right: Right::Own });
    }

    /// Subscribes by the server's right. What there is already becomes the server's as well.
    pub(super) fn admit(&mut self, id: RequestId, interest: Interest) {
        let present = self.subscription(&interest);
        let state = present.map(|index| self.subscriptions[index].1);
        if state == Some(Subscription::Joining) || self.is_changing(&interest) {
            let command = Command::Subscribe { interest, since: None };
            return self.defer(id, command, Right::Server);
        }
        let Some(index) = present else {
            return self.join(Join { answers: id, interest, since: None, right: Right::Server });
        };
        if state == Some(Subscription::Live) {
            self.subscriptions[index].1 = Subscription::Admitted;
        }
        self.reply(id, Outgoing::Subscribed { interest, start: None });
    }

    fn join(&mut self, join: Join) {
        let limit = self.rules.limits.subscriptions;
        if self.subscriptions.len() >= limit {
            let text = format!("a connection may have {limit} subscriptions");
            return self.fail(join.answers, Failure::new(ErrorCode::TooManySubscriptions, text));
        }
        if let Err(denied) = self.may_join(&join) {
            return self.fail(join.answers, denied.into());
        }
        if self.subscriptions.len() < 4 {
            // Most connections have few: hold no more than they need.
            self.subscriptions.reserve_exact(1);
        }
        let (interest, since) = (join.interest.clone(), join.since.clone());
        self.subscriptions.push((interest.clone(), Subscription::Joining));
        let op = self.begin(Pending::Join(join));
        self.effects.push_back(Effect::Join { op, interest, since });
    }

    fn may_join(&self, join: &Join) -> Result<(), Denied> {
        match join.right {
            Right::Own => self.may_subscribe(&join.interest),
            Right::Server => self.may_be_admitted(&join.interest),
        }
    }

    fn may_be_admitted(&self, interest: &Interest) -> Result<(), Denied> {
        if self.is_itself(interest) {
            return Ok(());
        }
        self.rules.namespaces.admit(interest)
    }

    pub(super) fn may_subscribe(&self, interest: &Interest) -> Result<(), Denied> {
        if self.is_itself(interest) {
            return Ok(());
        }
        self.authorize(action(interest), interest)
    }

    /// Whether the channel is that of this connection, or of the first one of its session.
    fn is_itself(&self, interest: &Interest) -> bool {
        let Some((CONNECTION_NAMESPACE, id)) = interest.as_str().split_once(':') else {
            return false;
        };
        id.parse().is_ok_and(|id: ConnectionId| id == self.id || id == self.origin)
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
            Subscription::Joining => {
                self.defer(id, Command::Unsubscribe { interest }, Right::Own);
            }
            Subscription::Server => {
                let text =
                    format!("`{interest}` was subscribed by the server, which alone can end it");
                self.fail(id, Failure::new(ErrorCode::Forbidden, text));
            }
            Subscription::Live | Subscription::Admitted => {
                self.leave(index);
                self.reply(id, Outgoing::Unsubscribed { interest });
            }
        }
    }

    pub(super) fn joined(&mut self, now: Now, join: Join, outcome: Result<(), BusError>) {
        let Some(index) = self.subscription(&join.interest) else { return };
        // A refresh may have taken the right away while the bus was asked.
        let allowed = outcome.map_err(Failure::from).and_then(|()| Ok(self.may_join(&join)?));
        let Join { answers, interest, since, right } = join;
        match allowed {
            Ok(()) => {
                self.subscriptions[index].1 = match right {
                    Right::Own => Subscription::Live,
                    Right::Server => Subscription::Admitted,
                };
                let (interest, answers) = (interest.clone(), Some(answers));
                self.effects.push_back(Effect::Deliver { interest, answers, since });
            }
            Err(failure) => {
                self.fail(answers, failure);
                self.leave(index);
            }
        }
        for (request, right) in self.take_deferred(&interest) {
            match (right, request.command) {
                (Right::Server, Command::Subscribe { interest, .. }) => {
                    self.handle_admission(request.id, interest);
                }
                (_, command) => self.command(now, Request { id: request.id, command }, 0),
            }
        }
    }

    /// A subscription that was to be delivered could not begin as it was asked for.
    pub(super) fn refused(&mut self, id: RequestId, interest: &Interest, failure: Failure) {
        let Some(index) = self.subscription(interest) else { return };
        self.fail(id, failure);
        self.leave(index);
    }

    /// A fresh token, and fresh rules, may allow less than the old ones did, and name fewer channels
    /// of the client's own.
    pub(super) fn leave_what_is_denied(&mut self) {
        let own = self.rules.namespaces.channels_on_connect(&self.identity);
        let denied: Vec<Interest> = self
            .subscriptions
            .iter()
            .filter(|(interest, state)| match (state, interest) {
                (Subscription::Server, Interest::Channel(channel)) => !own.contains(channel),
                (Subscription::Live, _) => self.may_subscribe(interest).is_err(),
                (Subscription::Admitted, _) => self.may_be_admitted(interest).is_err(),
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

    fn defer(&mut self, id: RequestId, command: Command, right: Right) {
        self.begin(Pending::Deferred(Box::new(Request { id, command }), right));
    }

    fn take_deferred(&mut self, interest: &Interest) -> Vec<(Request, Right)> {
        let deferred = self.pending.extract_if(.., |(_, pending)| pending.waits_for(interest));
        let requests = deferred
            .filter_map(|(_, pending)| match pending {
                Pending::Deferred(request, right) => Some((*request, right)),
                _ => None,
            })
            .collect();
        self.release_pending();
        requests
    }
}

impl Pending {
    fn waits_for(&self, interest: &Interest) -> bool {
        let Self::Deferred(request, _) = self else { return false };
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

//! From `connect` to its answer.

use std::{mem, time::Instant};

use super::{
    Connected, Effect, Failure, Limits, Now, Outgoing, Pending, Request, RequestId, Resumption,
    Session, State, Subscription, Token,
};
use crate::{
    access::Identity,
    code::{CloseCode, ErrorCode},
    history::Since,
    name::Interest,
    ports::BusError,
};

/// A `connect` that is under way.
#[derive(Debug)]
pub(super) struct Connecting {
    pub(super) request: RequestId,
    /// When to give up.
    pub(super) until: Instant,
    /// Channels of the client's own that the bus has not confirmed yet.
    joining: usize,
    pub(super) keeping: Keeping,
    pub(super) resumed: bool,
    /// The secret of the session that it is to go on with.
    recover: Option<Token>,
    /// What of its channels is to be caught up with, once they are joined.
    pub(super) missed: Option<Vec<(Interest, Box<Since>)>>,
    /// Commands that came meanwhile, with their entropy.
    pub(super) waiting: Vec<(Request, u128)>,
}

/// What becomes of a `connect`'s session.
#[derive(Debug)]
pub(super) enum Keeping {
    /// Nobody asked for it.
    Unwanted,
    /// It is to be kept, once it is known whose it is.
    Wanted,
    /// It is to be kept, once its channels are joined.
    WantedLast,
    /// It is being kept.
    UnderWay,
    /// It is kept, under this secret; `None`: it could not be.
    Done(Option<Token>),
}

impl Session {
    pub(super) fn connect(
        &mut self,
        now: Now,
        request: RequestId,
        token: Option<Token>,
        session: Resumption,
    ) {
        let Limits { connect_timeout, .. } = self.rules.limits;
        self.state = State::Connecting(Box::new(Connecting {
            request,
            until: now.instant + connect_timeout,
            joining: 0,
            keeping: match &session {
                Resumption::Never => Keeping::Unwanted,
                Resumption::Offered | Resumption::From(_) => Keeping::Wanted,
                Resumption::Recoverable(_) => Keeping::WantedLast,
            },
            resumed: false,
            recover: match &session {
                Resumption::Recoverable(secret) => secret.clone(),
                _ => None,
            },
            missed: None,
            waiting: Vec::new(),
        }));
        if let Resumption::From(secret) = session {
            let op = self.begin(Pending::Resume);
            return self.effects.push_back(Effect::Resume { op, secret });
        }
        if token.is_none() && !self.rules.anonymous {
            return self.fail_without_token();
        }
        let op = self.begin(Pending::Connect);
        self.effects.push_back(match token {
            Some(token) => Effect::Verify { op, token },
            None => Effect::Admit { op },
        });
    }

    pub(super) fn connect_verified(&mut self, now: Now, outcome: Result<Identity, Failure>) {
        match outcome {
            Ok(identity) => match self.take_recovery() {
                Some(secret) => self.ask_to_recover(now, identity, secret),
                None => self.join_own_channels(now, identity),
            },
            Err(failure) => {
                let close = match failure.code {
                    ErrorCode::TokenExpired => CloseCode::TokenExpired,
                    ErrorCode::Unavailable | ErrorCode::Overloaded => CloseCode::TryAgainLater,
                    _ => CloseCode::Unauthorized,
                };
                self.fail_connect(failure, close);
            }
        }
    }

    fn take_recovery(&mut self) -> Option<Token> {
        match &mut self.state {
            State::Connecting(connecting) => connecting.recover.take(),
            _ => None,
        }
    }

    pub(super) fn join_own_channels(&mut self, now: Now, identity: Identity) {
        self.set_identity(now, identity);
        let channels = self.rules.namespaces.channels_on_connect(&self.identity);
        let channels = channels.into_iter().map(|channel| (Interest::Channel(channel), None));
        self.join_at_once(now, channels.collect());
    }

    /// Joins what the client has without asking for it.
    pub(super) fn join_at_once(&mut self, now: Now, channels: Vec<(Interest, Option<Box<Since>>)>) {
        if channels.len() > self.rules.limits.subscriptions {
            let text = "the token's own channels exceed the limit";
            let failure = Failure::new(ErrorCode::TooManySubscriptions, text);
            return self.fail_connect(failure, CloseCode::Unauthorized);
        }
        let State::Connecting(connecting) = &mut self.state else { return };
        connecting.joining = channels.len();
        if let Keeping::Wanted = connecting.keeping {
            connecting.keeping = Keeping::UnderWay;
            let op = self.begin(Pending::Keep);
            self.effects.push_back(Effect::Keep { op });
        }
        self.subscriptions.reserve_exact(channels.len());
        for (interest, since) in channels {
            self.subscriptions.push((interest.clone(), Subscription::Joining));
            let op = self.begin(Pending::ServerJoin(interest.clone()));
            self.effects.push_back(Effect::Join { op, interest, since });
        }
        self.open_if_joined(now);
    }

    pub(super) fn server_joined(
        &mut self,
        now: Now,
        interest: &Interest,
        outcome: Result<(), BusError>,
    ) {
        let Some(index) = self.subscription(interest) else { return };
        if let Err(error) = outcome {
            self.leave(index);
            return self.fail_connect(Failure::from(error), CloseCode::TryAgainLater);
        }
        let Some(state) = self.unasked(interest) else { return self.fail_changed() };
        self.subscriptions[index].1 = state;
        if let State::Connecting(connecting) = &mut self.state {
            connecting.joining -= 1;
        }
        self.open_if_joined(now);
    }

    /// The rules have changed: looks again at what was joined so far for a client that is not
    /// answered yet. What is still being joined is looked at then.
    pub(super) fn look_at_joined(&mut self) {
        for index in 0..self.subscriptions.len() {
            let (interest, state) = &self.subscriptions[index];
            if *state == Subscription::Joining {
                continue;
            }
            let Some(state) = self.unasked(interest) else { return self.fail_changed() };
            self.subscriptions[index].1 = state;
        }
    }

    /// What a subscription is that the client has without asking for it now; `None`: the rules do
    /// not allow it any more.
    fn unasked(&self, interest: &Interest) -> Option<Subscription> {
        if self.is_own(interest) {
            return Some(Subscription::Server);
        }
        self.may_subscribe(interest).is_ok().then_some(Subscription::Live)
    }

    /// Once every channel of its own is joined, its session is kept, and what it missed is said: the
    /// answer first, then the channels are admitted, then the commands that waited.
    pub(super) fn open_if_joined(&mut self, now: Now) {
        let State::Connecting(connecting) = &mut self.state else { return };
        if connecting.joining > 0 || matches!(connecting.keeping, Keeping::UnderWay) {
            return;
        }
        // Nobody may have come by a session that was kept, or before the rules changed.
        if !self.rules.anonymous && !self.identity.is_authenticated() {
            return self.fail_without_token();
        }
        if matches!(connecting.keeping, Keeping::WantedLast) {
            connecting.keeping = Keeping::UnderWay;
            let op = self.begin(Pending::Keep);
            return self.effects.push_back(Effect::Keep { op });
        }
        if self.catches_up() {
            return;
        }
        let State::Connecting(connecting) = &mut self.state else { return };
        let session = match mem::replace(&mut connecting.keeping, Keeping::Unwanted) {
            Keeping::Done(secret) => secret,
            _ => None,
        };
        let resumed = connecting.resumed;
        let (request, waiting) = (connecting.request, mem::take(&mut connecting.waiting));
        self.state = State::Open;
        self.opened = true;
        let channels: Vec<Interest> = self.interests().cloned().collect();
        let connected = Connected {
            connection: self.id,
            user: self.identity.user.clone(),
            expires: self.identity.expires,
            channels: channels.clone(),
            ping_interval: self.rules.limits.ping_interval,
            message_bytes: self.rules.limits.message_bytes,
            resumed,
            session,
        };
        self.effects.push_back(Effect::Opened);
        self.reply(request, Outgoing::Connected(Box::new(connected)));
        for interest in channels {
            self.effects.push_back(Effect::Deliver { interest, answers: None, since: None });
        }
        for (request, entropy) in waiting {
            self.handle_request(now, request, entropy);
        }
    }

    fn fail_without_token(&mut self) {
        let text = "a token is needed: send it in `connect`";
        let failure = Failure::new(ErrorCode::Unauthorized, text);
        self.fail_connect(failure, CloseCode::Unauthorized);
    }

    fn fail_changed(&mut self) {
        let text = "the rules have just changed: connect again";
        let failure = Failure::new(ErrorCode::Unavailable, text);
        self.fail_connect(failure, CloseCode::TryAgainLater);
    }

    pub(super) fn fail_connect(&mut self, failure: Failure, close: CloseCode) {
        let State::Connecting(connecting) = &self.state else { return };
        let request = connecting.request;
        self.fail(request, failure);
        self.close(close);
    }
}

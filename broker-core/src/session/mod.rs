//! One client's conversation as a state machine without input or output.
//!
//! The driver feeds it commands, the outcomes of what it asked for, and the passing of time; it
//! answers with [`Effect`]s, to be carried out in order. Messages do not pass through here: once
//! an interest is admitted, fan-out writes to the connection directly.

mod command;
mod connecting;
mod effect;
mod present;
mod publishing;
mod recovering;
mod resuming;
mod rules;
mod subscriptions;
mod timers;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

pub use command::{Acks, Command, Publish, Request, Resumption, ServiceCall, Token, TokenKind};
pub use effect::{Connected, Effect, Failure, OpId, Outgoing, Reply, RequestId};
pub use present::{MembersQuery, Present};
pub use rules::{Limits, Now, Rules};

pub use crate::history::{Rewind, Since};
use crate::{
    access::{Action, Denied, Identity},
    code::{CloseCode, ErrorCode},
    id::ConnectionId,
    message::Data,
    name::{ChannelName, Interest},
    ports::{Accepted, BusError, Caller, PublishError, RequestError, ServiceRequest},
    position::Position,
};
use connecting::Connecting;
use publishing::{Attempt, Failed};
use subscriptions::{Join, Right, Subscription};
use timers::Timers;

/// One client's conversation. There are hundreds of thousands: what idles here is kept small.
#[derive(Debug)]
pub struct Session {
    id: ConnectionId,
    /// The first connection of the session.
    origin: ConnectionId,
    rules: Arc<Rules>,
    state: State,
    identity: Arc<Identity>,
    subscriptions: Vec<(Interest, Subscription)>,
    pending: Vec<(OpId, Pending)>,
    failed: Failed,
    effects: VecDeque<Effect>,
    timers: Timers,
    next_op: u32,
    acks: Acks,
    opened: bool,
    /// Whether the session can be resumed.
    kept: bool,
    draining: bool,
}

#[derive(Debug)]
enum State {
    /// Waits for `connect`, this long.
    Opening {
        until: Instant,
        /// Whether a session could not be resumed: only a token helps now.
        lost: bool,
    },
    /// `connect` is under way; commands that came meanwhile wait here.
    Connecting(Box<Connecting>),
    Open,
    Closed,
}

/// What a command waits for.
#[derive(Debug)]
enum Pending {
    Connect,
    Resume,
    /// With who the client is by its token.
    Recover(Box<Identity>),
    Keep,
    CatchUp,
    ServerJoin(Interest),
    Join(Join),
    /// Has no outcome of its own: it is carried out after the join of its interest.
    Deferred(Box<Request>, Right),
    Publish(Attempt),
    Call(RequestId),
    Members(RequestId),
    Refresh(RequestId),
}

impl Session {
    /// A conversation that has just been opened.
    #[must_use]
    pub fn new(id: ConnectionId, rules: Arc<Rules>, now: Now) -> Self {
        Self {
            id,
            origin: id,
            state: State::Opening {
                until: now.instant + rules.limits.connect_timeout,
                lost: false,
            },
            identity: Arc::default(),
            subscriptions: Vec::new(),
            pending: Vec::new(),
            failed: Failed::default(),
            effects: VecDeque::new(),
            timers: Timers::new(now, &rules.limits),
            next_op: 0,
            acks: Acks::default(),
            opened: false,
            kept: false,
            draining: false,
            rules,
        }
    }

    /// The next thing to do; effects are to be carried out in this order. An outcome that is
    /// known at once is best handed in at once, before the next effect is taken.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        if effect.is_none() {
            self.effects = VecDeque::new();
        }
        effect
    }

    /// Who is connected.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The first connection of the session; this one, unless it resumed another's.
    #[must_use]
    pub const fn origin(&self) -> ConnectionId {
        self.origin
    }

    /// Who says which messages to the user were taken in.
    #[must_use]
    pub const fn acks(&self) -> Acks {
        self.acks
    }

    /// Whether `connect` has succeeded, and the session has not ended since.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether `connect` has ever succeeded; true from [`Effect::Opened`] on.
    #[must_use]
    pub fn was_opened(&self) -> bool {
        self.opened
    }

    /// Whether another command may be handed in now; if not, some outcome must come first. One
    /// that is handed in all the same is taken: the bound is the caller's to keep.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let waiting = match &self.state {
            State::Connecting(connecting) => connecting.waiting.len(),
            _ => 0,
        };
        self.pending.len() + waiting < self.rules.limits.in_flight
    }

    /// What the connection is subscribed to, to be undone when it ends: what was joined and not
    /// left. Interests that are still being joined are among them.
    pub fn interests(&self) -> impl Iterator<Item = &Interest> {
        self.subscriptions.iter().map(|(interest, _)| interest)
    }

    /// Anything at all came from the client.
    pub fn handle_activity(&mut self, now: Now) {
        self.timers.heard(now, &self.rules.limits);
    }

    /// The client asks for something. `entropy` becomes the message id where it gave none.
    pub fn handle_request(&mut self, now: Now, request: Request, entropy: u128) {
        match &mut self.state {
            State::Closed => {}
            State::Opening { lost, .. } => match request.command {
                Command::Connect { session: Resumption::From(_), .. } if *lost => {
                    let text = "there is one attempt to resume: send `connect` with a token";
                    self.fail(request.id, Failure::new(ErrorCode::BadRequest, text));
                }
                Command::Connect { token, acks, session } => {
                    self.acks = acks;
                    self.connect(now, request.id, token, session);
                }
                Command::Ping => self.reply(request.id, Outgoing::Pong),
                _ => self.fail_unconnected(request.id),
            },
            State::Connecting(connecting) => connecting.waiting.push((request, entropy)),
            State::Open => self.command(now, request, entropy),
        }
    }

    /// The server subscribes the client, who may not be able to do so itself: no rule is asked, now
    /// or when its token is refreshed. Else it is as a [`Command::Subscribe`] with this number, but
    /// that it may be repeated. Nothing that comes from the wire may lead here unasked.
    pub fn handle_admission(&mut self, id: RequestId, interest: Interest) {
        match self.state {
            State::Closed => {}
            State::Open if self.draining => self.fail_draining(id),
            State::Open => self.admit(id, interest),
            State::Opening { .. } | State::Connecting(_) => self.fail_unconnected(id),
        }
    }

    /// A frame could not be read as a command; the connection stays.
    pub fn handle_malformed(&mut self, id: RequestId, failure: Failure) {
        if !matches!(self.state, State::Closed) {
            self.fail(id, failure);
        }
    }

    /// The outcome of [`Effect::Verify`].
    pub fn handle_verified(&mut self, now: Now, op: OpId, outcome: Result<Identity, Failure>) {
        match self.finish(op) {
            Some(Pending::Connect) => self.connect_verified(now, outcome),
            Some(Pending::Refresh(id)) => self.refresh_verified(now, id, outcome),
            _ => {}
        }
        self.close_if_drained();
    }

    /// The outcome of [`Effect::Join`].
    pub fn handle_joined(&mut self, now: Now, op: OpId, outcome: Result<(), BusError>) {
        match self.finish(op) {
            Some(Pending::ServerJoin(interest)) => self.server_joined(now, &interest, outcome),
            Some(Pending::Join(join)) => self.joined(now, join, outcome),
            _ => {}
        }
        self.close_if_drained();
    }

    /// An [`Effect::Deliver`] that answers the command with this number was not carried out.
    pub fn handle_refused(&mut self, id: RequestId, interest: &Interest, failure: Failure) {
        self.refused(id, interest, failure);
    }

    /// The outcome of [`Effect::Publish`].
    pub fn handle_published(&mut self, op: OpId, outcome: Result<Accepted, PublishError>) {
        if let Some(Pending::Publish(attempt)) = self.finish(op) {
            self.published(attempt, outcome);
        }
        self.close_if_drained();
    }

    /// The outcome of [`Effect::Call`].
    pub fn handle_answered(&mut self, op: OpId, outcome: Result<Data, RequestError>) {
        if let Some(Pending::Call(id)) = self.finish(op) {
            match outcome {
                Ok(data) => self.reply(id, Outgoing::Answer { data }),
                Err(error) => self.fail(id, Failure::from(error)),
            }
        }
        self.close_if_drained();
    }

    /// The gateway goes away: no new work is taken, what is under way is finished, then the
    /// connection is closed and told to come back after `after`.
    pub fn handle_drain(&mut self, after: Duration) {
        if self.draining || matches!(self.state, State::Closed) {
            return;
        }
        self.draining = true;
        self.reply(None, Outgoing::Reconnect { after });
        self.close_if_drained();
    }

    /// From now on, other rules hold. What they do not allow ends: subscriptions, and the connection
    /// of nobody where a token has become needed. Who has joined meanwhile what they do not allow
    /// connects again.
    pub fn handle_rules(&mut self, rules: Arc<Rules>) {
        self.rules = rules;
        match self.state {
            State::Open => {}
            State::Connecting(_) => return self.look_at_joined(),
            State::Opening { .. } | State::Closed => return,
        }
        if !self.rules.anonymous && !self.identity.is_authenticated() {
            return self.close(CloseCode::Unauthorized);
        }
        self.leave_what_is_denied();
    }

    /// Something outside ends the connection.
    pub fn handle_close(&mut self, code: CloseCode) {
        self.close(code);
    }

    fn command(&mut self, now: Now, request: Request, entropy: u128) {
        let id = request.id;
        match request.command {
            Command::Connect { .. } => {
                let text = "`connect` was sent before";
                self.fail(id, Failure::new(ErrorCode::AlreadyConnected, text));
            }
            Command::Ping => self.reply(id, Outgoing::Pong),
            Command::Unsubscribe { interest } => self.unsubscribe(id, interest),
            Command::Abandon { channel } => {
                self.failed.abandon(&channel);
                self.reply(id, Outgoing::Abandoned);
            }
            _ if self.draining => self.fail_draining(id),
            Command::Refresh { token } => self.refresh(id, token),
            Command::Subscribe { interest, since } => self.subscribe(id, interest, since),
            Command::Publish(publish) => self.publish(now, id, publish, entropy),
            Command::Acknowledge { position } => self.acknowledge(id, position),
            Command::Call(call) => self.call(id, call),
            Command::Members(query) => self.ask_members(id, query),
        }
    }

    fn acknowledge(&mut self, answers: RequestId, position: Position) {
        let own = self.identity.user.as_ref().map(ChannelName::of_user);
        if own.is_none_or(|own| self.rules.namespaces.queue_of(&own).is_none()) {
            let text = "there is no offline queue for this connection's user";
            return self.fail(answers, Failure::new(ErrorCode::NoQueue, text));
        }
        self.effects.push_back(Effect::Acknowledge { answers, position });
    }

    fn call(&mut self, id: RequestId, call: ServiceCall) {
        let refused = self.check_size(call.data.len()).and_then(|()| {
            self.authorize(Action::Request, &Interest::Channel(call.address.clone()))
                .map_err(Failure::from)
        });
        if let Err(failure) = refused {
            return self.fail(id, failure);
        }
        let longest = self.rules.limits.request_timeout;
        let request = ServiceRequest {
            address: call.address,
            event: call.event,
            data: call.data,
            caller: Caller {
                connection: self.id,
                user: self.identity.user.clone(),
                roles: self.identity.roles.clone(),
            },
            timeout: call.timeout.unwrap_or(longest).min(longest),
            trace: call.trace,
        };
        let op = self.begin(Pending::Call(id));
        self.effects.push_back(Effect::Call { op, request });
    }

    /// One at a time, so that an older token cannot replace a newer one.
    fn refresh(&mut self, id: RequestId, token: Token) {
        if self.pending.iter().any(|(_, pending)| matches!(pending, Pending::Refresh(_))) {
            let text = "a refresh is under way: wait for its answer";
            return self.fail(id, Failure::new(ErrorCode::Overloaded, text));
        }
        let op = self.begin(Pending::Refresh(id));
        self.effects.push_back(Effect::Verify { op, token });
    }

    fn refresh_verified(&mut self, now: Now, id: RequestId, outcome: Result<Identity, Failure>) {
        match outcome {
            Ok(identity) if identity.user != self.identity.user => {
                let text = "the fresh token is for another user: reconnect with it";
                self.fail(id, Failure::new(ErrorCode::Unauthorized, text));
            }
            Ok(identity) => {
                self.set_identity(now, identity);
                self.leave_what_is_denied();
                if self.kept {
                    self.effects.push_back(Effect::KeepAnew);
                }
                self.reply(id, Outgoing::Refreshed { expires: self.identity.expires });
            }
            Err(failure) => self.fail(id, failure),
        }
    }

    fn set_identity(&mut self, now: Now, mut identity: Identity) {
        self.timers.set_expiry(now, identity.expires);
        identity.roles.shrink_to_fit();
        identity.grants.shrink_to_fit();
        self.identity = Arc::new(identity);
    }

    fn authorize(&self, action: Action, interest: &Interest) -> Result<(), Denied> {
        self.rules.namespaces.authorize(&self.identity, action, interest)
    }

    fn check_size(&self, bytes: usize) -> Result<(), Failure> {
        let limit = self.rules.limits.message_bytes;
        if bytes <= limit {
            return Ok(());
        }
        Err(Failure::new(
            ErrorCode::MessageTooLarge,
            format!("the data has {bytes} bytes, the limit is {limit}"),
        ))
    }

    fn close_if_drained(&mut self) {
        if self.draining && self.pending.is_empty() {
            self.close(CloseCode::ServiceRestart);
        }
    }

    fn close(&mut self, code: CloseCode) {
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            self.pending = Vec::new();
            self.effects.push_back(Effect::Close(code));
        }
    }

    fn reply(&mut self, id: RequestId, body: Outgoing) {
        self.effects.push_back(Effect::Send(Reply { id, body }));
    }

    fn fail(&mut self, id: RequestId, failure: Failure) {
        self.reply(id, Outgoing::Error(failure));
    }

    fn fail_unconnected(&mut self, id: RequestId) {
        self.fail(id, Failure::new(ErrorCode::NotConnected, "send `connect` first"));
    }

    fn fail_draining(&mut self, id: RequestId) {
        let text = "this gateway is going away: reconnect";
        self.fail(id, Failure::new(ErrorCode::Unavailable, text));
    }

    fn begin(&mut self, pending: Pending) -> OpId {
        let op = OpId(self.next_op);
        self.next_op = self.next_op.wrapping_add(1);
        self.pending.push((op, pending));
        op
    }

    fn finish(&mut self, op: OpId) -> Option<Pending> {
        let index = self.pending.iter().position(|(known, _)| *known == op)?;
        let (_, pending) = self.pending.remove(index);
        self.release_pending();
        Some(pending)
    }

    fn release_pending(&mut self) {
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests;

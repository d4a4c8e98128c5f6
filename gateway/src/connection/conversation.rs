//! One client's session, carried out: between what it says and hears on one side, and hub, bus and
//! stores on the other. It knows how things are said, but not how bytes come in.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use broker_core::{
    CloseCode, ConnectionId, ErrorCode, Identity, Interest, Position,
    message::Data,
    ports::{Accepted, BoxFuture, BusError, PublishError, RequestError},
    recovery::Progress,
    resume::Resumed,
    session::{Acks, Command, Failure, OpId, Present, Request, Resumption, Session, Token},
};
use broker_protocol::socketio::{AckId, Args};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{Client, Deps};
use crate::{
    clock,
    dialect::Dialect,
    keeper::{Kept, Recovery},
    outbox::{Notices, Outbox, Pushed},
    socket::Socket,
    telemetry::Metrics,
    wheel,
};

/// A session and what it waits for. What idles here is kept small.
pub(crate) struct Conversation {
    pub(super) deps: Arc<Deps>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) session: Session,
    pub(super) dialect: Dialect,
    /// What the session waits for; boxed, since most wait for nothing.
    under_way: Option<Box<FuturesUnordered<BoxFuture<'static, Outcome>>>>,
    /// When the wheel will tell that a timer is due.
    scheduled: Option<Instant>,
    pub(super) client: Client,
    /// What the client will have taken in when it answers a probe.
    pub(super) probed: Option<Box<Position>>,
    pub(super) end: Option<End>,
    /// Whether hub and directory know of it.
    listed: bool,
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// The server closes it, and has queued the last frame.
    Closing(CloseCode),
    /// The client closed it properly.
    ByClient,
    /// The link broke.
    Broken,
}

/// What there is to do for a conversation, beside reading.
pub(crate) enum Step {
    Attention,
    Done(Outcome),
}

pub(crate) enum Outcome {
    Verified(OpId, Result<Identity, Failure>),
    Resumed(OpId, Result<Resumed, Failure>),
    Recovered(OpId, Result<Box<Recovery>, &'static str>),
    Kept(OpId, Option<Box<Kept>>),
    Joined(OpId, Result<(), BusError>),
    Published(OpId, Result<Accepted, PublishError>),
    Answered(OpId, Result<Data, RequestError>),
    Present(OpId, Result<Present, Failure>),
    /// What the client is told beside its session.
    Say(Bytes),
}

impl Conversation {
    pub(crate) fn new(
        deps: Arc<Deps>,
        id: ConnectionId,
        socket: Box<dyn Socket>,
        client: Client,
        dialect: Dialect,
    ) -> Self {
        let outbox =
            Outbox::new(id, socket, deps.wire.queue_bytes).with_encoding(dialect.encoding());
        if dialect.recovers() {
            outbox.track(Progress::new(id));
        }
        let outbox = Arc::new(outbox);
        deps.hub.add(&outbox);
        // Only now: a change before is seen here, one after is told to all that are in the hub.
        let deps = deps.latest();
        deps.metrics.connections.inc();
        deps.metrics.connection_opened(client.transport.name());
        Self {
            session: Session::new(id, Arc::clone(&deps.rules), clock::now()),
            dialect,
            under_way: None,
            scheduled: None,
            client,
            probed: None,
            end: None,
            listed: true,
            outbox,
            deps,
        }
    }

    /// Says who comes, for a client that has said it with its request.
    pub(crate) fn connect(&mut self, token: Option<Token>, acks: Acks) {
        let session = match &self.dialect {
            Dialect::Faced(faced) => faced.resumption(),
            Dialect::Native { .. } => Resumption::Never,
        };
        let command = Command::Connect { token, acks, session };
        self.session.handle_request(clock::now(), Request { id: None, command }, rand::random());
    }

    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.outbox.poll_attention(cx).is_ready() {
            return Poll::Ready(Step::Attention);
        }
        if let Some(under_way) = &mut self.under_way {
            match under_way.poll_next_unpin(cx) {
                Poll::Ready(Some(outcome)) => return Poll::Ready(Step::Done(outcome)),
                Poll::Ready(None) => self.under_way = None,
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// Takes what came of something, and of all else that has come to an end.
    pub(super) fn take_outcomes(&mut self, outcome: Outcome) {
        self.finish(outcome);
        while let Some(Some(outcome)) =
            self.under_way.as_mut().and_then(|ops| ops.next().now_or_never())
        {
            self.finish(outcome);
        }
    }

    /// Does what the session wants done, and lets the bytes go.
    pub(crate) fn settle(&mut self) {
        self.perform_effects();
        self.outbox.uncork();
        if let Some(deadline) = self.session.poll_timeout().map(Instant::from_std)
            && self.scheduled.is_none_or(|scheduled| deadline + wheel::TICK < scheduled)
        {
            self.scheduled = Some(self.deps.wheel.schedule(deadline, &self.outbox));
        }
    }

    /// For a dialect whose transport sees to silence: does what there is to do.
    pub(crate) fn take_step(&mut self, step: Step) {
        match step {
            Step::Done(outcome) => self.take_outcomes(outcome),
            Step::Attention => {
                let notices = self.outbox.take_notices();
                if self.outbox.is_flushed().is_err() {
                    self.end.get_or_insert(End::Broken);
                }
                if self.take_due(notices.due) {
                    self.session.handle_timeout(clock::now());
                }
                self.look_at_notices(notices);
            }
        }
    }

    /// Asks for something, with the number that the answer will have.
    pub(crate) fn request(&mut self, number: Option<u64>, command: Command) {
        self.deps.metrics.commands.with_label_values(&[command.name()]).inc();
        let request = Request { id: number, command };
        self.session.handle_request(clock::now(), request, rand::random());
    }

    /// Subscribes the client by the server's own right, with the number that the answer will have.
    pub(super) fn admit(&mut self, number: u64, interest: Interest) {
        self.deps.metrics.commands.with_label_values(&["subscribe"]).inc();
        self.session.handle_admission(Some(number), interest);
    }

    /// Queues what no command was asked for.
    pub(crate) fn say(&self, frames: &Bytes) {
        if !frames.is_empty() {
            queue(&self.outbox, &self.deps.metrics, (frames, 0));
        }
    }

    /// Queues what is known later.
    pub(crate) fn say_later(&mut self, frames: BoxFuture<'static, Bytes>) {
        self.wait_for(frames.map(Outcome::Say).boxed());
    }

    /// Counts what the client was refused without a word of its session.
    pub(crate) fn count_error(&self, code: ErrorCode) {
        self.deps.metrics.errors.with_label_values(&[code.as_str()]).inc();
    }

    /// The client answers what a service asked it.
    pub(crate) fn acknowledged(&self, id: AckId, args: Args) {
        self.deps.asks.answered(self.outbox.id(), id, args);
    }

    /// Ends it, for a client that was told that it may not be here.
    pub(super) fn end_refused(&mut self) {
        if self.end.is_none() {
            self.session.handle_close(CloseCode::Unauthorized);
        }
    }

    /// The client ends it.
    pub(crate) fn end_by_client(&mut self) {
        self.end.get_or_insert(End::ByClient);
        self.unlist();
    }

    pub(crate) fn cork(&self) {
        self.outbox.cork();
    }

    /// Whether another command may be handed in. What is known later takes up room as well.
    pub(crate) fn has_room(&self) -> bool {
        let under_way = self.under_way.as_ref().map_or(0, |ops| ops.len());
        let early = matches!(&self.dialect, Dialect::Faced(faced) if faced.has_early());
        self.session.has_room() && under_way < self.deps.rules.limits.in_flight && !early
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.outbox.is_flushed().unwrap_or(true)
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.end
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Whether the client was let in, and told so.
    pub(crate) fn is_connected(&self) -> bool {
        match &self.dialect {
            Dialect::Native { .. } => self.session.is_open(),
            Dialect::Faced(faced) => faced.is_connected(),
        }
    }

    /// Whether the transport is to ask the client for a sign of life.
    pub(crate) fn take_probe(&mut self) -> Option<()> {
        match &mut self.dialect {
            Dialect::Faced(faced) => faced.take_probe().then_some(()),
            Dialect::Native { .. } => None,
        }
    }

    pub(crate) fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// Whether a timer is due now. Of several entries in the wheel, the last one made counts.
    pub(super) fn take_due(&mut self, told: bool) -> bool {
        told && self.scheduled.take_if(|at| *at <= Instant::now()).is_some()
    }

    /// Looks at what it was told, but for its timers.
    pub(super) fn look_at_notices(&mut self, notices: Notices) {
        let Notices { due: _, drain, probe, changed, close } = notices;
        if changed {
            self.take_over_change();
        }
        if let Some(after) = drain {
            self.session.handle_drain(Duration::from_millis(after.into()));
        }
        if probe {
            self.probe();
        }
        if let Some(code) = close {
            self.session.handle_close(code);
        }
    }

    /// Goes by the configuration that holds now. Who has shown an API key may stay as long as that is
    /// good, and whom the client's face wants now.
    fn take_over_change(&mut self) {
        self.deps = Arc::clone(&self.deps).latest();
        let identity = self.session.identity();
        let known = self.deps.authenticator.api_keys.still_know(identity);
        if !known || self.session.is_open() && self.is_wanted(identity).is_err() {
            self.session.handle_close(CloseCode::Unauthorized);
        }
        self.session.handle_rules(Arc::clone(&self.deps.rules));
    }

    fn let_back(&self, Resumed { origin, identity }: Resumed) -> Result<Resumed, Failure> {
        let identity = self.deps.authenticator.api_keys.let_back(identity)?;
        Ok(Resumed { origin, identity })
    }

    /// Whom the client's face does not want has no session: nothing is given to it.
    fn let_in(&self, identity: Identity) -> Result<Identity, Failure> {
        self.is_wanted(&identity).map(|()| identity)
    }

    fn is_wanted(&self, identity: &Identity) -> Result<(), Failure> {
        let Dialect::Faced(faced) = &self.dialect else { return Ok(()) };
        let checked = faced.framing().face().auth.require.check(identity);
        checked.map_err(|unmet| Failure::new(ErrorCode::Forbidden, unmet.to_string()))
    }

    pub(super) fn finish(&mut self, outcome: Outcome) {
        let now = clock::now();
        match outcome {
            Outcome::Verified(op, outcome) => {
                let outcome = outcome.and_then(|identity| self.let_in(identity));
                self.session.handle_verified(now, op, outcome);
            }
            Outcome::Resumed(op, outcome) => {
                let outcome = outcome.and_then(|resumed| self.let_back(resumed));
                self.session.handle_resumed(now, op, outcome);
            }
            Outcome::Recovered(op, outcome) => self.recovered(op, outcome),
            Outcome::Kept(op, kept) => {
                let secret = kept.map(|kept| self.deps.keeper.watch(*kept));
                if secret.is_none() {
                    self.not_kept();
                }
                self.session.handle_kept(now, op, secret);
            }
            Outcome::Joined(op, outcome) => self.session.handle_joined(now, op, outcome),
            Outcome::Published(op, outcome) => self.session.handle_published(op, outcome),
            Outcome::Answered(op, outcome) => self.session.handle_answered(op, outcome),
            Outcome::Present(op, outcome) => self.session.handle_members(op, outcome),
            Outcome::Say(frames) => self.say(&frames),
        }
    }

    pub(super) fn wait_for(&mut self, operation: BoxFuture<'static, Outcome>) {
        self.under_way.get_or_insert_default().push(operation);
    }

    /// Gives back what the connection held.
    pub(crate) fn unlist(&mut self) {
        if !mem::take(&mut self.listed) {
            return;
        }
        self.under_way = None;
        let (hub, id) = (&self.deps.hub, self.outbox.id());
        for interest in self.session.interests() {
            hub.leave(interest, id);
        }
        hub.remove(id);
        self.deps.asks.ended(id);
        let closed = match (self.end, &self.dialect) {
            (Some(End::Closing(code)), _) => Some(code),
            // It has left the namespace, not only lost its transport.
            (Some(End::ByClient), Dialect::Faced(_)) => Some(CloseCode::Normal),
            _ => None,
        };
        self.deps.keeper.closed(id, closed);
        if self.session.was_opened() {
            self.deps.directory.disconnected(id, self.outbox.user().cloned());
        } else {
            self.deps.metrics.handshake("failed");
        }
    }
}

/// Also where the task panicked: else what the connection held would be held for ever.
impl Drop for Conversation {
    fn drop(&mut self) {
        self.unlist();
        let metrics = &self.deps.metrics;
        metrics.dropped("connection_lost", self.outbox.abandon().into());
        let (code, initiator) = match self.end {
            Some(End::Closing(code)) => (code.number(), "server"),
            Some(End::ByClient) => (CloseCode::Normal.number(), "client"),
            Some(End::Broken) => (1006, "network"),
            None => (1006, "server"),
        };
        tracing::debug!(connection = %self.outbox.id(), code, initiator, "a connection has ended");
        metrics.connections.dec();
        metrics.connection_closed(code, initiator);
    }
}

/// Queues frames, so many of them messages.
pub(super) fn queue(outbox: &Outbox, metrics: &Metrics, (frames, messages): (&Bytes, u32)) {
    if let Pushed::Overflow { lost } = outbox.push(frames, messages) {
        metrics.slow_client(lost);
    }
}

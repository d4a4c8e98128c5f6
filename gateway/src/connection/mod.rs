//! One client's connection: hot path 1. Start reading at [`Connection::run`].

mod echo;
mod upgrade;

use std::{cell::RefCell, future::poll_fn, io::ErrorKind, sync::Arc, task::Poll, time::Duration};

use broker_core::{
    CloseCode, ConnectionId, Identity, Interest, Message,
    message::Data,
    ports::{BoxFuture, Bus, BusError, PublishError, RequestError, ServiceRequest},
    session::{Command, Effect, Failure, OpId, Outgoing, Reply, Request, Rules, Session, Token},
};
use broker_protocol::{
    native,
    ws::{self, Decoder, Incoming},
};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::{self, Instant};

pub(crate) use upgrade::{Admission, router};

use crate::{
    auth::Verifier,
    clock,
    directory::Directory,
    hub::Hub,
    outbox::{Outbox, Pushed},
    socket::Socket,
    telemetry::{ActiveSpan, Metrics, Source, Tracing},
    wheel::Wheel,
};

/// Read buffer, shared by all connections of a thread: an idle connection has none.
const SCRATCH_BYTES: usize = 64 * 1024;
/// How long a closing connection may take to take its last bytes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// What every connection uses.
#[derive(Debug)]
pub(crate) struct Deps {
    pub(crate) rules: Arc<Rules>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) wheel: Arc<Wheel>,
    pub(crate) directory: Directory,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tracing: Arc<Tracing>,
    pub(crate) wire: WireLimits,
}

/// Bounds on what a client may put on the wire, beyond those of its session.
#[derive(Debug, Clone)]
pub(crate) struct WireLimits {
    /// Bytes that wait to be written to a client.
    pub(crate) queue_bytes: usize,
    /// Largest frame, before `connect` and after.
    pub(crate) frame_bytes_before_connect: usize,
    pub(crate) frame_bytes: usize,
    /// Pings and pongs in a second.
    pub(crate) control_frames_per_second: u32,
}

/// A connection and its task's state. What idles here is kept small.
pub(crate) struct Connection {
    deps: Arc<Deps>,
    outbox: Arc<Outbox>,
    session: Session,
    decoder: Decoder,
    /// What the session waits for; boxed, since most connections wait for nothing.
    under_way: Option<Box<FuturesUnordered<BoxFuture<'static, Outcome>>>>,
    scheduled: Option<Instant>,
    control_frames: ControlBudget,
    user_agent: Option<Box<str>>,
    end: Option<End>,
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The server closes it, and has queued the close frame.
    Closing(CloseCode),
    /// The client closed it properly.
    ByClient,
    /// The link broke.
    Broken,
}

enum Event {
    Readable,
    Attention,
    Done(Outcome),
}

enum Outcome {
    Verified(OpId, Result<Identity, Failure>),
    Joined(OpId, Result<(), BusError>),
    Published(OpId, Result<(), PublishError>),
    Answered(OpId, Result<Data, RequestError>),
}

impl Connection {
    pub(crate) fn new(
        deps: Arc<Deps>,
        socket: Box<dyn Socket>,
        user_agent: Option<Box<str>>,
    ) -> Self {
        let id = ConnectionId(rand::random());
        let outbox = Arc::new(Outbox::new(id, socket, deps.wire.queue_bytes));
        deps.hub.add(&outbox);
        deps.metrics.connections.inc();
        deps.metrics.connections_opened.inc();
        Self {
            session: Session::new(id, Arc::clone(&deps.rules), clock::now()),
            decoder: Decoder::new(ws::Role::Server, deps.wire.frame_bytes_before_connect),
            under_way: None,
            scheduled: None,
            control_frames: ControlBudget::default(),
            user_agent,
            end: None,
            outbox,
            deps,
        }
    }

    /// Serves the client until one side ends it. `token` came with the upgrade request, `unread`
    /// right behind it.
    pub(crate) async fn run(mut self, token: Option<Token>, unread: Bytes) {
        self.start(token, unread);
        self.settle();
        while self.end.is_none() {
            let event = self.next_event().await;
            self.outbox.cork();
            self.handle(event);
            self.settle();
        }
        Box::pin(self.close()).await;
    }

    fn start(&mut self, token: Option<Token>, unread: Bytes) {
        self.outbox.cork();
        if let Some(token) = token {
            let request = Request { id: None, command: Command::Connect { token: Some(token) } };
            self.session.handle_request(clock::now(), request, rand::random());
        }
        if !unread.is_empty() {
            self.take_bytes(&mut Vec::from(unread));
        }
    }

    async fn next_event(&mut self) -> Event {
        poll_fn(|cx| {
            if self.outbox.poll_attention(cx).is_ready() {
                return Poll::Ready(Event::Attention);
            }
            if let Some(under_way) = &mut self.under_way {
                match under_way.poll_next_unpin(cx) {
                    Poll::Ready(Some(outcome)) => return Poll::Ready(Event::Done(outcome)),
                    Poll::Ready(None) => self.under_way = None,
                    Poll::Pending => {}
                }
            }
            if self.session.has_room() && self.outbox.socket().poll_read_ready(cx).is_ready() {
                return Poll::Ready(Event::Readable);
            }
            Poll::Pending
        })
        .await
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Readable => self.read(),
            Event::Attention => self.look_at_notices(),
            Event::Done(outcome) => {
                self.finish(outcome);
                while let Some(Some(outcome)) =
                    self.under_way.as_mut().and_then(|ops| ops.next().now_or_never())
                {
                    self.finish(outcome);
                }
            }
        }
    }

    /// Does what the session wants done, and lets the bytes go.
    fn settle(&mut self) {
        self.perform_effects();
        self.outbox.uncork();
        if let Some(deadline) = self.session.poll_timeout().map(Instant::from_std)
            && self.scheduled.is_none_or(|scheduled| deadline < scheduled)
        {
            self.scheduled = Some(deadline);
            self.deps.wheel.schedule(deadline, &self.outbox);
        }
    }

    fn read(&mut self) {
        SCRATCH.with_borrow_mut(|scratch| match self.outbox.socket().try_read(scratch) {
            Ok(0) => self.end = Some(End::Broken),
            Ok(count) => self.take_bytes(&mut scratch[..count]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.end = Some(End::Broken),
        });
    }

    fn take_bytes(&mut self, mut bytes: &mut [u8]) {
        let now = clock::now();
        self.session.handle_activity(now);
        loop {
            let (session, metrics) = (&mut self.session, &self.deps.metrics);
            let mut command = |decoded: Result<Request, native::Malformed>| match decoded {
                Ok(request) => {
                    metrics.commands.with_label_values(&[request.command.name()]).inc();
                    session.handle_request(now, request, rand::random());
                }
                Err(malformed) => session.handle_malformed(malformed.id, malformed.failure),
            };
            match self.decoder.next(&mut bytes) {
                Ok(None) => return,
                Ok(Some(Incoming::Text(text))) => native::decode_text(text, &mut command),
                Ok(Some(Incoming::Binary(frame))) => native::decode_binary(frame, &mut command),
                Ok(Some(Incoming::Ping(payload))) => {
                    let pong = ws::frame::pong_frame(payload);
                    self.outbox.push(&pong, 0);
                    self.count_control_frame(now.instant.into());
                }
                Ok(Some(Incoming::Pong(_))) => self.count_control_frame(now.instant.into()),
                Ok(Some(Incoming::Close(frame))) => {
                    let code = frame.map_or(CloseCode::Normal.number(), |frame| frame.code);
                    self.outbox.seal(ws::frame::close_frame(code, ""));
                    self.end = Some(End::ByClient);
                    return;
                }
                Err(error) => return self.session.handle_close(close_code(error)),
            }
        }
    }

    fn count_control_frame(&mut self, now: Instant) {
        if !self.control_frames.take(now, self.deps.wire.control_frames_per_second) {
            self.session.handle_close(CloseCode::Policy);
        }
    }

    fn look_at_notices(&mut self) {
        let notices = self.outbox.take_notices();
        if self.outbox.is_flushed().is_err() {
            self.end = Some(End::Broken);
        }
        if notices.due {
            self.scheduled = None;
            self.session.handle_timeout(clock::now());
        }
        if let Some(after) = notices.drain {
            self.session.handle_drain(Duration::from_millis(after.into()));
        }
        if let Some(code) = notices.close {
            self.session.handle_close(code);
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        let now = clock::now();
        match outcome {
            Outcome::Verified(op, outcome) => self.session.handle_verified(now, op, outcome),
            Outcome::Joined(op, outcome) => self.session.handle_joined(now, op, outcome),
            Outcome::Published(op, outcome) => self.session.handle_published(op, outcome),
            Outcome::Answered(op, outcome) => self.session.handle_answered(op, outcome),
        }
    }

    fn perform_effects(&mut self) {
        let mut replies = BytesMut::new();
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Send(reply) => self.encode(&reply, &mut replies),
                Effect::Ping => replies.extend_from_slice(&ws::frame::ping_frame(b"")),
                Effect::Verify { op, token } => self.verify(op, token),
                Effect::Admit { op } => self.finish(Outcome::Verified(op, Ok(Identity::default()))),
                Effect::Opened => self.opened(),
                Effect::Join { op, interest } => self.join(op, &interest),
                Effect::Deliver { interest } => {
                    // The answer goes into the queue before the first message can.
                    self.push(&mut replies);
                    self.deps.hub.deliver(interest, Arc::clone(&self.outbox));
                }
                Effect::Leave { interest } => self.leave(&interest),
                Effect::Publish { op, message } => self.publish(op, message),
                Effect::Call { op, request } => self.call(op, request),
                Effect::Close(code) => {
                    self.push(&mut replies);
                    self.outbox.seal(ws::frame::close_frame(code.number(), code.reason()));
                    self.end.get_or_insert(End::Closing(code));
                }
            }
        }
        self.push(&mut replies);
    }

    fn encode(&self, reply: &Reply, out: &mut BytesMut) {
        if let Outgoing::Error(failure) = &reply.body {
            self.deps.metrics.errors.with_label_values(&[failure.code.as_str()]).inc();
        }
        native::encode_reply(reply, out);
    }

    fn push(&self, replies: &mut BytesMut) {
        if !replies.is_empty()
            && matches!(self.outbox.push(&replies.split().freeze(), 0), Pushed::Overflow { .. })
        {
            self.deps.metrics.slow_client();
        }
    }

    fn verify(&mut self, op: OpId, token: Token) {
        if let Some(outcome) = self.deps.verifier.verify_now(&token) {
            return self.finish(Outcome::Verified(op, outcome));
        }
        let verifier = Arc::clone(&self.deps.verifier);
        self.wait_for(async move { Outcome::Verified(op, verifier.verify(&token).await) }.boxed());
    }

    fn opened(&mut self) {
        self.decoder.set_max_message(self.deps.wire.frame_bytes);
        let user = self.session.identity().user.clone();
        let info = self.deps.directory.describe(self.outbox.id(), user, self.user_agent.take());
        self.outbox.set_info(info.clone());
        self.deps.directory.connected(info);
        self.deps.metrics.handshake("ok");
    }

    fn join(&mut self, op: OpId, interest: &Interest) {
        if self.session.interests().any(|other| may_overlap(interest, other)) {
            self.outbox.watch_overlap();
        }
        let mut joined = self.deps.hub.join(interest);
        match joined.as_mut().now_or_never() {
            Some(outcome) => self.finish(Outcome::Joined(op, outcome)),
            None => self.wait_for(async move { Outcome::Joined(op, joined.await) }.boxed()),
        }
    }

    fn leave(&self, interest: &Interest) {
        self.deps.hub.leave(interest, self.outbox.id());
    }

    fn publish(&mut self, op: OpId, mut message: Message) {
        let span = self.deps.tracing.publish_message(&mut message, Source::Client);
        let accepted = self.deps.bus.publish(message);
        let mut published = async move {
            let outcome = accepted.await;
            ActiveSpan::finish(span, &outcome);
            Outcome::Published(op, outcome)
        }
        .boxed();
        // What is refused at once must be known before the next publish is handed over.
        match published.as_mut().now_or_never() {
            Some(outcome) => self.finish(outcome),
            None => self.wait_for(published),
        }
    }

    fn call(&mut self, op: OpId, mut request: ServiceRequest) {
        let span = self.deps.tracing.request(&mut request);
        let answer = self.deps.bus.request(request);
        self.wait_for(
            async move {
                let outcome = answer.await;
                ActiveSpan::finish(span, &outcome);
                Outcome::Answered(op, outcome)
            }
            .boxed(),
        );
    }

    fn wait_for(&mut self, operation: BoxFuture<'static, Outcome>) {
        self.under_way.get_or_insert_default().push(operation);
    }

    /// Gives back what the connection held, and sees its last bytes off.
    async fn close(mut self) {
        let (deps, id) = (Arc::clone(&self.deps), self.outbox.id());
        for interest in self.session.interests() {
            deps.hub.leave(interest, id);
        }
        deps.hub.remove(id);
        if self.session.was_opened() {
            deps.directory.disconnected(id, self.outbox.user().cloned());
        }
        let (code, initiator) = match self.end {
            Some(End::Closing(code)) => (code.number(), "server"),
            Some(End::ByClient) => (CloseCode::Normal.number(), "client"),
            Some(End::Broken) | None => (1006, "network"),
        };
        if !self.session.was_opened() {
            deps.metrics.handshake("failed");
        }
        self.under_way = None;
        if !matches!(self.end, Some(End::Broken))
            && time::timeout(CLOSE_TIMEOUT, linger(&self.outbox)).await.is_err()
        {
            tracing::debug!(connection = %id, "the client did not take its last bytes in time");
        }
        deps.metrics.connections.dec();
        deps.metrics.connection_closed(code, initiator);
    }
}

/// Writes what is left, says that it was all, and reads until the client has closed too: a
/// socket dropped with unread input would reset the connection, and the last bytes with it.
async fn linger(outbox: &Outbox) {
    let mut finished = false;
    poll_fn(|cx| {
        while outbox.poll_attention(cx).is_ready() {}
        match outbox.is_flushed() {
            Ok(true) if !finished => {
                outbox.socket().finish();
                finished = true;
            }
            Ok(_) => {}
            Err(_) => return Poll::Ready(()),
        }
        while outbox.socket().poll_read_ready(cx).is_ready() {
            match SCRATCH.with_borrow_mut(|scratch| outbox.socket().try_read(scratch)) {
                Ok(0) => return Poll::Ready(()),
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Poll::Ready(()),
                _ => {}
            }
        }
        Poll::Pending
    })
    .await;
}

/// Whether some message may match both; cheap, and never wrongly no.
fn may_overlap(a: &Interest, b: &Interest) -> bool {
    let wild = matches!(a, Interest::Pattern(_)) || matches!(b, Interest::Pattern(_));
    wild && a != b && a.namespace() == b.namespace()
}

fn close_code(error: ws::WsError) -> CloseCode {
    match error.close_code() {
        1007 => CloseCode::InvalidText,
        1008 => CloseCode::Policy,
        1009 => CloseCode::TooBig,
        _ => CloseCode::Protocol,
    }
}

/// Control frames that a client has sent in the current second.
#[derive(Debug, Default)]
struct ControlBudget {
    second: Option<Instant>,
    used: u32,
}

impl ControlBudget {
    fn take(&mut self, now: Instant, limit: u32) -> bool {
        if self
            .second
            .is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1))
        {
            (self.second, self.used) = (Some(now), 0);
        }
        self.used += 1;
        self.used <= limit
    }
}

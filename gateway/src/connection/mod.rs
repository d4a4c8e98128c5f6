//! One client's connection: hot path 1. Start reading at [`Connection`]'s `poll`.

mod client;
mod echo;
mod effects;
mod ending;
mod present;
mod upgrade;

use std::{
    cell::RefCell,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use broker_core::{
    CloseCode, ConnectionId, Identity, Position,
    message::Data,
    ports::{Accepted, BoxFuture, Bus, BusError, PublishError, RequestError, Roster},
    resume::Resumed,
    session::{Acks, Command, Failure, OpId, Present, Request, Resumption, Rules, Session, Token},
};
use broker_protocol::{
    native,
    ws::{self, Decoder, Incoming, deflate},
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;

pub(crate) use client::{Client, Transport};
pub(crate) use upgrade::{Admission, router};

use crate::{
    auth::Verifier,
    clock,
    directory::Directory,
    hub::Hub,
    keeper::{Keeper, Kept},
    outbox::{Outbox, Pushed},
    queue::Acknowledgements,
    socket::{Socket, is_transient},
    telemetry::{Metrics, Tracing},
    wheel::{self, Wheel},
};

/// Read buffer, shared by all connections of a thread: an idle connection has none.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Bytes that are read from one client, and bytes of messages that they make, together, before
/// others have their turn.
const TURN_BYTES: usize = 8 * SCRATCH_BYTES;
/// What is read at once from a client that compresses: a few bytes may become a message at the
/// limit.
const COMPRESSED_READ_BYTES: usize = 4 * 1024;

/// What is in a ping whose answer acknowledges all that was written before it.
const PROBE: &[u8] = b"ack";

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
    pub(crate) roster: Arc<dyn Roster>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tracing: Arc<Tracing>,
    pub(crate) wire: WireLimits,
    /// Where users have an offline queue.
    pub(crate) acknowledgements: Option<Arc<Acknowledgements>>,
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
    /// What is compressed, where clients want it; `None` if nothing is.
    pub(crate) compression: Option<deflate::Policy>,
}

/// A connection, and the future that serves it until one side ends it. What idles here is kept
/// small: an `async fn` would hold the connection several times over.
pub(crate) struct Connection {
    deps: Arc<Deps>,
    outbox: Arc<Outbox>,
    session: Session,
    decoder: Decoder,
    /// What the session waits for; boxed, since most connections wait for nothing.
    under_way: Option<Box<FuturesUnordered<BoxFuture<'static, Outcome>>>>,
    /// When the wheel will tell that a timer is due.
    scheduled: Option<Instant>,
    /// Bytes read since others had their turn, and bytes of the messages that they made.
    read: usize,
    control_frames: ControlBudget,
    client: Client,
    /// What the client will have taken in when it answers [`PROBE`].
    probed: Option<Box<Position>>,
    end: Option<End>,
    /// The last bytes on their way, once the connection has ended.
    farewell: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Whether hub and directory know of it.
    listed: bool,
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
    Resumed(OpId, Result<Resumed, Failure>),
    Kept(OpId, Option<Box<Kept>>),
    Joined(OpId, Result<(), BusError>),
    Published(OpId, Result<Accepted, PublishError>),
    Answered(OpId, Result<Data, RequestError>),
    Present(OpId, Result<Present, Failure>),
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.get_mut();
        while connection.end.is_none() {
            let event = ready!(connection.poll_event(cx));
            connection.outbox.cork();
            connection.handle(event);
            connection.settle();
            if connection.read >= TURN_BYTES {
                connection.read = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        connection.poll_close(cx)
    }
}

impl Connection {
    pub(crate) fn new(
        deps: Arc<Deps>,
        socket: Box<dyn Socket>,
        client: Client,
        compressed: bool,
    ) -> Self {
        let id = ConnectionId(rand::random());
        let outbox = Outbox::new(id, socket, deps.wire.queue_bytes).with_compression(compressed);
        let outbox = Arc::new(outbox);
        deps.hub.add(&outbox);
        deps.metrics.connections.inc();
        deps.metrics.connection_opened(client.transport.name());
        Self {
            session: Session::new(id, Arc::clone(&deps.rules), clock::now()),
            decoder: Decoder::new(ws::Role::Server, deps.wire.frame_bytes_before_connect)
                .with_deflate(compressed),
            under_way: None,
            scheduled: None,
            read: 0,
            control_frames: ControlBudget::default(),
            client,
            probed: None,
            end: None,
            farewell: None,
            listed: true,
            outbox,
            deps,
        }
    }

    /// Has it told to come back elsewhere, for it came too late to be among those that a drain
    /// sends away.
    pub(crate) fn turn_away(&self) {
        self.outbox.tell(|notices| notices.drain = Some(0));
    }

    /// Takes what came with the upgrade: `token` in its request, `unread` right behind it.
    pub(crate) fn start(&mut self, token: Option<Token>, unread: Bytes) {
        self.outbox.cork();
        if let Some(token) = token {
            let request = Request {
                id: None,
                command: Command::Connect {
                    token: Some(token),
                    acks: Acks::default(),
                    session: Resumption::Never,
                },
            };
            self.session.handle_request(clock::now(), request, rand::random());
        }
        if !unread.is_empty() {
            self.take_bytes(&mut Vec::from(unread));
        }
        self.settle();
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
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
            && self.scheduled.is_none_or(|scheduled| deadline + wheel::TICK < scheduled)
        {
            self.scheduled = Some(self.deps.wheel.schedule(deadline, &self.outbox));
        }
    }

    fn read(&mut self) {
        let most =
            if self.outbox.reads_compressed() { COMPRESSED_READ_BYTES } else { SCRATCH_BYTES };
        SCRATCH.with_borrow_mut(|scratch| {
            match self.outbox.socket().try_read(&mut scratch[..most]) {
                Ok(0) => self.end = Some(End::Broken),
                Ok(count) => {
                    self.read += count;
                    self.take_bytes(&mut scratch[..count]);
                }
                Err(error) if is_transient(&error) => {}
                Err(_) => self.end = Some(End::Broken),
            }
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
                Ok(Some(Incoming::Text(text))) => {
                    self.read += text.len();
                    native::decode_text(text, &mut command);
                }
                Ok(Some(Incoming::Binary(frame))) => {
                    self.read += frame.len();
                    native::decode_binary(frame, &mut command);
                }
                Ok(Some(Incoming::Ping(payload))) => {
                    let pong = ws::frame::pong_frame(payload);
                    queue(&self.outbox, &self.deps.metrics, (&pong, 0));
                    self.count_control_frame(now.instant.into());
                }
                Ok(Some(Incoming::Pong(payload))) => {
                    let answers = payload == PROBE;
                    if answers && let Some(position) = self.probed.take() {
                        self.probe_answered(*position);
                    }
                    self.count_control_frame(now.instant.into());
                }
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
        // Of several entries in the wheel, the last one made counts.
        if notices.due && self.scheduled.take_if(|at| *at <= Instant::now()).is_some() {
            self.look_for_life();
            self.session.handle_timeout(clock::now());
        }
        if let Some(after) = notices.drain {
            self.session.handle_drain(Duration::from_millis(after.into()));
        }
        if notices.probe {
            self.probe();
        }
        if let Some(code) = notices.close {
            self.session.handle_close(code);
        }
    }

    /// What lies unread is a sign of life, and must not be overtaken by a timer. While nothing is
    /// read for want of room, silence means nothing.
    fn look_for_life(&mut self) {
        if self.session.has_room() {
            self.read();
        } else {
            self.session.handle_activity(clock::now());
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        let now = clock::now();
        match outcome {
            Outcome::Verified(op, outcome) => self.session.handle_verified(now, op, outcome),
            Outcome::Resumed(op, outcome) => self.session.handle_resumed(now, op, outcome),
            Outcome::Kept(op, kept) => {
                let secret = kept.map(|kept| self.deps.keeper.watch(*kept));
                self.session.handle_kept(now, op, secret);
            }
            Outcome::Joined(op, outcome) => self.session.handle_joined(now, op, outcome),
            Outcome::Published(op, outcome) => self.session.handle_published(op, outcome),
            Outcome::Answered(op, outcome) => self.session.handle_answered(op, outcome),
            Outcome::Present(op, outcome) => self.session.handle_members(op, outcome),
        }
    }
}

/// Queues frames, so many of them messages.
fn queue(outbox: &Outbox, metrics: &Metrics, (frames, messages): (&Bytes, u32)) {
    if let Pushed::Overflow { lost } = outbox.push(frames, messages) {
        metrics.slow_client(lost);
    }
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

#[cfg(test)]
mod tests;

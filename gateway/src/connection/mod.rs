//! One client's connection: hot path 1. Start reading at [`Connection`]'s `poll`.

mod client;
mod conversation;
mod credentials;
mod echo;
mod effects;
mod ending;
mod envelope;
mod events;
mod latest;
mod mount;
mod present;
mod recovering;
mod snapshot;
mod snapshot_event;
mod upgrade;

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use broker_core::{
    CloseCode, ConnectionId, JsonText, Timestamp,
    ports::{Bus, Roster},
    session::{Acks, Now, Request, Rules, Token},
};
use broker_protocol::{
    native,
    ws::{self, Decoder, Incoming, deflate},
};
use bytes::Bytes;

pub(crate) use client::{Client, Transport};
pub(crate) use credentials::Credentials;
pub(crate) use latest::Latest;
pub(crate) use mount::{Mounts, TwoFaces};
pub(crate) use upgrade::{Admission, accept_plain, raw_socket, router, upgrade_native};

use crate::{
    asks::Asks,
    auth::Authenticator,
    clock,
    dialect::{Dialect, Faced, Framing, PROBE},
    directory::Directory,
    hub::Hub,
    keeper::Keeper,
    queue::Acknowledgements,
    services::Services,
    socket::{Socket, is_transient},
    telemetry::{Metrics, Tracing},
    wheel::Wheel,
};
use conversation::queue;
pub(crate) use conversation::{Conversation, End, Step};
pub(crate) use ending::farewell;

/// Read buffer, shared by all connections of a thread: an idle connection has none.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Bytes that are read from one client, and bytes of messages that they make, together, before
/// others have their turn.
pub(crate) const TURN_BYTES: usize = 8 * SCRATCH_BYTES;
/// What is read at once from a client that compresses: a few bytes may become a message at the
/// limit.
const COMPRESSED_READ_BYTES: usize = 4 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// What every connection uses, until its configuration changes.
#[derive(Debug, Clone)]
pub(crate) struct Deps {
    pub(crate) rules: Arc<Rules>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) asks: Arc<Asks>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) services: Arc<Services>,
    pub(crate) authenticator: Authenticator,
    pub(crate) wheel: Arc<Wheel>,
    pub(crate) directory: Directory,
    pub(crate) roster: Arc<dyn Roster>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tracing: Arc<Tracing>,
    pub(crate) wire: WireLimits,
    /// Where users have an offline queue.
    pub(crate) acknowledgements: Option<Arc<Acknowledgements>>,
    pub(crate) latest: Latest,
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

/// A connection in the native dialect or in envelopes, and the future that serves it until one side
/// ends it. What idles here is kept small: an `async fn` would hold the connection several times
/// over.
pub(crate) struct Connection {
    conversation: Conversation,
    decoder: Decoder,
    /// Bytes read since others had their turn, and bytes of the messages that they made.
    read: usize,
    control_frames: ControlBudget,
    /// The last bytes on their way, once the connection has ended.
    farewell: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

enum Event {
    Readable,
    Conversation(Step),
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.get_mut();
        while connection.conversation.end.is_none() {
            let event = ready!(connection.poll_event(cx));
            connection.conversation.outbox.cork();
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
        Self::on(Conversation::new(deps, id, socket, client, Dialect::Native { compressed }))
    }

    /// One in envelopes.
    pub(crate) fn with_face(
        deps: Arc<Deps>,
        socket: Box<dyn Socket>,
        client: Client,
        (framing, said): (Arc<Framing>, Option<JsonText>),
    ) -> Self {
        let id = ConnectionId(rand::random());
        let dialect = Dialect::Faced(Box::new(Faced::new(framing, id, None).with_said(said)));
        Self::on(Conversation::new(deps, id, socket, client, dialect))
    }

    fn on(conversation: Conversation) -> Self {
        let first_bytes = conversation.deps.wire.frame_bytes_before_connect;
        let compressed = conversation.dialect.is_compressed();
        Self {
            conversation,
            decoder: Decoder::new(ws::Role::Server, first_bytes).with_deflate(compressed),
            read: 0,
            control_frames: ControlBudget::default(),
            farewell: None,
        }
    }

    /// Has it told to come back elsewhere, for it came too late to be among those that a drain
    /// sends away.
    pub(crate) fn turn_away(&self) {
        self.conversation.outbox.tell(|notices| notices.drain = Some(0));
    }

    /// Takes what came with the upgrade: `token` in its request, `unread` right behind it.
    pub(crate) fn start(&mut self, token: Option<Token>, unread: Bytes) {
        self.conversation.outbox.cork();
        match &self.conversation.dialect {
            Dialect::Faced(_) => self.conversation.introduce(token),
            Dialect::Native { .. } if token.is_some() => {
                self.conversation.connect(token, Acks::default());
            }
            Dialect::Native { .. } => {}
        }
        if !unread.is_empty() {
            self.take_bytes(&mut Vec::from(unread));
        }
        self.settle();
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(event) = self.conversation.poll_event(cx) {
            return Poll::Ready(Event::Conversation(event));
        }
        let has_room = self.conversation.has_room();
        if has_room && self.conversation.outbox.socket().poll_read_ready(cx).is_ready() {
            return Poll::Ready(Event::Readable);
        }
        Poll::Pending
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Readable => self.read(),
            Event::Conversation(Step::Attention) => self.look_at_notices(),
            Event::Conversation(Step::Done(outcome)) => {
                self.conversation.take_outcomes(outcome);
            }
        }
    }

    fn settle(&mut self) {
        self.conversation.settle_events();
        if self.conversation.session.was_opened() {
            self.decoder.set_max_message(self.conversation.deps.wire.frame_bytes);
        }
    }

    fn read(&mut self) {
        let most = if self.conversation.dialect.is_compressed() {
            COMPRESSED_READ_BYTES
        } else {
            SCRATCH_BYTES
        };
        SCRATCH.with_borrow_mut(|scratch| {
            match self.conversation.outbox.socket().try_read(&mut scratch[..most]) {
                Ok(0) => self.conversation.end = Some(End::Broken),
                Ok(count) => {
                    self.read += count;
                    self.take_bytes(&mut scratch[..count]);
                }
                Err(error) if is_transient(&error) => {}
                Err(_) => self.conversation.end = Some(End::Broken),
            }
        });
    }

    fn take_bytes(&mut self, mut bytes: &mut [u8]) {
        let now = clock::now();
        let conversation = &mut self.conversation;
        conversation.session.handle_activity(now);
        loop {
            match self.decoder.next(&mut bytes) {
                Ok(None) => return,
                Ok(Some(Incoming::Text(text))) => {
                    self.read += text.len();
                    conversation.take_text(now, text);
                }
                Ok(Some(Incoming::Binary(frame))) => {
                    self.read += frame.len();
                    conversation.take_binary(now, frame);
                }
                Ok(Some(Incoming::Ping(payload))) => {
                    let pong = ws::frame::pong_frame(payload);
                    queue(&conversation.outbox, &conversation.deps.metrics, (&pong, 0));
                    count_control_frame(conversation, &mut self.control_frames, now);
                }
                Ok(Some(Incoming::Pong(payload))) => {
                    if payload == PROBE {
                        conversation.probe_answered();
                    }
                    count_control_frame(conversation, &mut self.control_frames, now);
                }
                Ok(Some(Incoming::Close(frame))) => {
                    let code = frame.map_or(CloseCode::Normal.number(), |frame| frame.code);
                    conversation.outbox.seal(ws::frame::close_frame(code, ""));
                    conversation.end = Some(End::ByClient);
                    return;
                }
                Err(error) => return conversation.session.handle_close(close_code(error)),
            }
        }
    }

    fn look_at_notices(&mut self) {
        let notices = self.conversation.outbox.take_notices();
        if self.conversation.outbox.is_flushed().is_err() {
            self.conversation.end = Some(End::Broken);
        }
        if self.conversation.take_due(notices.due) {
            self.look_for_life();
            self.conversation.session.handle_timeout(clock::now());
        }
        self.conversation.look_at_notices(notices);
    }

    /// What lies unread is a sign of life, and must not be overtaken by a timer. While nothing is
    /// read for want of room, silence means nothing.
    fn look_for_life(&mut self) {
        if self.conversation.has_room() {
            self.read();
        } else {
            self.conversation.session.handle_activity(clock::now());
        }
    }
}

impl Conversation {
    fn take_text(&mut self, now: Now, text: &str) {
        match self.dialect {
            Dialect::Native { .. } => {
                native::decode_text(text, |decoded| self.hand_in(now, decoded))
            }
            Dialect::Faced(_) => self.take_envelope_text(text),
        }
    }

    fn take_binary(&mut self, now: Now, frame: &[u8]) {
        match self.dialect {
            Dialect::Native { .. } => {
                native::decode_binary(frame, |decoded| self.hand_in(now, decoded))
            }
            Dialect::Faced(_) => self.refuse_binary(),
        }
    }

    fn hand_in(&mut self, now: Now, decoded: Result<Request, native::Malformed>) {
        match decoded {
            Ok(request) => {
                self.deps.metrics.commands.with_label_values(&[request.command.name()]).inc();
                self.session.handle_request(now, request, rand::random());
            }
            Err(malformed) => self.session.handle_malformed(malformed.id, malformed.failure),
        }
    }
}

/// Hands on what has come.
///
/// # Errors
/// Nothing will come any more.
pub(crate) fn read_some(socket: &dyn Socket, take: impl FnOnce(&mut [u8])) -> io::Result<()> {
    SCRATCH.with_borrow_mut(|scratch| match socket.try_read(scratch) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => {
            take(&mut scratch[..count]);
            Ok(())
        }
        Err(error) if is_transient(&error) => Ok(()),
        Err(error) => Err(error),
    })
}

fn count_control_frame(conversation: &mut Conversation, budget: &mut ControlBudget, now: Now) {
    if !budget.take(now.wall, conversation.deps.wire.control_frames_per_second) {
        conversation.session.handle_close(CloseCode::Policy);
    }
}

pub(crate) fn close_code(error: ws::WsError) -> CloseCode {
    match error.close_code() {
        1007 => CloseCode::InvalidText,
        1008 => CloseCode::Policy,
        1009 => CloseCode::TooBig,
        _ => CloseCode::Protocol,
    }
}

/// Control frames that a client has sent in the current second of the wall clock.
#[derive(Debug, Default)]
struct ControlBudget {
    second: u32,
    used: u32,
}

impl ControlBudget {
    fn take(&mut self, now: Timestamp, limit: u32) -> bool {
        // Only that it changes matters.
        let second = (now.0 / 1000) as u32;
        if second != self.second {
            (self.second, self.used) = (second, 0);
        }
        self.used += 1;
        self.used <= limit
    }
}

#[cfg(test)]
mod tests;

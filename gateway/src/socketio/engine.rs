//! One client's Engine.IO session, and what it says in each namespace of Socket.IO. Start reading
//! at [`Engine`]'s `poll`.
//!
//! Each namespace that the client is in has a [`Conversation`] of its own, as a native connection
//! has: identity, subscriptions, queue. All write to the same [wire](crate::socket::Wire), each
//! whole packets.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use broker_core::{CloseCode, ConnectionId, JsonText, session::Acks};
use broker_protocol::{
    engineio::{self, Open, PING_FRAME, Packet},
    socketio::{self, Body, Namespace},
    ws::{self, Decoder, Incoming},
};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{Handshake, Mount, Registration, Sid, events};
use crate::{
    connection::{Conversation, Deps, End, Step, TURN_BYTES, close_code, farewell, read_some},
    dialect::{Dialect, Faced, closes_transport},
    outbox::Outbox,
    socket::{Socket, Wire},
};

/// Namespaces that one client may be in.
const MAX_SPACES: usize = 16;

/// A session, and the future that serves it until one side ends it.
pub(super) struct Engine {
    deps: Arc<Deps>,
    mount: Arc<Mount>,
    handshake: Handshake,
    wire: Arc<Wire>,
    /// For what concerns no namespace.
    outbox: Arc<Outbox>,
    decoder: Decoder,
    packets: socketio::Decoder,
    spaces: Vec<Conversation>,
    /// Bytes read since others had their turn.
    read: usize,
    heartbeat: Heartbeat,
    /// When to give up a client that has not been in any namespace.
    patience: Option<Instant>,
    /// When the wheel will tell that the heartbeat is due.
    scheduled: Option<Instant>,
    end: Option<End>,
    farewell: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// While it can be found by its name.
    registration: Option<Registration>,
}

/// § Heartbeat: the server pings at its pace, whatever else is said.
#[derive(Debug)]
struct Heartbeat {
    due: Instant,
    /// A ping is not answered yet; if it is not until it is due, the client is gone.
    pinged: bool,
}

enum Event {
    Readable,
    Attention,
    Space(usize, Step),
}

impl Future for Engine {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let engine = self.get_mut();
        while engine.end.is_none() {
            let event = ready!(engine.poll_event(cx));
            engine.handle(event);
            engine.settle();
            if engine.read >= TURN_BYTES {
                engine.read = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        engine.poll_close(cx)
    }
}

impl Engine {
    /// A session that has just begun, of which its client is told.
    pub(super) fn open(
        mount: Arc<Mount>,
        socket: Box<dyn Socket>,
        handshake: Handshake,
        (sid, registration): (Sid, Option<Registration>),
    ) -> Self {
        let deps = Arc::clone(&mount.deps);
        let wire = Wire::new(socket);
        let lane = Box::new(wire.lane());
        let outbox =
            Arc::new(Outbox::new(ConnectionId(rand::random()), lane, deps.wire.queue_bytes));
        let now = Instant::now();
        let mut open = BytesMut::new();
        engineio::encode_open(
            &Open {
                sid: &sid.to_string(),
                upgrade: registration.is_some(),
                ping_interval: mount.options.ping_interval,
                ping_timeout: mount.options.ping_timeout,
                max_payload: mount.options.max_payload,
            },
            &mut open,
        );
        outbox.push(&open.freeze(), 0);
        let first_bytes = match mount.echo {
            true => mount.options.max_payload,
            false => deps.wire.frame_bytes_before_connect,
        };
        let mut engine = Self {
            decoder: Decoder::new(ws::Role::Server, first_bytes),
            packets: socketio::Decoder::new(mount.options.max_payload),
            heartbeat: Heartbeat { due: now + mount.options.ping_interval, pinged: false },
            patience: (!mount.echo).then_some(now + mount.options.connect_timeout),
            spaces: Vec::new(),
            read: 0,
            scheduled: None,
            end: None,
            farewell: None,
            registration,
            handshake,
            outbox,
            wire,
            mount,
            deps,
        };
        engine.list();
        engine.settle();
        engine
    }

    /// Takes what came right behind the request.
    pub(super) fn start(&mut self, unread: Bytes) {
        if !unread.is_empty() {
            self.take_bytes(&mut Vec::from(unread));
            self.settle();
        }
    }

    /// While the client is in no namespace, the session counts as a connection, and is told what
    /// the others are told.
    fn list(&self) {
        self.deps.metrics.connections.inc();
        self.deps.hub.add(&self.outbox);
    }

    fn unlist(&self) {
        self.deps.metrics.connections.dec();
        self.deps.hub.remove(self.outbox.id());
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.outbox.poll_attention(cx).is_ready() {
            return Poll::Ready(Event::Attention);
        }
        for (index, space) in self.spaces.iter_mut().enumerate() {
            if let Poll::Ready(step) = space.poll_event(cx) {
                return Poll::Ready(Event::Space(index, step));
            }
        }
        if self.has_room() && self.outbox.socket().poll_read_ready(cx).is_ready() {
            return Poll::Ready(Event::Readable);
        }
        Poll::Pending
    }

    fn has_room(&self) -> bool {
        self.spaces.iter().all(Conversation::has_room)
    }

    fn handle(&mut self, event: Event) {
        self.spaces.iter().for_each(Conversation::cork);
        match event {
            Event::Readable => self.read(),
            Event::Attention => {
                let notices = self.outbox.take_notices();
                if self.outbox.is_flushed().is_err() {
                    self.end = Some(End::Broken);
                }
                let drain = notices.drain.map(|_| CloseCode::ServiceRestart);
                if let Some(code) = notices.close.or(drain) {
                    self.close(code, End::Closing(code));
                }
                if notices.due && self.scheduled.take_if(|at| *at <= Instant::now()).is_some() {
                    self.beat();
                }
            }
            Event::Space(index, step) => self.spaces[index].take_step(step),
        }
    }

    /// Does what the sessions want done, and lets the bytes go.
    fn settle(&mut self) {
        self.spaces.iter_mut().for_each(Conversation::settle_events);
        self.outbox.flush();
        self.look_at_ends();
        let probing = self.spaces.iter_mut().filter_map(Conversation::take_probe).count();
        if probing > 0 {
            self.ping();
        }
        let due = self.patience.map_or(self.heartbeat.due, |at| at.min(self.heartbeat.due));
        if self.scheduled.is_none_or(|scheduled| due < scheduled) {
            self.scheduled = Some(self.deps.wheel.schedule(due, &self.outbox));
        }
    }

    /// A session that ends takes the transport with it, unless its client is not to come back.
    fn look_at_ends(&mut self) {
        let ended = self.spaces.iter().find_map(|space| match space.end()? {
            End::ByClient => None,
            End::Closing(code) if !closes_transport(code) => None,
            end => Some((end, Arc::clone(space.outbox()))),
        });
        if let Some((end, outbox)) = ended {
            self.end = Some(end);
            // Its last frame may stand behind half a block of its own.
            self.outbox = outbox;
            return;
        }
        // Its last words may take long; what it held, another may have by now.
        self.spaces.iter_mut().filter(|it| it.end().is_some()).for_each(Conversation::unlist);
        let before = self.spaces.len();
        self.spaces.retain(|space| space.end().is_none() || !space.is_flushed());
        if before > 0 && self.spaces.is_empty() {
            self.list();
        }
    }

    fn read(&mut self) {
        let outbox = Arc::clone(&self.outbox);
        let broken = read_some(outbox.socket(), |bytes| self.take_bytes(bytes)).is_err();
        if broken {
            self.end.get_or_insert(End::Broken);
        }
    }

    fn take_bytes(&mut self, mut bytes: &mut [u8]) {
        self.read += bytes.len();
        while self.end.is_none() {
            let packet = match self.decoder.next(&mut bytes) {
                Ok(None) => return,
                Ok(Some(Incoming::Text(text))) => match Packet::decode(text) {
                    Ok(Packet::Text(text)) if self.mount.echo => {
                        echo_text(&self.outbox, text);
                        Ok(None)
                    }
                    Ok(Packet::Text(text)) => self.packets.text(text).map_err(|_| ()),
                    Ok(Packet::Pong(_)) => {
                        self.answered();
                        Ok(None)
                    }
                    Ok(Packet::Close) => return self.close(CloseCode::Normal, End::ByClient),
                    Ok(Packet::Upgrade | Packet::Noop) => Ok(None),
                    Ok(Packet::Open | Packet::Ping(_) | Packet::Binary(_)) | Err(_) => Err(()),
                },
                Ok(Some(Incoming::Binary(bytes))) if self.mount.echo => {
                    echo_binary(&self.outbox, bytes);
                    Ok(None)
                }
                Ok(Some(Incoming::Binary(bytes))) => {
                    self.packets.binary(Bytes::copy_from_slice(bytes)).map_err(|_| ())
                }
                Ok(Some(Incoming::Ping(payload))) => {
                    self.outbox.deliver(&ws::frame::pong_frame(payload), 0);
                    Ok(None)
                }
                Ok(Some(Incoming::Pong(_))) => Ok(None),
                Ok(Some(Incoming::Close(_))) => {
                    return self.close(CloseCode::Normal, End::ByClient);
                }
                Err(error) => {
                    let code = close_code(error);
                    return self.close(code, End::Closing(code));
                }
            };
            match packet {
                Ok(None) => {}
                Ok(Some(packet)) => self.take(packet),
                Err(()) => self.close(CloseCode::Protocol, End::Closing(CloseCode::Protocol)),
            }
        }
    }

    fn take(&mut self, socketio::Packet { namespace, body }: socketio::Packet) {
        let found =
            self.spaces.iter_mut().find(|space| space.end().is_none() && is_of(space, &namespace));
        match (body, found) {
            (Body::Connect { auth }, None) => self.enter(&namespace, auth.as_ref()),
            (Body::Event { name, id, args }, Some(space)) if space.is_connected() => {
                events::take(space, &name, id, &args);
            }
            (Body::Ack { id, args }, Some(space)) if space.is_connected() => {
                space.acknowledged(id, args);
            }
            (Body::Disconnect, Some(space)) => space.end_by_client(),
            // As the reference server: the client is out of step.
            _ => self.close(CloseCode::Protocol, End::Closing(CloseCode::Protocol)),
        }
    }

    fn enter(&mut self, namespace: &Namespace, auth: Option<&JsonText>) {
        let Some(parser) = self.packets.parser() else { return };
        let Some(framing) = self.mount.framing(namespace, parser) else {
            let refusal =
                socketio::Outgoing::ConnectError { message: "Invalid namespace", data: None };
            let mut out = BytesMut::new();
            parser.encode(namespace, &refusal, &mut out);
            self.outbox.deliver(&out.freeze(), 0);
            return;
        };
        if self.spaces.len() >= MAX_SPACES {
            return self.close(CloseCode::Policy, End::Closing(CloseCode::Policy));
        }
        self.patience = None;
        if self.spaces.is_empty() {
            self.unlist();
            self.decoder.set_max_message(self.mount.options.max_payload);
        }
        let Handshake { credentials, client } = &self.handshake;
        let face = framing.face();
        let token = if framing.echo { None } else { credentials.token(&face, auth) };
        let id = ConnectionId(rand::random());
        let said = match framing.echo {
            true => auth.cloned(),
            false => credentials.handshake(&face, auth),
        };
        let mut faced = Faced::new(framing, id, auth).with_said(said);
        faced.introduced(None);
        let mut space = Conversation::new(
            Arc::clone(&self.deps),
            id,
            Box::new(self.wire.lane()),
            client.clone(),
            Dialect::Faced(Box::new(faced)),
        );
        space.connect(token, Acks::Transport);
        // Most clients are in one: hold no more than they need.
        self.spaces.reserve_exact(1);
        self.spaces.push(space);
    }

    fn beat(&mut self) {
        if self.patience.is_some_and(|at| at <= Instant::now()) {
            return self.close(CloseCode::ConnectTimeout, End::Closing(CloseCode::ConnectTimeout));
        }
        if self.heartbeat.due > Instant::now() {
            return;
        }
        // What lies unread is a sign of life.
        if self.heartbeat.pinged && self.has_room() {
            self.read();
        }
        if self.heartbeat.due > Instant::now() {
            return;
        }
        if self.heartbeat.pinged {
            return self.close(CloseCode::Stale, End::Closing(CloseCode::Stale));
        }
        self.ping();
    }

    fn ping(&mut self) {
        if !self.heartbeat.pinged {
            self.outbox.deliver(&Bytes::from_static(PING_FRAME), 0);
            let due = Instant::now() + self.mount.options.ping_timeout;
            self.heartbeat = Heartbeat { due, pinged: true };
        }
    }

    fn answered(&mut self) {
        if self.heartbeat.pinged {
            let due = Instant::now() + self.mount.options.ping_interval;
            self.heartbeat = Heartbeat { due, pinged: false };
            if let Some(registration) = &self.registration {
                registration.polled.live_until(due + self.mount.options.ping_timeout);
            }
            self.spaces.iter_mut().for_each(Conversation::probe_answered);
        }
    }

    fn close(&mut self, code: CloseCode, end: End) {
        self.outbox.seal(ws::frame::close_frame(code.number(), code.reason()));
        self.end.get_or_insert(end);
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for space in &mut self.spaces {
            space.unlist();
        }
        self.farewell
            .get_or_insert_with(|| farewell(Arc::clone(&self.outbox), self.end))
            .as_mut()
            .poll(cx)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.spaces.is_empty() {
            self.unlist();
        }
    }
}

fn echo_text(outbox: &Outbox, text: &str) {
    let mut out = BytesMut::new();
    engineio::encode_text(&mut out, text.len(), |out| out.extend_from_slice(text.as_bytes()));
    outbox.push(&out.freeze(), 0);
}

fn echo_binary(outbox: &Outbox, bytes: &[u8]) {
    let mut out = BytesMut::new();
    engineio::encode_binary(&mut out, bytes);
    outbox.push(&out.freeze(), 0);
}

fn is_of(space: &Conversation, namespace: &Namespace) -> bool {
    let Dialect::Faced(faced) = space.dialect() else { return false };
    faced.framing().space().is_some_and(|space| space.namespace == *namespace)
}

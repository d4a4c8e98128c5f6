//! The client's end of a session over HTTP long polling.
//!
//! The other end of its [pipe](crate::socket::pipe) is an [`Engine`](super::engine::Engine) as
//! every other: what it writes as WebSocket frames are the packets of the next polls.

use std::{mem, sync::Arc, time::Duration};

use broker_core::CloseCode;
use broker_protocol::{
    engineio::{self, Packet, Payload},
    ws::{Decoder, Incoming, Opcode, Role},
};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::future::poll_fn;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{self, Instant},
};

use crate::socket::{PipeEnd, Socket};

/// How often a poll is ended while the client probes a WebSocket: it waits for one to end.
const WHILE_PROBING: Duration = Duration::from_millis(100);
/// How long a client may wait until what it sent is taken.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// A session whose packets go by HTTP, until it ends or changes to WebSocket.
#[derive(Debug)]
pub(super) struct Polled {
    pipe: PipeEnd,
    reader: Mutex<Reader>,
    state: Mutex<State>,
    /// The state has changed.
    changed: Notify,
    /// When the client is given up, unless it answers a ping.
    lives_until: Mutex<Instant>,
}

/// What the server has written, as far as it was read.
#[derive(Debug)]
struct Reader {
    decoder: Decoder,
    input: BytesMut,
}

#[derive(Debug, Default)]
struct State {
    polling: bool,
    posting: bool,
    /// A WebSocket has come with the session's name.
    upgrading: bool,
    /// The client probes it.
    probing: bool,
    phase: Phase,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Polling,
    /// A WebSocket carries the packets.
    Upgraded,
    /// The client has said so.
    Left,
    /// The server has, or something was not as it must be.
    Closed,
}

/// The session is over, or does not go by HTTP any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// One request at a time: where it does not end well, the session does.
pub(super) struct Turn<'a> {
    polled: &'a Polled,
    done: bool,
    which: fn(&mut State) -> &mut bool,
}

impl Polled {
    pub(super) fn new(pipe: PipeEnd, lives_until: Instant) -> Arc<Self> {
        let decoder = Decoder::new(Role::Client, usize::MAX);
        Arc::new(Self {
            pipe,
            reader: Mutex::new(Reader { decoder, input: BytesMut::new() }),
            state: Mutex::default(),
            changed: Notify::new(),
            lives_until: Mutex::new(lives_until),
        })
    }

    /// The packets of the next poll.
    ///
    /// # Errors
    /// There will be none.
    pub(super) async fn poll(&self, max_bytes: usize) -> Result<Bytes, Gone> {
        let turn = self.begin(|state| &mut state.polling)?;
        let body = loop {
            let changed = self.changed.notified();
            let State { phase, probing, .. } = *self.state.lock();
            match phase {
                Phase::Polling => {}
                Phase::Left => break Bytes::from_static(engineio::NOOP),
                // Clients that upgrade wait for their polls before.
                Phase::Upgraded => {
                    turn.end();
                    return Err(Gone);
                }
                Phase::Closed => break Bytes::from_static(engineio::CLOSE),
            }
            let patience = if probing { WHILE_PROBING } else { Duration::MAX };
            tokio::select! {
                Some(body) = self.packets(max_bytes) => break body,
                () = changed => {}
                () = time::sleep(patience) => break Bytes::from_static(engineio::NOOP),
            }
        };
        turn.end();
        Ok(body)
    }

    /// The client begins to send packets, of which [`Turn::take`] is told.
    ///
    /// # Errors
    /// The session is over; also because the client sends others already.
    pub(super) fn posting(&self) -> Result<Turn<'_>, Gone> {
        self.begin(|state| &mut state.posting)
    }

    /// A WebSocket comes with the session's name. There is one at a time: whoever knows the name
    /// cannot have the gateway hold as many as he likes.
    ///
    /// # Errors
    /// It is too late for that, or another is there.
    pub(super) fn begin_upgrade(self: &Arc<Self>) -> Result<Upgrade, Gone> {
        let mut state = self.state.lock();
        if state.phase != Phase::Polling || mem::replace(&mut state.upgrading, true) {
            return Err(Gone);
        }
        Ok(Upgrade(Arc::clone(self)))
    }

    /// The session is over.
    pub(super) fn close(&self) {
        self.end(Phase::Closed);
    }

    /// The client has answered a ping.
    pub(super) fn live_until(&self, at: Instant) {
        *self.lives_until.lock() = at;
    }

    fn begin(&self, which: fn(&mut State) -> &mut bool) -> Result<Turn<'_>, Gone> {
        if *self.lives_until.lock() <= Instant::now() {
            self.close();
            return Err(Gone);
        }
        let mut state = self.state.lock();
        if state.phase != Phase::Polling {
            return Err(Gone);
        }
        if mem::replace(which(&mut state), true) {
            drop(state);
            self.close();
            return Err(Gone);
        }
        Ok(Turn { polled: self, done: false, which })
    }

    fn end(&self, phase: Phase) {
        let mut state = self.state.lock();
        if state.phase != Phase::Polling {
            return;
        }
        state.phase = phase;
        drop(state);
        self.changed.notify_waiters();
        if phase == Phase::Left {
            self.pipe.send(Opcode::Close, &CloseCode::Normal.number().to_be_bytes());
        }
        if phase != Phase::Upgraded {
            self.pipe.leave();
        }
    }

    /// Waits for packets, and takes those that there are; `None` once there will be no more.
    async fn packets(&self, max_bytes: usize) -> Option<Bytes> {
        loop {
            let mut payload = Payload::default();
            let ended = self.take(&mut payload, max_bytes).is_err();
            // The end is for the next poll: clients learn of it before they look at packets that
            // come with it.
            if !payload.is_empty() {
                return Some(payload.finish());
            }
            match poll_fn(|cx| self.pipe.poll_read(cx)).await {
                Some(bytes) if !ended => self.reader.lock().input.unsplit(bytes),
                _ => {
                    self.close();
                    return None;
                }
            }
        }
    }

    fn take(&self, payload: &mut Payload, max_bytes: usize) -> Result<(), Gone> {
        let Reader { decoder, input } = &mut *self.reader.lock();
        while payload.has_room() && payload.len() < max_bytes {
            let mut rest = &mut input[..];
            let before = rest.len();
            let incoming = decoder.next(&mut rest);
            let closed = match incoming {
                Ok(None) => {
                    *input = BytesMut::new();
                    return Ok(());
                }
                Ok(Some(Incoming::Text(text))) => {
                    payload.push(Opcode::Text, text.as_bytes());
                    false
                }
                Ok(Some(Incoming::Binary(bytes))) => {
                    payload.push(Opcode::Binary, bytes);
                    false
                }
                Ok(Some(Incoming::Ping(_) | Incoming::Pong(_))) => false,
                Ok(Some(Incoming::Close(_))) | Err(_) => true,
            };
            let used = before - rest.len();
            input.advance(used);
            if closed {
                return Err(Gone);
            }
        }
        Ok(())
    }
}

impl Turn<'_> {
    /// Hands packets to the server, and waits until it has taken them.
    ///
    /// # Errors
    /// The session is over; also because of what is in the packets.
    pub(super) async fn take<'a, E>(
        self,
        packets: impl Iterator<Item = Result<Packet<'a>, E>>,
    ) -> Result<(), Gone> {
        let pipe = &self.polled.pipe;
        for packet in packets {
            match packet.map_err(|_| Gone)? {
                Packet::Text(text) => pipe.send(Opcode::Text, format!("4{text}").as_bytes()),
                Packet::Binary(bytes) => pipe.send(Opcode::Binary, &bytes),
                Packet::Pong(_) => pipe.send(Opcode::Text, b"3"),
                Packet::Close => {
                    self.polled.end(Phase::Left);
                    break;
                }
                // Some clients send it also where they do not upgrade.
                Packet::Noop => {}
                Packet::Open | Packet::Ping(_) | Packet::Upgrade => return Err(Gone),
            }
        }
        time::timeout(TAKEN_WITHIN, pipe.taken()).await.map_err(|_| Gone)?;
        self.end();
        Ok(())
    }

    /// The request has ended well.
    pub(super) fn end(mut self) {
        self.done = true;
    }
}

/// A client that breaks off a request has gone.
impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.polled.state.lock();
        *(self.which)(&mut state) = false;
        let upgraded = state.phase == Phase::Upgraded;
        drop(state);
        if upgraded {
            self.polled.changed.notify_waiters();
        }
        if !self.done {
            self.polled.close();
        }
    }
}

/// A client that tries a WebSocket.
pub(super) struct Upgrade(Arc<Polled>);

impl Upgrade {
    /// The client probes it: polls end at once, until it has made up its mind.
    ///
    /// # Errors
    /// It is too late for that, or it has done so already.
    pub(super) fn probe(&self) -> Result<(), Gone> {
        let mut state = self.0.state.lock();
        if state.phase != Phase::Polling || mem::replace(&mut state.probing, true) {
            return Err(Gone);
        }
        drop(state);
        self.0.changed.notify_waiters();
        Ok(())
    }

    /// It has changed to the WebSocket, from whose input `unread` was read already.
    pub(super) async fn finish(self, socket: Box<dyn Socket>, unread: &[u8]) {
        let polled = Arc::clone(&self.0);
        polled.end(Phase::Upgraded);
        // A poll that was under way has ended, or ends with what it has taken already.
        loop {
            let changed = polled.changed.notified();
            if !polled.state.lock().polling {
                break;
            }
            changed.await;
        }
        let input = mem::take(&mut polled.reader.lock().input);
        if let Err(error) = polled.pipe.move_to(socket, &input, unread).await {
            tracing::debug!(%error, "a WebSocket broke right after an upgrade to it");
        }
    }
}

/// Also where it was given up half way.
impl Drop for Upgrade {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        (state.upgrading, state.probing) = (false, false);
        let upgraded = state.phase == Phase::Upgraded;
        drop(state);
        if upgraded {
            // Unless the socket has taken the pipe's place, nobody will read here any more.
            self.0.pipe.leave();
        }
    }
}

#[cfg(test)]
mod tests;

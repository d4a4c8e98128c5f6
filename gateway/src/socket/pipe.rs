//! A socket whose other end is in this process: what a client says and hears goes by HTTP there.

use std::{
    fmt,
    io::{self, ErrorKind, IoSlice},
    mem,
    str::FromStr,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use broker_protocol::ws::{Opcode, frame};
use bytes::{Buf as _, BytesMut};
use futures_util::{future::poll_fn, task::AtomicWaker};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::{HandedIn, Socket, write_all};

/// Bytes that may wait to be read by the client's end; what does not fit waits in the outbox,
/// which has a limit of its own.
const DOWN_BYTES: usize = 16 * 1024;

/// The server's end, for a connection.
#[derive(Debug)]
pub(crate) struct PipeSocket(Arc<Pipe>);

/// The client's end. Dropping it is what breaking a TCP connection is.
#[derive(Debug)]
pub(crate) struct PipeEnd(Arc<Pipe>);

#[derive(Debug)]
struct Pipe {
    key: CommandKey,
    /// Most bytes of commands that wait to be read by the server.
    up_bytes: usize,
    state: Mutex<State>,
    client: AtomicWaker,
    client_writes: AtomicWaker,
    server_reads: AtomicWaker,
    server_writes: AtomicWaker,
    /// What carries the bytes now, if the client's end has found something better.
    moved: OnceLock<Box<dyn Socket>>,
}

#[derive(Debug, Default)]
struct State {
    down: BytesMut,
    up: BytesMut,
    /// The server writes no more.
    finished: bool,
    /// The client's end is gone.
    left: bool,
}

/// What a client shows to prove that a connection is its own: 128 random bits, written as 32 hex
/// digits. Debug output does not show it.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct CommandKey(u128);

/// The text is no key.
#[derive(Debug, thiserror::Error)]
#[error("a key has 32 hex digits")]
pub(crate) struct NoKey;

/// The ends of a new pipe, of which the server's takes commands from whoever has the key, until
/// `up_bytes` of them wait.
pub(crate) fn pipe(key: CommandKey, up_bytes: usize) -> (PipeSocket, PipeEnd) {
    let pipe = Arc::new(Pipe {
        key,
        up_bytes,
        state: Mutex::default(),
        client: AtomicWaker::new(),
        client_writes: AtomicWaker::new(),
        server_reads: AtomicWaker::new(),
        server_writes: AtomicWaker::new(),
        moved: OnceLock::new(),
    });
    (PipeSocket(Arc::clone(&pipe)), PipeEnd(pipe))
}

impl PipeEnd {
    /// All that the server has written since the last call; `None` at the end.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Option<BytesMut>> {
        self.0.client.register(cx.waker());
        let mut state = self.0.state.lock();
        if state.down.is_empty() {
            return if state.finished { Poll::Ready(None) } else { Poll::Pending };
        }
        let bytes = mem::take(&mut state.down);
        drop(state);
        self.0.server_writes.wake();
        Poll::Ready(Some(bytes))
    }

    /// Waits until the server has read all that was sent, or is gone.
    pub(crate) async fn taken(&self) {
        poll_fn(|cx| {
            self.0.client_writes.register(cx.waker());
            let state = self.0.state.lock();
            if state.up.is_empty() || state.finished { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Has a socket carry the bytes from now on, of whose input `unread` was read already. Before
    /// what the server writes next goes what it has written: `first` of it was read already.
    ///
    /// # Errors
    /// The socket broke before; then the pipe is as if its client had gone.
    pub(crate) async fn move_to(
        &self,
        socket: Box<dyn Socket>,
        first: &[u8],
        unread: &[u8],
    ) -> io::Result<()> {
        write_all(&*socket, first).await?;
        let mut socket = Some(socket);
        while let Some(bytes) = self.0.hand_over(&mut socket, unread) {
            if let Some(socket) = &socket {
                write_all(&**socket, &bytes).await?;
            }
        }
        self.0.server_reads.wake();
        self.0.server_writes.wake();
        Ok(())
    }

    /// Sends a frame, also where others wait to be read: whoever calls this has bounded them.
    pub(crate) fn send(&self, opcode: Opcode, payload: &[u8]) {
        self.0.send(&mut self.0.state.lock(), opcode, payload);
    }

    /// Nobody reads any more what the server writes; what was sent to it is still there.
    pub(crate) fn leave(&self) {
        if self.0.moved.get().is_some() {
            return;
        }
        let mut state = self.0.state.lock();
        (state.left, state.down) = (true, BytesMut::new());
        drop(state);
        self.0.server_reads.wake();
        self.0.server_writes.wake();
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Pipe {
    /// Goes over to the socket, if nothing waits that must be written to it before.
    fn hand_over(&self, socket: &mut Option<Box<dyn Socket>>, unread: &[u8]) -> Option<BytesMut> {
        let mut state = self.state.lock();
        if !state.down.is_empty() {
            return Some(mem::take(&mut state.down));
        }
        state.up.extend_from_slice(unread);
        if let Some(socket) = socket.take() {
            if state.finished {
                socket.finish();
            }
            // The first and only move.
            drop(self.moved.set(socket));
        }
        None
    }

    /// The mask protects the caches of proxies; here are none.
    fn send(&self, state: &mut State, opcode: Opcode, payload: &[u8]) {
        frame::client_frame(&mut state.up, opcode, true, [0; 4], payload);
        self.server_reads.wake();
    }
}

impl Socket for PipeSocket {
    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(socket) = self.0.moved.get() {
            return socket.try_write_vectored(parts);
        }
        let mut state = self.0.state.lock();
        // Whoever moves holds the lock.
        if let Some(socket) = self.0.moved.get() {
            return socket.try_write_vectored(parts);
        }
        if state.left {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut room = DOWN_BYTES.saturating_sub(state.down.len());
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let before = state.down.len();
        for part in parts {
            let taken = part.len().min(room);
            state.down.extend_from_slice(&part[..taken]);
            room -= taken;
        }
        let count = state.down.len() - before;
        drop(state);
        self.0.client.wake();
        Ok(count)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        if state.up.is_empty() {
            if let Some(socket) = self.0.moved.get() {
                drop(state);
                return socket.try_read(buffer);
            }
            return if state.left { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let count = state.up.len().min(buffer.len());
        buffer[..count].copy_from_slice(&state.up[..count]);
        state.up.advance(count);
        if state.up.is_empty() {
            state.up = BytesMut::new();
            drop(state);
            self.0.client_writes.wake();
        }
        Ok(count)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.server_writes.register(cx.waker());
        let state = self.0.state.lock();
        if let Some(socket) = self.0.moved.get() {
            drop(state);
            return socket.poll_write_ready(cx);
        }
        let ready = state.left || state.down.len() < DOWN_BYTES;
        if ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // As a socket of the runtime: nobody may take the thread for ever.
        ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
        self.0.server_reads.register(cx.waker());
        let state = self.0.state.lock();
        if let (true, Some(socket)) = (state.up.is_empty(), self.0.moved.get()) {
            drop(state);
            return socket.poll_read_ready(cx);
        }
        let ready = state.left || !state.up.is_empty();
        if ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn hand_in(&self, key: &CommandKey, commands: &str) -> HandedIn {
        if self.0.key != *key {
            return HandedIn::Refused;
        }
        let mut state = self.0.state.lock();
        if state.left || state.finished {
            return HandedIn::Refused;
        }
        if !state.up.is_empty() && state.up.len() + commands.len() > self.0.up_bytes {
            return HandedIn::Full;
        }
        self.0.send(&mut state, Opcode::Text, commands.as_bytes());
        HandedIn::Taken
    }

    fn holds_back(&self) -> bool {
        self.0.moved.get().is_some_and(|socket| socket.holds_back())
    }

    fn finish(&self) {
        let mut state = self.0.state.lock();
        state.finished = true;
        drop(state);
        self.0.client.wake();
        self.0.client_writes.wake();
        if let Some(socket) = self.0.moved.get() {
            socket.finish();
        }
    }
}

/// Also where the connection broke off.
impl Drop for PipeSocket {
    fn drop(&mut self) {
        self.finish();
    }
}

impl CommandKey {
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }
}

/// In constant time, so that the time taken tells nothing.
impl PartialEq for CommandKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for CommandKey {}

impl fmt::Debug for CommandKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommandKey(…)")
    }
}

impl FromStr for CommandKey {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten().ok_or(NoKey)
    }
}

impl TryFrom<String> for CommandKey {
    type Error = NoKey;

    fn try_from(text: String) -> Result<Self, NoKey> {
        text.parse()
    }
}

impl From<CommandKey> for String {
    fn from(key: CommandKey) -> Self {
        format!("{:032x}", key.0)
    }
}

#[cfg(test)]
mod tests;

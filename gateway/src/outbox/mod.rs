//! The bounded queue of bytes on their way to one client, and the writing of it.
//!
//! Fan-out pushes and writes directly; nothing is woken for that. Only when the socket takes no
//! more does the connection's task get involved: it waits until the socket is writable again.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use broker_core::{
    CloseCode, ConnectionId, Interest, UserId, overlap::Overlap, ports::ConnectionInfo,
};
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::socket::Socket;

/// Blocks written by one system call at most.
const MAX_PARTS: usize = 64;

/// Where messages for one connection go.
#[derive(Debug)]
pub(crate) struct Outbox {
    id: ConnectionId,
    info: OnceLock<Box<ConnectionInfo>>,
    socket: Box<dyn Socket>,
    limit: usize,
    queue: Mutex<Queue>,
    /// Set once the connection has interests that may bring the same message twice.
    overlapping: AtomicBool,
    /// Set, before the task is woken, when it has something to look at.
    told: AtomicBool,
    task: AtomicWaker,
}

#[derive(Debug, Default)]
struct Queue {
    blocks: VecDeque<Block>,
    /// Bytes of the first block that are written already.
    written: usize,
    /// Bytes in the queue that are not yet written.
    bytes: usize,
    /// While set, pushes only queue: an answer and what it announces belong together.
    corked: bool,
    /// The socket takes no more for now; the task waits for it.
    blocked: bool,
    /// The backlog was over its limit; only the last frame is taken.
    slow: bool,
    /// No more is queued.
    sealed: bool,
    failed: bool,
    notices: Notices,
    overlap: Option<Box<Overlap>>,
}

#[derive(Debug)]
struct Block {
    bytes: Bytes,
    messages: u32,
}

/// What the connection's task was told since it last looked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Notices {
    /// The session's timer is due.
    pub(crate) due: bool,
    /// The gateway goes away; come back after this many milliseconds.
    pub(crate) drain: Option<u32>,
    /// End the connection.
    pub(crate) close: Option<CloseCode>,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is queued, or written.
    Taken,
    /// The connection is ending; it gets nothing more.
    Closed,
    /// The queue is full: the client reads too slowly. Its queue of this many messages is given
    /// up, and it will be closed.
    Overflow { lost: u32 },
}

impl Outbox {
    pub(crate) fn new(id: ConnectionId, socket: Box<dyn Socket>, limit: usize) -> Self {
        Self {
            id,
            info: OnceLock::new(),
            socket,
            limit,
            queue: Mutex::default(),
            overlapping: AtomicBool::new(false),
            told: AtomicBool::new(false),
            task: AtomicWaker::new(),
        }
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(crate) fn socket(&self) -> &dyn Socket {
        &*self.socket
    }

    pub(crate) fn user(&self) -> Option<&UserId> {
        self.info()?.user.as_ref()
    }

    /// Whose connection it is, once that is known.
    pub(crate) fn info(&self) -> Option<&ConnectionInfo> {
        self.info.get().map(|info| &**info)
    }

    pub(crate) fn set_info(&self, info: ConnectionInfo) {
        self.info.get_or_init(|| Box::new(info));
    }

    /// Queues a block of whole frames that holds `messages` messages.
    pub(crate) fn push(&self, bytes: &Bytes, messages: u32) -> Pushed {
        self.queue.lock().push(self, bytes.clone(), messages)
    }

    /// Queues a block and writes what the socket takes: the way of a message that came alone.
    pub(crate) fn deliver(&self, bytes: &Bytes, messages: u32) -> Pushed {
        let mut queue = self.queue.lock();
        if queue.is_idle() {
            match self.socket.try_write_vectored(&[IoSlice::new(bytes)]) {
                Ok(count) if count == bytes.len() && !self.socket.holds_back() => {
                    return Pushed::Taken;
                }
                Ok(count) => {
                    let pushed = queue.push(self, bytes.clone(), messages);
                    queue.advance(count);
                    queue.flush(self);
                    return pushed;
                }
                Err(error) if is_transient(&error) => {}
                Err(_) => queue.fail(self),
            }
        }
        let pushed = queue.push(self, bytes.clone(), messages);
        queue.flush(self);
        pushed
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(crate) fn flush(&self) {
        self.queue.lock().flush(self);
    }

    /// Holds back what is queued from now on, until [`Outbox::uncork`].
    pub(crate) fn cork(&self) {
        self.queue.lock().corked = true;
    }

    pub(crate) fn uncork(&self) {
        let mut queue = self.queue.lock();
        queue.corked = false;
        queue.flush(self);
    }

    /// Queues the last frame; nothing is taken after it.
    pub(crate) fn seal(&self, last: Bytes) {
        let mut queue = self.queue.lock();
        if !queue.sealed {
            queue.bytes += last.len();
            queue.blocks.push_back(Block { bytes: last, messages: 0 });
            queue.sealed = true;
        }
        queue.corked = false;
        queue.flush(self);
    }

    /// Whether all that was queued is written; an error if it never will be.
    pub(crate) fn is_flushed(&self) -> io::Result<bool> {
        let queue = self.queue.lock();
        if queue.failed {
            Err(ErrorKind::BrokenPipe.into())
        } else {
            Ok(queue.blocks.is_empty() && !queue.blocked)
        }
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    /// From now on, copies of one message that several interests bring are told apart.
    pub(crate) fn watch_overlap(&self) {
        if !self.overlapping.load(Ordering::Relaxed) {
            self.queue.lock().overlap = Some(Box::default());
            self.overlapping.store(true, Ordering::Release);
        }
    }

    pub(crate) fn is_overlapping(&self) -> bool {
        self.overlapping.load(Ordering::Acquire)
    }

    /// Whether this copy of a message is the first that the connection gets.
    pub(crate) fn is_first_copy(&self, fingerprint: u64, via: &Interest) -> bool {
        match &mut self.queue.lock().overlap {
            Some(overlap) => overlap.is_first(Instant::now().into_std(), fingerprint, via),
            None => true,
        }
    }

    /// Tells the connection's task something.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Notices)) {
        change(&mut self.queue.lock().notices);
        self.wake();
    }

    /// What the task was told since it last asked.
    pub(crate) fn take_notices(&self) -> Notices {
        std::mem::take(&mut self.queue.lock().notices)
    }

    /// Ready when there is something to look at, or the socket can be written to again and there
    /// is something to write. For the connection's task alone.
    pub(crate) fn poll_attention(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.task.register(cx.waker());
        if self.told.swap(false, Ordering::AcqRel) {
            return Poll::Ready(());
        }
        let mut queue = self.queue.lock();
        if !queue.blocked {
            return Poll::Pending;
        }
        match self.socket.poll_write_ready(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                queue.blocked = false;
                queue.flush(self);
                Poll::Ready(())
            }
            Poll::Ready(Err(_)) => {
                queue.fail(self);
                Poll::Ready(())
            }
        }
    }

    fn wake(&self) {
        self.told.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.blocks.is_empty()
            && !self.corked
            && !self.blocked
            && !self.slow
            && !self.sealed
            && !self.failed
    }

    fn push(&mut self, outbox: &Outbox, bytes: Bytes, messages: u32) -> Pushed {
        if self.slow || self.sealed || self.failed {
            return Pushed::Closed;
        }
        // A block alone may be larger than the limit: it is one batch, shared by many, and
        // costs this connection a reference. What may not grow is the backlog.
        if self.bytes > 0 && self.bytes + bytes.len() > outbox.limit {
            return self.overflow(outbox, messages);
        }
        self.bytes += bytes.len();
        self.blocks.push_back(Block { bytes, messages });
        Pushed::Taken
    }

    /// Gives up everything but the block that is half written, whose frames must be completed.
    fn overflow(&mut self, outbox: &Outbox, messages: u32) -> Pushed {
        let keep = usize::from(self.written > 0);
        let lost =
            messages + self.blocks.iter().skip(keep).map(|block| block.messages).sum::<u32>();
        self.blocks.truncate(keep);
        self.bytes =
            self.blocks.iter().map(|block| block.bytes.len()).sum::<usize>() - self.written;
        self.slow = true;
        self.notices.close = Some(CloseCode::Slow);
        outbox.wake();
        Pushed::Overflow { lost }
    }

    fn flush(&mut self, outbox: &Outbox) {
        while !self.blocks.is_empty() && !self.corked && !self.blocked && !self.failed {
            let mut parts = [IoSlice::new(&[]); MAX_PARTS];
            let mut count = 0;
            for (part, block) in parts.iter_mut().zip(&self.blocks) {
                let start = if count == 0 { self.written } else { 0 };
                *part = IoSlice::new(&block.bytes[start..]);
                count += 1;
            }
            match outbox.socket.try_write_vectored(&parts[..count]) {
                Ok(0) => self.fail(outbox),
                Ok(count) => self.advance(count),
                Err(error) if is_transient(&error) => {
                    self.blocked = true;
                    outbox.wake();
                }
                Err(_) => self.fail(outbox),
            }
        }
        if self.blocks.is_empty() && !self.blocked && !self.failed && outbox.socket.holds_back() {
            self.push_through(outbox);
        }
        if self.blocks.is_empty() && self.blocks.capacity() > 0 {
            self.blocks = VecDeque::new();
            if self.sealed {
                outbox.wake();
            }
        }
    }

    /// Has the socket pass on what it holds back.
    fn push_through(&mut self, outbox: &Outbox) {
        match outbox.socket.try_write_vectored(&[]) {
            Err(error) if !is_transient(&error) => self.fail(outbox),
            _ if outbox.socket.holds_back() => {
                self.blocked = true;
                outbox.wake();
            }
            _ => {}
        }
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while let Some(block) = self.blocks.front() {
            let left = block.bytes.len() - self.written;
            if count < left {
                self.written += count;
                return;
            }
            count -= left;
            self.written = 0;
            self.blocks.pop_front();
        }
    }

    fn fail(&mut self, outbox: &Outbox) {
        self.failed = true;
        self.blocks = VecDeque::new();
        (self.bytes, self.written) = (0, 0);
        outbox.wake();
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;

//! The bounded queue of bytes on their way to one client, and the writing of it.
//!
//! Fan-out pushes and writes directly; nothing is woken for that. Only when the socket takes no
//! more does the connection's task get involved: it waits until the socket is writable again.

mod marked;

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use broker_core::{
    CloseCode, ConnectionId, Interest, UserId, message::Exclude, overlap::Overlap,
    ports::ConnectionInfo, recovery::Progress,
};
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    dialect::Encoding,
    socket::{Socket, is_transient},
};

pub(crate) use marked::Given;

/// Blocks written by one system call at most.
const MAX_PARTS: usize = 64;

/// Where messages for one connection go.
#[derive(Debug)]
pub(crate) struct Outbox {
    id: ConnectionId,
    info: OnceLock<Arc<ConnectionInfo>>,
    /// The first connection of its session, where that is another one.
    origin: OnceLock<Box<ConnectionId>>,
    socket: Box<dyn Socket>,
    limit: usize,
    encoding: Encoding,
    queue: Mutex<Queue>,
    /// Set once the connection has interests that may bring the same message twice.
    overlapping: AtomicBool,
    /// Set while the client is told with each message where it stands.
    marking: AtomicBool,
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
    /// Messages that were queued when the link broke.
    lost: u32,
    notices: Notices,
    /// What the client is told of why it is ended, in place of the code's own words.
    reason: Option<Box<str>>,
    overlap: Option<Box<Overlap>>,
    /// Where the client stands, if the server is to know.
    progress: Option<Box<Progress>>,
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
    /// Find out what the client has taken in, where it does not say so itself.
    pub(crate) probe: bool,
    /// The configuration has changed.
    pub(crate) changed: bool,
    /// End the connection.
    pub(crate) close: Option<CloseCode>,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is written, or queued behind what somebody will write.
    Taken,
    /// It is queued where nothing waited: the caller is to [`Outbox::flush`].
    Unwritten,
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
            origin: OnceLock::new(),
            socket,
            limit,
            encoding: Encoding::default(),
            queue: Mutex::default(),
            overlapping: AtomicBool::new(false),
            marking: AtomicBool::new(false),
            told: AtomicBool::new(false),
            task: AtomicWaker::new(),
        }
    }

    pub(crate) fn with_encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// What the connection's messages look like.
    pub(crate) fn encoding(&self) -> &Encoding {
        &self.encoding
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
    pub(crate) fn info(&self) -> Option<&Arc<ConnectionInfo>> {
        self.info.get()
    }

    pub(crate) fn set_info(&self, info: Arc<ConnectionInfo>) {
        self.info.get_or_init(|| info);
    }

    pub(crate) fn set_origin(&self, origin: ConnectionId) {
        if origin != self.id {
            self.origin.get_or_init(|| Box::new(origin));
        }
    }

    /// The first connection of its session.
    pub(crate) fn origin(&self) -> ConnectionId {
        self.origin.get().map_or(self.id, |origin| **origin)
    }

    /// Whether a message must not reach this connection.
    pub(crate) fn is_excluded(&self, exclude: &Exclude) -> bool {
        let covers = |id| exclude.covers(id, self.user());
        covers(self.id) || self.origin.get().is_some_and(|origin| covers(**origin))
    }

    /// Queues a block of whole frames that holds `messages` messages.
    pub(crate) fn push(&self, bytes: &Bytes, messages: u32) -> Pushed {
        self.queue.lock().push(self, bytes.clone(), messages)
    }

    /// Queues a message, unless another interest has brought it before; `None` says so. Judging
    /// and queueing are one step: the copies come from several fan-out workers.
    pub(crate) fn push_first_copy(
        &self,
        fingerprint: u64,
        via: &Interest,
        bytes: &Bytes,
    ) -> Option<Pushed> {
        let mut queue = self.queue.lock();
        let overlap = queue.overlap.get_or_insert_default();
        overlap
            .is_first(Instant::now().into_std(), fingerprint, via)
            .then(|| queue.push(self, bytes.clone(), 1))
    }

    /// Queues a message that went to several targets, unless the connection was given it for
    /// another one before; `None` says so.
    pub(crate) fn push_new(&self, id: u64, bytes: &Bytes) -> Option<Pushed> {
        let mut queue = self.queue.lock();
        let overlap = queue.overlap.get_or_insert_default();
        overlap.is_new(Instant::now().into_std(), id).then(|| queue.push(self, bytes.clone(), 1))
    }

    /// Queues a block and writes what the socket takes: the way of a message that came alone.
    pub(crate) fn deliver(&self, bytes: &Bytes, messages: u32) -> Pushed {
        if bytes.is_empty() {
            return Pushed::Taken;
        }
        let mut queue = self.queue.lock();
        if queue.is_idle() {
            match self.socket.try_write_vectored(&[IoSlice::new(bytes)]) {
                Ok(count) if count == bytes.len() && !self.socket.holds_back() => {
                    return Pushed::Taken;
                }
                Ok(count) => {
                    queue.append(bytes.clone(), messages);
                    queue.advance(count);
                    queue.flush(self);
                    return Pushed::Taken;
                }
                Err(error) if is_transient(&error) => {}
                Err(_) => queue.fail(self),
            }
        }
        match queue.push(self, bytes.clone(), messages) {
            Pushed::Unwritten => {
                queue.flush(self);
                Pushed::Taken
            }
            pushed => pushed,
        }
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

    /// Queues the last frame, which may be empty; nothing is taken after it.
    pub(crate) fn seal(&self, last: Bytes) {
        let mut queue = self.queue.lock();
        if !queue.sealed && !queue.failed {
            if !last.is_empty() {
                queue.append(last, 0);
            }
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

    /// How many bytes more it takes now without giving the client up for slow.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.queued_bytes())
    }

    /// Gives up what is not written, because nobody will write it; says how many messages that
    /// were, those included that were queued when the link broke.
    pub(crate) fn abandon(&self) -> u32 {
        let mut queue = self.queue.lock();
        queue.fail(self);
        std::mem::take(&mut queue.lost)
    }

    /// From now on, copies of one message that several interests bring are told apart.
    pub(crate) fn watch_overlap(&self) {
        self.overlapping.store(true, Ordering::Release);
    }

    pub(crate) fn is_overlapping(&self) -> bool {
        self.overlapping.load(Ordering::Acquire)
    }

    /// What an interest has brought is no longer waited for by the others: it has ended.
    pub(crate) fn forget_copies(&self, via: &Interest) {
        if let Some(overlap) = &mut self.queue.lock().overlap {
            overlap.forget(via);
        }
    }

    /// Tells the connection's task something.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Notices)) {
        change(&mut self.queue.lock().notices);
        self.wake();
    }

    /// Tells the connection's task to end it, perhaps for a reason that the client is told.
    pub(crate) fn disconnect(&self, code: CloseCode, reason: Option<&str>) {
        {
            let queue = &mut *self.queue.lock();
            queue.notices.close = Some(code);
            queue.reason = reason.map(Into::into);
        }
        self.wake();
    }

    /// The reason, once.
    pub(crate) fn take_reason(&self) -> Option<Box<str>> {
        self.queue.lock().reason.take()
    }

    /// What the task was told since it last asked.
    pub(crate) fn take_notices(&self) -> Notices {
        std::mem::take(&mut self.queue.lock().notices)
    }

    /// Ready when there is something to look at, or the socket could be written to again. For the
    /// connection's task alone.
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
        // A client may be told nothing of a message.
        if bytes.is_empty() {
            return Pushed::Taken;
        }
        // Nobody may have tried to write yet: a batch, or a cork, may hold more than the limit.
        if self.is_over(bytes.len(), outbox.limit) {
            self.blocked = false;
            self.write(outbox);
        }
        if self.failed {
            return Pushed::Closed;
        }
        if self.is_over(bytes.len(), outbox.limit) {
            return self.overflow(outbox, messages);
        }
        let alone = self.blocks.is_empty() && !self.corked && !self.blocked;
        self.append(bytes, messages);
        if alone { Pushed::Unwritten } else { Pushed::Taken }
    }

    /// A block alone may be larger than the limit: it is shared by many, and costs this
    /// connection a reference. What may not grow is the backlog.
    fn is_over(&self, more: usize, limit: usize) -> bool {
        self.bytes > 0 && self.bytes + more > limit
    }

    fn append(&mut self, bytes: Bytes, messages: u32) {
        self.bytes += bytes.len();
        self.blocks.push_back(Block { bytes, messages });
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
        if !self.corked {
            self.write(outbox);
        }
    }

    fn write(&mut self, outbox: &Outbox) {
        while !self.blocks.is_empty() && !self.blocked && !self.failed {
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
        let lost = self.blocks.iter().fold(0u32, |sum, block| sum.saturating_add(block.messages));
        self.lost = self.lost.saturating_add(lost);
        self.failed = true;
        // Nothing is left to wait for.
        self.blocked = false;
        self.blocks = VecDeque::new();
        (self.bytes, self.written) = (0, 0);
        outbox.wake();
    }
}

#[cfg(test)]
mod tests;

//! A socket whose other end is the test.

use std::{
    io::{self, ErrorKind, IoSlice},
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::Socket;

/// Takes as many bytes as it is given room for, and brings what it is fed.
#[derive(Debug, Clone, Default)]
pub(crate) struct FakeSocket(Arc<Ends>);

#[derive(Debug, Default)]
struct Ends {
    room: Mutex<usize>,
    taken: Mutex<Vec<u8>>,
    fed: Mutex<Vec<u8>>,
    left: Mutex<bool>,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl FakeSocket {
    /// With room for everything.
    pub(crate) fn wide() -> Self {
        let socket = Self::default();
        socket.make_room(usize::MAX / 2);
        socket
    }

    pub(crate) fn make_room(&self, bytes: usize) {
        *self.0.room.lock() += bytes;
        self.0.writer.wake();
    }

    /// What was written since the last call.
    pub(crate) fn taken(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.taken.lock())
    }

    pub(crate) fn feed(&self, bytes: &[u8]) {
        self.0.fed.lock().extend_from_slice(bytes);
        self.0.reader.wake();
    }

    /// The other end goes away.
    pub(crate) fn leave(&self) {
        *self.0.left.lock() = true;
        self.0.reader.wake();
    }

    fn is_readable(&self) -> bool {
        *self.0.left.lock() || !self.0.fed.lock().is_empty()
    }
}

impl Socket for FakeSocket {
    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut room = self.0.room.lock();
        if *room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let count = bytes.len().min(*room);
        *room -= count;
        self.0.taken.lock().extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_readable() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut fed = self.0.fed.lock();
        let count = fed.len().min(buffer.len());
        buffer[..count].copy_from_slice(&fed[..count]);
        fed.drain(..count);
        Ok(count)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.writer.register(cx.waker());
        if *self.0.room.lock() > 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // As a socket of the runtime: nobody may take the thread for ever.
        ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
        self.0.reader.register(cx.waker());
        if self.is_readable() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn finish(&self) {}
}

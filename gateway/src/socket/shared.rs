//! One byte stream that several outboxes write to, each whole blocks.

use std::{
    io::{self, ErrorKind, IoSlice},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use super::Socket;

/// The stream. All who write to it are served by one task.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Box<dyn Socket>,
    turn: Mutex<Turn>,
}

/// One writer's access to it.
#[derive(Debug)]
pub(crate) struct Lane {
    wire: Arc<Wire>,
    number: u32,
}

#[derive(Debug, Default)]
struct Turn {
    lanes: u32,
    /// Who has written a part of a block, and must complete it before others write.
    holder: Option<u32>,
    /// The task that serves the others.
    waiting: Option<Waker>,
    /// A block will never be completed.
    broken: bool,
}

impl Wire {
    pub(crate) fn new(socket: Box<dyn Socket>) -> Arc<Self> {
        Arc::new(Self { socket, turn: Mutex::default() })
    }

    /// Access for one more writer.
    pub(crate) fn lane(self: &Arc<Self>) -> Lane {
        let mut turn = self.turn.lock();
        turn.lanes += 1;
        Lane { number: turn.lanes, wire: Arc::clone(self) }
    }

    fn release(&self, turn: &mut Turn) {
        turn.holder = None;
        if let Some(waker) = turn.waiting.take() {
            waker.wake();
        }
    }
}

impl Socket for Lane {
    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut turn = self.wire.turn.lock();
        if turn.broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if turn.holder.is_some_and(|holder| holder != self.number) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = self.wire.socket.try_write_vectored(parts)?;
        if count < parts.iter().map(|part| part.len()).sum() {
            turn.holder = Some(self.number);
        } else if turn.holder.is_some() {
            self.wire.release(&mut turn);
        }
        Ok(count)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wire.socket.try_read(buffer)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut turn = self.wire.turn.lock();
        if turn.broken {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        if turn.holder.is_some_and(|holder| holder != self.number) {
            turn.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(turn);
        self.wire.socket.poll_write_ready(cx)
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.socket.poll_read_ready(cx)
    }

    fn holds_back(&self) -> bool {
        self.wire.socket.holds_back()
    }

    fn finish(&self) {
        self.wire.socket.finish();
    }
}

/// A lane that goes in the middle of a block takes the stream with it.
impl Drop for Lane {
    fn drop(&mut self) {
        let mut turn = self.wire.turn.lock();
        if turn.holder == Some(self.number) {
            turn.broken = true;
            self.wire.release(&mut turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;

    use super::*;
    use crate::socket::FakeSocket;

    fn write(lane: &Lane, text: &str) -> io::Result<usize> {
        lane.try_write_vectored(&[IoSlice::new(text.as_bytes())])
    }

    fn is_ready(lane: &Lane) -> bool {
        lane.poll_write_ready(&mut Context::from_waker(&noop_waker())).is_ready()
    }

    #[test]
    fn nobody_writes_into_another_ones_block() {
        let socket = FakeSocket::default();
        socket.make_room(3);
        let wire = Wire::new(Box::new(socket.clone()));
        let (one, two) = (wire.lane(), wire.lane());
        assert_eq!(write(&one, "first").unwrap(), 3);
        socket.make_room(100);
        assert_eq!(write(&two, "second").unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(!is_ready(&two));
        assert_eq!(write(&one, "st").unwrap(), 2);
        assert!(is_ready(&two));
        assert_eq!(write(&two, "second").unwrap(), 6);
        assert_eq!(socket.taken(), b"firstsecond");
    }

    #[test]
    fn after_half_a_block_of_one_who_is_gone_nothing_is_written() {
        let socket = FakeSocket::default();
        socket.make_room(3);
        let wire = Wire::new(Box::new(socket.clone()));
        let (one, two) = (wire.lane(), wire.lane());
        assert_eq!(write(&one, "first").unwrap(), 3);
        drop(one);
        socket.make_room(100);
        assert_eq!(write(&two, "second").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

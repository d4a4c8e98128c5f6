//! The one small trait between connections and what carries their bytes.

#[cfg(test)]
mod fake;
mod pipe;
mod shared;
mod tls;

use std::{
    fmt::Debug,
    io::{self, ErrorKind, IoSlice, Read as _},
    net::Shutdown,
    task::{Context, Poll},
};

use futures_util::future::poll_fn;
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

#[cfg(test)]
pub(crate) use fake::FakeSocket;
pub(crate) use pipe::{CommandKey, PipeEnd, pipe};
pub(crate) use shared::Wire;
pub(crate) use tls::TlsSocket;

/// A byte stream that can be used from several threads without locks: fan-out writes, the
/// connection's own task reads, and waits where the other end is not ready.
///
/// `try_*` never wait; they answer `WouldBlock`, after which the matching `poll_*_ready` tells
/// when to try again.
pub(crate) trait Socket: Send + Sync + Debug {
    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether bytes that were taken have not reached the kernel yet; if so, they do with one of
    /// the next writes, be it an empty one.
    fn holds_back(&self) -> bool {
        false
    }

    /// Takes commands of the client that come by another way than this stream, from one who has
    /// its key. Only the ends of pipes do.
    fn hand_in(&self, _key: &CommandKey, _commands: &str) -> HandedIn {
        HandedIn::Refused
    }

    /// Says that nothing more will be written.
    fn finish(&self);
}

/// What became of commands that were handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HandedIn {
    /// The connection will carry them out.
    Taken,
    /// Too many wait already; nothing was done.
    Full,
    /// There is no such connection, or the key is not its own.
    Refused,
}

/// Whether the same call may succeed later.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Waits until the socket has taken all of it.
pub(crate) async fn write_all(socket: &dyn Socket, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.try_write_vectored(&[IoSlice::new(bytes)]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if is_transient(&error) => poll_fn(|cx| socket.poll_write_ready(cx)).await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Socket for TcpStream {
    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match parts {
            [single] => self.try_write(single),
            _ => Self::try_write_vectored(self, parts),
        }
    }

    /// A read that does not fill the buffer has taken all there was: saying so spares the next
    /// call, which would only learn that. (tokio does the same for `AsyncRead`, not for
    /// `try_read`; more input brings a new event, as epoll and kqueue are asked for edges.)
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut taken = None;
        let outcome = self.try_io(Interest::READABLE, || {
            let count = (&*SockRef::from(self)).read(buffer)?;
            taken = Some(count);
            if count == 0 || count == buffer.len() {
                return Ok(count);
            }
            Err(ErrorKind::WouldBlock.into())
        });
        taken.map_or(outcome, Ok)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_write_ready(self, cx)
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_read_ready(self, cx)
    }

    fn finish(&self) {
        if let Err(error) = SockRef::from(self).shutdown(Shutdown::Write) {
            tracing::trace!(%error, "the peer was gone before the connection was finished");
        }
    }
}

//! A TLS stream that is used like a plain socket.

use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_rustls::{rustls::ServerConnection, server::TlsStream};

use super::Socket;

/// Reads from the kernel after which others have their turn, though no text has come yet.
const READS: usize = 16;

/// The TCP stream beside the TLS state, which a lock guards: records must be made in order.
#[derive(Debug)]
pub(crate) struct TlsSocket {
    tcp: TcpStream,
    tls: Mutex<ServerConnection>,
}

impl TlsSocket {
    pub(crate) fn boxed(stream: TlsStream<TcpStream>) -> Box<dyn Socket> {
        let (tcp, tls) = stream.into_inner();
        Box::new(Self { tcp, tls: Mutex::new(tls) })
    }

    /// Moves records to the kernel until there are none, or it takes no more.
    fn drain(&self, tls: &mut ServerConnection) -> io::Result<()> {
        while tls.wants_write() {
            tls.write_tls(&mut Nonblocking(&self.tcp))?;
        }
        Ok(())
    }
}

impl Socket for TlsSocket {
    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut tls = self.tls.lock();
        // Records of earlier writes first: what is not taken by the kernel bounds what is made.
        self.drain(&mut tls)?;
        let taken = tls.writer().write_vectored(parts)?;
        match self.drain(&mut tls) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut tls = self.tls.lock();
        for _ in 0..READS {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // A peer that goes without saying so in TLS is gone all the same.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                outcome => return outcome,
            }
            if tls.read_tls(&mut Nonblocking(&self.tcp))? == 0 {
                return Ok(0);
            }
            tls.process_new_packets()
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
        Err(ErrorKind::Interrupted.into())
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_write_ready(cx)
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.tls.lock().process_new_packets() {
            Ok(state) if state.plaintext_bytes_to_read() > 0 => Poll::Ready(Ok(())),
            _ => self.tcp.poll_read_ready(cx),
        }
    }

    fn holds_back(&self) -> bool {
        self.tls.lock().wants_write()
    }

    fn finish(&self) {
        let mut tls = self.tls.lock();
        tls.send_close_notify();
        if let Err(error) = self.drain(&mut tls) {
            tracing::trace!(%error, "the peer was gone before the connection was finished");
        }
        self.tcp.finish();
    }
}

/// The non-blocking calls of a socket, for rustls.
struct Nonblocking<'a>(&'a TcpStream);

impl Read for Nonblocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Nonblocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

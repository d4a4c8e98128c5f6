//! The end of a connection.

use std::{
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use broker_core::CloseCode;
use futures_util::FutureExt;
use tokio::time;

use super::{Connection, End, SCRATCH};
use crate::{outbox::Outbox, socket::is_transient};

/// How long a closing connection may take to take its last bytes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for one that reads too slowly: it is to learn why it was closed, and what it did not
/// read fills the kernel's buffers, not ours.
const SLOW_CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

impl Connection {
    /// Gives back what the connection held, and sees its last bytes off.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.listed {
            self.unlist();
            self.under_way = None;
            if !matches!(self.end, Some(End::Broken)) {
                let patience = match self.end {
                    Some(End::Closing(CloseCode::Slow)) => SLOW_CLOSE_TIMEOUT,
                    _ => CLOSE_TIMEOUT,
                };
                self.farewell = Some(farewell(Arc::clone(&self.outbox), patience).boxed());
            }
        }
        self.farewell.as_mut().map_or(Poll::Ready(()), |farewell| farewell.as_mut().poll(cx))
    }

    fn unlist(&mut self) {
        if !mem::take(&mut self.listed) {
            return;
        }
        let (hub, id) = (&self.deps.hub, self.outbox.id());
        for interest in self.session.interests() {
            hub.leave(interest, id);
        }
        hub.remove(id);
        let closed = if let Some(End::Closing(code)) = self.end { Some(code) } else { None };
        self.deps.keeper.closed(id, closed);
        if self.session.was_opened() {
            self.deps.directory.disconnected(id, self.outbox.user().cloned());
        } else {
            self.deps.metrics.handshake("failed");
        }
    }
}

/// Also where the task panicked: else what the connection held would be held for ever.
impl Drop for Connection {
    fn drop(&mut self) {
        self.unlist();
        let metrics = &self.deps.metrics;
        metrics.dropped("connection_lost", self.outbox.abandon().into());
        let (code, initiator) = match self.end {
            Some(End::Closing(code)) => (code.number(), "server"),
            Some(End::ByClient) => (CloseCode::Normal.number(), "client"),
            Some(End::Broken) => (1006, "network"),
            None => (1006, "server"),
        };
        metrics.connections.dec();
        metrics.connection_closed(code, initiator);
    }
}

async fn farewell(outbox: Arc<Outbox>, patience: Duration) {
    if time::timeout(patience, linger(&outbox)).await.is_err() {
        let id = outbox.id();
        tracing::debug!(connection = %id, "the client did not take its last bytes in time");
    }
}

/// Writes what is left, says that it was all, and reads until the client has closed too: a
/// socket dropped with unread input would reset the connection, and the last bytes with it.
async fn linger(outbox: &Outbox) {
    let mut finished = false;
    poll_fn(|cx| {
        while outbox.poll_attention(cx).is_ready() {}
        match outbox.is_flushed() {
            Ok(true) if !finished => {
                outbox.socket().finish();
                finished = true;
            }
            Ok(_) => {}
            Err(_) => return Poll::Ready(()),
        }
        while outbox.socket().poll_read_ready(cx).is_ready() {
            match SCRATCH.with_borrow_mut(|scratch| outbox.socket().try_read(scratch)) {
                Ok(0) => return Poll::Ready(()),
                Err(error) if !is_transient(&error) => return Poll::Ready(()),
                _ => {}
            }
        }
        Poll::Pending
    })
    .await;
}

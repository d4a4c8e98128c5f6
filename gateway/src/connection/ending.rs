//! The end of a connection.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use broker_core::CloseCode;
use futures_util::FutureExt;
use tokio::time;

use super::{Connection, SCRATCH, conversation::End};
use crate::{outbox::Outbox, socket::is_transient};

/// How long a closing connection may take to take its last bytes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for one that reads too slowly: it is to learn why it was closed, and what it did not
/// read fills the kernel's buffers, not ours.
const SLOW_CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

impl Connection {
    /// Gives back what the connection held, and sees its last bytes off.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.farewell.is_none() && !matches!(self.conversation.end, Some(End::Broken)) {
            let patience = match self.conversation.end {
                Some(End::Closing(CloseCode::Slow)) => SLOW_CLOSE_TIMEOUT,
                _ => CLOSE_TIMEOUT,
            };
            let outbox = Arc::clone(&self.conversation.outbox);
            self.farewell = Some(farewell(outbox, patience).boxed());
        }
        self.conversation.unlist();
        self.farewell.as_mut().map_or(Poll::Ready(()), |farewell| farewell.as_mut().poll(cx))
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

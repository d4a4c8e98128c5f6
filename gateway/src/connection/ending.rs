//! The end of a connection.

use std::{
    future::{self, poll_fn},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use broker_core::{CloseCode, ports::BoxFuture};
use futures_util::FutureExt;
use tokio::time;

use super::{Connection, Conversation, End, SCRATCH};
use crate::{outbox::Outbox, socket::is_transient};

/// How long a closing connection may take to take its last bytes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for one that reads too slowly: it is to learn why it was closed, and what it did not
/// read fills the kernel's buffers, not ours.
const SLOW_CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

impl Connection {
    /// Gives back what the connection held, and sees its last bytes off.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.conversation.unlist();
        let Conversation { outbox, end, .. } = &self.conversation;
        self.farewell.get_or_insert_with(|| farewell(Arc::clone(outbox), *end)).as_mut().poll(cx)
    }
}

/// Sees the last bytes off.
pub(crate) fn farewell(outbox: Arc<Outbox>, end: Option<End>) -> BoxFuture<'static, ()> {
    let patience = match end {
        Some(End::Broken) => return future::ready(()).boxed(),
        Some(End::Closing(CloseCode::Slow)) => SLOW_CLOSE_TIMEOUT,
        _ => CLOSE_TIMEOUT,
    };
    async move {
        if time::timeout(patience, linger(&outbox)).await.is_err() {
            let id = outbox.id();
            tracing::debug!(connection = %id, "the client did not take its last bytes in time");
        }
    }
    .boxed()
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

//! Sends every message back. Conformance suites test the socket path with it; it is off unless
//! `testing.echo` is set.

use std::{future::poll_fn, task::Poll};

use broker_core::{CloseCode, ConnectionId};
use broker_protocol::ws::{self, Decoder, Incoming, deflate, frame};
use bytes::Bytes;

use super::{Deps, SCRATCH};
use crate::{
    outbox::Outbox,
    socket::{Socket, is_transient},
};

/// Echoes until the client closes, or breaks the protocol.
pub(crate) async fn run(deps: &Deps, socket: Box<dyn Socket>, unread: Bytes, compressed: bool) {
    // What is read is echoed whole, so the backlog may grow by one read beyond this.
    let outbox = Outbox::new(ConnectionId(rand::random()), socket, usize::MAX);
    let compression = deps.wire.compression.filter(|_| compressed);
    let mut decoder =
        Decoder::new(ws::Role::Server, deps.wire.frame_bytes).with_deflate(compressed);
    let mut open = echo(&mut decoder, &outbox, compression, &mut Vec::from(unread));
    poll_fn(|cx| {
        loop {
            let attention = outbox.poll_attention(cx).is_ready();
            let flushed = outbox.is_flushed();
            if flushed.is_err() || (!open && matches!(flushed, Ok(true))) {
                outbox.socket().finish();
                return Poll::Ready(());
            }
            let readable = open
                && outbox.queued_bytes() < deps.wire.queue_bytes
                && outbox.socket().poll_read_ready(cx).is_ready();
            if readable {
                open = SCRATCH.with_borrow_mut(|scratch| match outbox.socket().try_read(scratch) {
                    Ok(0) => false,
                    Ok(count) => echo(&mut decoder, &outbox, compression, &mut scratch[..count]),
                    Err(error) => is_transient(&error),
                });
            } else if !attention {
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// Whether the connection stays open.
fn echo(
    decoder: &mut Decoder,
    outbox: &Outbox,
    compression: Option<deflate::Policy>,
    mut bytes: &mut [u8],
) -> bool {
    let send = |plain: Bytes| {
        let compressed = compression.and_then(|policy| deflate::compress(&plain, policy));
        outbox.deliver(&compressed.map_or(plain, |compressed| compressed.block), 1)
    };
    loop {
        match decoder.next(&mut bytes) {
            Ok(None) => return true,
            Ok(Some(Incoming::Text(text))) => send(frame::text_frame(text.as_bytes())),
            Ok(Some(Incoming::Binary(body))) => send(frame::binary_frame(body)),
            Ok(Some(Incoming::Ping(payload))) => outbox.deliver(&frame::pong_frame(payload), 0),
            Ok(Some(Incoming::Pong(_))) => continue,
            Ok(Some(Incoming::Close(close))) => {
                let code = close.map_or(CloseCode::Normal.number(), |close| close.code);
                outbox.seal(frame::close_frame(code, ""));
                return false;
            }
            Err(error) => {
                outbox.seal(frame::close_frame(error.close_code(), &error.to_string()));
                return false;
            }
        };
    }
}

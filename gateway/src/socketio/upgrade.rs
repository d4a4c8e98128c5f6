//! From HTTP long polling to WebSocket (§ Upgrade of Engine.IO).

use std::future::poll_fn;

use broker_protocol::{
    engineio::{PROBE, PROBE_PONG_FRAME, Packet},
    ws::{Decoder, Incoming, Role},
};
use bytes::Bytes;

use super::polled::Upgrade;
use crate::{
    connection::read_some,
    socket::{Socket, write_all},
};

/// Largest frame of a probe.
const PROBE_BYTES: usize = 125;

/// Has a client try a WebSocket, and changes to it once the client says so. Until then, and where
/// it does not, the session stays as it is.
pub(super) async fn run(socket: Box<dyn Socket>, unread: Bytes, upgrade: Upgrade) {
    let mut trial = Trial { decoder: Decoder::new(Role::Server, PROBE_BYTES), probed: false };
    let mut next = trial.take(&mut Vec::from(unread), &upgrade);
    loop {
        match next {
            Next::Wait => {}
            Next::Answer => {
                if write_all(&*socket, PROBE_PONG_FRAME).await.is_err() {
                    return;
                }
            }
            Next::Upgrade(rest) => return upgrade.finish(socket, &rest).await,
            Next::Refuse => return,
        }
        if poll_fn(|cx| socket.poll_read_ready(cx)).await.is_err() {
            return;
        }
        next = Next::Wait;
        if read_some(&*socket, |bytes| next = trial.take(bytes, &upgrade)).is_err() {
            return;
        }
    }
}

struct Trial {
    decoder: Decoder,
    /// The client has probed, and was answered or is to be.
    probed: bool,
}

enum Next {
    Wait,
    Answer,
    /// The client has changed to the socket; what it sent after saying so.
    Upgrade(Vec<u8>),
    Refuse,
}

impl Trial {
    fn take(&mut self, mut bytes: &mut [u8], upgrade: &Upgrade) -> Next {
        let mut next = Next::Wait;
        loop {
            let packet = match self.decoder.next(&mut bytes) {
                Ok(None) => return next,
                Ok(Some(Incoming::Text(text))) => Packet::decode(text),
                Ok(Some(Incoming::Ping(_) | Incoming::Pong(_))) => continue,
                Ok(Some(_)) | Err(_) => return Next::Refuse,
            };
            match packet {
                Ok(Packet::Ping(PROBE)) if upgrade.probe().is_ok() => {
                    self.probed = true;
                    next = Next::Answer;
                }
                Ok(Packet::Upgrade) if self.probed => return Next::Upgrade(bytes.to_vec()),
                _ => return Next::Refuse,
            }
        }
    }
}

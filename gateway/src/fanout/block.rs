//! Finished frames, encoded once and shared by all who get them.

use std::cell::OnceCell;

use broker_core::Message;
use broker_protocol::{native, ws::deflate};
use bytes::{Bytes, BytesMut};

use crate::{outbox::Outbox, telemetry::Metrics};

/// What most frames hold beside the data, in bytes; a frame with more makes the block grow.
const ENVELOPE: usize = 160;

/// One or more whole messages: as they are, and compressed once somebody wants them so.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) messages: u32,
    plain: Bytes,
    compressed: OnceCell<Bytes>,
}

impl Block {
    pub(super) fn new<'a>(messages: impl IntoIterator<Item = &'a Message> + Clone) -> Self {
        let room = messages.clone().into_iter().map(|message| message.data.len() + ENVELOPE).sum();
        let (mut plain, mut count) = (BytesMut::with_capacity(room), 0);
        for message in messages {
            native::encode_message(message, &mut plain);
            count += 1;
        }
        Self { messages: count, plain: plain.freeze(), compressed: OnceCell::new() }
    }

    /// What this connection is to be sent.
    pub(super) fn bytes_for(&self, outbox: &Outbox, compressor: &Compressor<'_>) -> &Bytes {
        if outbox.reads_compressed() {
            self.compressed.get_or_init(|| compressor.compress(&self.plain))
        } else {
            &self.plain
        }
    }
}

/// How blocks are compressed, and where that is counted.
#[derive(Debug)]
pub(super) struct Compressor<'a> {
    /// `None`: not at all.
    pub(super) policy: Option<deflate::Policy>,
    pub(super) metrics: &'a Metrics,
}

impl Compressor<'_> {
    fn compress(&self, plain: &Bytes) -> Bytes {
        match self.policy.and_then(|policy| deflate::compress(plain, policy)) {
            Some(compressed) => {
                self.metrics.compression.note(&compressed);
                compressed.block
            }
            None => plain.clone(),
        }
    }
}

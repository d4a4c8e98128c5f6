//! Finished frames, encoded once and shared by all who get them.

use std::{cell::OnceCell, sync::Arc};

use broker_core::{Interest, Message, ports::GapReason};
use broker_protocol::{native, ws::deflate};
use bytes::{Bytes, BytesMut};

use crate::{
    dialect::{Encoding, Framing},
    outbox::Outbox,
    telemetry::Metrics,
};

/// What most frames hold beside the data, in bytes; a frame with more makes the block grow.
const ENVELOPE: usize = 160;

/// One or more whole messages, in each encoding once somebody wants them so.
#[derive(Debug)]
pub(super) struct Block<M> {
    /// How many.
    pub(super) count: u32,
    messages: M,
    plain: OnceCell<Bytes>,
    deflated: OnceCell<Bytes>,
    framed: OnceCell<Box<Framed>>,
}

/// The messages as one framing has them, and as others do.
#[derive(Debug)]
struct Framed {
    framing: Arc<Framing>,
    bytes: Bytes,
    next: OnceCell<Box<Framed>>,
}

impl<'a, M: Iterator<Item = &'a Message> + Clone> Block<M> {
    pub(super) fn new(messages: M) -> Self {
        let count = u32::try_from(messages.clone().count()).unwrap_or(u32::MAX);
        let (plain, deflated, framed) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { count, messages, plain, deflated, framed }
    }

    /// What this connection is to be sent.
    pub(super) fn bytes_for(&self, outbox: &Outbox, compressor: &Compressor<'_>) -> &Bytes {
        match outbox.encoding() {
            Encoding::Plain => self.plain(),
            Encoding::Deflated => self.deflated.get_or_init(|| compressor.compress(self.plain())),
            Encoding::SocketIo(framing) => self.framed(framing),
        }
    }

    fn plain(&self) -> &Bytes {
        self.plain.get_or_init(|| self.encode(native::encode_message))
    }

    fn framed(&self, framing: &Arc<Framing>) -> &Bytes {
        let mut place = &self.framed;
        loop {
            let framed = place.get_or_init(|| {
                let bytes = self.encode(|message, out| framing.encode_message(message, out));
                Box::new(Framed { framing: Arc::clone(framing), bytes, next: OnceCell::new() })
            });
            if Arc::ptr_eq(&framed.framing, framing) {
                return &framed.bytes;
            }
            place = &framed.next;
        }
    }

    fn encode(&self, encode: impl Fn(&Message, &mut BytesMut)) -> Bytes {
        let room = self.messages.clone().map(|message| message.data.len() + ENVELOPE).sum();
        let mut block = BytesMut::with_capacity(room);
        self.messages.clone().for_each(|message| encode(message, &mut block));
        block.freeze()
    }
}

/// Word that messages may be missing.
pub(super) struct Gap<'a> {
    interest: Option<&'a Interest>,
    reason: GapReason,
    plain: Bytes,
}

impl<'a> Gap<'a> {
    pub(super) fn new(interest: Option<&'a Interest>, reason: GapReason) -> Self {
        let mut plain = BytesMut::new();
        native::encode_gap(interest, reason, &mut plain);
        Self { interest, reason, plain: plain.freeze() }
    }

    /// What this connection is to be sent.
    pub(super) fn bytes_for(&self, outbox: &Outbox) -> Bytes {
        match outbox.encoding() {
            Encoding::Plain | Encoding::Deflated => self.plain.clone(),
            Encoding::SocketIo(framing) => framing.gap(self.interest, self.reason),
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

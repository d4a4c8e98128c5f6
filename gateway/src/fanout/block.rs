//! Finished frames, encoded once and shared by all who get them.

use std::{cell::OnceCell, rc::Rc, sync::Arc};

use broker_core::{Interest, Message, UserId, ports::GapReason};
use broker_protocol::{native, ws::deflate};
use bytes::{Bytes, BytesMut};

use crate::{
    dialect::{Encoding, Framing},
    outbox::Outbox,
    profile::Outgoing as Told,
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
    /// For those who get frames of their own, in the framing of the first of them.
    alone: OnceCell<InFraming>,
}

/// What messages come to in a framing.
type InFraming = (Arc<Framing>, Rc<[Option<Told>]>);

/// The messages as those have them who share a framing and are of the same groups, and as others
/// do.
#[derive(Debug)]
struct Framed {
    framing: Arc<Framing>,
    /// What each of the messages comes to in this framing; `None` if it does not fit.
    told: Rc<[Option<Told>]>,
    /// Whether there are groups at all.
    is_split: bool,
    /// Of each message that is split, the group.
    groups: Vec<usize>,
    bytes: Bytes,
    next: OnceCell<Box<Self>>,
}

impl<'a, M: Iterator<Item = &'a Message> + Clone> Block<M> {
    pub(super) fn new(messages: M) -> Self {
        let count = u32::try_from(messages.clone().count()).unwrap_or(u32::MAX);
        let (plain, deflated, framed) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { count, messages, plain, deflated, framed, alone: OnceCell::new() }
    }

    /// What this connection is to be sent.
    pub(super) fn bytes_for(&self, outbox: &Outbox, compressor: &Compressor<'_>) -> &Bytes {
        match outbox.encoding() {
            Encoding::Plain => self.plain(),
            Encoding::Deflated => self.deflated.get_or_init(|| compressor.compress(self.plain())),
            Encoding::Framed(framing) => self.framed(framing, outbox, compressor.metrics),
        }
    }

    fn plain(&self) -> &Bytes {
        self.plain.get_or_init(|| self.encode(native::encode_message))
    }

    fn framed(&self, framing: &Arc<Framing>, outbox: &Outbox, metrics: &Metrics) -> &Bytes {
        let mut place = &self.framed;
        let mut told: Option<Rc<[Option<Told>]>> = None;
        let mut groups = Vec::new();
        while let Some(framed) = place.get() {
            if Arc::ptr_eq(&framed.framing, framing) {
                if !framed.is_split {
                    return &framed.bytes;
                }
                if told.is_none() {
                    groups = groups_of(&framed.told, outbox);
                    told = Some(Rc::clone(&framed.told));
                }
                if framed.groups == groups {
                    return &framed.bytes;
                }
            }
            place = &framed.next;
        }
        let told = told.unwrap_or_else(|| {
            let told = self.told(framing, metrics);
            groups = groups_of(&told, outbox);
            told
        });
        let bytes = self.framed_bytes(framing, &told, &groups);
        let framing = Arc::clone(framing);
        let is_split = told.iter().flatten().any(|told| told.split.is_some());
        let framed = Framed { framing, told, is_split, groups, bytes, next: OnceCell::new() };
        &place.get_or_init(|| Box::new(framed)).bytes
    }

    /// What does not fit its template is told to nobody who sees it in this framing.
    fn told(&self, framing: &Framing, metrics: &Metrics) -> Rc<[Option<Told>]> {
        self.messages.clone().map(|message| told(framing, message, metrics)).collect()
    }

    /// Whether the messages are of a channel with history.
    pub(super) fn is_stored(&self) -> bool {
        self.messages.clone().next().is_some_and(|message| message.stored.is_some())
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = &'a Message> {
        self.messages.clone()
    }

    /// What each of the messages comes to.
    pub(super) fn told_alone(
        &self,
        framing: &Arc<Framing>,
        metrics: &Metrics,
    ) -> Rc<[Option<Told>]> {
        let (of, all) =
            self.alone.get_or_init(|| (Arc::clone(framing), self.told(framing, metrics)));
        if Arc::ptr_eq(of, framing) { Rc::clone(all) } else { self.told(framing, metrics) }
    }

    fn framed_bytes(&self, framing: &Framing, told: &[Option<Told>], groups: &[usize]) -> Bytes {
        let mut groups = groups.iter();
        let mut block = BytesMut::new();
        for (message, told) in self.messages.clone().zip(told) {
            let Some(told) = told else { continue };
            let group = told.split.as_ref().and_then(|_| groups.next()).copied();
            if let Some(emission) = told.emissions.get(group.unwrap_or_default()) {
                framing.encode_message(message, emission, &mut block);
            }
        }
        block.freeze()
    }

    fn encode(&self, encode: impl Fn(&Message, &mut BytesMut)) -> Bytes {
        let room = self.messages.clone().map(|message| message.data.len() + ENVELOPE).sum();
        let mut block = BytesMut::with_capacity(room);
        self.messages.clone().for_each(|message| encode(message, &mut block));
        block.freeze()
    }
}

fn told(framing: &Framing, message: &Message, metrics: &Metrics) -> Option<Told> {
    let told = framing.told(message).inspect_err(|error| {
        metrics.dropped("unfit", 1);
        tracing::warn!(channel = %message.channel, %error, "a message does not fit its template");
    });
    told.ok()
}

/// Which group of each message that is split the recipient is of; mostly none is.
fn groups_of(told: &[Option<Told>], outbox: &Outbox) -> Vec<usize> {
    let mut splits = told.iter().flatten().filter_map(|told| told.split.as_ref()).peekable();
    if splits.peek().is_none() {
        return Vec::new();
    }
    let id = outbox.origin().to_string();
    let subject = outbox.user().map_or(&*id, UserId::as_str);
    splits.map(|split| split.pick(subject)).collect()
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
            Encoding::Framed(framing) => framing.gap(self.interest, self.reason),
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

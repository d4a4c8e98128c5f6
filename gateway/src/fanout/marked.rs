//! Messages to clients that are told with each where they stand: frames of their own.

use std::sync::Arc;

use broker_core::{Interest, Message, UserId};

use super::{Fanout, Touched, block::Block};
use crate::{
    dialect::Encoding,
    outbox::{Given, Outbox},
};

impl Fanout {
    /// `print`: by what a copy is told from other messages, where there may be some.
    pub(super) fn push_marked<'a>(
        &self,
        outbox: &Arc<Outbox>,
        (via, print): (&Interest, Option<u64>),
        block: &Block<impl Iterator<Item = &'a Message> + Clone>,
        touched: &mut Touched,
    ) -> u64 {
        let Encoding::Framed(framing) = outbox.encoding() else { return 0 };
        let id;
        let subject = match outbox.user() {
            Some(user) => UserId::as_str(user),
            None => {
                id = outbox.origin().to_string();
                &id
            }
        };
        let told = block.told_alone(framing, &self.metrics);
        let mut delivered = 0;
        for (message, told) in block.messages().zip(told.iter()) {
            let Some(position) = message.position() else { continue };
            let given = Given { via, position, print };
            let pushed = outbox.push_marked(given, |mark, out| {
                if let Some(emission) = told.as_ref().and_then(|told| told.emission(subject)) {
                    framing.encode_marked((message, emission), mark, out);
                }
            });
            if let Some((pushed, bytes)) = pushed {
                delivered += self.note(pushed, outbox, (1, bytes), touched);
            }
        }
        delivered
    }
}

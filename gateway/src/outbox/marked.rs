//! Clients that are told with each message where they stand, so that they can be recovered.

use std::sync::atomic::Ordering;

use broker_core::{Interest, Position, recovery::Progress};
use bytes::BytesMut;
use tokio::time::Instant;

use super::{Outbox, Pushed};

/// A message of a channel with history, on its way to one client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) via: &'a Interest,
    pub(crate) position: Position,
    /// By what its copies are told from other messages, where there may be some.
    pub(crate) print: Option<u64>,
}

impl Outbox {
    /// From now on, each message of a channel with history is given with its mark.
    pub(crate) fn track(&self, progress: Progress) {
        self.queue.lock().progress = Some(Box::new(progress));
        self.marking.store(true, Ordering::Release);
    }

    /// From now on none is.
    pub(crate) fn forget_progress(&self) {
        self.marking.store(false, Ordering::Release);
        self.queue.lock().progress = None;
    }

    pub(crate) fn is_tracked(&self) -> bool {
        self.marking.load(Ordering::Acquire)
    }

    /// `None`: the client is not tracked.
    pub(crate) fn with_progress<T>(&self, look: impl FnOnce(&mut Progress) -> T) -> Option<T> {
        self.queue.lock().progress.as_mut().map(|progress| look(progress))
    }

    /// Queues a message with a mark of its own, and says how many bytes that were; `None`: another
    /// interest has brought it before. Where the client stands and what is queued change together:
    /// a mark is right for all that is queued before it.
    pub(crate) fn push_marked(
        &self,
        given: Given<'_>,
        encode: impl FnOnce(Option<&str>, &mut BytesMut),
    ) -> Option<(Pushed, usize)> {
        let mut queue = self.queue.lock();
        let mark = queue.progress.as_mut().map(|progress| {
            progress.advance(given.via, given.position);
            progress.mark().to_string()
        });
        if let Some(print) = given.print {
            let overlap = queue.overlap.get_or_insert_default();
            if !overlap.is_new(Instant::now().into_std(), print) {
                return None;
            }
        }
        let mut out = BytesMut::new();
        encode(mark.as_deref(), &mut out);
        let len = out.len();
        Some((queue.push(self, out.freeze(), 1), len))
    }

    /// Queues what is no message, with a mark, where not all that the client relies on is kept.
    pub(crate) fn push_doubt(&self, encode: impl FnOnce(&str, &mut BytesMut)) -> Option<Pushed> {
        let mut queue = self.queue.lock();
        let progress = queue.progress.as_ref().filter(|it| !it.can_tell())?;
        let mut out = BytesMut::new();
        encode(&progress.mark().to_string(), &mut out);
        Some(queue.push(self, out.freeze(), 0))
    }
}

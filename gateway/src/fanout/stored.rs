//! Messages of channels with history: each one after the one before it, or not at all.

use broker_backends::Inbound;
use broker_core::{
    Interest, Message,
    feed::{Arrival, Feed},
    ports::{BusEvent, GapReason},
};

use super::{Fanout, GapLog, Touched, messages};
use crate::{clock, hub::feeds::ChannelFeed};

impl Fanout {
    /// Messages that came one after the other by the same interest. Those that may not be given
    /// out yet come from the log later.
    pub(super) fn deliver_stored(
        &self,
        via: &Interest,
        run: &[Inbound],
        touched: &mut Touched,
    ) -> u64 {
        // Patterns have no feed: unless the namespace is retained, what comes is given out as it comes.
        let Interest::Channel(_) = via else {
            if let Some(watched) = self.hub.watched_by(via) {
                return self.deliver_retained(watched, run, touched);
            }
            return self.give_out(via, &messages(run).collect::<Vec<_>>(), touched);
        };
        let Some(channel) = self.hub.feed(via) else {
            self.metrics.dropped("unwanted", run.len() as u64);
            return 0;
        };
        let now = clock::now().instant;
        let mut feed = channel.lock();
        let mut next = Vec::with_capacity(run.len());
        let mut behind = false;
        for message in messages(run) {
            match feed.arrive(now, message) {
                Arrival::Next => next.push(message),
                Arrival::Later => {}
                Arrival::CatchUp => behind = true,
            }
        }
        let delivered = self.give_out(via, &next, touched);
        drop(feed);
        if let (true, Some(feeds)) = (behind, self.hub.feeds()) {
            self.metrics.history.holes.inc();
            feeds.push_behind(channel);
        }
        delivered
    }

    /// What was read from the log; the lock says that nothing comes between.
    pub(super) fn give_out_read(
        &self,
        channel: &ChannelFeed,
        _feed: &mut Feed,
        (lost, messages): (bool, &[Message]),
    ) {
        let via = Interest::Channel(channel.channel.clone());
        if lost {
            self.announce_gap(Some(&via), GapReason::Lost, &mut GapLog::default());
        }
        self.metrics.history.filled.inc_by(messages.len() as u64);
        self.give_out_again(&via, &messages.iter().collect::<Vec<_>>());
    }

    /// Messages that come from the log. The caller holds the feed's lock.
    pub(super) fn give_out_again(&self, via: &Interest, messages: &[&Message]) {
        let mut touched = Touched::default();
        self.give_out(via, messages, &mut touched);
        // Nobody looks at these again.
        self.deliver_late(&mut touched, None);
        touched.write();
    }

    pub(super) fn give_out(
        &self,
        via: &Interest,
        messages: &[&Message],
        touched: &mut Touched,
    ) -> u64 {
        let mut delivered = 0;
        for run in messages.chunk_by(|a, b| a.options.is_none() && b.options.is_none()) {
            delivered += match run {
                [single] if single.options.is_some() => self.deliver_single(via, single, touched),
                plain => self.deliver_run(via, &plain.iter().copied(), touched),
            };
        }
        delivered
    }
}

/// How many of the front are stored messages of the same interest.
pub(super) fn run_length(batch: &[Inbound], wanted: &Interest) -> usize {
    let is_next = |next: &&Inbound| {
        matches!(&next.event, BusEvent::Message { via, message }
            if via == wanted && message.stored.is_some())
    };
    batch.iter().take_while(is_next).count()
}

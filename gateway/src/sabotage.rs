//! Deliberate bugs: a test that looks for lost messages proves something only where it finds them.
//!
//! They stand in front of the backends, so that a gateway without one has nothing of them.

use std::{
    fmt,
    future::ready,
    num::NonZeroU64,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use broker_backends::Backends;
use broker_core::{
    ChannelName, Data, Epoch, Interest, Message, Namespace, NodeMark, Offset,
    history::{From, Slice, Top},
    message::Publisher,
    ports::{
        Accepted, BoxFuture, Bus, BusError, BusEvent, Log, LogError, PublishError, RequestError,
        ServiceRequest,
    },
    retained::Listing,
};
use bytes::Bytes;
use futures_util::FutureExt as _;

/// A bug to have, by the hidden option `--sabotage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// A publish is acknowledged before its outcome is known.
    AckBeforeStore,
    /// One publish in so many is acknowledged and thrown away.
    DropOneIn(NonZeroU64),
    /// A retried message is taken for a new one.
    NoMessageId,
    /// What is read of the past ends one message before where the live ones go on.
    SpliceOffByOne,
    /// A log that was made anew looks like the old one.
    EpochNotBumped,
}

const DROP: &str = "drop-one-in-";
/// The epoch of all logs with [`Sabotage::EpochNotBumped`].
const EPOCH: Epoch = Epoch(1);

impl FromStr for Sabotage {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "ack-before-store" => Ok(Self::AckBeforeStore),
            "no-message-id" => Ok(Self::NoMessageId),
            "splice-off-by-one" => Ok(Self::SpliceOffByOne),
            "epoch-not-bumped" => Ok(Self::EpochNotBumped),
            _ => name
                .strip_prefix(DROP)
                .and_then(|rate| rate.parse().ok())
                .map(Self::DropOneIn)
                .ok_or_else(|| "there is no such bug".to_owned()),
        }
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AckBeforeStore => f.write_str("ack-before-store"),
            Self::DropOneIn(rate) => write!(f, "{DROP}{rate}"),
            Self::NoMessageId => f.write_str("no-message-id"),
            Self::SpliceOffByOne => f.write_str("splice-off-by-one"),
            Self::EpochNotBumped => f.write_str("epoch-not-bumped"),
        }
    }
}

impl Sabotage {
    /// The backends, with the bug.
    pub(crate) fn spoil(self, mut backends: Backends) -> Backends {
        let published = AtomicU64::new(0);
        backends.bus = Arc::new(SpoiltBus { inner: backends.bus, bug: self, published });
        backends.log = Arc::new(SpoiltLog { inner: backends.log, bug: self });
        if self == Self::EpochNotBumped {
            let spoilt = backends.events.into_iter().map(|events| events.changed(forget_epoch));
            backends.events = spoilt.collect();
        }
        backends
    }
}

fn forget_epoch(event: &mut BusEvent) {
    if let BusEvent::Message { message, .. } = event {
        forget_epoch_of(message);
    }
}

fn forget_epoch_of(message: &mut Message) {
    if let Some(stored) = &mut message.stored {
        stored.epoch = EPOCH;
    }
}

#[derive(Debug)]
struct SpoiltBus {
    inner: Arc<dyn Bus>,
    bug: Sabotage,
    published: AtomicU64,
}

impl Bus for SpoiltBus {
    fn publish(
        &self,
        message: Message,
        publisher: Publisher,
    ) -> BoxFuture<'static, Result<Accepted, PublishError>> {
        let number = self.published.fetch_add(1, Ordering::Relaxed);
        match self.bug {
            Sabotage::AckBeforeStore => {
                tokio::spawn(self.inner.publish(message, publisher));
                ready(Ok(Accepted::default())).boxed()
            }
            Sabotage::DropOneIn(rate) if number % rate == rate.get() - 1 => {
                ready(Ok(Accepted::default())).boxed()
            }
            Sabotage::NoMessageId => {
                let somebody_new = Publisher::Service(format!("{}", rand::random::<u128>()).into());
                self.inner.publish(message, somebody_new)
            }
            Sabotage::EpochNotBumped => {
                let forget = |mut accepted: Accepted| {
                    if let Some(position) = &mut accepted.position {
                        position.epoch = EPOCH;
                    }
                    accepted
                };
                self.inner.publish(message, publisher).map(move |it| it.map(forget)).boxed()
            }
            Sabotage::DropOneIn(_) | Sabotage::SpliceOffByOne => {
                self.inner.publish(message, publisher)
            }
        }
    }

    fn subscribe(&self, interest: Interest) -> BoxFuture<'static, Result<(), BusError>> {
        self.inner.subscribe(interest)
    }

    fn unsubscribe(&self, interest: &Interest) {
        self.inner.unsubscribe(interest);
    }

    fn request(&self, request: ServiceRequest) -> BoxFuture<'static, Result<Data, RequestError>> {
        self.inner.request(request)
    }

    fn ask_gateways(
        &self,
        question: Bytes,
        expected: usize,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, BusError>> {
        self.inner.ask_gateways(question, expected, wait)
    }

    fn ask_gateway(
        &self,
        node: NodeMark,
        question: Bytes,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Option<Bytes>, BusError>> {
        self.inner.ask_gateway(node, question, wait)
    }

    fn is_connected(&self) -> bool {
        self.inner.is_connected()
    }
}

#[derive(Debug)]
struct SpoiltLog {
    inner: Arc<dyn Log>,
    bug: Sabotage,
}

impl SpoiltLog {
    fn top_as_told(&self, mut top: Top) -> Top {
        if self.bug == Sabotage::EpochNotBumped {
            top.epoch = EPOCH;
            if let Some(newest) = &mut top.newest {
                newest.epoch = EPOCH;
            }
        }
        top
    }
}

impl Log for SpoiltLog {
    fn top(&self, channel: ChannelName) -> BoxFuture<'static, Result<Top, LogError>> {
        let told = Self { inner: Arc::clone(&self.inner), bug: self.bug };
        let top = self.inner.top(channel);
        async move { Ok(told.top_as_told(top.await?)) }.boxed()
    }

    fn tops(&self, channels: Vec<ChannelName>) -> BoxFuture<'static, Result<Vec<Top>, LogError>> {
        let told = Self { inner: Arc::clone(&self.inner), bug: self.bug };
        let tops = self.inner.tops(channels);
        async move { Ok(tops.await?.into_iter().map(|top| told.top_as_told(top)).collect()) }
            .boxed()
    }

    fn read(
        &self,
        channel: ChannelName,
        slice: Slice,
    ) -> BoxFuture<'static, Result<Vec<Message>, LogError>> {
        let (bug, read) = (self.bug, self.inner.read(channel, slice));
        // Not where a gateway catches up: it would notice, and try for ever.
        let is_past = slice.from == From::Offset(Offset(0));
        async move {
            let mut messages = read.await?;
            if bug == Sabotage::SpliceOffByOne && is_past {
                messages.pop();
            }
            if bug == Sabotage::EpochNotBumped {
                messages.iter_mut().for_each(forget_epoch_of);
            }
            Ok(messages)
        }
        .boxed()
    }

    fn channels(&self, namespace: Namespace) -> BoxFuture<'static, Result<Listing, LogError>> {
        let (bug, listing) = (self.bug, self.inner.channels(namespace));
        async move {
            let mut listing = listing.await?;
            if bug == Sabotage::EpochNotBumped {
                listing.epoch = EPOCH;
            }
            Ok(listing)
        }
        .boxed()
    }

    fn newest(
        &self,
        channels: Vec<ChannelName>,
        until: Offset,
    ) -> BoxFuture<'static, Result<Vec<Message>, LogError>> {
        let (bug, newest) = (self.bug, self.inner.newest(channels, until));
        async move {
            let mut messages = newest.await?;
            if bug == Sabotage::EpochNotBumped {
                messages.iter_mut().for_each(forget_epoch_of);
            }
            Ok(messages)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bug_is_named_as_it_is_read() {
        for name in [
            "ack-before-store",
            "drop-one-in-10000",
            "no-message-id",
            "splice-off-by-one",
            "epoch-not-bumped",
        ] {
            assert_eq!(name.parse::<Sabotage>().unwrap().to_string(), name);
        }
        for wrong in ["", "drop-one-in-", "drop-one-in-0", "none"] {
            wrong.parse::<Sabotage>().unwrap_err();
        }
    }
}

//! What arrives from the bus, for one fan-out worker.

use std::{
    fmt::Debug,
    future::poll_fn,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    task::{Context, Poll},
};

use broker_core::{Interest, ports::BusEvent};
use tokio::sync::{mpsc, oneshot};

/// An event, and whoever waits until it is handled.
#[derive(Debug)]
pub struct Inbound {
    /// The event.
    pub event: BusEvent,
    /// Drop it when the event has been fanned out: an embedded publish waits for that.
    pub handled: Option<Handled>,
}

/// Its drop says that an event was handled; with clones, the drop of the last.
#[derive(Debug, Clone)]
pub struct Handled {
    _done: Arc<oneshot::Sender<()>>,
}

impl Handled {
    /// The receiver ends, with an error, when all clones are dropped.
    pub(crate) fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self { _done: Arc::new(sender) }, receiver)
    }
}

/// The events for one fan-out worker, in order for each channel.
#[derive(Debug)]
pub struct BusEvents(Box<dyn Source>);

/// Where events come from.
pub(crate) trait Source: Send + Debug {
    /// As [`BusEvents::next_batch`]; `max` is not 0.
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Inbound>,
        max: usize,
    ) -> Poll<bool>;
}

impl Source for mpsc::Receiver<Inbound> {
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Inbound>,
        max: usize,
    ) -> Poll<bool> {
        self.poll_recv_many(cx, batch, max).map(|taken| taken > 0)
    }
}

/// [`BusEvents::changed`]
#[derive(Debug)]
struct Changed {
    inner: Box<dyn Source>,
    change: fn(&mut BusEvent),
}

impl Source for Changed {
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Inbound>,
        max: usize,
    ) -> Poll<bool> {
        let before = batch.len();
        let polled = self.inner.poll_batch(cx, batch, max);
        batch.iter_mut().skip(before).for_each(|inbound| (self.change)(&mut inbound.event));
        polled
    }
}

impl BusEvents {
    pub(crate) fn new(source: impl Source + 'static) -> Self {
        Self(Box::new(source))
    }

    /// The same events, each changed on its way.
    #[must_use]
    pub fn changed(self, change: fn(&mut BusEvent)) -> Self {
        Self::new(Changed { inner: self.0, change })
    }

    /// Waits for at least one event and adds what is ready, up to `max`; `false` when the bus is
    /// closed. May be cancelled without loss.
    pub async fn next_batch(&mut self, batch: &mut Vec<Inbound>, max: usize) -> bool {
        poll_fn(|cx| self.0.poll_batch(cx, batch, max.max(1))).await
    }
}

/// Which of `workers` takes what hangs on this interest.
pub(crate) fn worker_of(interest: &Interest, workers: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    interest.as_str().hash(&mut hasher);
    usize::try_from(hasher.finish() % workers as u64).unwrap_or(0)
}

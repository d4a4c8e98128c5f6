use std::{any::Any, sync::Arc};

use broker_backends::{Backends, Closer, Inbound, Inbox, Question};
use broker_core::ports::{BoxFuture, Bus, BusEvent};
use broker_testkit::contract::{Answer, Arrivals, Gateway, Questions};
use bytes::Bytes;

struct BusEvents(broker_backends::BusEvents);

impl Arrivals for BusEvents {
    fn next<'a>(&'a mut self, batch: &'a mut Vec<BusEvent>) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let mut inbound: Vec<Inbound> = Vec::new();
            let open = self.0.next_batch(&mut inbound, 100).await;
            assert!(inbound.len() <= 100);
            assert_eq!(open, !inbound.is_empty());
            batch.extend(inbound.into_iter().map(|inbound| inbound.event));
            open
        })
    }
}

struct GatewayInbox(Inbox);

impl Questions for GatewayInbox {
    fn next(&mut self) -> BoxFuture<'_, Option<(Bytes, Answer)>> {
        Box::pin(async move {
            let question: Question = self.0.next().await?;
            let body = question.body.clone();
            let answer: Answer = Box::new(move |answer| question.answer(answer));
            Some((body, answer))
        })
    }
}

/// A gateway that listens on all its workers; `kept` lives as long.
pub(crate) fn gateway(index: usize, backends: Backends, kept: impl Any + Send + Sync) -> Gateway {
    let Backends { bus, events, inbox, closer, .. } = backends;
    let bus: Arc<dyn Bus> = bus;
    let kept: (Closer, _) = (closer, kept);
    let arrivals = events.into_iter().map(|events| Box::new(BusEvents(events)) as Box<_>).collect();
    Gateway::new(&format!("gateway-{index}"), bus, arrivals, Box::new(GatewayInbox(inbox)), kept)
}

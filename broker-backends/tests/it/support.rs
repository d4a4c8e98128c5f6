use std::{any::Any, sync::Arc, time::Duration};

use broker_backends::{Backends, Closer, Histories, Inbound, Inbox, Question};
use broker_core::{
    history::Queue,
    ports::{Accepted, BoxFuture, Bus, BusEvent, PublishError},
};
use broker_testkit::contract::{Answer, Arrivals, Gateway, Questions, queue::SIZE};
use bytes::Bytes;

/// Offline queues as the contract wants them.
pub(crate) fn queue() -> Queue {
    Queue { size: SIZE, ttl: Duration::from_secs(24 * 3600) }
}

/// The history that these queues need.
pub(crate) fn user_history() -> Histories {
    [("user".parse().unwrap(), queue().history())].into()
}

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

/// What a namespace without history answers to a publish.
pub(crate) const SENT: Result<Accepted, PublishError> =
    Ok(Accepted { position: None, duplicate: false });

use std::time::Duration;

use broker_backends::{Backends, EmbeddedOptions, embedded};
use broker_core::ports::{BusEvent, PublishError};
use broker_testkit::contract::{
    Gateway,
    bus::{interest, message},
};

use crate::support::gateway;

async fn backends(options: EmbeddedOptions) -> Backends {
    embedded(&options).await
}

async fn gateways() -> Vec<Gateway> {
    vec![gateway(0, backends(EmbeddedOptions { workers: 3, ..Default::default() }).await, ())]
}

mod bus {
    broker_testkit::bus_contract!(super::gateways());
}

mod presence {
    broker_testkit::presence_contract!(async {
        (super::backends(Default::default()).await.presence, ())
    });
}

mod sessions {
    broker_testkit::sessions_contract!(async {
        (super::backends(Default::default()).await.sessions, ())
    });
}

#[tokio::test(start_paused = true)]
async fn a_publish_is_confirmed_when_it_was_handled() {
    let mut backends = backends(EmbeddedOptions::default()).await;
    backends.bus.subscribe(interest("venue:42")).await.unwrap();
    backends.bus.subscribe(interest("venue:*")).await.unwrap();
    let publish = backends.bus.publish(message("venue:42", "a", "1"));
    let mut publish = spawned(publish);
    let mut batch = Vec::new();
    assert!(backends.events[0].next_batch(&mut batch, 10).await);
    assert_eq!(batch.len(), 2);
    batch.pop();
    assert!(!publish.is_done().await, "one copy is still being handled");
    batch.pop();
    assert_eq!(publish.outcome().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_nobody_handles_is_unknown() {
    let backends = backends(EmbeddedOptions::default()).await;
    backends.bus.subscribe(interest("venue:42")).await.unwrap();
    let start = tokio::time::Instant::now();
    let outcome = backends.bus.publish(message("venue:42", "a", "1")).await;
    assert_eq!(outcome, Err(PublishError::Unknown));
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(backends.stats.publish_failed(PublishError::Unknown), 1);
}

#[tokio::test]
async fn a_full_queue_refuses_all_copies() {
    let options = EmbeddedOptions { queue_capacity: 3, ..Default::default() };
    let mut backends = backends(options).await;
    backends.bus.subscribe(interest("venue:42")).await.unwrap();
    backends.bus.subscribe(interest("venue:*")).await.unwrap();
    let first = backends.bus.publish(message("venue:42", "first", "1"));
    let second = backends.bus.publish(message("venue:42", "second", "1")).await;
    assert_eq!(second, Err(PublishError::Overloaded));
    let mut batch = Vec::new();
    assert!(backends.events[0].next_batch(&mut batch, 10).await);
    for inbound in batch.drain(..) {
        let BusEvent::Message { message, .. } = inbound.event else { panic!("a gap") };
        assert_eq!(message.id.as_str(), "first");
    }
    assert_eq!(first.await, Ok(()));
}

struct Running(tokio::task::JoinHandle<Result<(), PublishError>>);

fn spawned(publish: impl Future<Output = Result<(), PublishError>> + Send + 'static) -> Running {
    Running(tokio::spawn(publish))
}

impl Running {
    /// Whether it is done once every task that can run has run.
    async fn is_done(&mut self) -> bool {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.0.is_finished()
    }

    async fn outcome(self) -> Result<(), PublishError> {
        self.0.await.unwrap()
    }
}

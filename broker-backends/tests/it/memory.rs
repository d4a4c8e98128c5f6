use std::time::Duration;

use broker_backends::{Backends, EmbeddedOptions, embedded};
use broker_core::{
    Offset, Timestamp,
    message::Options,
    ports::{Accepted, BusEvent, PublishError},
};
use broker_testkit::contract::{
    Gateway,
    bus::{interest, message, service},
};

use crate::support::{SENT, gateway, queue, user_history};

async fn backends(options: EmbeddedOptions) -> Backends {
    embedded(&options).await
}

async fn gateways() -> Vec<Gateway> {
    vec![gateway(0, backends(EmbeddedOptions { workers: 3, ..Default::default() }).await, ())]
}

mod bus {
    broker_testkit::bus_contract!(super::gateways());
}

mod log {
    broker_testkit::log_contract!(async {
        let histories = histories().into();
        let options = EmbeddedOptions { workers: 2, histories, ..Default::default() };
        let backends = super::backends(options).await;
        let log = Arc::clone(&backends.log);
        Logged { gateways: vec![super::gateway(0, backends, ())], log }
    });

    use std::sync::Arc;

    use broker_backends::EmbeddedOptions;
    use broker_testkit::contract::log::{Logged, histories};
}

mod presence {
    broker_testkit::presence_contract!(async {
        (super::backends(Default::default()).await.presence, ())
    });
}

mod roster {
    use broker_backends::{EmbeddedOptions, RosterOptions};
    use broker_testkit::contract::roster::GRACE;

    broker_testkit::roster_contract!(async {
        let roster = RosterOptions { grace: GRACE, ..Default::default() };
        let backends = super::backends(EmbeddedOptions { roster, ..Default::default() }).await;
        (backends.presence, backends.roster, ())
    });
}

mod queues {
    broker_testkit::queue_contract!(async {
        let queue = Some(crate::support::queue());
        let options = broker_backends::EmbeddedOptions { queue, ..Default::default() };
        (super::backends(options).await.queue.unwrap(), ())
    });
}

mod sessions {
    broker_testkit::sessions_contract!(async {
        (super::backends(Default::default()).await.sessions, ())
    });
}

#[tokio::test]
async fn what_is_published_to_a_user_is_pending() {
    let (queue, histories) = (Some(queue()), user_history());
    let backends = backends(EmbeddedOptions { queue, histories, ..Default::default() }).await;
    let queue = backends.queue.unwrap();
    let mut brief = message("user:a%3Ab", "2", "1");
    let expires = Some(Timestamp(1_700_000_000_001));
    brief.options = Some(Box::new(Options { expires, ..Options::default() }));
    for message in [
        message("user:a%3Ab", "1", "1"),
        brief,
        message("user:a%3Ab", "1", "1"),
        message("user:a:b", "1", "1"),
        message("user:other", "1", "1"),
    ] {
        backends.bus.publish(message, service()).await.unwrap();
    }
    let pending = async || {
        let pending = queue.pending("a:b".parse().unwrap(), 10).await.unwrap();
        pending.into_iter().map(|(_, offset)| offset).collect::<Vec<_>>()
    };
    assert_eq!(pending().await, [Offset(1), Offset(2)]);
    assert_eq!(queue.sweep(Timestamp(1_700_000_000_001)).await, Ok(1));
    assert_eq!(pending().await, [Offset(1)]);
    assert_eq!(queue.figures().await.unwrap().pending, 2);
}

#[tokio::test(start_paused = true)]
async fn a_publish_is_confirmed_when_it_was_handled() {
    let mut backends = backends(EmbeddedOptions::default()).await;
    backends.bus.subscribe(interest("venue:42")).await.unwrap();
    backends.bus.subscribe(interest("venue:*")).await.unwrap();
    let publish = backends.bus.publish(message("venue:42", "a", "1"), service());
    let mut publish = spawned(publish);
    let mut batch = Vec::new();
    assert!(backends.events[0].next_batch(&mut batch, 10).await);
    assert_eq!(batch.len(), 2);
    batch.pop();
    assert!(!publish.is_done().await, "one copy is still being handled");
    batch.pop();
    assert_eq!(publish.outcome().await, SENT);
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_nobody_handles_is_unknown() {
    let backends = backends(EmbeddedOptions::default()).await;
    backends.bus.subscribe(interest("venue:42")).await.unwrap();
    let start = tokio::time::Instant::now();
    let outcome = backends.bus.publish(message("venue:42", "a", "1"), service()).await;
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
    let first = backends.bus.publish(message("venue:42", "first", "1"), service());
    let second = backends.bus.publish(message("venue:42", "second", "1"), service()).await;
    assert_eq!(second, Err(PublishError::Overloaded));
    let mut batch = Vec::new();
    assert!(backends.events[0].next_batch(&mut batch, 10).await);
    for inbound in batch.drain(..) {
        let BusEvent::Message { message, .. } = inbound.event else { panic!("a gap") };
        assert_eq!(message.id.as_str(), "first");
    }
    assert_eq!(first.await, SENT);
}

struct Running(tokio::task::JoinHandle<Result<Accepted, PublishError>>);

fn spawned(
    publish: impl Future<Output = Result<Accepted, PublishError>> + Send + 'static,
) -> Running {
    Running(tokio::spawn(publish))
}

impl Running {
    /// Whether it is done once every task that can run has run.
    async fn is_done(&mut self) -> bool {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.0.is_finished()
    }

    async fn outcome(self) -> Result<Accepted, PublishError> {
        self.0.await.unwrap()
    }
}

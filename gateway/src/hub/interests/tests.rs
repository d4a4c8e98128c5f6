use std::sync::atomic::{AtomicBool, Ordering};

use broker_core::{
    Message, NodeMark,
    message::{Data, Publisher},
    ports::{Accepted, PublishError, RequestError, ServiceRequest},
};
use bytes::Bytes;

use super::*;

/// Counts what it is asked for, and refuses while told to.
#[derive(Debug, Default)]
struct CountingBus {
    refuses: AtomicBool,
    asked: Mutex<Vec<String>>,
}

impl CountingBus {
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }
}

impl Bus for CountingBus {
    fn subscribe(&self, interest: Interest) -> BoxFuture<'static, Result<(), BusError>> {
        self.asked.lock().push(format!("+{interest}"));
        let outcome =
            if self.refuses.load(Ordering::Relaxed) { Err(BusError::Unavailable) } else { Ok(()) };
        Box::pin(async move {
            tokio::task::yield_now().await;
            outcome
        })
    }

    fn unsubscribe(&self, interest: &Interest) {
        self.asked.lock().push(format!("-{interest}"));
    }

    fn publish(
        &self,
        _: Message,
        _: Publisher,
    ) -> BoxFuture<'static, Result<Accepted, PublishError>> {
        Box::pin(future::ready(Ok(Accepted::default())))
    }

    fn request(&self, _: ServiceRequest) -> BoxFuture<'static, Result<Data, RequestError>> {
        Box::pin(future::ready(Err(RequestError::NoService)))
    }

    fn ask_gateways(
        &self,
        _: Bytes,
        _: usize,
        _: Duration,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, BusError>> {
        Box::pin(future::ready(Ok(Vec::new())))
    }

    fn ask_gateway(
        &self,
        _: NodeMark,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Option<Bytes>, BusError>> {
        Box::pin(future::ready(Ok(None)))
    }

    fn is_connected(&self) -> bool {
        true
    }
}

const LINGER: Duration = Duration::from_secs(5);

fn set_up() -> (Arc<CountingBus>, Arc<Interests>, Interest) {
    let bus = Arc::new(CountingBus::default());
    let interests = Arc::new(Interests::new(Arc::clone(&bus) as Arc<dyn Bus>, LINGER));
    let tidying = Arc::clone(&interests);
    tokio::spawn(async move { tidying.tidy(|_| {}).await });
    (bus, interests, Interest::Channel("venue:1".parse().unwrap()))
}

#[tokio::test(start_paused = true)]
async fn the_bus_is_asked_once_for_all() {
    let (bus, interests, venue) = set_up();
    let (first, second) = (interests.acquire(&venue), interests.acquire(&venue));
    assert_eq!(tokio::join!(first, second), (Ok(()), Ok(())));
    assert_eq!(interests.acquire(&venue).await, Ok(()));
    assert_eq!(bus.asked(), ["+venue:1"]);
}

#[tokio::test(start_paused = true)]
async fn an_interest_lingers_after_its_last_user() {
    let (bus, interests, venue) = set_up();
    for _ in 0..2 {
        interests.acquire(&venue).await.unwrap();
    }
    interests.release(&venue);
    time::sleep(LINGER * 2).await;
    assert_eq!(bus.asked(), ["+venue:1"]);
    interests.release(&venue);
    time::sleep(LINGER - TIDY_EVERY).await;
    assert_eq!(bus.asked(), Vec::<String>::new());
    time::sleep(TIDY_EVERY * 3).await;
    assert_eq!(bus.asked(), ["-venue:1"]);
    assert_eq!(interests.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_who_comes_back_in_time_finds_it_live() {
    let (bus, interests, venue) = set_up();
    for _ in 0..3 {
        interests.acquire(&venue).await.unwrap();
        interests.release(&venue);
        time::sleep(LINGER / 2).await;
    }
    interests.acquire(&venue).await.unwrap();
    time::sleep(LINGER * 3).await;
    assert_eq!(bus.asked(), ["+venue:1"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_the_next_one_asks_again() {
    let (bus, interests, venue) = set_up();
    bus.refuses.store(true, Ordering::Relaxed);
    assert_eq!(interests.acquire(&venue).await, Err(BusError::Unavailable));
    bus.refuses.store(false, Ordering::Relaxed);
    assert_eq!(interests.acquire(&venue).await, Ok(()));
    assert_eq!(bus.asked(), ["+venue:1", "+venue:1"]);
    interests.release(&venue);
    time::sleep(LINGER * 2).await;
    assert_eq!(bus.asked(), Vec::<String>::new(), "the second user is still there");
}

#[tokio::test(start_paused = true)]
async fn what_the_bus_may_have_ended_is_asked_for_again() {
    let (bus, interests, venue) = set_up();
    interests.acquire(&venue).await.unwrap();
    interests.doubt(&venue);
    bus.refuses.store(true, Ordering::Relaxed);
    assert_eq!(interests.acquire(&venue).await, Err(BusError::Unavailable));
    bus.refuses.store(false, Ordering::Relaxed);
    assert_eq!(interests.acquire(&venue).await, Ok(()));
    assert_eq!(interests.acquire(&venue).await, Ok(()));
    assert_eq!(bus.asked(), ["+venue:1"; 3]);
}

#[tokio::test(start_paused = true)]
async fn one_who_comes_and_goes_without_end_costs_one_entry() {
    let (bus, interests, venue) = set_up();
    for _ in 0..1_000 {
        interests.acquire(&venue).await.unwrap();
        interests.release(&venue);
    }
    assert_eq!(interests.book.lock().unused.len(), 1);
    time::sleep(LINGER * 3).await;
    assert_eq!(bus.asked(), ["+venue:1", "-venue:1"]);
    assert_eq!((interests.len(), interests.book.lock().unused.len()), (0, 0));
}

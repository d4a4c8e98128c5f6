use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use async_nats::HeaderMap;
use broker_backends::{
    Backends, BusStats, ClusterOptions, ConnectError, Histories, NatsAuth, NatsOptions,
    QuestionKind, RedisOptions, cluster,
};
use broker_core::{
    Data, JsonText, Message, NodeId,
    ports::{BusError, GapReason, PublishError, RequestError},
};
use broker_testkit::{
    NatsServer,
    contract::{
        Gateway, PATIENCE,
        bus::{channel_name, interest, message, request, service},
    },
    eventually,
};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, MissedTickBehavior};

use crate::support::{SENT, gateway};

/// Longest time until any outcome: the deadline, and some for a loaded machine.
const ANY_OUTCOME: Duration = Duration::from_millis(2500);
pub(crate) const RECONNECT: Duration = Duration::from_secs(15);

pub(crate) fn options(server: &NatsServer, node: &str) -> NatsOptions {
    let mut options = NatsOptions::new(vec![server.url()], node.parse().unwrap());
    options.workers = 2;
    options
}

pub(crate) async fn connect(nats: NatsOptions) -> Result<Backends, ConnectError> {
    connect_with(nats, Histories::new()).await
}

pub(crate) async fn connect_with(
    nats: NatsOptions,
    histories: Histories,
) -> Result<Backends, ConnectError> {
    // No Redis: nobody listens on port 1, and nobody is waited for.
    let mut redis = RedisOptions::new("redis://127.0.0.1:1");
    redis.command_timeout = Duration::from_millis(10);
    cluster(ClusterOptions { nats, redis, histories, queue: None }).await
}

async fn gateways() -> Vec<Gateway> {
    let server = Arc::new(NatsServer::start().await);
    let mut gateways = Vec::new();
    for index in 0..2 {
        let backends = connect(options(&server, &format!("gateway-{index}"))).await.unwrap();
        gateways.push(gateway(index, backends, Arc::clone(&server)));
    }
    gateways
}

mod bus {
    broker_testkit::bus_contract!(super::gateways());
}

/// One gateway, its figures, a client of its own for a service, and the server.
pub(crate) struct One {
    pub(crate) gateway: Gateway,
    pub(crate) stats: Arc<BusStats>,
    pub(crate) service: async_nats::Client,
    pub(crate) server: NatsServer,
}

impl One {
    pub(crate) async fn start(change: impl FnOnce(&mut NatsOptions)) -> Self {
        let server = NatsServer::start().await;
        let mut options = options(&server, "gateway-0");
        change(&mut options);
        let backends = connect(options).await.unwrap();
        let stats = Arc::clone(&backends.stats);
        let service = async_nats::connect(server.url()).await.unwrap();
        Self { gateway: gateway(0, backends, ()), stats, service, server }
    }

    pub(crate) async fn subscribe(&self, text: &str) {
        self.gateway.bus.subscribe(interest(text)).await.unwrap();
    }

    async fn service_publishes(&self, subject: &str, headers: &[(&str, &str)], body: &'static str) {
        let subject = subject.to_owned();
        if headers.is_empty() {
            self.service.publish(subject, body.into()).await.unwrap();
        } else {
            let mut map = HeaderMap::new();
            headers.iter().for_each(|(name, value)| map.insert(*name, *value));
            self.service.publish_with_headers(subject, map, body.into()).await.unwrap();
        }
    }

    async fn arrived(&self, channel: &str) -> Message {
        self.gateway.wait_for(&channel_name(channel), 1).await.remove(0).1
    }

    pub(crate) async fn publishes_again(&self) {
        eventually("publishes again", RECONNECT, async || {
            self.gateway.bus.publish(message("venue:42", "back", "1"), service()).await.ok()
        })
        .await;
    }
}

fn json(text: &'static str) -> Data {
    Data::Json(JsonText::from_checked(Bytes::from_static(text.as_bytes())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_needs_no_envelope() {
    let one = One::start(|_| ()).await;
    one.subscribe("venue:*").await;
    one.service_publishes("fanfare.ch.venue.42", &[], r#"{"open":true}"#).await;
    let first = one.arrived("venue:42").await;
    assert_eq!((first.data, first.event, first.options), (json(r#"{"open":true}"#), None, None));
    assert_eq!(first.id.as_str().len(), 32);
    assert!(first.time.0 > 1_700_000_000_000);

    let headers = [("Fanfare-Event", "opened"), ("Nats-Msg-Id", "7"), ("Fanfare-Expires", "+5000")];
    one.service_publishes("fanfare.ch.venue.43", &headers, "text").await;
    let second = one.arrived("venue:43").await;
    assert_eq!((second.id.as_str(), second.data.clone()), ("7", json(r#""text""#)));
    assert_eq!(second.event.as_ref().map(|event| event.as_str()), Some("opened"));
    assert_eq!(second.options.unwrap().expires.unwrap().0, second.time.0 + 5000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_delivered_is_a_gap() {
    let one = One::start(|_| ()).await;
    one.subscribe("venue:42").await;
    let headers = [("Fanfare-Expires", "tomorrow")];
    one.service_publishes("fanfare.ch.venue.42", &headers, "1").await;
    let place = one.gateway.wait_for_gap(GapReason::Malformed, PATIENCE).await;
    assert_eq!(place, Some(interest("venue:42")));

    one.subscribe("orders:*").await;
    one.service_publishes("fanfare.ch.orders.a%2eb", &[], "1").await;
    eventually("a gap of the pattern", PATIENCE, async || {
        (one.stats.malformed.load(Ordering::Relaxed) == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_answers_requests() {
    let one = One::start(|_| ()).await;
    let mut requests = one.service.subscribe("fanfare.rq.shop.>").await.unwrap();
    let service = one.service.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let reply = request.reply.clone().unwrap();
            let headers = request.headers.clone().unwrap();
            let header = |name: &str| headers.get(name).unwrap().to_string();
            match request.subject.as_str() {
                "fanfare.rq.shop.cart" => {
                    assert_eq!(&request.payload[..], br#"{"sku":1}"#);
                    let caller = [header("Fanfare-User"), header("Fanfare-Roles")].join(" ");
                    let answer = format!("\"{caller} {}\"", header("Fanfare-Event"));
                    service.publish(reply, answer.into()).await.unwrap();
                }
                "fanfare.rq.shop.pay" => {
                    let mut headers = HeaderMap::new();
                    headers.insert("Nats-Service-Error", "no funds");
                    headers.insert("Nats-Service-Error-Code", "402");
                    service.publish_with_headers(reply, headers, "".into()).await.unwrap();
                }
                _ => {}
            }
        }
    });
    let ask = |address: &str, wait| one.gateway.bus.request(request(address, wait));
    // async-nats's flush does not say that the server knows the subscription.
    let answer = eventually("the service is there", PATIENCE, async || {
        Some(ask("shop:cart", PATIENCE).await).filter(|it| *it != Err(RequestError::NoService))
    })
    .await;
    assert_eq!(answer, Ok(json(r#""Zo%C3%AB%2C1 admin,a%2Cb add%20item""#)));
    let refused = RequestError::Refused { code: Some(402), message: "no funds".into() };
    assert_eq!(ask("shop:pay", PATIENCE).await, Err(refused));
    let silent = ask("shop:silent", Duration::from_millis(50)).await;
    assert_eq!(silent, Err(RequestError::Timeout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_ask_any_gateway() {
    let server = NatsServer::start().await;
    let mut backends = connect(options(&server, "gateway-0")).await.unwrap();
    let service = async_nats::connect(server.url()).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", "7");
    headers.insert("traceparent", "00-a-b-01");
    let asked = service.request_with_headers("fanfare.api.publish", headers, "{}".into());
    let answered = async {
        let question = backends.inbox.next().await.unwrap();
        assert_eq!(question.kind, QuestionKind::Api { operation: "publish".into() });
        assert_eq!(
            (&question.body[..], question.trace.as_deref()),
            (&b"{}"[..], Some("00-a-b-01"))
        );
        assert_eq!(question.message_id.as_ref().map(|id| id.as_str()), Some("7"));
        question.answer("done".into());
    };
    let (answer, ()) = tokio::join!(asked, answered);
    assert_eq!(answer.unwrap().payload, "done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_large_is_too_large() {
    let one = One::start(|_| ()).await;
    let huge =
        Message { data: Data::Binary(vec![0; 2 << 20].into()), ..message("venue:42", "huge", "1") };
    let (huge, next) = (
        one.gateway.bus.publish(huge, service()),
        one.gateway.bus.publish(message("venue:42", "next", "1"), service()),
    );
    assert_eq!(huge.await, Err(PublishError::TooLarge));
    assert_eq!(next.await, SENT);
    let other: NodeId = "other".parse().unwrap();
    let question = vec![0; 2 << 20].into();
    let asked = one.gateway.bus.ask_gateway(other.mark(), question, Duration::from_secs(1));
    assert_eq!(asked.await, Err(BusError::TooLarge));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_queue_holds_is_refused() {
    let one = One::start(|options| options.publish_capacity = 16).await;
    one.server.pause();
    let calls: Vec<_> = (0..20_000)
        .map(|n| one.gateway.bus.publish(message("venue:42", &format!("m{n}"), "1"), service()))
        .collect();
    let (mut overloaded, start) = (0, Instant::now());
    for call in calls {
        match call.await {
            Err(PublishError::Overloaded) => overloaded += 1,
            outcome => assert!(outcome.is_err(), "{outcome:?}"),
        }
    }
    assert!(overloaded > 0);
    assert!(start.elapsed() < ANY_OUTCOME, "{:?}", start.elapsed());
    assert!(!one.gateway.bus.is_connected(), "a server that confirms nothing is out of reach");
    let refused = one.gateway.bus.publish(message("venue:42", "x", "1"), service());
    assert_eq!(refused.await, Err(PublishError::Unavailable));
    let subscribed = one.gateway.bus.subscribe(interest("venue:42")).await;
    assert_eq!(subscribed, Err(BusError::Unavailable));
    one.server.resume();
    one.publishes_again().await;
}

/// The server dies under publishing: each publish has an outcome in time, none of those that
/// were confirmed to be unsent arrives, and afterwards all is well again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_leaves_no_publish_without_outcome() {
    let mut one = One::start(|_| ()).await;
    one.subscribe("venue:42").await;
    let bus = Arc::clone(&one.gateway.bus);
    let publishing = tokio::spawn(async move {
        let (mut outcomes, mut number) = (Vec::new(), 0);
        // Bursts at a rate, some before the server dies and some after.
        let mut pace = tokio::time::interval(Duration::from_millis(2));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = Instant::now() + Duration::from_secs(2);
        while pace.tick().await < end {
            let calls: Vec<_> = (0..50)
                .map(|_| {
                    number += 1;
                    (
                        number,
                        bus.publish(message("venue:42", &format!("m{number}"), "1"), service()),
                    )
                })
                .collect();
            let start = Instant::now();
            for (number, call) in calls {
                outcomes.push((number, call.await));
            }
            assert!(start.elapsed() < ANY_OUTCOME, "{:?}", start.elapsed());
        }
        outcomes
    });
    eventually("messages arrive", PATIENCE, async || {
        (one.gateway.messages(&channel_name("venue:42")).len() > 200).then_some(())
    })
    .await;
    one.server.kill();
    let outcomes = publishing.await.unwrap();
    one.server.restart().await;
    let place = one.gateway.wait_for_gap(GapReason::Reconnected, RECONNECT).await;
    assert_eq!(place, None);
    one.publishes_again().await;

    let count = |wanted| outcomes.iter().filter(|(_, outcome)| *outcome == wanted).count();
    assert!(count(SENT) >= 200);
    assert!(count(Err(PublishError::Unavailable)) > 0);
    let others =
        count(SENT) + count(Err(PublishError::Unavailable)) + count(Err(PublishError::Unknown));
    assert_eq!(others, outcomes.len());
    let arrived = one.gateway.messages(&channel_name("venue:42"));
    for (number, outcome) in &outcomes {
        if *outcome == Err(PublishError::Unavailable) {
            let id = format!("m{number}");
            assert!(!arrived.iter().any(|(_, m)| m.id.as_str() == id), "{id} was not published");
        }
    }
    assert!(one.stats.reconnects.load(Ordering::Relaxed) >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_survive_a_restart_of_the_server() {
    let mut one = One::start(|_| ()).await;
    for n in 0..200 {
        one.subscribe(&format!("venue:{n}")).await;
    }
    one.server.kill();
    one.server.restart().await;
    one.gateway.wait_for_gap(GapReason::Reconnected, RECONNECT).await;
    // After the gap nothing is missing: all subscriptions are there again.
    let service = async_nats::connect(one.server.url()).await.unwrap();
    for n in 0..200 {
        service.publish(format!("fanfare.ch.venue.{n}"), "1".into()).await.unwrap();
    }
    for n in 0..200 {
        one.gateway.wait_for(&channel_name(&format!("venue:{n}")), 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_too_fast_is_a_gap() {
    let server = NatsServer::start().await;
    let mut few = options(&server, "gateway-0");
    (few.queue_capacity, few.workers) = (16, 1);
    let mut backends = connect(few).await.unwrap();
    for channel in ["venue:41", "venue:42", "venue:43"] {
        backends.bus.subscribe(interest(channel)).await.unwrap();
    }
    let service = async_nats::connect(server.url()).await.unwrap();
    for _ in 0..40 {
        service.publish("fanfare.ch.venue.42", "1".into()).await.unwrap();
    }
    eventually("messages are dropped", PATIENCE, async || {
        (backends.stats.overruns.load(Ordering::Relaxed) == 24).then_some(())
    })
    .await;
    let mut batch = Vec::new();
    let (mut messages, mut gaps) = (0, Vec::new());
    while messages < 16 {
        assert!(backends.events[0].next_batch(&mut batch, 10).await);
        for inbound in batch.drain(..) {
            match inbound.event {
                broker_core::ports::BusEvent::Message { .. } => messages += 1,
                broker_core::ports::BusEvent::Gap { interest, reason } => {
                    gaps.push((interest, reason))
                }
            }
        }
    }
    assert_eq!(gaps, [(Some(interest("venue:42")), GapReason::Overrun)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_bus_says_so() {
    let server = NatsServer::start().await;
    let mut backends = connect(options(&server, "gateway-0")).await.unwrap();
    backends.bus.subscribe(interest("venue:42")).await.unwrap();
    let start = Instant::now();
    backends.closer.close().await;
    assert!(start.elapsed() < ANY_OUTCOME, "{:?}", start.elapsed());
    for events in &mut backends.events {
        assert!(!events.next_batch(&mut Vec::new(), 10).await);
    }
    assert!(backends.inbox.next().await.is_none());
    let refused = backends.bus.publish(message("venue:42", "x", "1"), service()).await;
    assert_eq!(refused, Err(PublishError::Unavailable));
    assert_eq!(backends.bus.subscribe(interest("venue:43")).await, Err(BusError::Unavailable));
    assert!(!backends.bus.is_connected());
}

/// Also while its server is away, and async-nats goes on trying.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_without_server_closes() {
    let mut server = NatsServer::start().await;
    let mut backends = connect(options(&server, "gateway-0")).await.unwrap();
    server.kill();
    let asked = backends.bus.subscribe(interest("venue:42"));
    backends.closer.close().await;
    let inbox = tokio::time::timeout(PATIENCE, backends.inbox.next()).await;
    assert!(inbox.expect("the inbox ends").is_none());
    let outcome = tokio::time::timeout(ANY_OUTCOME, asked).await;
    assert!(outcome.expect("an outcome").is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_may_wait_for_its_server() {
    let mut server = NatsServer::start().await;
    server.kill();
    let mut patient = options(&server, "gateway-0");
    assert!(matches!(connect(patient.clone()).await, Err(ConnectError::Nats(_))));
    patient.wait = true;
    let gateway = gateway(0, connect(patient).await.unwrap(), ());
    let refused = gateway.bus.publish(message("venue:42", "x", "1"), service()).await;
    assert_eq!(refused, Err(PublishError::Unavailable));
    assert!(!gateway.bus.is_connected());
    server.restart().await;
    eventually("subscribes", RECONNECT, async || {
        gateway.bus.subscribe(interest("venue:42")).await.ok()
    })
    .await;
    gateway.bus.publish(message("venue:42", "x", "1"), service()).await.unwrap();
    gateway.wait_for(&channel_name("venue:42"), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logging_in() {
    let server = NatsServer::start_with(&["--user", "ann", "--pass", "secret"]).await;
    let user = |password: &str| NatsAuth::User { name: "ann".into(), password: password.into() };
    let mut right = options(&server, "gateway-0");
    right.auth = user("secret");
    let mut wrong = options(&server, "gateway-1");
    wrong.auth = user("guess");
    wrong.urls = vec![server.url().replace("://", "://ann:guess@")];
    assert!(!format!("{wrong:?}").contains("guess"));
    assert!(connect(right).await.is_ok());
    assert!(matches!(connect(wrong).await, Err(ConnectError::Nats(_))));
}

#[tokio::test]
async fn wrong_options_are_named() {
    let mut nats = NatsOptions::new(Vec::new(), "gateway-0".parse().unwrap());
    assert!(matches!(
        connect(nats.clone()).await,
        Err(ConnectError::Option { option: "nats.url", .. })
    ));
    nats.prefix = "fan fare".into();
    assert!(matches!(
        connect(nats.clone()).await,
        Err(ConnectError::Option { option: "prefix", .. })
    ));
    nats.prefix = "fanfare".into();
    nats.urls = vec!["nats://127.0.0.1:1".into()];
    nats.tls.certificate = Some("client.pem".into());
    assert!(matches!(
        connect(nats.clone()).await,
        Err(ConnectError::Option { option: "nats.tls", .. })
    ));
    let redis = RedisOptions::new("http://x");
    let result =
        cluster(ClusterOptions { nats, redis, histories: Histories::new(), queue: None }).await;
    assert!(matches!(result, Err(ConnectError::Option { option: "redis.url", .. })));
}

//! History in JetStream: the contract, and what only JetStream can do.

use std::{collections::HashMap, sync::Arc, sync::atomic::Ordering, time::Duration};

use async_nats::HeaderMap;
use broker_backends::{Backends, BusStats, Histories, NatsOptions};
use broker_core::{
    Data, Message, Offset, Position, Timestamp,
    message::Publisher,
    ports::{Accepted, BoxFuture, GapReason, Log, PublishError},
};
use broker_testkit::{
    NatsServer,
    contract::{
        PATIENCE,
        bus::{channel_name, interest, message, service},
        log::{Logged, histories},
    },
    eventually,
};
use tokio::time::Instant;

use crate::{
    nats::{RECONNECT, connect_with, options},
    nats_order::Proxy,
    pipelines::Pipelines,
    support::gateway,
};

/// Longest time until any outcome: the deadline, and some for a loaded machine.
const ANY_OUTCOME: Duration = Duration::from_millis(2500);

mod log {
    broker_testkit::log_contract!(async { super::Cluster::start(|_| ()).await.logged });
}

pub(crate) async fn jetstream() -> Arc<NatsServer> {
    Arc::new(NatsServer::start_with(&["-js"]).await)
}

pub(crate) async fn with_history(options: NatsOptions) -> Backends {
    connect_with(options, histories().into()).await.unwrap()
}

/// With a log that drops nothing of what a test publishes.
pub(crate) async fn with_endless_history(options: NatsOptions) -> Backends {
    let mut histories = Histories::from(histories());
    histories.values_mut().for_each(|history| history.size = 1_000_000);
    connect_with(options, histories).await.unwrap()
}

/// Two gateways, which start at once.
struct Cluster {
    logged: Logged,
    stats: Arc<BusStats>,
    server: Arc<NatsServer>,
    service: async_nats::Client,
}

impl Cluster {
    async fn start(change: impl Fn(&mut NatsOptions)) -> Self {
        let server = jetstream().await;
        let [one, other] = ["gateway-0", "gateway-1"].map(|node| {
            let mut options = options(&server, node);
            change(&mut options);
            with_history(options)
        });
        let (one, other) = tokio::join!(one, other);
        let (log, stats): (Arc<dyn Log>, _) = (Arc::clone(&one.log), Arc::clone(&one.stats));
        let gateways =
            vec![gateway(0, one, Arc::clone(&server)), gateway(1, other, Arc::clone(&server))];
        let service = async_nats::connect(server.url()).await.unwrap();
        Self { logged: Logged { gateways, log }, stats, server, service }
    }

    async fn subscribe(&self, text: &str) {
        self.logged.gateways[0].bus.subscribe(interest(text)).await.unwrap();
    }

    fn publish(&self, message: Message, publisher: Publisher) -> Call {
        self.logged.gateways[1].bus.publish(message, publisher)
    }

    async fn arrived(&self, channel: &str, count: usize) -> Vec<Message> {
        let arrived = self.logged.gateways[0].wait_for(&channel_name(channel), count).await;
        arrived.into_iter().map(|(_, message)| message).collect()
    }

    /// As `nats request` does, with headers.
    async fn service_requests(&self, channel: &str, headers: &[(&str, &str)]) -> serde_json::Value {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.append(*name, *value));
        let subject = format!("fanfare.ch.{channel}");
        let answer = self.service.request_with_headers(subject, map, "1".into()).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }
}

type Call = BoxFuture<'static, Result<Accepted, PublishError>>;

async fn api(client: &async_nats::Client, what: &str, body: &str) -> serde_json::Value {
    let answer = client.request(format!("$JS.API.STREAM.{what}"), body.to_owned().into()).await;
    serde_json::from_slice(&answer.unwrap().payload).unwrap()
}

/// Of a message that a service published without an envelope.
async fn position_of_raw(cluster: &Cluster, id: &str) -> Position {
    let top = cluster.logged.top("room:42").await.position();
    let fingerprint = broker_core::position::Fingerprint::of(&id.parse().unwrap());
    assert_eq!(top.fingerprint, Some(fingerprint));
    top
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_message_is_the_same_live_and_from_the_log() {
    let cluster = Cluster::start(|_| ()).await;
    cluster.subscribe("room:42").await;
    cluster.logged.gateways[1].bus.subscribe(interest("room:*")).await.unwrap();
    cluster.service.publish("fanfare.ch.room.42", r#"{"open":true}"#.into()).await.unwrap();
    let first = cluster.arrived("room:42", 1).await.remove(0);
    assert_eq!(first.id.as_str().len(), 32);
    assert!(first.time > Timestamp(1_700_000_000_000));
    let position = position_of_raw(&cluster, first.id.as_str()).await;
    assert_eq!(first.position(), Some(position));
    assert_eq!(cluster.logged.read("room:42", position.offset).await, std::slice::from_ref(&first));
    let elsewhere = cluster.logged.gateways[1].wait_for(&channel_name("room:42"), 1).await;
    assert_eq!(elsewhere[0].1, first);

    cluster.service.publish("fanfare.ch.room.42", r#"{"open":true}"#.into()).await.unwrap();
    let second = cluster.arrived("room:42", 2).await.remove(1);
    assert_ne!(second.id, first.id);
    assert_eq!(second.stored.unwrap().previous, Some(position.offset));
}

/// JetStream answers a service itself; a repeated id changes nothing, and what looks like the
/// server's own headers is not taken for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_has_jetstreams_own_acknowledgement() {
    let cluster = Cluster::start(|_| ()).await;
    cluster.subscribe("room:42").await;
    let headers = [
        ("Nats-Msg-Id", "order-7"),
        ("Nats-Sequence", "999"),
        ("Nats-Last-Sequence", "998"),
        ("Nats-Time-Stamp", "2001-01-01T00:00:00Z"),
        ("Nats-Subject", "fanfare.ch.room.43"),
        ("Fanfare-Expires", "+60000"),
    ];
    let ack = cluster.service_requests("room.42", &headers).await;
    assert_eq!((&ack["seq"], &ack["stream"]), (&1.into(), &"fanfare=room".into()));
    let again = cluster.service_requests("room.42", &headers).await;
    assert_eq!((&again["seq"], &again["duplicate"]), (&1.into(), &true.into()));
    let live = cluster.arrived("room:42", 1).await;
    assert_eq!(live[0].id.as_str(), "order-7");
    let stored = live[0].stored.unwrap();
    assert_eq!((stored.offset, stored.previous), (Offset(1), None));
    assert_eq!(live[0].options.clone().unwrap().expires.unwrap().0, live[0].time.0 + 60_000);
    assert_eq!(cluster.logged.read("room:42", Offset(1)).await, live);
    assert_eq!(position_of_raw(&cluster, "order-7").await.offset, Offset(1));
    let tops = cluster.logged.log.tops(vec![channel_name("room:42")]).await.unwrap();
    assert_eq!(tops[0].newest, live[0].position());
}

/// What cannot be read is a gap live, and left out of what is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_left_out_of_the_log() {
    let cluster = Cluster::start(|_| ()).await;
    cluster.subscribe("room:42").await;
    let before = cluster.logged.publish("room:42", "before").await;
    cluster.service_requests("room.42", &[("Fanfare-Expires", "tomorrow")]).await;
    cluster.logged.gateways[0].wait_for_gap(GapReason::Malformed, PATIENCE).await;
    let top = cluster.logged.top("room:42").await.position();
    let broken = top.offset;
    assert!(broken > before.offset);
    let after = cluster.logged.publish("room:42", "after").await;
    let read = cluster.logged.read("room:42", after.offset).await;
    assert_eq!(read.iter().filter_map(Message::position).collect::<Vec<_>>(), [before, after]);
    assert_eq!(read[1].stored.unwrap().previous, Some(broken));
    assert!(cluster.stats.malformed.load(Ordering::Relaxed) >= 2);
}

/// More than fits into one answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_have_tops() {
    let cluster = Cluster::start(|_| ()).await;
    let channels: Vec<_> = (0..6).map(|n| channel_name(&format!("room:{n}"))).collect();
    let mut newest = Vec::new();
    for channel in &channels[..5] {
        let data = Data::Binary(vec![0; 600_000].into());
        let large = Message { data, ..message(channel.as_str(), "large", "1") };
        newest.push(cluster.publish(large, service()).await.unwrap().position);
    }
    newest.push(None);
    let tops = cluster.logged.log.tops(channels).await.unwrap();
    assert_eq!(tops.iter().map(|top| top.newest).collect::<Vec<_>>(), newest);
    assert!(tops.iter().all(|top| Some(top.end) == newest[4].map(|last| last.offset)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_refuses() {
    let cluster = Cluster::start(|options| options.streams.max_bytes = Some(20_000)).await;
    let large = |n: usize| Message {
        data: Data::Binary(vec![0; 3000].into()),
        ..message(&format!("room:{n}"), &format!("m{n}"), "1")
    };
    let mut stored = 0;
    let refused = loop {
        match cluster.publish(large(stored), service()).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 20, "a full stream takes more");
    };
    assert_eq!((refused, stored), (PublishError::Full, 6));
    for n in 0..stored {
        assert_eq!(cluster.logged.read(&format!("room:{n}"), Offset(0)).await.len(), 1);
    }
    let elsewhere = cluster.publish(message("long:1", "a", "1"), service()).await;
    assert!(elsewhere.is_ok(), "{elsewhere:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_large_is_too_large_and_holds_up_nothing() {
    let cluster = Cluster::start(|_| ()).await;
    let huge =
        Message { data: Data::Binary(vec![0; 2 << 20].into()), ..message("room:1", "huge", "1") };
    let calls =
        [cluster.publish(huge, service()), cluster.publish(message("room:1", "a", "1"), service())];
    let [huge, next] = calls;
    assert_eq!(huge.await, Err(PublishError::TooLarge));
    assert!(next.await.is_ok());
}

/// The server hangs: everything has an outcome in time, more than has room is refused, and
/// afterwards all is well again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_leaves_no_publish_without_outcome() {
    let cluster = Cluster::start(|options| options.publish_capacity = 700).await;
    cluster.server.pause();
    let start = Instant::now();
    let calls: Vec<Call> = (0..1000)
        .map(|n| {
            let channel = format!("room:{}", n % 600);
            cluster.publish(message(&channel, &format!("m{n}"), "1"), service())
        })
        .collect();
    let mut outcomes = HashMap::<_, usize>::new();
    for call in calls {
        *outcomes.entry(call.await.unwrap_err().to_string()).or_default() += 1;
    }
    assert!(start.elapsed() < ANY_OUTCOME, "{:?}", start.elapsed());
    let count = |error: PublishError| outcomes.get(&error.to_string()).copied().unwrap_or(0);
    assert_eq!(count(PublishError::Overloaded), 300);
    // Those that were on their way; not those behind them, nor those for which there was no room.
    assert_eq!(count(PublishError::Unknown), 512);
    assert_eq!(count(PublishError::Unavailable), 188);
    assert!(cluster.logged.log.top(channel_name("room:1")).await.is_err());
    eventually("the bus is out of reach", PATIENCE, async || {
        (!cluster.logged.gateways[1].bus.is_connected()).then_some(())
    })
    .await;
    cluster.server.resume();
    eventually("publishes again", RECONNECT, async || {
        cluster.publish(message("room:1", "back", "1"), service()).await.ok()
    })
    .await;
}

/// Cut off, a gateway misses messages, and knows; back again, it finds them in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_is_in_the_log() {
    let server = jetstream().await;
    let proxy = Proxy::to(&server).await;
    let mut cut = options(&server, "gateway-0");
    cut.urls = vec![proxy.url.clone()];
    let (cut, other) = (with_history(cut).await, with_history(options(&server, "gateway-1")).await);
    let log = Arc::clone(&cut.log);
    let gateways = vec![gateway(0, cut, Arc::clone(&server)), gateway(1, other, server)];
    let logged = Logged { gateways, log };
    logged.gateways[0].bus.subscribe(interest("room:1")).await.unwrap();
    let mut stored = vec![logged.publish("room:1", "before").await];
    logged.gateways[0].wait_for(&channel_name("room:1"), 1).await;
    proxy.cut();
    stored.push(logged.publish("room:1", "missed").await);
    logged.gateways[0].wait_for_gap(GapReason::Reconnected, RECONNECT).await;
    stored.push(logged.publish("room:1", "after").await);
    eventually("the last one arrives", PATIENCE, async || {
        let arrived = logged.gateways[0].messages(&channel_name("room:1"));
        arrived.iter().any(|(_, message)| message.position() == Some(stored[2])).then_some(())
    })
    .await;
    let top =
        eventually("a top", RECONNECT, async || logged.log.top(channel_name("room:1")).await.ok())
            .await;
    assert_eq!(top.newest, Some(stored[2]));
    let read = logged.read("room:1", top.end).await;
    assert_eq!(read.iter().filter_map(Message::position).collect::<Vec<_>>(), stored);
}

/// Deleted by whomever, the stream is made again, and nobody takes its numbers for the old ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_made_anew_has_another_epoch() {
    let cluster = Cluster::start(|_| ()).await;
    cluster.subscribe("room:1").await;
    let mut before = Vec::new();
    for id in ["a", "b", "c"] {
        before.push(cluster.logged.publish("room:1", id).await);
    }
    let deleted = api(&cluster.service, "DELETE.fanfare=room", "").await;
    assert_eq!(deleted["success"], true);
    let after = eventually("publishes again", RECONNECT, async || {
        cluster.publish(message("room:1", "d", "1"), service()).await.ok()?.position
    })
    .await;
    assert_eq!(after.offset, Offset(1));
    assert_ne!(after.epoch, before[0].epoch);
    let top = eventually("a top", RECONNECT, async || {
        cluster.logged.log.top(channel_name("room:1")).await.ok()
    })
    .await;
    assert_eq!(top.newest, Some(after));
    assert_eq!(cluster.logged.read("room:1", Offset(1)).await[0].position(), Some(after));
    cluster.arrived("room:1", 4).await;
    let next = cluster.logged.publish("room:1", "e").await;
    assert_eq!(cluster.arrived("room:1", 5).await[4].position(), Some(next));
}

/// In memory, a restart of the only server is the end of the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_in_memory_comes_back_empty() {
    let mut server = NatsServer::start_with(&["-js"]).await;
    let mut in_memory = options(&server, "gateway-0");
    in_memory.streams.storage = broker_backends::Storage::Memory;
    let backends = with_history(in_memory).await;
    let log = Arc::clone(&backends.log);
    let logged = Logged { gateways: vec![gateway(0, backends, ())], log };
    let before = logged.publish("room:1", "a").await;
    server.kill();
    server.restart().await;
    let top = eventually("a top", RECONNECT, async || {
        let top = logged.log.top(channel_name("room:1")).await.ok()?;
        (top.epoch != before.epoch).then_some(top)
    })
    .await;
    assert_eq!((top.newest, top.end), (None, Offset(0)));
    let stored = eventually("publishes again", RECONNECT, async || {
        logged.gateways[0].bus.publish(message("room:1", "b", "1"), service()).await.ok()
    })
    .await;
    assert_eq!(stored.position.unwrap().epoch, top.epoch);
}

/// The server dies while publishers pipeline, and comes back with what it stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_with_a_killed_server() {
    let mut server = NatsServer::start_with(&["-js"]).await;
    let backends = with_endless_history(options(&server, "gateway-0")).await;
    let log = Arc::clone(&backends.log);
    let logged = Logged { gateways: vec![gateway(0, backends, ())], log };
    let publishing = Pipelines::start(&logged);
    publishing.store_more(&logged).await;
    server.kill();
    server.restart().await;
    publishing.store_more(&logged).await;
    publishing.check(&logged).await;
}

//! The offline queues in Redis, and how they are fed from JetStream.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::HeaderMap;
use broker_backends::{Backends, ClusterOptions, NatsOptions, RedisOptions, cluster};
use broker_core::{
    Epoch, Offset, Position, Timestamp, UserId,
    ports::{OfflineQueue, QueueFigures, Queued},
};
use broker_testkit::{
    NatsServer, RedisServer,
    contract::{
        PATIENCE,
        bus::{message, service},
    },
    eventually,
};
use fred::{
    clients::Client,
    interfaces::ClientLike,
    types::{Builder, ClusterHash, CustomCommand, FromValue, config::Config},
};
use futures_util::future::join_all;

use crate::support::{queue, user_history};

/// Until everything is fed again after a fault: a gateway that is gone keeps what it had for 10 s.
pub(crate) const FED: Duration = Duration::from_secs(30);

pub(crate) struct Servers {
    pub(crate) nats: NatsServer,
    pub(crate) redis: RedisServer,
}

impl Servers {
    pub(crate) async fn start() -> Self {
        let nats = NatsServer::start_with(&["-js"]).await;
        Self { nats, redis: RedisServer::start_durable().await }
    }

    pub(crate) async fn gateway(&self, node: &str) -> Backends {
        let options = ClusterOptions {
            nats: NatsOptions::new(vec![self.nats.url()], node.parse().unwrap()),
            redis: RedisOptions::new(self.redis.url()),
            histories: user_history(),
            queue: Some(queue()),
        };
        let backends = cluster(options).await.unwrap();
        let known = backends.queue.clone().unwrap();
        eventually("Redis is in reach", PATIENCE, async || known.figures().await.ok()).await;
        backends
    }

    async fn redis_client(&self) -> Client {
        let config = Config::from_url(&self.redis.url()).unwrap();
        let client = Builder::from_config(config).build().unwrap();
        client.init().await.unwrap();
        client
    }
}

async fn queue_and_servers() -> (Arc<dyn OfflineQueue>, (Backends, Servers)) {
    let servers = Servers::start().await;
    let backends = servers.gateway("gateway-0").await;
    (backends.queue.clone().unwrap(), (backends, servers))
}

mod queues {
    broker_testkit::queue_contract!(super::queue_and_servers());
}

pub(crate) fn user(id: &str) -> UserId {
    id.parse().unwrap()
}

/// Publishes one message to each of these users, at once; all are stored.
pub(crate) async fn publish(
    gateway: &Backends,
    users: impl IntoIterator<Item = u64>,
) -> Vec<Position> {
    let publishes = users.into_iter().map(|user| {
        let id = format!("{:032x}", rand::random::<u128>());
        gateway.bus.publish(message(&format!("user:{user}"), &id, "1"), service())
    });
    let accepted = join_all(publishes).await.into_iter();
    accepted.map(|accepted| accepted.unwrap().position.unwrap()).collect()
}

pub(crate) async fn pending(gateway: &Backends, id: &str) -> Vec<Offset> {
    let pending = gateway.queue.as_ref().unwrap().pending(user(id), 100).await;
    pending.unwrap_or_default().into_iter().map(|(_, offset)| offset).collect()
}

async fn figures(gateway: &Backends) -> QueueFigures {
    gateway.queue.as_ref().unwrap().figures().await.unwrap_or_default()
}

/// Waits until so many messages were counted, and lets nobody count more.
pub(crate) async fn all_counted(gateway: &Backends, count: u64) -> QueueFigures {
    let sum = |it: QueueFigures| it.pending + it.delivered + it.evicted + it.expired;
    let all = async || Some(figures(gateway).await).filter(|figures| sum(*figures) >= count);
    let counted = eventually("all messages are counted", FED, all).await;
    assert_eq!(sum(counted), count, "{counted:?}");
    counted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_anybody_publishes_to_a_user_is_pending() {
    let servers = Servers::start().await;
    let gateway = servers.gateway("gateway-0").await;
    let own = publish(&gateway, [7, 8, 7]).await;
    let service = async_nats::connect(servers.nats.url()).await.unwrap();
    let raw = async |subject: &str, header: (&str, &str)| {
        let mut headers = HeaderMap::new();
        headers.insert(header.0, header.1);
        let subject = format!("fanfare.ch.{subject}");
        service.request_with_headers(subject, headers, "{}".into()).await.unwrap();
    };
    raw("user.7", ("Fanfare-Encoding", "json")).await;
    raw("user.a%253Ab", ("Fanfare-Expires", "1000")).await;
    for nobodys in ["user", "user.a.b", "user.%2A.b", "user.a%3Ab"] {
        raw(nobodys, ("Fanfare-Event", "x")).await;
    }
    raw("user.7", ("Fanfare-Expires", "never")).await;
    raw("user.last", ("Fanfare-Expires", "+1000000000")).await;
    let last = async || (pending(&gateway, "last").await.len() == 1).then_some(());
    eventually("the last one is pending", PATIENCE, last).await;
    assert_eq!(pending(&gateway, "7").await, [own[0].offset, own[2].offset, Offset(4)]);
    let known = gateway.queue.as_ref().unwrap();
    assert_eq!(known.pending(user("8"), 9).await, Ok(vec![(own[1].epoch, own[1].offset)]));
    assert_eq!(known.sweep(Timestamp(1000)).await, Ok(1), "that of a:b");
    assert_eq!(all_counted(&gateway, 6).await.pending, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_share_the_work_and_take_over() {
    let servers = Servers::start().await;
    let stays = servers.gateway("gateway-0").await;
    let goes = servers.gateway("gateway-1").await;
    let fed = |gateway: &Backends| gateway.queue_stats.fed.load(Ordering::Relaxed);
    let mut published = 0;
    while fed(&stays) == 0 || fed(&goes) == 0 {
        publish(&stays, 0..500).await;
        published += 500;
        assert!(published < 100_000, "only one of them feeds");
    }
    publish(&stays, 0..500).await;
    // With whatever it was given and has not acknowledged.
    goes.closer.close().await;
    publish(&stays, 0..500).await;
    let counted = all_counted(&stays, published + 1000).await;
    assert_eq!((counted.delivered, counted.expired), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_messages_wait_in_the_stream() {
    let mut servers = Servers::start().await;
    let gateway = servers.gateway("gateway-0").await;
    let known = gateway.queue.clone().unwrap();
    let first = publish(&gateway, [7; 4]).await;
    all_counted(&gateway, 4).await;
    known.acknowledge(vec![(user("7"), first[2].epoch, first[2].offset)]).await.unwrap();
    servers.redis.kill();
    let away = publish(&gateway, [7, 8]).await;
    servers.redis.restart().await;
    let later = publish(&gateway, [7]).await;
    let counted = all_counted(&gateway, 7).await;
    assert_eq!((counted.pending, counted.delivered), (4, 3), "what was acknowledged stays so");
    assert_eq!(pending(&gateway, "7").await, [first[3], away[0], later[0]].map(|it| it.offset));
    let after = known.backlog(user("7")).await.unwrap().after;
    assert_eq!(after, Some((first[2].epoch, first[2].offset)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_jetstream_is_away_the_queues_wait() {
    let mut servers = Servers::start().await;
    let gateway = servers.gateway("gateway-0").await;
    publish(&gateway, [7; 3]).await;
    servers.nats.kill();
    servers.nats.restart().await;
    eventually("the bus is in reach", FED, async || gateway.bus.is_connected().then_some(())).await;
    publish(&gateway, [7; 2]).await;
    let counted = all_counted(&gateway, 5).await;
    assert_eq!(counted.pending, 5);
}

/// What was acknowledged comes back then: Redis alone knew of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_has_forgotten_is_fed_anew() {
    let servers = Servers::start().await;
    let gateway = servers.gateway("gateway-0").await;
    let known = gateway.queue.clone().unwrap();
    let first = publish(&gateway, [7, 8, 7]).await;
    all_counted(&gateway, 3).await;
    known.acknowledge(vec![(user("7"), first[0].epoch, first[0].offset)]).await.unwrap();
    let redis = servers.redis_client().await;
    custom::<()>(&redis, "FLUSHALL", &[]).await;
    let second = publish(&gateway, [7]).await;
    let counted = all_counted(&gateway, 4).await;
    assert_eq!((counted.pending, counted.delivered), (4, 0));
    let all = [first[0], first[2], second[0]].map(|position| position.offset);
    assert_eq!(pending(&gateway, "7").await, all);
}

/// A failover may lose the newest writes of one of several servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_forgotten_is_not_counted_again() {
    let servers = Servers::start().await;
    let gateway = servers.gateway("gateway-0").await;
    publish(&gateway, 0..200).await;
    all_counted(&gateway, 200).await;
    let redis = servers.redis_client().await;
    let fed = async || {
        let fed = custom::<Option<u64>>(&redis, "HGET", &["fanfare:queue:{0}:figures", "fed"]);
        fed.await.filter(|fed| *fed == 200)
    };
    eventually("it is noted that all was fed", PATIENCE, fed).await;
    // The shards from 0 to 9.
    let keys = custom::<Vec<String>>(&redis, "KEYS", &["fanfare:queue:{?}:*"]).await;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    custom::<u64>(&redis, "DEL", &keys).await;
    assert!(figures(&gateway).await.pending < 200);
    assert_eq!(all_counted(&gateway, 200).await.pending, 200);
    assert_eq!(gateway.queue_stats.rewinds.load(Ordering::Relaxed), 1);
}

async fn custom<T: FromValue>(redis: &Client, command: &str, arguments: &[&str]) -> T {
    let command = CustomCommand::new(command, ClusterHash::Random, false);
    redis.custom(command, arguments.to_vec()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_one_message_costs_little() {
    // So many that no shard is small enough to be packed.
    const USERS: u64 = 40_000;
    let servers = Servers::start().await;
    let gateway = servers.gateway("gateway-0").await;
    let redis = servers.redis_client().await;
    let before = used_memory(&redis).await;
    let ids: Vec<u64> = (0..USERS).collect();
    for ids in ids.chunks(500) {
        let message = |id: &u64| Queued {
            // As long as a UUID.
            user: user(&format!("{:08x}-7e7f-4cbb-9a3e-{id:012x}", id * 2_654_435_761 % (1 << 32))),
            epoch: Epoch(0x18a3_f2c4_11aa_9d0c),
            offset: Offset(1_000_000_000 + id),
            expires: Timestamp(1_900_000_000_000 + id),
        };
        gateway.queue.as_ref().unwrap().enqueue(ids.iter().map(message).collect()).await.unwrap();
    }
    assert_eq!(figures(&gateway).await.pending, USERS);
    let bytes = (used_memory(&redis).await - before) / USERS;
    println!("{bytes} bytes of Redis for each of {USERS} users with one pending message");
    assert!(bytes < 400, "{bytes}");
}

async fn used_memory(redis: &Client) -> u64 {
    let info = custom::<String>(redis, "INFO", &["memory"]).await;
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.unwrap().parse().unwrap()
}

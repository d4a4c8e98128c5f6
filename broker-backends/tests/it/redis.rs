use std::{sync::Arc, time::Duration};

use broker_backends::{ClusterOptions, Histories, NatsOptions, RedisOptions, cluster};
use broker_core::{
    ConnectionId, NodeId, Timestamp,
    ports::{ConnectionInfo, Lease, Presence, PresenceChange, Sessions, StoreError},
    resume::SessionKey,
};
use broker_testkit::{NatsServer, RedisServer, contract::PATIENCE, eventually};
use tokio::time::Instant;

/// The stores of one gateway, and the servers that must live as long.
async fn stores() -> (Arc<dyn Presence>, Arc<dyn Sessions>, RedisServer, NatsServer) {
    let (nats, redis) = (NatsServer::start().await, RedisServer::start().await);
    let (presence, sessions) = connect(&nats, &redis.url()).await;
    eventually("Redis is in reach", PATIENCE, async || presence.gateways().await.ok()).await;
    (presence, sessions, redis, nats)
}

async fn connect(nats: &NatsServer, url: &str) -> (Arc<dyn Presence>, Arc<dyn Sessions>) {
    let node: NodeId = "gateway-1".parse().unwrap();
    let options = ClusterOptions {
        nats: NatsOptions::new(vec![nats.url()], node),
        redis: RedisOptions::new(url),
        histories: Histories::new(),
        queue: None,
    };
    let backends = cluster(options).await.unwrap();
    (backends.presence, backends.sessions)
}

mod presence {
    broker_testkit::presence_contract!(async {
        let (presence, _, redis, nats) = super::stores().await;
        (presence, (redis, nats))
    });
}

mod sessions {
    broker_testkit::sessions_contract!(async {
        let (_, sessions, redis, nats) = super::stores().await;
        (sessions, (redis, nats))
    });
}

fn lease() -> Lease {
    Lease {
        node: "a".parse().unwrap(),
        ttl: Duration::from_secs(60),
        started: Timestamp(1),
        version: String::new(),
        connections: 0,
        users: 0,
        channels: 0,
        subscriptions: 0,
        bus_ok: true,
    }
}

async fn is_refused_in_time(presence: &dyn Presence, sessions: &dyn Sessions) {
    let start = Instant::now();
    let ttl = Duration::from_secs(60);
    assert_eq!(presence.renew(lease()).await, Err(StoreError::Unavailable));
    assert_eq!(presence.gateways().await, Err(StoreError::Unavailable));
    assert_eq!(sessions.begin("k".into(), 1, ttl).await, Err(StoreError::Unavailable));
    assert_eq!(sessions.take(SessionKey([1; 32]), ttl).await, Err(StoreError::Unavailable));
    assert!(start.elapsed() < Duration::from_millis(4500), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_says_so_and_comes_back() {
    let (presence, sessions, mut redis, _nats) = stores().await;
    presence.renew(lease()).await.unwrap();
    for kill in [true, false] {
        if kill {
            redis.kill()
        } else {
            redis.stop()
        }
        is_refused_in_time(&*presence, &*sessions).await;
        redis.restart().await;
        // It may have gone back to what it knew some time ago.
        let doubted = async || (presence.renew(lease()).await == Ok(false)).then_some(());
        eventually("Redis is in reach, and doubted", Duration::from_secs(10), doubted).await;
        assert_eq!(presence.renew(lease()).await, Ok(true), "once");
        assert_eq!(presence.gateways().await, Ok(vec![lease()]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_hangs_counts_as_away() {
    let (presence, sessions, redis, _nats) = stores().await;
    redis.pause();
    is_refused_in_time(&*presence, &*sessions).await;
    redis.resume();
    let again = async || presence.renew(lease()).await.ok();
    eventually("Redis is in reach again", Duration::from_secs(10), again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_may_come_after_the_gateway() {
    let nats = NatsServer::start().await;
    let mut redis = RedisServer::start().await;
    redis.kill();
    let (presence, sessions) = connect(&nats, &redis.url()).await;
    is_refused_in_time(&*presence, &*sessions).await;
    redis.restart().await;
    let again = async || presence.renew(lease()).await.ok();
    eventually("Redis is in reach", Duration::from_secs(10), again).await;
}

fn connection(id: u128) -> Arc<ConnectionInfo> {
    Arc::new(ConnectionInfo {
        connection: ConnectionId(id),
        user: Some("ann".parse().unwrap()),
        node: "a".parse().unwrap(),
        transport: "websocket".into(),
        connected_at: Timestamp(1),
        user_agent: None,
    })
}

/// A gateway that lost its lease for a while comes back, tells anew what it holds, and finds all
/// of it listed: whoever sweeps up after it either is done before, or makes it wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_wakes_up_is_not_swept() {
    let (presence, _, redis, nats) = stores().await;
    let (sweeper, _) = connect(&nats, &redis.url()).await;
    eventually("Redis is in reach", PATIENCE, async || sweeper.gateways().await.ok()).await;
    let node: NodeId = "a".parse().unwrap();
    let held: Vec<_> = (0..3000).map(connection).collect();
    for _ in 0..5 {
        let came = held.iter().cloned().map(PresenceChange::Connected).collect();
        presence.apply(node.clone(), came).await.unwrap();
        let other = Arc::clone(&sweeper);
        let sweep = tokio::spawn(async move { other.sweep().await });
        presence.renew(lease()).await.unwrap();
        eventually("it tells anew", PATIENCE, async || {
            presence.replace(node.clone(), held.clone()).await.ok()
        })
        .await;
        sweep.await.unwrap().unwrap();
        let listed = presence.connections_of("ann".parse().unwrap()).await.unwrap();
        assert_eq!(listed.len(), held.len());
        presence.retire(node.clone()).await.unwrap();
    }
}

/// After Redis was away, everybody's lease is over: they get the time to renew it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_swept_when_the_store_comes_back() {
    let (presence, _, redis, nats) = stores().await;
    let (back, _) = connect(&nats, &redis.url()).await;
    eventually("Redis is in reach", PATIENCE, async || back.gateways().await.ok()).await;
    let node: NodeId = "a".parse().unwrap();
    let came = vec![PresenceChange::Connected(connection(1))];
    presence.apply(node, came).await.unwrap();
    let brief = Lease { node: "b".parse().unwrap(), ttl: Duration::from_secs(3), ..lease() };
    redis.pause();
    assert_eq!(back.renew(brief.clone()).await, Err(StoreError::Unavailable));
    redis.resume();
    eventually("Redis is in reach", PATIENCE, async || back.renew(brief.clone()).await.ok()).await;
    assert_eq!(back.sweep().await, Ok(0));
    eventually("a lease later", PATIENCE, async || (back.sweep().await == Ok(1)).then_some(()))
        .await;
}

use std::{sync::Arc, time::Duration};

use broker_backends::{
    ClusterOptions, Histories, NatsOptions, RedisOptions, RosterOptions, cluster,
};
use broker_core::{
    NodeId, Timestamp,
    ports::{
        Attendance, ChannelNews, Lease, Member, MemberCount, MemberEvent, Presence, Roster, Tell,
    },
};
use broker_testkit::{
    NatsServer, RedisServer,
    contract::{PATIENCE, roster::GRACE},
    eventually,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

/// Of the gateways that come back.
const LEASE: Duration = Duration::from_secs(3);

struct Stores {
    presence: Arc<dyn Presence>,
    roster: Arc<dyn Roster>,
}

async fn connect(nats: &NatsServer, redis: &RedisServer) -> Stores {
    let node: NodeId = "gateway-1".parse().unwrap();
    let roster = RosterOptions { grace: GRACE, ..Default::default() };
    let options = ClusterOptions {
        nats: NatsOptions::new(vec![nats.url()], node),
        redis: RedisOptions { roster, ..RedisOptions::new(redis.url()) },
        histories: Histories::new(),
        queue: None,
    };
    let backends = cluster(options).await.unwrap();
    let presence = &backends.presence;
    eventually("Redis is in reach", PATIENCE, async || presence.gateways().await.ok()).await;
    Stores { presence: backends.presence, roster: backends.roster }
}

async fn servers() -> (NatsServer, RedisServer) {
    (NatsServer::start().await, RedisServer::start().await)
}

mod roster {
    broker_testkit::roster_contract!(async {
        let (nats, redis) = super::servers().await;
        let super::Stores { presence, roster } = super::connect(&nats, &redis).await;
        (presence, roster, (nats, redis))
    });
}

fn node() -> NodeId {
    "a".parse().unwrap()
}

async fn renew(presence: &dyn Presence, at: &str, ttl: Duration) -> Option<bool> {
    let lease = Lease {
        node: at.parse().unwrap(),
        ttl,
        started: Timestamp(1),
        version: String::new(),
        connections: 0,
        channels: 0,
        subscriptions: 0,
        bus_ok: true,
    };
    presence.renew(lease).await.ok()
}

fn ann_is_there() -> Vec<ChannelNews> {
    let member = Member::User("ann".parse().unwrap());
    vec![ChannelNews {
        channel: "venue:1".parse().unwrap(),
        members: vec![Attendance { member, connections: 1, since: Timestamp(1) }],
        deserted: false,
    }]
}

/// Tidies, and says who left.
async fn tidy(roster: &dyn Roster) -> Vec<MemberEvent> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&told);
    let tell: Box<Tell> = Box::new(move |events: Vec<MemberEvent>| {
        collected.lock().extend(events);
        Box::pin(async {})
    });
    roster.tidy(&*tell).await.unwrap();
    std::mem::take(&mut *told.lock())
}

/// One command, whatever comes of it.
async fn send(redis: &RedisServer, command: &str) {
    let address = redis.url().replace("redis://", "");
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await.unwrap();
    connection.read_to_end(&mut Vec::new()).await.unwrap();
}

async fn one_is_there(roster: &dyn Roster) -> Option<()> {
    let count = roster.count("venue:1".parse().unwrap()).await.ok()?;
    (count == MemberCount { users: 1, connections: 1 }).then_some(())
}

/// What a store forgot can be told anew, and it shows that it forgot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_forgot_is_known() {
    let (nats, mut redis) = servers().await;
    let Stores { presence, roster } = connect(&nats, &redis).await;
    assert_eq!(renew(&*presence, "a", Duration::from_secs(60)).await, Some(false));
    assert_eq!(renew(&*presence, "a", Duration::from_secs(60)).await, Some(true));
    let life = roster.life(node()).await.unwrap();
    assert_eq!(roster.life(node()).await, Ok(life));
    roster.note(node(), ann_is_there()).await.unwrap();
    redis.kill();
    assert!(roster.note(node(), ann_is_there()).await.is_err());
    redis.restart().await;
    eventually("Redis is back", Duration::from_secs(10), async || roster.life(node()).await.ok())
        .await;
    assert_ne!(roster.life(node()).await, Ok(life));
    assert_eq!(renew(&*presence, "a", Duration::from_secs(60)).await, Some(false));
    roster.note(node(), ann_is_there()).await.unwrap();
    assert_eq!(one_is_there(&*roster).await, Some(()));
}

/// After Redis was away, everybody's lease is over, and nobody leaves for that: until the time of a
/// lease has passed. Whoever only lost the connection for a moment may not have noticed more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_leaves_when_the_connection_to_the_store_comes_back() {
    let break_it = async |redis: &RedisServer, _: &dyn Presence| {
        send(redis, "CLIENT KILL TYPE normal SKIPME yes").await;
    };
    a_lease_later_she_leaves(break_it).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_leaves_when_the_store_wakes_up() {
    let hang = async |redis: &RedisServer, there: &dyn Presence| {
        redis.pause();
        assert_eq!(renew(there, "b", LEASE).await, None);
        redis.resume();
    };
    a_lease_later_she_leaves(hang).await;
}

async fn a_lease_later_she_leaves(fault: impl AsyncFnOnce(&RedisServer, &dyn Presence)) {
    let (nats, redis) = servers().await;
    let gone = connect(&nats, &redis).await;
    let there = connect(&nats, &redis).await;
    renew(&*there.presence, "b", LEASE).await.unwrap();
    gone.roster.note(node(), ann_is_there()).await.unwrap();
    fault(&redis, &*there.presence).await;
    let again = async || renew(&*there.presence, "b", LEASE).await;
    eventually("Redis is in reach", PATIENCE, again).await;
    let calm = Instant::now() + LEASE * 2 / 3;
    eventually("some time passes", PATIENCE, async || {
        assert_eq!(tidy(&*there.roster).await, []);
        (Instant::now() >= calm).then_some(())
    })
    .await;
    assert_eq!(one_is_there(&*there.roster).await, Some(()));
    let left = async || (!tidy(&*there.roster).await.is_empty()).then_some(());
    eventually("a lease later she leaves", PATIENCE, left).await;
}

/// A gateway that lost its lease for a while comes back, tells anew what it holds, and finds all
/// of it listed: whoever sweeps up after it either is done before, or makes it wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_wakes_up_is_not_swept() {
    const MANY: u64 = 3_000;
    let (nats, redis) = servers().await;
    let gateway = connect(&nats, &redis).await;
    let sweeper = connect(&nats, &redis).await;
    let news = |numbers: std::ops::Range<u64>| {
        let attendance = |number| Attendance {
            member: Member::User(format!("user-{number}").parse().unwrap()),
            connections: 1,
            since: Timestamp(1),
        };
        vec![ChannelNews {
            channel: "venue:1".parse().unwrap(),
            members: numbers.map(attendance).collect(),
            deserted: false,
        }]
    };
    for _ in 0..5 {
        gateway.roster.note(node(), news(0..MANY)).await.unwrap();
        let other = Arc::clone(&sweeper.roster);
        let sweep = tokio::spawn(async move { tidy(&*other).await });
        renew(&*gateway.presence, "a", Duration::from_secs(60)).await.unwrap();
        eventually("it may tell anew", PATIENCE, async || gateway.roster.life(node()).await.ok())
            .await;
        gateway.roster.note(node(), news(0..MANY)).await.unwrap();
        sweep.await.unwrap();
        let count = gateway.roster.count("venue:1".parse().unwrap()).await.unwrap();
        assert_eq!(count, MemberCount { users: MANY, connections: MANY });
        gateway.presence.retire(node()).await.unwrap();
    }
}

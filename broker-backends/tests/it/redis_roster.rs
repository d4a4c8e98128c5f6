use std::{sync::Arc, time::Duration};

use broker_backends::{
    ClusterOptions, Histories, NatsOptions, RedisOptions, RosterOptions, cluster,
};
use broker_core::{
    NodeId, Timestamp,
    ports::{
        Attendance, ChannelNews, Lease, Member, MemberCount, MemberEvent, MemberEventKind,
        Presence, Roster, StoreError,
    },
};
use broker_testkit::{
    NatsServer, RedisServer,
    contract::{
        PATIENCE,
        roster::{GRACE, Told},
    },
    eventually,
};
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
        users: 0,
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

async fn note(roster: &dyn Roster, news: Vec<ChannelNews>) -> Result<(), StoreError> {
    roster.note(node(), news, &Told::default().tell()).await
}

/// Tidies, and says who left.
async fn tidy(roster: &dyn Roster) -> Vec<MemberEvent> {
    let told = Told::default();
    roster.tidy(&told.tell()).await.unwrap();
    told.take()
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
    note(&*roster, ann_is_there()).await.unwrap();
    redis.kill();
    assert!(note(&*roster, ann_is_there()).await.is_err());
    redis.restart().await;
    eventually("Redis is back", Duration::from_secs(10), async || roster.life(node()).await.ok())
        .await;
    assert_ne!(roster.life(node()).await, Ok(life));
    assert_eq!(renew(&*presence, "a", Duration::from_secs(60)).await, Some(false));
    note(&*roster, ann_is_there()).await.unwrap();
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
    note(&*gone.roster, ann_is_there()).await.unwrap();
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
        note(&*gateway.roster, news(0..MANY)).await.unwrap();
        let other = Arc::clone(&sweeper.roster);
        let sweep = tokio::spawn(async move { tidy(&*other).await });
        renew(&*gateway.presence, "a", Duration::from_secs(60)).await.unwrap();
        eventually("it may tell anew", PATIENCE, async || gateway.roster.life(node()).await.ok())
            .await;
        note(&*gateway.roster, news(0..MANY)).await.unwrap();
        sweep.await.unwrap();
        let count = gateway.roster.count("venue:1".parse().unwrap()).await.unwrap();
        assert_eq!(count, MemberCount { users: MANY, connections: MANY });
        gateway.presence.retire(node()).await.unwrap();
    }
}

fn news(channel: &str, connections: u32) -> ChannelNews {
    let member = Member::User("ann".parse().unwrap());
    ChannelNews {
        channel: channel.parse().unwrap(),
        members: vec![Attendance { member, connections, since: Timestamp(1) }],
        deserted: connections == 0,
    }
}

fn channels(events: &[MemberEvent]) -> Vec<&str> {
    events.iter().map(|it| it.channel.as_str()).collect()
}

const BROKEN: &str = "fanfare:ch:{venue%3A1}";

/// Where one channel cannot be written, those who join and leave others are told all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_fails_keeps_nobody_from_hearing_of_others() {
    let (nats, redis) = servers().await;
    let Stores { presence, roster } = connect(&nats, &redis).await;
    renew(&*presence, "a", Duration::from_secs(60)).await.unwrap();
    let told = Told::default();
    let both = |connections| vec![news("venue:1", connections), news("venue:2", connections)];
    let note = async |connections| roster.note(node(), both(connections), &told.tell()).await;
    send(&redis, &format!("SET {BROKEN} x")).await;
    assert!(note(1).await.is_err());
    assert_eq!(channels(&told.take()), ["venue:2"]);
    send(&redis, &format!("DEL {BROKEN}")).await;
    note(1).await.unwrap();
    assert_eq!(channels(&told.take()), ["venue:1"]);
    note(0).await.unwrap();
    send(&redis, &format!("SET {BROKEN} x")).await;
    let left = async |result: bool| {
        eventually("somebody leaves", PATIENCE, async || {
            let done = roster.tidy(&told.tell()).await;
            let left = told.take();
            assert!(done.is_ok() || !result, "{done:?}");
            (!left.is_empty()).then_some(left)
        })
        .await
    };
    assert_eq!(channels(&left(false).await), ["venue:2"]);
    // She was there when her grace began; that she is not any more is told.
    send(&redis, &format!("DEL {BROKEN}")).await;
    let late = left(true).await;
    assert_eq!(channels(&late), ["venue:1"]);
    let MemberEventKind::Left(at) = late[0].kind else { panic!("{late:?}") };
    assert!(at > Timestamp(1_700_000_000_000), "{at:?}");
    assert_eq!(tidy(&*roster).await, []);
}

/// Whom a gateway took back, and who left soon after, is still listed to leave when more time has
/// passed: then told to have left when they did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_listed_for_later_left_when_they_did() {
    let (nats, redis) = servers().await;
    let Stores { presence, roster } = connect(&nats, &redis).await;
    renew(&*presence, "a", Duration::from_secs(60)).await.unwrap();
    let left = async || {
        let left = async || Some(tidy(&*roster).await).filter(|left| !left.is_empty());
        eventually("she leaves", PATIENCE, left).await
    };
    for connections in [1, 0] {
        note(&*roster, vec![news("user:ann", connections)]).await.unwrap();
    }
    let before = left().await;
    assert_eq!(channels(&before), ["user:ann"]);
    send(&redis, r#"ZADD fanfare:leaving 9 "9 a\nuser:ann\nuann""#).await;
    assert_eq!(left().await, before);
}

//! What presence costs Redis: memory for each member of a channel, and the time to note, count,
//! list and sweep them; then the same for users who are online, each in a channel of their own.
//! It empties the database.
//!
//! `nats-server & redis-server --save '' &` and then
//! `cargo run --release -p broker-backends --example roster_cost -- nats://127.0.0.1:4222 127.0.0.1:6379`

#![expect(clippy::print_stdout, reason = "it is a program")]

use std::{error::Error, sync::Arc, time::Duration};

use broker_backends::{
    Backends, ClusterOptions, Histories, NatsOptions, RedisOptions, RosterOptions, cluster,
};
use broker_core::{
    ChannelName, NodeId, Timestamp,
    ports::{Attendance, ChannelNews, Lease, Member, MemberEvent, Presence, Roster, Tell},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const MEMBERS: usize = 100_000;
/// As the gateway does.
const BATCH: usize = 512;
const ROUNDS: u32 = 1_000;
const GATEWAYS: usize = 3;
const LEASE: Duration = Duration::from_secs(60);

struct Bench {
    presence: Arc<dyn Presence>,
    roster: Arc<dyn Roster>,
    redis: String,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [nats, redis] = arguments.as_slice() else {
        return Err("give the URL of a nats-server, and host and port of a redis-server".into());
    };
    let options = ClusterOptions {
        nats: NatsOptions::new(vec![nats.clone()], "gateway-0".parse()?),
        redis: RedisOptions {
            roster: RosterOptions::default(),
            ..RedisOptions::new(format!("redis://{redis}"))
        },
        histories: Histories::new(),
        queue: None,
    };
    let Backends { presence, roster, closer: _kept, .. } = cluster(options).await?;
    let bench = Bench { presence, roster, redis: redis.clone() };
    println!("one channel:");
    bench.measure(|_| "venue:42".to_owned()).await?;
    println!("a channel of their own each:");
    bench.measure(|number| format!("user:{}", user(number))).await
}

/// As long as a UUID.
fn user(number: usize) -> String {
    format!("{number:08}-1111-4222-8333-444444444444")
}

fn node(number: usize) -> Outcome<NodeId> {
    Ok(format!("fanfare-6d4cf56db6-{number:05}-0011aabb").parse()?)
}

impl Bench {
    async fn measure(&self, channel_of: impl Fn(usize) -> String) -> Outcome {
        ask(&self.redis, "FLUSHALL").await?;
        for gateway in 0..GATEWAYS {
            self.renew(gateway, LEASE).await?;
        }
        let before = self.memory().await?;
        let started = Instant::now();
        for gateway in 0..GATEWAYS {
            self.note(gateway, &channel_of).await?;
        }
        let noted = started.elapsed();
        let bytes = (self.memory().await? - before) / MEMBERS;
        println!("  {bytes} bytes of Redis for each of {MEMBERS} members");
        println!("  {noted:.1?} to note them, {:.0?} each", noted / MEMBERS as u32);
        let channel: ChannelName = channel_of(0).parse()?;
        self.time("to count", async || self.roster.count(channel.clone()).await).await?;
        for limit in [100, 1000] {
            let what = format!("for a page of {limit}");
            self.time(&what, async || self.roster.members(channel.clone(), None, limit).await)
                .await?;
        }
        self.sweep().await
    }

    async fn note(&self, gateway: usize, channel_of: &impl Fn(usize) -> String) -> Outcome {
        let numbers: Vec<usize> = (0..MEMBERS).filter(|it| it % GATEWAYS == gateway).collect();
        for part in numbers.chunks(BATCH) {
            let mut news: Vec<ChannelNews> = Vec::new();
            for number in part {
                let channel: ChannelName = channel_of(*number).parse()?;
                let member = Member::User(user(*number).parse()?);
                let since = Timestamp(1_785_000_000_000);
                let attendance = Attendance { member, connections: 1, since };
                match news.last_mut().filter(|last| last.channel == channel) {
                    Some(last) => last.members.push(attendance),
                    None => news.push(ChannelNews {
                        channel,
                        members: vec![attendance],
                        deserted: false,
                    }),
                }
            }
            self.roster.note(node(gateway)?, news, &|_| Box::pin(async {})).await?;
        }
        Ok(())
    }

    async fn time<T, E: Error + Send + Sync + 'static>(
        &self,
        what: &str,
        call: impl AsyncFn() -> Result<T, E>,
    ) -> Outcome {
        let started = Instant::now();
        for _ in 0..ROUNDS {
            call().await?;
        }
        println!("  {:.0?} {what}", started.elapsed() / ROUNDS);
        Ok(())
    }

    /// One gateway dies.
    async fn sweep(&self) -> Outcome {
        self.renew(0, Duration::from_millis(1)).await?;
        while self.presence.gateways().await?.len() == GATEWAYS {
            tokio::task::yield_now().await;
        }
        let tell: Box<Tell> = Box::new(|_: Vec<MemberEvent>| Box::pin(async {}));
        let started = Instant::now();
        self.roster.tidy(&*tell).await?;
        let dead = MEMBERS.div_ceil(GATEWAYS);
        println!("  {:.1?} to sweep the {dead} of a dead gateway", started.elapsed());
        Ok(())
    }

    async fn renew(&self, gateway: usize, ttl: Duration) -> Outcome {
        let lease = Lease {
            node: node(gateway)?,
            ttl,
            started: Timestamp(0),
            version: String::new(),
            connections: 0,
            users: 0,
            channels: 0,
            subscriptions: 0,
            bus_ok: true,
        };
        self.presence.renew(lease).await?;
        Ok(())
    }

    async fn memory(&self) -> Outcome<usize> {
        let info = ask(&self.redis, "INFO memory").await?;
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        Ok(line.ok_or("no used_memory")?.trim().parse()?)
    }
}

/// What Redis answers to one command.
async fn ask(redis: &str, command: &str) -> Outcome<String> {
    let mut connection = TcpStream::connect(redis).await?;
    connection.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}

//! What storing costs: publishes acknowledged by JetStream, through the bus and by a bare client of
//! async-nats that sends the same messages with the same window. Linux only.
//!
//! `nats-server -js &` and then
//! `cargo run --release -p broker-backends --example store_cost -- nats://127.0.0.1:4222`

#![expect(clippy::print_stdout, reason = "it is a program")]

use std::{error::Error, fs, sync::Arc, time::Duration};

use async_nats::{Client, HeaderMap};
use broker_backends::{Backends, ClusterOptions, NatsOptions, RedisOptions, Storage, cluster};
use broker_core::{
    Data, History, JsonText, Message, Timestamp,
    message::Publisher,
    ports::{Accepted, Bus},
};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Publishers, each with a channel of its own.
const LANES: usize = 1000;
const WINDOW: usize = 256;
const MESSAGES: usize = 200_000;
const ROUNDS: usize = 4;
/// What the kernel counts processor time in.
const TICKS_PER_SECOND: f64 = 100.0;

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (url, storage) = match arguments.as_slice() {
        [url] => (url, Storage::File),
        [url, memory] if memory == "memory" => (url, Storage::Memory),
        _ => return Err("give the URL of a nats-server, and `memory` to store there".into()),
    };
    let mut nats = NatsOptions::new(vec![url.clone()], "gateway-0".parse()?);
    nats.streams.storage = storage;
    let history = History { size: 100, ttl: Duration::from_secs(600) };
    let histories = [("store".parse()?, history)].into();
    // No Redis: nobody listens on port 1.
    let redis = RedisOptions::new("redis://127.0.0.1:1");
    let Backends { bus, closer: _kept, .. } =
        cluster(ClusterOptions { nats, redis, histories, queue: None }).await?;
    let client = async_nats::connect(url).await?;
    for round in 0..ROUNDS {
        let bare = measure("bare client", |n| bare(client.clone(), round * MESSAGES + n)).await?;
        let own =
            measure("through the bus", |n| own(Arc::clone(&bus), round * MESSAGES + n)).await?;
        println!("the bus stores {:.0} % of what the bare client does", 100.0 * own / bare);
    }
    Ok(())
}

/// Messages per second.
async fn measure<F: Future<Output = Outcome>>(
    what: &str,
    publish: impl Fn(usize) -> F,
) -> Outcome<f64> {
    let (start, before) = (Instant::now(), ticks()?);
    let mut outcomes = stream::iter(0..MESSAGES).map(publish).buffer_unordered(WINDOW);
    while let Some(outcome) = outcomes.next().await {
        outcome?;
    }
    let rate = MESSAGES as f64 / start.elapsed().as_secs_f64();
    let seconds = f64::from(ticks()? - before) / TICKS_PER_SECOND;
    let each = seconds * 1e6 / MESSAGES as f64;
    println!("{what}: {rate:.0} stored per second, {each:.1} µs of processor time each");
    Ok(rate)
}

async fn own(bus: Arc<dyn Bus>, number: usize) -> Outcome {
    let lane = number % LANES;
    let message = Message {
        id: format!("own-{number:028}").parse()?,
        channel: format!("store:{lane}").parse()?,
        event: None,
        data: Data::Json(JsonText::from_checked(body(number).into())),
        time: Timestamp(1_700_000_000_000),
        stored: None,
        options: None,
    };
    let publisher = Publisher::User(format!("user-{lane}").parse()?);
    let Accepted { position, .. } = bus.publish(message, publisher).await?;
    position.map(drop).ok_or_else(|| "not stored".into())
}

/// Publishes as the bus does, with the headers that it sends.
async fn bare(client: Client, number: usize) -> Outcome {
    let mut headers = HeaderMap::new();
    headers.insert("Fanfare-Id", format!("own-{number:028}"));
    headers.insert("Fanfare-Time", "1700000000000");
    headers.insert("Nats-Msg-Id", format!("{number:032x}"));
    let subject = format!("fanfare.ch.store.{}", number % LANES);
    let ack = client.request_with_headers(subject, headers, body(number).into()).await?;
    let ack: serde_json::Value = serde_json::from_slice(&ack.payload)?;
    if ack["seq"].as_u64() > Some(0) { Ok(()) } else { Err("not stored".into()) }
}

fn body(number: usize) -> String {
    format!(r#"{{"number":{number},"text":"{:064}"}}"#, 0)
}

fn ticks() -> Outcome<u32> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // After the name, which may hold anything: the 12th and 13th of what follows.
    let rest = stat.rsplit_once(") ").ok_or("no stat")?.1;
    let fields = rest.split(' ').skip(11).take(2).map(str::parse::<u32>);
    Ok(fields.sum::<Result<u32, _>>()?)
}

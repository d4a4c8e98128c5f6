//! What the NATS bus costs this process: memory for each subscribed channel, processor time for
//! each message that arrives. Linux only.
//!
//! `nats-server &` and then
//! `cargo run --release -p broker-backends --example bus_cost -- nats://127.0.0.1:4222`

#![expect(clippy::print_stdout, reason = "it is a program")]

use std::{error::Error, fs, process::Command, sync::atomic::Ordering, time::Duration};

use broker_backends::{
    Backends, BusEvents, ClusterOptions, Histories, NatsOptions, RedisOptions, cluster,
};
use broker_core::{Interest, ports::Bus};
use tokio::sync::mpsc;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const SUBSCRIPTIONS: usize = 50_000;
const SUBJECTS: usize = 1000;
const MESSAGES: usize = 1_000_000;
const ROUNDS: usize = 5;
/// What the kernel counts processor time in.
const TICKS_PER_SECOND: f64 = 100.0;

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [url] => measure(url).await,
        [url, publish] if publish == "publish" => flood(url).await,
        _ => Err("give the URL of a nats-server".into()),
    }
}

async fn measure(url: &str) -> Outcome {
    let mut nats = NatsOptions::new(vec![url.to_owned()], "gateway-0".parse()?);
    nats.workers = 2;
    // No Redis: nobody listens on port 1.
    let redis = RedisOptions::new("redis://127.0.0.1:1");
    let Backends { bus, events, stats, closer: _kept, .. } =
        cluster(ClusterOptions { nats, redis, histories: Histories::new(), queue: None }).await?;
    let (counts, mut arrived) = mpsc::channel(1024);
    for events in events {
        tokio::spawn(count(events, counts.clone()));
    }
    subscribe(&*bus, 0..SUBJECTS).await?;
    let before = resident()?;
    subscribe(&*bus, SUBJECTS..SUBJECTS + SUBSCRIPTIONS).await?;
    let grown = resident()?.saturating_sub(before);
    println!("{} bytes of resident memory per subscription", grown / SUBSCRIPTIONS);

    for _ in 0..ROUNDS {
        let before = ticks()?;
        let mut publisher =
            Command::new(std::env::current_exe()?).args([url, "publish"]).spawn()?;
        let mut missing = MESSAGES;
        while missing > 0 {
            match tokio::time::timeout(Duration::from_secs(2), arrived.recv()).await {
                Ok(Some(count)) => missing = missing.saturating_sub(count),
                Ok(None) | Err(_) => break,
            }
        }
        publisher.wait()?;
        let seconds = f64::from(ticks()? - before) / TICKS_PER_SECOND;
        let arrived = MESSAGES - missing;
        println!(
            "{arrived} messages in {seconds:.2} s of processor time: {:.2} µs each; dropped so far: {}",
            seconds * 1e6 / arrived as f64,
            stats.overruns.load(Ordering::Relaxed),
        );
    }
    Ok(())
}

async fn subscribe(bus: &dyn Bus, numbers: std::ops::Range<usize>) -> Outcome {
    let numbers: Vec<usize> = numbers.collect();
    for chunk in numbers.chunks(1000) {
        let mut calls = Vec::new();
        for number in chunk {
            calls.push(bus.subscribe(Interest::Channel(format!("user:{number}").parse()?)));
        }
        for call in calls {
            call.await?;
        }
    }
    Ok(())
}

async fn count(mut events: BusEvents, counts: mpsc::Sender<usize>) {
    let mut batch = Vec::new();
    while events.next_batch(&mut batch, 1024).await {
        if counts.send(batch.len()).await.is_err() {
            return;
        }
        batch.clear();
    }
}

/// Publishes as gateways do, with the headers that they send.
async fn flood(url: &str) -> Outcome {
    let client = async_nats::connect(url).await?;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Fanfare-Id", "0123456789abcdef0123456789abcdef");
    headers.insert("Fanfare-Time", "1700000000000");
    for number in 0..MESSAGES {
        let subject = format!("fanfare.ch.user.{}", number % SUBJECTS);
        let body = format!(r#"{{"number":{number},"text":"{:064}"}}"#, 0);
        client.publish_with_headers(subject, headers.clone(), body.into()).await?;
    }
    client.flush().await?;
    Ok(())
}

fn resident() -> Outcome<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? * 1024)
}

fn ticks() -> Outcome<u32> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // After the name, which may hold anything: the 12th and 13th of what follows.
    let rest = stat.rsplit_once(") ").ok_or("no stat")?.1;
    let fields = rest.split(' ').skip(11).take(2).map(str::parse::<u32>);
    Ok(fields.sum::<Result<u32, _>>()?)
}

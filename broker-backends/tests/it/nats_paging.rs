//! A log that is read page by page while its oldest messages leave it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use broker_backends::Histories;
use broker_core::{
    Data, History, Message, Offset,
    history::{From, Slice},
    ports::Log,
};
use broker_testkit::{
    NatsServer,
    contract::{
        PATIENCE,
        bus::{channel_name, message, service},
    },
    eventually,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

use crate::{
    nats::{connect_with, options},
    nats_history::jetstream,
};

/// More than two pages.
const SIZE: usize = 600;

/// Leads to a server, and holds the second question for messages until it may go on.
struct Gate {
    url: String,
    asked: Arc<AtomicUsize>,
    go_on: Arc<Semaphore>,
    _tasks: JoinSet<()>,
}

impl Gate {
    async fn to(server: &NatsServer) -> Self {
        let target = server.url().strip_prefix("nats://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let (asked, go_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (count, gate) = (Arc::clone(&asked), Arc::clone(&go_on));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut forwarding = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&target).await.unwrap();
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                forwarding.spawn(async move {
                    drop(copy(&mut from_server, &mut to_client).await);
                });
                let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
                forwarding.spawn(async move {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
                        let bytes = &buffer[..length];
                        let asks = bytes.windows(10).any(|window| window == b"DIRECT.GET");
                        if asks && count.fetch_add(1, Ordering::SeqCst) == 1 {
                            drop(gate.acquire().await);
                        }
                        if to_server.write_all(bytes).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, asked, go_on, _tasks: tasks }
    }
}

fn long(size: usize) -> Histories {
    let ttl = Duration::from_secs(600);
    [("long".parse().unwrap(), History { size, ttl })].into()
}

async fn read(log: Arc<dyn Log>, until: usize) -> Vec<Message> {
    let until = Offset(u64::try_from(until).unwrap());
    let slice = Slice { from: From::Offset(Offset(0)), until, messages: 10_000 };
    log.read(channel_name("long:1"), slice).await.unwrap()
}

fn offsets(read: &[Message]) -> Vec<usize> {
    let offsets = read.iter().map(|it| it.stored.unwrap().offset.0);
    offsets.map(|offset| usize::try_from(offset).unwrap()).collect()
}

/// What was read before the hole has left the log, too: it is not part of the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_has_no_hole_though_messages_leave_the_log_meanwhile() {
    let server = jetstream().await;
    let gate = Gate::to(&server).await;
    let mut options = options(&server, "gateway-0");
    options.urls = vec![gate.url.clone()];
    options.deadline = PATIENCE;
    let gateway = connect_with(options, long(SIZE)).await.unwrap();
    let service = async_nats::connect(server.url()).await.unwrap();
    let publish = async |count: usize| {
        for _ in 1..count {
            service.publish("fanfare.ch.long.1", "1".into()).await.unwrap();
        }
        service.request("fanfare.ch.long.1", "1".into()).await.unwrap();
    };
    publish(SIZE + 1).await;
    let log: Arc<dyn Log> = Arc::clone(&gateway.log) as _;
    let reading = tokio::spawn(read(log, SIZE + 1));
    eventually("the second page is asked for", PATIENCE, async || {
        (gate.asked.load(Ordering::SeqCst) > 1).then_some(())
    })
    .await;
    publish(400).await;
    gate.go_on.add_permits(1);
    let read = reading.await.unwrap();
    assert_eq!(offsets(&read), (401..=SIZE + 401).collect::<Vec<_>>());
    assert_eq!(read[0].stored.unwrap().previous, None);
}

/// An answer has room for one or two of these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_fill_an_answer_are_read_one_after_the_other() {
    let server = jetstream().await;
    let gateway = connect_with(options(&server, "gateway-0"), long(SIZE)).await.unwrap();
    for (n, bytes) in
        [1_040_000, 1_000, 1_040_000, 1_040_000, 600_000, 1_040_000].iter().enumerate()
    {
        let data = Data::Binary(vec![0; *bytes].into());
        let large = Message { data, ..message("long:1", &format!("m{n}"), "1") };
        gateway.bus.publish(large, service()).await.unwrap();
    }
    let log: Arc<dyn Log> = Arc::clone(&gateway.log) as _;
    assert_eq!(offsets(&read(log, 6).await), [1, 2, 3, 4, 5, 6]);
}

use broker_backends::EmbeddedOptions;
use std::time::Duration;

use broker_core::{
    CloseCode, ConnectionId, Data, MessageId, Timestamp,
    message::{Exclude, JsonText, Options},
    ports::ConnectionInfo,
};

use broker_protocol::ws::{Decoder, Incoming, Role};

use super::*;
use crate::{dialect::Encoding, socket::FakeSocket};

const LIMIT: usize = 1024;

async fn fanout() -> Fanout {
    let backends = broker_backends::embedded(&EmbeddedOptions::default()).await;
    Fanout {
        hub: Arc::new(Hub::new(backends.bus, Duration::ZERO)),
        metrics: Arc::new(Metrics::new(["venue".to_owned()]).unwrap()),
        tracing: Arc::new(Tracing::disabled()),
        compression: Some(deflate::Policy { min_bytes: 256, level: 6 }),
        tells_all: true,
    }
}

struct Client {
    socket: FakeSocket,
    outbox: Arc<Outbox>,
}

impl Client {
    fn new(fanout: &Fanout, id: u128, interests: &[&str]) -> Self {
        let socket = FakeSocket::wide();
        Self::on(socket, fanout, id, interests)
    }

    fn on(socket: FakeSocket, fanout: &Fanout, id: u128, interests: &[&str]) -> Self {
        let outbox = Outbox::new(ConnectionId(id), Box::new(socket.clone()), LIMIT);
        Self::with(outbox, socket, fanout, interests)
    }

    /// One that has negotiated compression.
    fn compressed(fanout: &Fanout, id: u128, interests: &[&str]) -> Self {
        let socket = FakeSocket::wide();
        let outbox = Outbox::new(ConnectionId(id), Box::new(socket.clone()), LIMIT);
        Self::with(outbox.with_encoding(Encoding::Deflated), socket, fanout, interests)
    }

    fn with(outbox: Outbox, socket: FakeSocket, fanout: &Fanout, interests: &[&str]) -> Self {
        let outbox = Arc::new(outbox);
        fanout.hub.add(&outbox);
        for name in interests {
            fanout.hub.deliver(interest(name), Arc::clone(&outbox));
        }
        Self { socket, outbox }
    }

    /// How often it got this.
    fn got(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.socket.taken()).matches(text).count()
    }
}

fn interest(name: &str) -> Interest {
    match name.parse() {
        Ok(channel) => Interest::Channel(channel),
        Err(_) => Interest::Pattern(name.parse().unwrap()),
    }
}

fn message(channel: &str, data: &str, options: Option<Options>) -> Message {
    Message {
        id: MessageId::random(1),
        channel: channel.parse().unwrap(),
        event: None,
        data: Data::Json(JsonText::from_checked(Bytes::from(format!("\"{data}\"")))),
        time: Timestamp(clock::wall().0),
        stored: None,
        options: options.map(Box::new),
    }
}

fn by(via: &str, message: Message) -> Inbound {
    Inbound { event: BusEvent::Message { via: interest(via), message }, handled: None }
}

fn plain(channel: &str, data: &str) -> Inbound {
    by(channel, message(channel, data, None))
}

/// The messages in a stream of frames, whether compressed or not.
fn read(stream: &[u8]) -> Vec<String> {
    let mut decoder = Decoder::new(Role::Client, 4096).with_deflate(true);
    let mut stream = stream.to_vec();
    let mut input = &mut stream[..];
    let mut texts = Vec::new();
    while let Some(Incoming::Text(text)) = decoder.next(&mut input).unwrap() {
        texts.push(text.to_owned());
    }
    texts
}

fn deliver(fanout: &Fanout, batch: &[Inbound]) -> u64 {
    let mut touched = Touched::default();
    let count = fanout.deliver(batch, &mut touched);
    assert!(touched.outboxes.is_empty() && touched.delivered.is_empty());
    count
}

#[tokio::test(start_paused = true)]
async fn messages_come_in_order_to_all_who_want_them() {
    let fanout = fanout().await;
    let (one, both) =
        (Client::new(&fanout, 1, &["venue:1"]), Client::new(&fanout, 2, &["venue:1", "venue:2"]));
    let batch = [plain("venue:1", "a"), plain("venue:1", "b"), plain("venue:2", "c")];
    assert_eq!(deliver(&fanout, &batch), 5);
    let text = String::from_utf8_lossy(&one.socket.taken()).into_owned();
    assert!(text.find("\"a\"").unwrap() < text.find("\"b\"").unwrap());
    assert_eq!(both.got("\"type\":\"message\""), 3);
    assert_eq!(deliver(&fanout, &[plain("venue:2", "alone")]), 1);
    assert_eq!(both.got("alone"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_burst_over_several_channels_does_not_close_a_client_that_reads() {
    let fanout = fanout().await;
    let client = Client::new(&fanout, 1, &["venue:1", "venue:2"]);
    let burst: Vec<_> =
        (0..100).map(|n| plain(if n % 2 == 0 { "venue:1" } else { "venue:2" }, "x")).collect();
    assert_eq!(deliver(&fanout, &burst), 100);
    assert_eq!(client.got("\"x\""), 100);
    assert_eq!(client.outbox.take_notices().close, None);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_closed_and_the_others_do_not_notice() {
    let fanout = fanout().await;
    let slow = Client::on(FakeSocket::default(), &fanout, 1, &["venue:1"]);
    let fast = Client::new(&fanout, 2, &["venue:1"]);
    for _ in 0..20 {
        deliver(&fanout, &[plain("venue:1", &"x".repeat(200))]);
    }
    assert_eq!(fast.got("\"type\":\"message\""), 20);
    assert_eq!(slow.outbox.take_notices().close, Some(CloseCode::Slow));
    assert_eq!(slow.outbox.queued_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_batch_cannot_make_a_slow_reader_hold_more_than_its_limit_and_a_block() {
    let fanout = fanout().await;
    let slow = Client::on(FakeSocket::default(), &fanout, 1, &["venue:1"]);
    let batch: Vec<_> = (0..100).map(|_| plain("venue:1", &"x".repeat(10_000))).collect();
    deliver(&fanout, &batch);
    assert_eq!(slow.outbox.take_notices().close, Some(CloseCode::Slow));
    assert_eq!(slow.outbox.queued_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_expired_or_excluded_is_not_delivered() {
    let fanout = fanout().await;
    let (sender, other) =
        (Client::new(&fanout, 1, &["venue:1"]), Client::new(&fanout, 2, &["venue:1"]));
    let expired = Options { expires: Some(Timestamp(1)), ..Options::default() };
    let exclude = Exclude { connections: vec![ConnectionId(1)], users: Vec::new() };
    let excluding = Options { exclude, ..Options::default() };
    let batch = [
        by("venue:1", message("venue:1", "late", Some(expired))),
        by("venue:1", message("venue:1", "for others", Some(excluding))),
    ];
    assert_eq!(deliver(&fanout, &batch), 1);
    assert_eq!((sender.socket.taken().len(), other.got("for others")), (0, 1));
}

/// A copy of a message to `venue:1` and `venue:2`, in this order.
fn copy(via: &str, channel: &str) -> Inbound {
    let targets: Arc<[_]> = ["venue:1", "venue:2"].map(|name| name.parse().unwrap()).into();
    let options = Options { targets: Some(targets), ..Options::default() };
    by(via, message(channel, "both", Some(options)))
}

#[tokio::test(start_paused = true)]
async fn a_message_to_several_channels_comes_once_on_the_first_of_them() {
    let fanout = fanout().await;
    let (first, both, wild) = (
        Client::new(&fanout, 1, &["venue:1"]),
        Client::new(&fanout, 2, &["venue:1", "venue:2"]),
        Client::new(&fanout, 3, &["venue:*"]),
    );
    time::advance(SETTLED * 2).await;
    let batch = [
        copy("venue:2", "venue:2"),
        copy("venue:*", "venue:2"),
        copy("venue:1", "venue:1"),
        copy("venue:*", "venue:1"),
    ];
    let mut touched = Touched::default();
    fanout.deliver(&batch, &mut touched);
    assert!(touched.late.is_empty());
    for client in [first, both, wild] {
        let text = String::from_utf8_lossy(&client.socket.taken()).into_owned();
        assert_eq!((text.matches("both").count(), text.matches("venue:1").count()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_just_subscribed_gets_the_first_copy_or_else_the_next() {
    let fanout = fanout().await;
    let in_time = Client::new(&fanout, 1, &["venue:1", "venue:2"]);
    let mut touched = Touched::default();
    fanout.deliver(&[copy("venue:2", "venue:2"), copy("venue:1", "venue:1")], &mut touched);
    assert_eq!(in_time.got("venue:1"), 1);

    let too_late = Client::new(&fanout, 2, &["venue:1", "venue:2"]);
    fanout.deliver(&[copy("venue:2", "venue:2")], &mut touched);
    fanout.deliver_late(&mut touched, Some(Instant::now()));
    assert_eq!(too_late.socket.taken().len(), 0, "the first copy may still come");
    time::advance(SETTLED).await;
    fanout.deliver_late(&mut touched, Some(Instant::now()));
    assert_eq!(too_late.got("venue:2"), 1);
    assert_eq!(in_time.socket.taken().len(), 0);
    assert!(touched.late.is_empty());

    let gone = Client::new(&fanout, 3, &["venue:1", "venue:2"]);
    fanout.deliver(&[copy("venue:2", "venue:2")], &mut touched);
    fanout.hub.leave(&interest("venue:2"), ConnectionId(3));
    time::advance(SETTLED).await;
    fanout.deliver_late(&mut touched, Some(Instant::now()));
    assert_eq!(gone.socket.taken().len(), 0, "it is subscribed no longer");
}

#[tokio::test(start_paused = true)]
async fn what_two_interests_bring_comes_once_and_in_order() {
    let fanout = fanout().await;
    let client = Client::new(&fanout, 1, &["venue:1", "venue:*"]);
    client.outbox.watch_overlap();
    for via in ["venue:*", "venue:1"] {
        let batch: Vec<_> =
            ["a", "b", "a"].map(|data| by(via, message("venue:1", data, None))).into();
        deliver(&fanout, &batch);
    }
    let text = String::from_utf8_lossy(&client.socket.taken()).into_owned();
    assert_eq!((text.matches("\"a\"").count(), text.matches("\"b\"").count()), (2, 1));
}

/// Has said hello.
fn open(client: &Client) {
    client.outbox.set_info(Arc::new(ConnectionInfo {
        connection: client.outbox.id(),
        user: None,
        node: "a".parse().unwrap(),
        transport: "websocket".into(),
        connected_at: Timestamp(0),
        user_agent: None,
    }));
}

fn gap_everywhere(reason: GapReason) -> Inbound {
    Inbound { event: BusEvent::Gap { interest: None, reason }, handled: None }
}

#[tokio::test(start_paused = true)]
async fn a_gap_everywhere_is_told_to_all_who_are_connected() {
    let fanout = fanout().await;
    let (connected, opening) = (Client::new(&fanout, 1, &[]), Client::new(&fanout, 2, &[]));
    open(&connected);
    deliver(&fanout, &[gap_everywhere(GapReason::Reconnected)]);
    assert_eq!((connected.got("\"type\":\"gap\""), opening.socket.taken().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_happened_to_one_worker_is_told_by_it() {
    let fanout = Fanout { tells_all: false, ..fanout().await };
    let client = Client::new(&fanout, 1, &[]);
    open(&client);
    let reasons = [GapReason::Reconnected, GapReason::Overrun];
    deliver(&fanout, &reasons.map(gap_everywhere));
    let text = String::from_utf8_lossy(&client.socket.taken()).into_owned();
    assert_eq!((text.matches("\"gap\"").count(), text.matches("bus_overrun").count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn gaps_are_logged_once_in_a_while() {
    let mut log = GapLog::default();
    let noted = [0; 3].map(|_| log.note(Instant::now()));
    assert_eq!(noted, [Some(0), None, None]);
    time::advance(LOG_GAPS).await;
    assert_eq!(log.note(Instant::now()), Some(2));
}

#[tokio::test(start_paused = true)]
async fn those_who_read_compressed_get_the_same_and_it_is_compressed_once() {
    let fanout = fanout().await;
    let uncompressed = Client::new(&fanout, 1, &["venue:1", "venue:2"]);
    let compressed: Vec<_> =
        (2..5).map(|id| Client::compressed(&fanout, id, &["venue:1", "venue:2"])).collect();
    compressed[2].outbox.watch_overlap();
    time::advance(SETTLED * 2).await;
    let (short, long) = ("short", "long ".repeat(50));
    let excluding = Options {
        exclude: Exclude { connections: vec![ConnectionId(9)], users: Vec::new() },
        ..Options::default()
    };
    let batch = [
        plain("venue:1", short),
        plain("venue:1", &long),
        by("venue:1", message("venue:1", &long, Some(excluding))),
        copy("venue:1", "venue:1"),
    ];
    assert_eq!(deliver(&fanout, &batch), 4 * 4);
    let expected = read(&uncompressed.socket.taken());
    assert_eq!(expected.len(), 4);
    let raw: Vec<_> = compressed.iter().map(|client| client.socket.taken()).collect();
    for raw in &raw {
        assert_eq!(read(raw), expected);
        assert!(raw.len() < long.len() * 2, "{}", raw.len());
    }
    // The copies for who has overlapping interests are blocks of their own.
    assert_eq!(fanout.metrics.compression.messages.get(), 2 + 1);
}

mod framed;
mod stored;
mod traced;

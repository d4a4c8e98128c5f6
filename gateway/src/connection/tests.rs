mod envelopes;

use std::{future::poll_fn, mem, time::Duration};

use broker_backends::EmbeddedOptions;
use broker_core::{
    Interest, Message, NodeMark,
    access::{NamespaceRules, Namespaces, Rule},
    message::{Data, Publisher},
    ports::{Accepted, BoxFuture, BusError, PublishError, RequestError, ServiceRequest},
    session::Limits,
};
use futures_util::FutureExt as _;
use tokio::{
    sync::oneshot,
    task::{self, JoinHandle},
    time,
};

use super::*;
use crate::{
    asks::Asks, config::Config, directory, keeper::Keeper, outbox::Outbox, socket::FakeSocket,
    wheel,
};

const PING: Duration = Duration::from_secs(25);
const PONG: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(300);

/// The embedded bus, with services that take their time.
#[derive(Debug)]
struct SlowServices(Arc<dyn Bus>);

impl Bus for SlowServices {
    fn publish(
        &self,
        message: Message,
        publisher: Publisher,
    ) -> BoxFuture<'static, Result<Accepted, PublishError>> {
        self.0.publish(message, publisher)
    }

    fn subscribe(&self, interest: Interest) -> BoxFuture<'static, Result<(), BusError>> {
        self.0.subscribe(interest)
    }

    fn unsubscribe(&self, interest: &Interest) {
        self.0.unsubscribe(interest);
    }

    fn request(&self, _: ServiceRequest) -> BoxFuture<'static, Result<Data, RequestError>> {
        time::sleep(CALL).map(|()| Err(RequestError::Timeout)).boxed()
    }

    fn ask_gateways(
        &self,
        question: Bytes,
        expected: usize,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, BusError>> {
        self.0.ask_gateways(question, expected, wait)
    }

    fn ask_gateway(
        &self,
        node: NodeMark,
        question: Bytes,
        wait: Duration,
    ) -> BoxFuture<'static, Result<Option<Bytes>, BusError>> {
        self.0.ask_gateway(node, question, wait)
    }

    fn is_connected(&self) -> bool {
        true
    }
}

async fn deps() -> Arc<Deps> {
    let backends = broker_backends::embedded(&EmbeddedOptions::default()).await;
    let bus: Arc<dyn Bus> = Arc::new(SlowServices(backends.bus));
    let hub = Arc::new(Hub::new(Arc::clone(&bus), Duration::ZERO));
    let metrics = Arc::new(Metrics::new([]).unwrap());
    let (directory, _) = directory::start(
        backends.presence,
        Arc::clone(&hub),
        Arc::default(),
        Arc::clone(&metrics),
        "a".parse().unwrap(),
    );
    let authenticator = {
        let (sessions, metrics) = (Arc::clone(&backends.sessions), Arc::clone(&metrics));
        Authenticator::new(&Config::dev().auth, sessions, metrics, None).unwrap()
    };
    let keeper = Keeper::new(
        backends.sessions,
        Arc::clone(&bus),
        Arc::clone(&hub),
        Arc::clone(&metrics),
        Duration::from_secs(120),
    );
    let everyone = Rule(vec!["anyone".parse().unwrap()]);
    let open = NamespaceRules {
        subscribe: everyone.clone(),
        request: everyone,
        ..NamespaceRules::default()
    };
    Arc::new(Deps {
        rules: Arc::new(Rules {
            namespaces: Namespaces { fallback: Some(open), ..Namespaces::default() },
            limits: Limits {
                subscriptions: 10,
                message_bytes: 1024,
                in_flight: 1,
                connect_timeout: Duration::from_secs(10),
                ping_interval: PING,
                pong_timeout: PONG,
                expiry_warning: Duration::from_secs(30),
                request_timeout: CALL,
            },
            anonymous: true,
        }),
        hub,
        asks: Arc::new(Asks::new(Arc::clone(&metrics))),
        services: Arc::new(Services::new(Arc::clone(&bus))),
        bus,
        authenticator,
        wheel: Arc::new(Wheel::new()),
        directory,
        roster: backends.roster,
        keeper: Arc::new(keeper),
        metrics,
        tracing: Arc::new(Tracing::disabled()),
        wire: WireLimits {
            queue_bytes: 64 * 1024,
            frame_bytes_before_connect: 1024,
            frame_bytes: 4096,
            control_frames_per_second: 50,
            compression: None,
        },
        acknowledgements: None,
        latest: Latest::default(),
    })
}

/// A client that is connected.
async fn connect(deps: &Arc<Deps>) -> (FakeSocket, JoinHandle<()>) {
    let socket = FakeSocket::wide();
    let mut connection =
        Connection::new(Arc::clone(deps), Box::new(socket.clone()), Client::default(), false);
    connection.start(None, Bytes::new());
    let task = tokio::spawn(connection);
    ask(&socket, r#"{"type":"connect","id":1}"#, "connected").await;
    (socket, task)
}

fn frame(opcode: u8, payload: &str) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
    frame.extend_from_slice(payload.as_bytes());
    frame
}

async fn ask(socket: &FakeSocket, command: &str, expected: &str) {
    socket.feed(&frame(1, command));
    let answer = written(socket).await;
    assert!(answer.contains(&format!(r#""type":"{expected}""#)), "{answer}");
}

/// What the client was sent lately.
async fn written(socket: &FakeSocket) -> String {
    for _ in 0..20 {
        task::yield_now().await;
    }
    String::from_utf8_lossy(&socket.taken()).into_owned()
}

fn only_outbox(deps: &Deps) -> Arc<Outbox> {
    let mut found = None;
    deps.hub.for_each_connection(|outbox| found = Some(Arc::clone(outbox)));
    found.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_pong_that_lies_unread_is_read_before_the_client_is_given_up() {
    let deps = deps().await;
    let (socket, task) = connect(&deps).await;
    let outbox = only_outbox(&deps);
    // The wheel stands still: the test says when something is due.
    time::advance(PING + wheel::TICK * 2).await;
    outbox.tell(|notices| notices.due = true);
    task::yield_now().await;
    assert_eq!(socket.taken(), ws::frame::ping_frame(b""));
    time::advance(PONG + wheel::TICK * 2).await;
    outbox.tell(|notices| notices.due = true);
    socket.feed(&frame(10, ""));
    assert_eq!(written(&socket).await, "");
    assert!(!task.is_finished());
}

#[tokio::test]
async fn what_is_said_later_takes_up_room() {
    let (deps, socket) = (deps().await, Box::new(FakeSocket::wide()));
    let dialect = Dialect::Native { compressed: false };
    let (id, client) = (ConnectionId(1), Client::default());
    let mut conversation = Conversation::new(deps, id, socket, client, dialect);
    assert!(conversation.has_room());
    let (told, later) = oneshot::channel();
    conversation.say_later(later.map(Result::unwrap_or_default).boxed());
    assert!(!conversation.has_room(), "one command may be under way");
    told.send(Bytes::from_static(b"this")).unwrap();
    let step = poll_fn(|cx| conversation.poll_event(cx)).await;
    conversation.take_step(step);
    assert!(conversation.has_room());
}

#[tokio::test(start_paused = true)]
async fn while_nothing_is_read_silence_means_nothing() {
    let deps = deps().await;
    let wheel = Arc::clone(&deps.wheel);
    tokio::spawn(async move { wheel.turn().await });
    let (socket, task) = connect(&deps).await;
    socket.feed(&frame(1, r#"{"type":"request","id":2,"service":"rpc:slow","data":null}"#));
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(written(&socket).await, "", "under way");
    socket.feed(&frame(1, r#"{"type":"ping","id":3}"#));
    time::sleep(CALL - Duration::from_secs(2)).await;
    assert!(!task.is_finished());
    time::sleep(Duration::from_secs(2)).await;
    assert!(written(&socket).await.contains(r#""type":"pong""#));
    time::sleep(PING + PONG * 2).await;
    assert!(written(&socket).await.contains("no answer to ping"), "now it is silent");
}

#[tokio::test(start_paused = true)]
async fn a_connection_gives_back_all_that_it_held() {
    let deps = deps().await;
    let (socket, task) = connect(&deps).await;
    ask(&socket, r#"{"type":"subscribe","id":2,"channel":"venue:1"}"#, "subscribed").await;
    assert_eq!((deps.hub.connection_count(), deps.hub.subscriptions().len()), (1, 1));
    assert_eq!(deps.metrics.connections.get(), 1);
    socket.leave();
    task.await.unwrap();
    assert_eq!((deps.hub.connection_count(), deps.hub.subscriptions().len()), (0, 0));
    assert_eq!(deps.metrics.connections.get(), 0);
    let hub = Arc::clone(&deps.hub);
    tokio::spawn(async move { hub.tidy().await });
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(deps.hub.interest_count(), 0, "each join was paired with a leave");
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_task_broke_off_is_not_kept() {
    let deps = deps().await;
    let socket = FakeSocket::default();
    drop(Connection::new(Arc::clone(&deps), Box::new(socket), Client::default(), false));
    assert_eq!((deps.hub.connection_count(), deps.metrics.connections.get()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_who_comes_too_late_for_a_drain_turns_away() {
    let deps = deps().await;
    let socket = FakeSocket::wide();
    let mut connection =
        Connection::new(Arc::clone(&deps), Box::new(socket.clone()), Client::default(), false);
    connection.turn_away();
    connection.start(None, Bytes::new());
    let task = tokio::spawn(connection);
    assert!(written(&socket).await.contains("service restart"));
    socket.leave();
    task.await.unwrap();
}

/// Lets the other tasks that are ready run once; `yield_now` lets them run until none is.
async fn turn() {
    let mut taken = false;
    poll_fn(|cx| {
        if mem::replace(&mut taken, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_without_end_lets_others_have_their_turn() {
    let deps = deps().await;
    let (socket, task) = connect(&deps).await;
    let count = TURN_BYTES / 10;
    let ping = frame(1, r#"{"type":"ping"}"#);
    let turns = turns_for(socket, &ping, count).await;
    assert!((2..10).contains(&turns), "{turns}");
    assert!(!task.is_finished());
}

/// The turns that others have until all of so many pings, which come at once, are answered.
async fn turns_for(socket: FakeSocket, ping: &[u8], count: usize) -> usize {
    socket.feed(&ping.repeat(count));
    // A task among others, so that it takes turns with the connection's.
    let other = tokio::spawn(async move {
        let (mut answers, mut turns) = (0, 0);
        while answers < count {
            turn().await;
            answers += String::from_utf8_lossy(&socket.taken()).matches("pong").count();
            turns += 1;
        }
        turns
    });
    other.await.unwrap()
}

/// As [`frame`], compressed.
fn compressed_frame(text: &str) -> Vec<u8> {
    let policy = deflate::Policy { min_bytes: 0, level: 9 };
    let plain = ws::frame::text_frame(text.as_bytes());
    let frame = deflate::compress(&plain, policy).unwrap().block;
    assert!(frame.len() < 126);
    [&[frame[0], frame[1] | 0x80, 0, 0, 0, 0], &frame[2..]].concat()
}

#[tokio::test(start_paused = true)]
async fn what_a_few_bytes_inflate_to_counts_toward_a_turn() {
    let deps = deps().await;
    let socket = FakeSocket::wide();
    let mut connection =
        Connection::new(Arc::clone(&deps), Box::new(socket.clone()), Client::default(), true);
    connection.start(None, Bytes::new());
    let task = tokio::spawn(connection);
    ask(&socket, r#"{"type":"connect","id":1}"#, "connected").await;
    let count = 5 * TURN_BYTES / 4000;
    let ping = compressed_frame(&format!(r#"{{"type":"ping"{}}}"#, " ".repeat(4000)));
    let turns = turns_for(socket, &ping, count).await;
    assert!(turns >= 3, "{turns}");
    assert!(!task.is_finished());
}

/// With what the runtime adds, 104 bytes, a task is rounded up to a multiple of 128.
#[test]
fn the_task_of_a_connection_fits_in_512_bytes() {
    assert!(size_of::<Connection>() + 104 <= 512, "{}", size_of::<Connection>());
}

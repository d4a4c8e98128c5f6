use std::{future::pending, net::SocketAddr};

use axum::{Router, body::to_bytes, extract::State, http::Method, routing::any};
use broker_core::ports::BusError;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

use super::{
    fake::{FakeBus, lease, store},
    *,
};
use crate::api::DoorKey;

const LIMITS: Limits = Limits {
    at_once: 2,
    answer: Duration::from_secs(5),
    upgrade: Duration::from_secs(5),
    silence: Duration::from_secs(5),
    idle: Duration::from_secs(1),
};

struct World {
    forwarder: Arc<Forwarder>,
    bus: Arc<FakeBus>,
    owner: Owner,
    key: DoorKey,
    address: SocketAddr,
}

/// A gateway whose door leads to these routes.
async fn world(routes: Router) -> World {
    let (store, bus, key) = (store().await, Arc::<FakeBus>::default(), DoorKey::random());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    lease(&*store, "a").await;
    bus.answers("a", Ok(Door { address: address.to_string(), key: key.clone() }));
    tokio::spawn(axum::serve(listener, door(key.clone(), routes)).into_future());
    let metrics = Arc::new(Metrics::new([]).unwrap());
    let forwarder = Forwarder::new(store, Arc::<FakeBus>::clone(&bus), metrics, LIMITS);
    let owner = Owner::of(&"a".parse().unwrap());
    World { forwarder: Arc::new(forwarder), bus, owner, key, address }
}

fn request(method: Method, body: &'static str) -> Request {
    let mut request = Request::builder()
        .method(method)
        .uri("/socket.io/?EIO=4&transport=polling&sid=abc")
        .header(header::HOST, "app.example")
        .header(header::ORIGIN, "https://app.example")
        .header(header::AUTHORIZATION, "Bearer abc")
        .header(header::USER_AGENT, "test")
        .header(header::CONNECTION, "keep-alive, x-of-this-hop")
        .header("x-of-this-hop", "1")
        .header(guard::KEY, "made up")
        .header(FORWARDED_FOR, "192.0.2.1")
        .body(Body::from(body))
        .unwrap();
    let client: SocketAddr = "192.0.2.2:1234".parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(client));
    request
}

async fn mirror(request: Request) -> (StatusCode, [(HeaderName, &'static str); 1], String) {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    let mut headers: Vec<_> = request.headers().iter().collect();
    headers.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in headers {
        text += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    assert!(is_forwarded(&request));
    let body = to_bytes(request.into_body(), 1000).await.unwrap();
    text += std::str::from_utf8(&body).unwrap();
    (StatusCode::IM_A_TEAPOT, [(header::CACHE_CONTROL, "no-store")], text)
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent_and_so_does_its_answer() {
    let world = world(Router::new().fallback(mirror)).await;
    let response = world.forwarder.forward(world.owner, request(Method::POST, "4hello")).await;
    let response = response.unwrap();
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let body = to_bytes(response.into_body(), 10_000).await.unwrap();
    let expected = "POST /socket.io/?EIO=4&transport=polling&sid=abc
authorization: Bearer abc
content-length: 6
host: app.example
origin: https://app.example
user-agent: test
x-forwarded-for: 192.0.2.1
x-forwarded-for: 192.0.2.2
4hello";
    assert_eq!(std::str::from_utf8(&body).unwrap(), expected);
}

/// Says when it is dropped.
struct Bell(mpsc::Sender<()>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.try_send(()).unwrap();
    }
}

async fn wait_forever(State(bell): State<mpsc::Sender<()>>) -> StatusCode {
    let _bell = Bell(bell.clone());
    bell.send(()).await.unwrap();
    pending().await
}

#[tokio::test]
async fn who_breaks_off_a_poll_here_breaks_it_off_there() {
    let (bell, mut rung) = mpsc::channel(2);
    let world = world(Router::new().fallback(any(wait_forever)).with_state(bell)).await;
    let forwarder = Arc::clone(&world.forwarder);
    let poll = tokio::spawn(async move {
        forwarder.forward(world.owner, request(Method::GET, "")).await.map(drop)
    });
    rung.recv().await.unwrap();
    poll.abort();
    timeout(Duration::from_secs(5), rung.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn no_more_requests_are_forwarded_than_there_is_room_for() {
    let (bell, mut rung) = mpsc::channel(8);
    let world = world(Router::new().fallback(any(wait_forever)).with_state(bell)).await;
    let mut polls = tokio::task::JoinSet::new();
    for _ in 0..LIMITS.at_once {
        let forwarder = Arc::clone(&world.forwarder);
        polls.spawn(async move {
            forwarder.forward(world.owner, request(Method::GET, "")).await.map(drop)
        });
        rung.recv().await.unwrap();
    }
    let refused = world.forwarder.forward(world.owner, request(Method::GET, "")).await;
    assert_eq!(refused.map(drop), Err(NotForwarded::Overloaded));
    polls.shutdown().await;
    assert_eq!(world.forwarder.room.available_permits(), LIMITS.at_once);
}

#[tokio::test]
async fn another_ones_door_is_not_this_gateway() {
    let world = world(Router::new().fallback(mirror)).await;
    let forward = || world.forwarder.forward(world.owner, request(Method::GET, ""));
    let other = Door { address: world.address.to_string(), key: DoorKey::random() };
    world.bus.answers("a", Ok(other));
    assert_eq!(forward().await.map(drop), Err(NotForwarded::Unreachable));
    // The next one asks anew.
    let right = Door { address: world.address.to_string(), key: world.key.clone() };
    world.bus.answers("a", Ok(right));
    assert!(forward().await.is_ok());
}

#[tokio::test]
async fn nobody_at_the_door_is_found_out_at_once() {
    let world = world(Router::new()).await;
    let forward = || world.forwarder.forward(world.owner, request(Method::GET, ""));
    let shut = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    world.bus.answers("a", Ok(Door { address: shut.to_string(), key: world.key.clone() }));
    assert_eq!(forward().await.map(drop), Err(NotForwarded::Unreachable));
    world.bus.answers("a", Err(BusError::Timeout));
    assert_eq!(forward().await.map(drop), Err(NotForwarded::Unreachable));
    let unknown = Owner::of(&"b".parse().unwrap());
    let outcome = world.forwarder.forward(unknown, request(Method::GET, "")).await;
    assert_eq!(outcome.map(drop), Err(NotForwarded::Unknown));
}

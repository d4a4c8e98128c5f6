use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use broker_backends::EmbeddedOptions;
use broker_core::{ConnectionId, JsonText, ports::Caller};
use tokio::{net::TcpListener, sync::Notify};

use super::*;
use crate::telemetry::Asked;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ANSWER_BYTES: usize = 1024;

/// A service at paths that say how it answers.
#[derive(Debug, Default)]
struct Service {
    asked: AtomicUsize,
    came: Notify,
    /// Lets one of those go that wait.
    go: Notify,
}

async fn answer(State(service): State<Arc<Service>>, request: Request) -> Response {
    service.asked.fetch_add(1, Ordering::Relaxed);
    service.came.notify_one();
    match request.uri().path() {
        "/headers" => {
            let headers = request.headers();
            let text = |name| headers.get(name).map(|it| it.to_str().unwrap().to_owned());
            axum::Json(["content-type", "user-agent", "traceparent"].map(text)).into_response()
        }
        "/wait" => {
            service.go.notified().await;
            "1".into_response()
        }
        "/long" => "9".repeat(ANSWER_BYTES + 1).into_response(),
        "/full" => "9".repeat(ANSWER_BYTES).into_response(),
        "/away" => (StatusCode::TEMPORARY_REDIRECT, [("location", "/full")]).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

struct World {
    service: Arc<Service>,
    address: SocketAddr,
    bus: Arc<dyn Bus>,
    metrics: Arc<Metrics>,
}

impl World {
    async fn new() -> Self {
        let service = Arc::<Service>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&service));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let bus = broker_backends::embedded(&EmbeddedOptions::default()).await.bus;
        Self { service, address, bus, metrics: Arc::new(Metrics::new([]).unwrap()) }
    }

    /// Services of which `shop:*` are asked at this path, one request at a time.
    fn services(&self, path: &str) -> Services {
        self.services_at(&format!("http://{}{path}", self.address))
    }

    fn services_at(&self, url: &str) -> Services {
        let webhook = config::Webhook {
            name: "shop".to_owned(),
            addresses: vec![broker_core::Interest::Pattern("shop:*".parse().unwrap())],
            url: url.parse().unwrap(),
            keys: vec![KEY.parse().unwrap()],
            timeout: Duration::from_secs(5),
            in_flight: 1,
        };
        let services = Services::new(Arc::clone(&self.bus));
        services.with_webhooks(&[webhook], ANSWER_BYTES, &self.metrics).unwrap()
    }

    async fn ask(&self, path: &str) -> Result<Data, RequestError> {
        self.services(path).ask(request("shop:a")).await
    }

    fn counted(&self, outcome: Asked) -> bool {
        self.metrics.webhooks.count("shop", outcome) == 1
    }
}

fn request(address: &str) -> ServiceRequest {
    ServiceRequest {
        address: address.parse().unwrap(),
        event: None,
        data: json("[1]"),
        caller: Caller { connection: ConnectionId(7), user: None, roles: Vec::new() },
        timeout: Duration::from_secs(5),
        trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
    }
}

fn json(text: &'static str) -> Data {
    Data::Json(JsonText::from_checked(text.into()))
}

#[tokio::test]
async fn a_request_says_what_it_is_and_to_which_trace_it_belongs() {
    let world = World::new().await;
    let expected = concat!(
        r#"["application/json","fanfare/"#,
        env!("CARGO_PKG_VERSION"),
        r#"","00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]"#
    );
    assert_eq!(world.ask("/headers").await, Ok(json(expected)));
    assert!(world.counted(Asked::Ok));
}

#[tokio::test]
async fn other_addresses_are_asked_over_the_bus() {
    let world = World::new().await;
    let services = world.services("/full");
    for address in ["shops:a", "shop:a:b", "shop"] {
        assert_eq!(services.ask(request(address)).await, Err(RequestError::NoService), "{address}");
    }
    assert_eq!(world.service.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_answer_has_a_bound() {
    let world = World::new().await;
    assert_eq!(world.ask("/full").await.map(|data| data.len()), Ok(ANSWER_BYTES));
    let refused = world.ask("/long").await;
    assert!(matches!(&refused, Err(RequestError::Refused { .. })), "{refused:?}");
    assert!(world.counted(Asked::Refused));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let world = World::new().await;
    let refused = world.ask("/away").await.unwrap_err().to_string();
    assert!(refused.contains("307"), "{refused}");
    assert_eq!(world.service.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn nobody_there_is_no_service() {
    let world = World::new().await;
    assert_eq!(world.ask("/nowhere").await, Err(RequestError::NoService));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let refused = world.services_at(&url).ask(request("shop:a")).await;
    assert_eq!(refused, Err(RequestError::NoService));
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_it_open_what_was_done() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let services = world.services_at(&url);
    let asked = tokio::spawn(services.ask(request("shop:a")));
    let (connection, _) = listener.accept().await.unwrap();
    connection.readable().await.unwrap();
    drop(connection);
    assert_eq!(asked.await.unwrap(), Err(RequestError::Lost));
    assert!(world.counted(Asked::Lost));
}

#[tokio::test]
async fn requests_under_way_have_a_bound_and_a_time() {
    let world = World::new().await;
    let services = world.services("/wait");
    let asked = tokio::spawn(services.ask(request("shop:a")));
    world.service.came.notified().await;
    assert_eq!(services.ask(request("shop:b")).await, Err(RequestError::Overloaded));
    world.service.go.notify_one();
    assert_eq!(asked.await.unwrap(), Ok(json("1")));
    let hurried = ServiceRequest { timeout: Duration::from_millis(50), ..request("shop:c") };
    assert_eq!(services.ask(hurried).await, Err(RequestError::Timeout));
    assert!(
        world.counted(Asked::Overloaded)
            && world.counted(Asked::TimedOut)
            && world.counted(Asked::Ok)
    );
}

#[tokio::test]
async fn whoever_is_gone_makes_room_and_is_counted() {
    let world = World::new().await;
    let services = world.services("/wait");
    let asked = tokio::spawn(services.ask(request("shop:a")));
    world.service.came.notified().await;
    asked.abort();
    assert!(asked.await.unwrap_err().is_cancelled());
    assert!(world.counted(Asked::Abandoned));
    world.service.go.notify_one();
    assert_eq!(services.ask(request("shop:b")).await, Ok(json("1")));
}

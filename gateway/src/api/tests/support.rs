//! Gateways that share a bus which records, and a store that can go away.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use broker_backends::EmbeddedOptions;
use broker_core::{
    CloseCode, ConnectionId, History, Interest, NodeId, Timestamp,
    access::{NamespaceRules, Namespaces, Rule, Term},
    name::ChannelName,
    ports::{ConnectionInfo, Lease, Presence as _, PresenceChange},
    session::{Limits, Rules},
};
use bytes::Bytes;
use serde_json::{Map, Value};
use tower::ServiceExt as _;

use super::fakes::{NoSocket, TestBus, TestLog, TestStore};
use crate::{
    api::{Deps, router},
    asks::Asks,
    auth::{Authenticator, mint::mint},
    config::{Algorithm, ApiKeyEntry, Auth, Config, Key, Scope, Secret, secret::KeyHash},
    hub::Hub,
    outbox::Outbox,
    public_url::PublicUrl,
    telemetry::{Metrics, Tracing},
};

pub(super) const PUBLISH_KEY: &str = "ffk_publish";
pub(super) const OTHER_KEY: &str = "ffk_other";
pub(super) const TICKETS_KEY: &str = "ffk_tickets";
pub(super) const ADMIN_KEY: &str = "ffk_admin";
/// Of the namespaces `room` and `user`.
pub(super) const HISTORY: History = History { size: 5, ttl: Duration::from_secs(60) };
/// Largest message.
pub(super) const MESSAGE_BYTES: usize = 1024;

/// The first of the gateways is the one that is asked.
pub(super) struct Cluster {
    pub(super) bus: Arc<TestBus>,
    pub(super) store: Arc<TestStore>,
    pub(super) log: Arc<TestLog>,
    pub(super) deps: Arc<Deps>,
    pub(super) router: Router,
}

impl Cluster {
    pub(super) async fn new() -> Self {
        let rules = rules();
        let declared = rules.namespaces.declared.iter();
        let histories = declared.filter_map(|(name, it)| Some((name.clone(), it.history.clone()?)));
        let options =
            EmbeddedOptions { histories: histories.collect(), ..EmbeddedOptions::default() };
        let backends = broker_backends::embedded(&options).await;
        let bus = Arc::new(TestBus::new());
        let store = Arc::new(TestStore::new(backends.presence, backends.sessions));
        let log = Arc::new(TestLog::new(backends.log, backends.bus));
        let node: NodeId = "a".parse().unwrap();
        let deps = Arc::new(Deps {
            bus: Arc::<TestBus>::clone(&bus),
            presence: Arc::<TestStore>::clone(&store),
            roster: backends.roster,
            sessions: Arc::<TestStore>::clone(&store),
            log: Arc::<TestLog>::clone(&log),
            queue: None,
            turns: Arc::default(),
            hub: hub(&bus),
            asks: Arc::new(Asks::new(Arc::new(Metrics::new([]).unwrap()))),
            rules: Arc::new(rules),
            authenticator: authenticator(&store),
            public_url: PublicUrl::new(&Config::dev().http),
            tracing: Arc::new(Tracing::disabled()),
            door: None,
            node: node.clone(),
        });
        let cluster = Self { bus, store, log, router: router(Arc::clone(&deps)), deps };
        cluster.enter(node, Arc::clone(&cluster.deps.hub)).await;
        cluster
    }

    /// Another gateway.
    pub(super) async fn gateway(&self, node: &str) -> Arc<Hub> {
        let hub = hub(&self.bus);
        self.enter(node.parse().unwrap(), Arc::clone(&hub)).await;
        hub
    }

    async fn enter(&self, node: NodeId, hub: Arc<Hub>) {
        self.lease(node.as_str()).await;
        self.bus.enter(node, hub);
    }

    /// A lease, with or without a gateway behind it.
    pub(super) async fn lease(&self, node: &str) {
        self.store.renew(lease(node)).await.unwrap();
    }

    /// A connection of a user, at this gateway and in the directory.
    pub(super) async fn connect(&self, hub: &Hub, node: &str, id: u128, user: &str) -> Arc<Outbox> {
        let info = Arc::new(ConnectionInfo {
            connection: ConnectionId(id),
            user: Some(user.parse().unwrap()),
            node: node.parse().unwrap(),
            transport: "websocket".into(),
            connected_at: Timestamp(u64::try_from(id).unwrap()),
            user_agent: None,
        });
        let outbox = Arc::new(Outbox::new(ConnectionId(id), Box::new(NoSocket), 1_000));
        outbox.set_info(info.clone());
        hub.add(&outbox);
        let own = ChannelName::of_user(&user.parse().unwrap());
        hub.deliver(Interest::Channel(own), Arc::clone(&outbox));
        let changes = vec![PresenceChange::Connected(info)];
        self.store.apply(node.parse().unwrap(), changes).await.unwrap();
        outbox
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path, ADMIN_KEY).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn delete(&self, path: &str) -> Answer {
        self.send(request("DELETE", path, ADMIN_KEY).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn publish(&self, body: impl ToString) -> Answer {
        self.send(publish_request(PUBLISH_KEY, None, &body)).await
    }

    pub(super) async fn publish_once(&self, key: &str, body: impl ToString) -> Answer {
        self.send(publish_request(PUBLISH_KEY, Some(key), &body)).await
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        ask(self.router.clone(), request).await
    }
}

pub(super) async fn ask(router: Router, request: Request<Body>) -> Answer {
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Answer { status: parts.status, headers: parts.headers, json, body }
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) json: Value,
    pub(super) body: Bytes,
}

impl Answer {
    /// The answer, which must be good.
    #[track_caller]
    pub(super) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.json);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/json");
        self.json
    }

    /// The detail of a problem, which must be whole and of this kind.
    #[track_caller]
    pub(super) fn problem(self, status: u16, code: &str) -> String {
        let Self { headers, json, .. } = self;
        assert_eq!(self.status.as_u16(), status, "{json}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(json["type"], format!("urn:fanfare:problem:{code}"));
        assert_eq!(json["status"], status);
        assert_eq!(json["code"], code);
        assert!(!json["title"].as_str().unwrap().is_empty());
        assert!(["no", "later", "unknown"].contains(&json["retry"].as_str().unwrap()));
        json["detail"].as_str().unwrap().to_owned()
    }
}

pub(super) fn request(method: &str, path: &str, key: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header("authorization", format!("Bearer {key}"))
}

pub(super) fn publish_request(
    api_key: &str,
    key: Option<&str>,
    body: &(impl ToString + ?Sized),
) -> Request<Body> {
    let mut request =
        request("POST", "/v1/publish", api_key).header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    request.body(Body::from(body.to_string())).unwrap()
}

/// What a connection was told to close with.
pub(super) fn closed_with(outbox: &Outbox) -> Option<CloseCode> {
    outbox.take_notices().close
}

fn hub(bus: &Arc<TestBus>) -> Arc<Hub> {
    Arc::new(Hub::new(Arc::<TestBus>::clone(bus), Duration::from_secs(10)))
}

fn rules() -> Rules {
    let history = Some(HISTORY);
    let subscribe = Rule(vec![Term::Authenticated]);
    let rules = [
        ("venue", NamespaceRules { presence: true, ..Default::default() }),
        ("orders", NamespaceRules::default()),
        ("room", NamespaceRules { history: history.clone(), subscribe, ..Default::default() }),
        ("user", NamespaceRules { history, ..Default::default() }),
    ];
    let declared = rules.map(|(name, rules)| (name.parse().unwrap(), rules));
    Rules {
        namespaces: Namespaces { declared: declared.into(), ..Namespaces::default() },
        limits: Limits {
            subscriptions: 128,
            message_bytes: MESSAGE_BYTES,
            in_flight: 256,
            connect_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            expiry_warning: Duration::from_secs(30),
            request_timeout: Duration::from_secs(5),
        },
        anonymous: false,
    }
}

fn auth() -> Auth {
    Auth { keys: vec![signing_key()], api_keys: api_keys(), ..Config::dev().auth }
}

fn authenticator(store: &Arc<TestStore>) -> Authenticator {
    let (store, metrics) = (Arc::<TestStore>::clone(store), Arc::new(Metrics::new([]).unwrap()));
    Authenticator::new(&auth(), store, metrics, None).unwrap()
}

fn signing_key() -> Key {
    let material = Secret::new("0123456789abcdef0123456789abcdef".to_owned());
    Key { kid: None, algorithm: Algorithm::HS256, material }
}

/// A good token of the user.
pub(super) fn token(user: &str) -> String {
    let claims = Map::from_iter([("sub".to_owned(), user.into())]);
    mint(&signing_key(), claims, Duration::from_secs(60)).unwrap().reveal().to_owned()
}

fn api_keys() -> Vec<ApiKeyEntry> {
    let entry = |id: &str, key, scope| ApiKeyEntry {
        id: id.to_owned(),
        hash: KeyHash::of(key),
        scopes: vec![scope],
        roles: Vec::new(),
    };
    vec![
        entry("service", PUBLISH_KEY, Scope::Publish),
        entry("other", OTHER_KEY, Scope::Publish),
        entry("issuer", TICKETS_KEY, Scope::Tickets),
        entry("operator", ADMIN_KEY, Scope::Admin),
    ]
}

pub(super) fn lease(node: &str) -> Lease {
    Lease {
        node: node.parse().unwrap(),
        ttl: Duration::from_secs(15),
        started: Timestamp(1_000),
        version: "1.2.3".to_owned(),
        connections: 10,
        users: 6,
        channels: 4,
        subscriptions: 20,
        bus_ok: true,
    }
}

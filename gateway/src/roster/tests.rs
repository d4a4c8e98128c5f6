use std::sync::atomic::{AtomicBool, Ordering};

use broker_backends::{BusEvents, EmbeddedOptions, RosterOptions};
use broker_core::{
    ChannelName, ConnectionId, Data, Interest, UserId,
    access::{NamespaceRules, Namespaces},
    ports::{BusEvent, ChannelNews, ConnectionInfo, MemberCount, MemberPage},
    session::{Limits, Rules},
};
use futures_util::FutureExt;
use parking_lot::Mutex;

use super::*;
use crate::{outbox::Outbox, register, socket::FakeSocket};

/// The embedded store, which can go away and forget.
#[derive(Debug)]
struct Store {
    inner: Mutex<(u64, Arc<dyn Roster>)>,
    away: AtomicBool,
    /// Takes no notes.
    busy: AtomicBool,
}

impl Store {
    async fn forget(&self) {
        let fresh = broker_backends::embedded(&EmbeddedOptions::default()).await.roster;
        let mut inner = self.inner.lock();
        *inner = (inner.0 + 1, fresh);
    }

    fn reach(&self) -> Result<Arc<dyn Roster>, StoreError> {
        let away = self.away.load(Ordering::Relaxed);
        if away { Err(StoreError::Unavailable) } else { Ok(Arc::clone(&self.inner.lock().1)) }
    }
}

impl Roster for Store {
    fn note<'a>(
        &'a self,
        node: NodeId,
        news: Vec<ChannelNews>,
        tell: &'a Tell,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        if self.busy.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::Unavailable) });
        }
        Box::pin(async move { self.reach()?.note(node, news, tell).await })
    }

    fn life(&self, _: NodeId) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move { self.reach().map(|_| self.inner.lock().0) })
    }

    fn tidy<'a>(&'a self, tell: &'a Tell) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.reach()?.tidy(tell).await })
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.reach()?.retire(node).await })
    }

    fn take_back(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.reach()?.take_back(node).await })
    }

    fn members(
        &self,
        channel: ChannelName,
        cursor: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<MemberPage, StoreError>> {
        Box::pin(async move { self.reach()?.members(channel, cursor, limit).await })
    }

    fn count(&self, channel: ChannelName) -> BoxFuture<'_, Result<MemberCount, StoreError>> {
        Box::pin(async move { self.reach()?.count(channel).await })
    }

    fn last_seen(&self, user: UserId) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>> {
        Box::pin(async move { self.reach()?.last_seen(user).await })
    }
}

struct Gateway {
    hub: Arc<Hub>,
    store: Arc<Store>,
    keeper: Keeper,
    events: BusEvents,
}

fn rules() -> Rules {
    let present = NamespaceRules { presence: true, ..NamespaceRules::default() };
    let declared = [("venue", present), ("dark", NamespaceRules::default())];
    let declared = declared.map(|(name, rules)| (name.parse().unwrap(), rules)).into();
    Rules {
        namespaces: Namespaces { declared, ..Namespaces::default() },
        limits: Limits {
            subscriptions: 10,
            message_bytes: 1024,
            in_flight: 1,
            connect_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            expiry_warning: Duration::from_secs(30),
            request_timeout: Duration::from_secs(5),
        },
        anonymous: true,
    }
}

impl Gateway {
    async fn new() -> Self {
        let backends = broker_backends::embedded(&EmbeddedOptions::default()).await;
        let (register, notes) = register::open(Arc::new(rules()));
        let hub = Hub::new(Arc::clone(&backends.bus), Duration::ZERO).with_register(Some(register));
        let hub = Arc::new(hub);
        let inner = Mutex::new((1, backends.roster));
        let store = Arc::new(Store { inner, away: false.into(), busy: false.into() });
        for name in ["presence:venue:1", "presence:venue:2"] {
            let announced = Interest::Channel(name.parse().unwrap());
            backends.bus.subscribe(announced).await.unwrap();
        }
        let tools = Tools {
            roster: Arc::<Store>::clone(&store),
            bus: backends.bus,
            hub: Arc::clone(&hub),
            metrics: Arc::new(Metrics::new([]).unwrap()),
            node: "a".parse().unwrap(),
        };
        let keeper = Keeper::new(notes, tools).unwrap();
        let mut gateway = Self { hub, store, keeper, events: { backends.events }.remove(0) };
        gateway.keeper.tell_anew_if_in_doubt().await;
        gateway
    }

    fn connect(&self, id: u128, user: &str) -> Arc<Outbox> {
        let id = ConnectionId(id);
        let outbox = Arc::new(Outbox::new(id, Box::<FakeSocket>::default(), 1024));
        outbox.set_info(Arc::new(ConnectionInfo {
            connection: id,
            user: Some(user.parse().unwrap()),
            node: "a".parse().unwrap(),
            transport: "websocket".into(),
            connected_at: Timestamp(1),
            user_agent: None,
        }));
        self.hub.add(&outbox);
        outbox
    }

    fn subscribe(&self, outbox: &Arc<Outbox>, channel: &str) {
        self.hub.deliver(Interest::Channel(channel.parse().unwrap()), Arc::clone(outbox));
    }

    fn leave(&self, outbox: &Outbox, channel: &str) {
        self.hub.leave(&Interest::Channel(channel.parse().unwrap()), outbox.id());
    }

    /// Lets the keeper take the notes, and then a second pass.
    async fn keep(&mut self) {
        let mut notes = Vec::new();
        while let Ok(note) = self.keeper.notes.try_recv() {
            notes.push(note);
        }
        self.keeper.write(notes.into_iter()).await;
        self.keeper.tell_anew_if_in_doubt().await;
    }

    /// What was told since, as `event channel data`.
    fn told(&mut self) -> Vec<String> {
        let mut batch = Vec::new();
        while self.events.next_batch(&mut batch, 100).now_or_never().is_some() {}
        let told = batch.drain(..).map(|inbound| {
            let BusEvent::Message { message, .. } = inbound.event else { panic!("a gap") };
            let Data::Json(data) = message.data else { panic!("bytes") };
            let data = std::str::from_utf8(data.as_bytes()).unwrap();
            format!("{} {} {data}", message.event.unwrap(), message.channel)
        });
        told.collect()
    }

    async fn count(&self, channel: &str) -> (u64, u64) {
        let count = self.store.count(channel.parse().unwrap()).await.unwrap();
        (count.users, count.connections)
    }
}

const ANN_JOINED: &str = r#"join presence:venue:1 {"user":"ann"}"#;
const BOB_JOINED: &str = r#"join presence:venue:1 {"user":"bob"}"#;

#[tokio::test(start_paused = true)]
async fn members_are_who_is_subscribed_by_name() {
    let mut gateway = Gateway::new().await;
    let tabs = [gateway.connect(1, "ann"), gateway.connect(2, "ann")];
    for tab in &tabs {
        gateway.subscribe(tab, "venue:1");
        gateway.subscribe(tab, "dark:1");
        gateway.hub.deliver(Interest::Pattern("venue:*".parse().unwrap()), Arc::clone(tab));
    }
    // Never delivered: the bus refused, say.
    gateway.leave(&tabs[0], "venue:2");
    gateway.keep().await;
    assert_eq!(gateway.told(), [ANN_JOINED]);
    assert_eq!(gateway.count("venue:1").await, (1, 2));
    assert_eq!(gateway.count("dark:1").await, (0, 0));
    gateway.leave(&tabs[0], "venue:1");
    gateway.keep().await;
    assert_eq!(gateway.count("venue:1").await, (1, 1));
    assert_eq!(gateway.keeper.book.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_happened_while_the_store_was_away_is_told_when_it_is_back() {
    let mut gateway = Gateway::new().await;
    let (ann, bob) = (gateway.connect(1, "ann"), gateway.connect(2, "bob"));
    gateway.subscribe(&ann, "venue:1");
    gateway.keep().await;
    assert_eq!(gateway.told(), [ANN_JOINED]);
    gateway.store.away.store(true, Ordering::Relaxed);
    gateway.subscribe(&bob, "venue:1");
    gateway.leave(&ann, "venue:1");
    gateway.keep().await;
    assert!(gateway.keeper.doubt.is_raised());
    gateway.store.away.store(false, Ordering::Relaxed);
    gateway.keep().await;
    assert_eq!(gateway.told(), [BOB_JOINED]);
    assert_eq!(gateway.count("venue:1").await, (2, 1), "ann may come back yet");
    assert_eq!(gateway.keeper.book.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_joins_twice_because_the_store_forgot() {
    let mut gateway = Gateway::new().await;
    let (ann, bob) = (gateway.connect(1, "ann"), gateway.connect(2, "bob"));
    gateway.subscribe(&ann, "venue:1");
    gateway.keep().await;
    assert_eq!(gateway.told(), [ANN_JOINED]);
    gateway.store.away.store(true, Ordering::Relaxed);
    gateway.subscribe(&bob, "venue:1");
    gateway.keep().await;
    gateway.store.forget().await;
    gateway.store.away.store(false, Ordering::Relaxed);
    gateway.keep().await;
    assert_eq!(gateway.told(), [BOB_JOINED], "of him, the store had not heard");
    assert_eq!(gateway.count("venue:1").await, (2, 2));
}

#[tokio::test(start_paused = true)]
async fn who_left_does_not_stay_because_the_store_has_gone_back() {
    let mut gateway = Gateway::new().await;
    let (ann, bob) = (gateway.connect(1, "ann"), gateway.connect(2, "bob"));
    gateway.subscribe(&ann, "venue:1");
    gateway.subscribe(&bob, "venue:1");
    gateway.keep().await;
    let before = gateway.keeper.book.all_told(10).remove(0);
    gateway.leave(&bob, "venue:1");
    gateway.keep().await;
    gateway.told();
    let silent: &Tell = &|_| Box::pin(ready(()));
    gateway.store.note("a".parse().unwrap(), before, silent).await.unwrap();
    assert_eq!(gateway.count("venue:1").await, (2, 2));
    gateway.keeper.doubt.raise();
    gateway.keep().await;
    assert_eq!(gateway.count("venue:1").await, (2, 1), "bob may come back yet");
    assert_eq!(gateway.told(), [""; 0], "ann neither left nor joined");
}

#[tokio::test(start_paused = true)]
async fn nobody_leaves_because_telling_anew_takes_longer_than_the_grace() {
    let mut gateway = Gateway::new().await;
    let ann = gateway.connect(1, "ann");
    gateway.subscribe(&ann, "venue:1");
    gateway.keep().await;
    assert_eq!(gateway.told(), [ANN_JOINED]);
    gateway.store.busy.store(true, Ordering::Relaxed);
    gateway.keeper.doubt.raise();
    gateway.keep().await;
    assert_eq!(gateway.count("venue:1").await, (1, 0), "taken back, and not told yet");
    time::advance(RosterOptions::default().grace * 4).await;
    let tell = |events: Vec<MemberEvent>| -> BoxFuture<'static, ()> {
        assert_eq!(events, []);
        Box::pin(async {})
    };
    gateway.store.tidy(&tell).await.unwrap();
    gateway.store.busy.store(false, Ordering::Relaxed);
    gateway.keep().await;
    assert_eq!(gateway.told(), [""; 0], "ann neither left nor joined");
    assert_eq!(gateway.count("venue:1").await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn who_came_and_went_while_notes_were_lost_does_not_come_back() {
    let mut gateway = Gateway::new().await;
    let (ann, bob) = (gateway.connect(1, "ann"), gateway.connect(2, "bob"));
    for _ in 0..10_000 {
        gateway.subscribe(&ann, "venue:1");
        gateway.leave(&ann, "venue:1");
    }
    gateway.subscribe(&bob, "venue:1");
    assert!(gateway.keeper.doubt.is_raised());
    gateway.keep().await;
    assert_eq!(gateway.told(), [BOB_JOINED]);
    assert_eq!(gateway.count("venue:1").await, (1, 1));
}

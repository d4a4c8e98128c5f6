use std::sync::atomic::{AtomicBool, Ordering};

use broker_backends::{Backends, EmbeddedOptions};
use broker_core::{
    Interest, Timestamp, UserId,
    ports::{Begun, BoxFuture, StoreError},
    recovery::Progress,
};
use bytes::Bytes;
use futures_util::{FutureExt as _, future::ready};

use super::*;
use crate::{dialect::Offset, outbox::Outbox, socket::FakeSocket};

const WINDOW: Duration = Duration::from_secs(120);
const SECOND: Duration = Duration::from_secs(1);
const ONE: ConnectionId = ConnectionId(1);
const TWO: ConnectionId = ConnectionId(2);

/// A store that can go away.
#[derive(Debug)]
struct Store {
    inner: Arc<dyn Sessions>,
    away: AtomicBool,
}

impl Sessions for Store {
    fn begin(
        &self,
        key: String,
        fingerprint: u64,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Begun, StoreError>> {
        self.inner.begin(key, fingerprint, ttl)
    }

    fn finish(
        &self,
        key: String,
        fingerprint: u64,
        answer: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.finish(key, fingerprint, answer, ttl)
    }

    fn abandon(&self, key: String) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.abandon(key)
    }

    fn keep(
        &self,
        sessions: Vec<KeptSession>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Vec<SessionKey>, StoreError>> {
        if self.away.load(Ordering::Relaxed) {
            return ready(Err(StoreError::Unavailable)).boxed();
        }
        self.inner.keep(sessions, ttl)
    }

    fn take(
        &self,
        key: SessionKey,
        remembered: Duration,
    ) -> BoxFuture<'_, Result<Option<KeptSession>, StoreError>> {
        if self.away.load(Ordering::Relaxed) {
            return ready(Err(StoreError::Unavailable)).boxed();
        }
        self.inner.take(key, remembered)
    }

    fn pass(
        &self,
        key: SessionKey,
        to: ConnectionId,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Option<KeptSession>, StoreError>> {
        if self.away.load(Ordering::Relaxed) {
            return ready(Err(StoreError::Unavailable)).boxed();
        }
        self.inner.pass(key, to, ttl)
    }
}

/// A gateway that is cut off from the others: its bus is its own.
struct Gateway {
    keeper: Arc<Keeper>,
    hub: Arc<Hub>,
    store: Arc<Store>,
    _bus: Backends,
}

async fn store() -> Arc<dyn Sessions> {
    broker_backends::embedded(&EmbeddedOptions::default()).await.sessions
}

fn to_keep(connection: ConnectionId, identity: Identity) -> ToKeep {
    let identity = Arc::new(identity);
    ToKeep { connection, origin: connection, identity, secret: None, recoverable: false }
}

impl Gateway {
    async fn with(sessions: &Arc<dyn Sessions>) -> Self {
        let store = Arc::new(Store { inner: Arc::clone(sessions), away: AtomicBool::new(false) });
        let bus = broker_backends::embedded(&EmbeddedOptions::default()).await;
        let hub = Arc::new(Hub::new(Arc::clone(&bus.bus), Duration::ZERO));
        let metrics = Arc::new(Metrics::new([]).unwrap());
        let sessions = Arc::<Store>::clone(&store);
        let keeper = Keeper::new(sessions, Arc::clone(&bus.bus), Arc::clone(&hub), metrics, WINDOW);
        Self { keeper: Arc::new(keeper), hub, store, _bus: bus }
    }

    /// One that keeps what is open.
    async fn running(sessions: &Arc<dyn Sessions>) -> Self {
        let gateway = Self::with(sessions).await;
        let keeper = Arc::clone(&gateway.keeper);
        tokio::spawn(async move { keeper.run().await });
        gateway
    }

    /// A connection with a session; its secret.
    async fn connect(&self, id: ConnectionId, identity: Identity) -> Token {
        self.hub.add(&Arc::new(Outbox::new(id, Box::new(FakeSocket::wide()), 1000)));
        let kept = self.keeper.keep(to_keep(id, identity)).await.unwrap();
        self.keeper.watch(*kept)
    }

    async fn resume(&self, secret: &Token) -> Result<UserId, ErrorCode> {
        let resumed = self.keeper.resume(secret).await;
        resumed.map(|it| it.identity.user.unwrap()).map_err(|failure| failure.code)
    }

    fn closed_with(&self, id: ConnectionId) -> Option<CloseCode> {
        self.hub.connection(id).unwrap().take_notices().close
    }

    fn set_away(&self, away: bool) {
        self.store.away.store(away, Ordering::Relaxed);
    }
}

fn ann() -> Identity {
    Identity { user: Some(user()), ..Identity::default() }
}

fn user() -> UserId {
    "ann".parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_session_is_resumed_once_and_its_old_connection_ended() {
    let store = store().await;
    let (first, second) = (Gateway::running(&store).await, Gateway::running(&store).await);
    let secret = first.connect(ONE, ann()).await;
    let other = first.connect(TWO, ann()).await;
    assert_eq!(second.resume(&secret).await, Ok(user()));
    assert_eq!(first.resume(&secret).await, Err(ErrorCode::SessionLost));
    time::sleep(WINDOW / 2).await;
    assert_eq!(first.closed_with(ONE), Some(CloseCode::Superseded));
    assert_eq!(first.closed_with(TWO), None);
    assert_eq!(first.resume(&other).await, Ok(user()));
    assert_eq!(first.closed_with(TWO), Some(CloseCode::Superseded));
    assert_eq!(first.keeper.metrics.sessions.not_kept.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_lasts_as_long_as_its_connection_and_the_window() {
    let store = store().await;
    let gateway = Gateway::running(&store).await;
    let (one, two) = (gateway.connect(ONE, ann()).await, gateway.connect(TWO, ann()).await);
    time::sleep(10 * WINDOW).await;
    gateway.keeper.closed(ONE, None);
    gateway.keeper.closed(TWO, Some(CloseCode::ServiceRestart));
    time::sleep(WINDOW - SECOND).await;
    assert_eq!(gateway.resume(&one).await, Ok(user()));
    time::sleep(WINDOW / 2 + SECOND).await;
    assert_eq!(gateway.resume(&two).await, Err(ErrorCode::SessionLost));
}

#[tokio::test(start_paused = true)]
async fn who_is_sent_away_for_good_does_not_resume() {
    let store = store().await;
    let gateway = Gateway::running(&store).await;
    let secret = gateway.connect(ONE, ann()).await;
    gateway.keeper.closed(ONE, Some(CloseCode::Disconnected));
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(gateway.resume(&secret).await, Err(ErrorCode::SessionLost));
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_token_and_goes_on_with_a_fresh_one() {
    let store = store().await;
    let gateway = Gateway::running(&store).await;
    let expired = Identity { expires: Some(Timestamp(1)), ..ann() };
    let one = gateway.connect(ONE, expired.clone()).await;
    let two = gateway.connect(TWO, expired).await;
    gateway.keeper.changed(TWO, &Arc::new(ann()));
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(gateway.resume(&one).await, Err(ErrorCode::SessionLost));
    assert_eq!(gateway.resume(&two).await, Ok(user()));
}

#[tokio::test(start_paused = true)]
async fn without_the_store_nothing_is_kept_and_nothing_lost() {
    let store = store().await;
    let gateway = Gateway::running(&store).await;
    let secret = gateway.connect(ONE, ann()).await;
    gateway.set_away(true);
    assert!(gateway.keeper.keep(to_keep(TWO, ann())).await.is_none());
    assert_eq!(gateway.resume(&secret).await, Err(ErrorCode::Unavailable));
    time::sleep(WINDOW - SECOND).await;
    gateway.set_away(false);
    time::sleep(WINDOW).await;
    assert_eq!(gateway.resume(&secret).await, Ok(user()));
    assert_eq!(gateway.keeper.metrics.sessions.not_kept.get(), 1);
}

/// By then the store does not know any more that it was taken.
#[tokio::test(start_paused = true)]
async fn what_was_not_kept_for_too_long_is_not_brought_back() {
    let store = store().await;
    let (first, second) = (Gateway::running(&store).await, Gateway::running(&store).await);
    let secret = first.connect(ONE, ann()).await;
    first.set_away(true);
    assert_eq!(second.resume(&secret).await, Ok(user()));
    time::sleep(3 * WINDOW).await;
    first.set_away(false);
    time::sleep(3 * WINDOW).await;
    assert_eq!(second.resume(&secret).await, Err(ErrorCode::SessionLost));
    assert_eq!(first.keeper.metrics.sessions.not_kept.get(), 1);
}

/// A connection that may be recovered, in `room:1`; its secret.
async fn connect_recoverable(gateway: &Gateway, id: ConnectionId) -> Token {
    let outbox = Arc::new(Outbox::new(id, Box::new(FakeSocket::wide()), 1000));
    outbox.track(Progress::new(id));
    begin(&outbox, "room:1");
    gateway.hub.add(&outbox);
    let what = ToKeep { recoverable: true, ..to_keep(id, ann()) };
    gateway.keeper.watch(*gateway.keeper.keep(what).await.unwrap())
}

fn begin(outbox: &Outbox, channel: &str) {
    let from = Some("1.2".parse().unwrap());
    let interest = Interest::Channel(channel.parse().unwrap());
    outbox.with_progress(|progress| {
        progress.begin(&interest, from);
        progress.go_live(&interest);
    });
}

fn comeback(connection: ConnectionId, secret: &Token) -> Comeback {
    let user = ann().user;
    Comeback { connection, user, secret: secret.clone(), offset: Offset::None, silence: SECOND }
}

async fn recover(gateway: &Gateway, comeback: &Comeback) -> Result<Vec<String>, &'static str> {
    let Recovery { recovered, .. } = gateway.keeper.recover(comeback).await?;
    assert_eq!(recovered.origin, ONE);
    Ok(recovered.subscriptions.iter().map(|(interest, _)| interest.to_string()).collect())
}

#[tokio::test(start_paused = true)]
async fn the_last_one_to_come_back_has_the_session() {
    let store = store().await;
    let (one, two) = (Gateway::running(&store).await, Gateway::with(&store).await);
    let secret = connect_recoverable(&one, ONE).await;
    let all = Ok(vec!["room:1".to_owned()]);
    assert_eq!(recover(&two, &comeback(TWO, &secret)).await, all);
    assert_eq!(recover(&two, &comeback(ConnectionId(3), &secret)).await, all);
    // Whoever had it learns so with its next writing.
    time::sleep(WINDOW).await;
    assert_eq!(one.closed_with(ONE), Some(CloseCode::Superseded));
}

/// Its gateway may be slow to say that it is over.
#[tokio::test(start_paused = true)]
async fn who_had_a_session_before_does_not_end_it() {
    let store = store().await;
    let (one, two) = (Gateway::with(&store).await, Gateway::with(&store).await);
    let secret = connect_recoverable(&one, ONE).await;
    let all = Ok(vec!["room:1".to_owned()]);
    assert_eq!(recover(&two, &comeback(TWO, &secret)).await, all);
    one.keeper.closed(ONE, Some(CloseCode::Normal));
    let keeper = Arc::clone(&one.keeper);
    tokio::spawn(async move { keeper.run().await });
    time::sleep(SECOND).await;
    assert_eq!(recover(&two, &comeback(ConnectionId(3), &secret)).await, all);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_is_recovered_by_resumes_nothing() {
    let gateway = Gateway::with(&store().await).await;
    let secret = connect_recoverable(&gateway, ONE).await;
    for kind in ["", "recovery ", "ticket:"] {
        let other = Token::new(format!("{kind}{}", secret.reveal()));
        assert_eq!(gateway.resume(&other).await, Err(ErrorCode::SessionLost), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_is_not_taken_for_somebody_else() {
    let gateway = Gateway::with(&store().await).await;
    let secret = connect_recoverable(&gateway, ONE).await;
    assert_eq!(gateway.resume(&secret).await, Err(ErrorCode::SessionLost), "without a token");
    let bob = Comeback { user: None, ..comeback(TWO, &secret) };
    assert_eq!(recover(&gateway, &bob).await, Err("denied"));
    let foreign = Comeback { offset: Offset::Foreign, ..comeback(TWO, &secret) };
    assert_eq!(recover(&gateway, &foreign).await, Err("foreign_offset"));
    let unknown = comeback(TWO, &Token::new("unknown".to_owned()));
    assert_eq!(recover(&gateway, &unknown).await, Err("lost"));
}

#[tokio::test(start_paused = true)]
async fn who_has_left_is_not_recovered_at_once_either() {
    let gateway = Gateway::with(&store().await).await;
    let secret = connect_recoverable(&gateway, ONE).await;
    gateway.keeper.closed(ONE, Some(CloseCode::Normal));
    assert_eq!(recover(&gateway, &comeback(TWO, &secret)).await, Err("lost"));
}

#[tokio::test(start_paused = true)]
async fn what_is_subscribed_to_while_the_store_is_away_is_kept_later() {
    let gateway = Gateway::running(&store().await).await;
    let secret = connect_recoverable(&gateway, ONE).await;
    let outbox = gateway.hub.connection(ONE).unwrap();
    let can_tell = || outbox.with_progress(|progress| progress.can_tell());
    assert_eq!(can_tell(), Some(true));
    gateway.set_away(true);
    begin(&outbox, "room:2");
    gateway.keeper.keep_subscriptions(ONE).await;
    assert_eq!(can_tell(), Some(false));
    assert_eq!(recover(&gateway, &comeback(TWO, &secret)).await, Err("unavailable"));
    gateway.set_away(false);
    time::sleep(WINDOW).await;
    assert_eq!(can_tell(), Some(true));
    let both = Ok(vec!["room:1".to_owned(), "room:2".to_owned()]);
    assert_eq!(recover(&gateway, &comeback(TWO, &secret)).await, both);
}

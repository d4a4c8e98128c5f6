//! Keeps sessions in the store, so that they can be resumed on any gateway, and takes them from
//! there.
//!
//! Only those of clients that ask for it. A session is written before its secret is told, and
//! written again as long as its connection is open; what is left of it then lasts for the window.
//! Where the store is away, clients connect as those do that did not ask.

mod recovery;

use std::{mem, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use broker_core::{
    CloseCode, ConnectionId, ErrorCode, Identity,
    id::ConnectionIdHasher,
    ports::{Bus, Sessions},
    resume::{KeptSession, Resumed, SessionKey},
    session::{Failure, Token},
};
use dashmap::DashMap;
use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Mutex, mpsc},
    time::{self, Instant, MissedTickBehavior},
};

use crate::{api, clock, hub::Hub, telemetry::Metrics};
pub(crate) use recovery::{Comeback, Recovery};

/// Sessions written at once, and notes taken at once.
const BATCH: usize = 512;
/// Notes that wait to be looked at.
const NOTES: usize = 4096;
/// Bytes of a secret; nobody guesses one.
const SECRET_BYTES: usize = 32;
/// The same in base64, without padding.
const SECRET_CHARS: usize = (SECRET_BYTES * 4).div_ceil(3);
/// How long the other gateways are given to hear that a connection is superseded. None of their
/// answers matters.
const TELL: Duration = Duration::from_secs(1);

/// The gateway's sessions that can be resumed.
#[derive(Debug)]
pub(crate) struct Keeper {
    store: Arc<dyn Sessions>,
    bus: Arc<dyn Bus>,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    window: Duration,
    open: DashMap<ConnectionId, Open, ConnectionIdHasher>,
    /// Sessions that are over, but not yet forgotten.
    over: DashMap<SessionKey, ()>,
    notes: mpsc::Sender<Note>,
    /// Of the one task that runs.
    noted: Mutex<mpsc::Receiver<Note>>,
}

/// A session whose connection is here.
#[derive(Debug)]
struct Open {
    session: KeptSession,
    /// When it was last known not to be taken.
    kept: Instant,
}

/// What is done beside the connections.
#[derive(Debug)]
enum Note {
    /// This connection's session was resumed by another one.
    Supersede(ConnectionId),
    /// This connection's identity has changed.
    Changed(ConnectionId),
    /// This session is over.
    Forget(Box<KeptSession>),
}

/// What is to be kept.
#[derive(Debug)]
pub(crate) struct ToKeep {
    pub(crate) connection: ConnectionId,
    pub(crate) origin: ConnectionId,
    pub(crate) identity: Arc<Identity>,
    /// Under which secret, if not under a new one.
    pub(crate) secret: Option<Token>,
    /// Whether it is to be recovered, and not resumed.
    pub(crate) recoverable: bool,
}

/// A session that was written, and the secret that resumes it.
#[derive(Debug)]
pub(crate) struct Kept {
    open: Open,
    secret: Token,
}

impl Keeper {
    /// `window`: how long sessions can be resumed after their connections broke, at least.
    pub(crate) fn new(
        store: Arc<dyn Sessions>,
        bus: Arc<dyn Bus>,
        hub: Arc<Hub>,
        metrics: Arc<Metrics>,
        window: Duration,
    ) -> Self {
        let (notes, noted) = mpsc::channel(NOTES);
        let (open, over, noted) = (DashMap::default(), DashMap::new(), Mutex::new(noted));
        Self { store, bus, hub, metrics, window, open, over, notes, noted }
    }

    /// From one writing of a session on, for how long it is kept: until the next one, and the
    /// window.
    fn ttl(&self) -> Duration {
        self.window + self.refresh_every()
    }

    /// How long it is remembered that a session was taken: longer than anybody who does not know
    /// of it writes it.
    fn remembered(&self) -> Duration {
        2 * self.ttl()
    }

    /// Whether the store would still know if the session was taken.
    fn is_certain(&self, open: &Open) -> bool {
        open.kept.elapsed() < self.ttl()
    }

    fn refresh_every(&self) -> Duration {
        self.window / 2
    }

    /// Writes a session; `None` if the store does not take it.
    pub(crate) async fn keep(&self, what: ToKeep) -> Option<Box<Kept>> {
        let ToKeep { connection, origin, identity, .. } = what;
        let secret = what.secret.unwrap_or_else(new_secret);
        let key = if what.recoverable { recovery_key_of(&secret) } else { key_of(&secret) };
        let session = KeptSession { key, connection, origin, identity, subscriptions: None };
        let open = Open { session, kept: Instant::now() };
        let session = self.with_subscriptions(&open);
        let outcome = self.store.keep(vec![session.clone()], self.ttl()).await;
        if !matches!(&outcome, Ok(taken) if taken.is_empty()) {
            tracing::debug!(?outcome, "a session is not kept");
            self.metrics.sessions.not_kept.inc();
            return None;
        }
        self.note_written(&session);
        Some(Box::new(Kept { open, secret }))
    }

    /// Looks after a session from now on, until [`Keeper::closed`]. Its secret may be told.
    pub(crate) fn watch(&self, kept: Kept) -> Token {
        self.open.insert(kept.open.session.connection, kept.open);
        kept.secret
    }

    /// The connection goes on with a fresh token.
    pub(crate) fn changed(&self, connection: ConnectionId, identity: &Arc<Identity>) {
        if let Some(mut open) = self.open.get_mut(&connection) {
            open.session.identity = Arc::clone(identity);
        }
        self.subscriptions_changed(connection);
    }

    /// The connection has ended a subscription.
    pub(crate) fn subscriptions_changed(&self, connection: ConnectionId) {
        if self.notes.try_send(Note::Changed(connection)).is_err() {
            tracing::debug!("a session is written somewhat later");
        }
    }

    /// The connection has ended; its session is over too if the client is not to come back.
    pub(crate) fn closed(&self, connection: ConnectionId, with: Option<CloseCode>) {
        let Some((_, open)) = self.open.remove(&connection) else { return };
        let over = with.is_some_and(|code| !code.reconnect() && code != CloseCode::Superseded);
        let key = open.session.key;
        if !over {
            return;
        }
        self.over.insert(key, ());
        if self.notes.try_send(Note::Forget(Box::new(open.session))).is_err() {
            self.over.remove(&key);
            tracing::warn!("a session that is over lasts for its window: too many end at once");
            self.metrics.store_error();
        }
    }

    /// Takes the session that has this secret, wherever its connection is or was.
    pub(crate) async fn resume(&self, secret: &Token) -> Result<Resumed, Failure> {
        let outcome = self.take(secret).await;
        self.metrics.sessions.resumed(match &outcome {
            Ok(_) => "resumed",
            Err(failure) if failure.code == ErrorCode::SessionLost => "lost",
            Err(_) => "unavailable",
        });
        outcome
    }

    async fn take(&self, secret: &Token) -> Result<Resumed, Failure> {
        let lost = |text| Failure::new(ErrorCode::SessionLost, text);
        let unknown = "there is no such session any more: connect with a token";
        // What else the store keeps, tickets and recoverable sessions, is under keys of longer texts.
        if secret.reveal().len() != SECRET_CHARS {
            return Err(lost(unknown));
        }
        let taken = self.store.take(key_of(secret), self.remembered()).await;
        let session = taken.map_err(|error| {
            self.metrics.store_error();
            let text = format!("{error}: connect with a token, or try again on a new connection");
            Failure::new(ErrorCode::Unavailable, text)
        })?;
        let KeptSession { connection, origin, identity, .. } = session.ok_or(lost(unknown))?;
        self.supersede(connection).await;
        if identity.expires.is_some_and(|expires| expires <= clock::wall()) {
            return Err(lost("the session's token has expired: connect with a fresh one"));
        }
        Ok(Resumed { origin, identity: Arc::unwrap_or_clone(identity) })
    }

    /// Ends the connection that the session was taken from, should it still seem alive.
    async fn supersede(&self, connection: ConnectionId) {
        if !self.hub.close(connection, CloseCode::Superseded)
            && self.notes.send(Note::Supersede(connection)).await.is_err()
        {
            tracing::debug!("nobody is left to end a superseded connection");
        }
    }

    /// Keeps what is open, and does what was noted. Runs until dropped.
    pub(crate) async fn run(&self) {
        let mut noted = self.noted.lock().await;
        let mut refreshes = time::interval(self.refresh_every());
        refreshes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut notes = Vec::new();
        loop {
            tokio::select! {
                _ = refreshes.tick() => self.refresh().await,
                _ = noted.recv_many(&mut notes, BATCH) => {
                    self.look_at(mem::take(&mut notes)).await;
                }
            }
        }
    }

    /// Writes what is open once more, and learns what was taken by gateways that could not tell.
    async fn refresh(&self) {
        // If the others were taken, the store may have forgotten it by now: written anew, they
        // could be resumed twice.
        self.open.retain(|connection, open| {
            let certain = self.is_certain(open);
            self.metrics.sessions.not_kept.inc_by(u64::from(!certain));
            if !certain && let Some(outbox) = self.hub.connection(*connection) {
                outbox.forget_progress();
            }
            certain
        });
        let open: Vec<KeptSession> =
            self.open.iter().map(|open| self.with_subscriptions(&open)).collect();
        for batch in open.chunks(BATCH) {
            if !self.write(batch.to_vec()).await {
                return;
            }
        }
    }

    /// Says whether the store is there.
    async fn write(&self, sessions: Vec<KeptSession>) -> bool {
        let (kept, all) = (Instant::now(), sessions.clone());
        let taken = match self.store.keep(sessions, self.ttl()).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::debug!(%error, "sessions are not kept");
                self.metrics.store_error();
                return false;
            }
        };
        for session in all {
            if taken.contains(&session.key) {
                self.hub.close(session.connection, CloseCode::Superseded);
                continue;
            }
            self.note_written(&session);
            if let Some(mut open) = self.open.get_mut(&session.connection) {
                open.kept = kept;
            }
        }
        true
    }

    async fn look_at(&self, notes: Vec<Note>) {
        let (mut superseded, mut changed, mut over) = (Vec::new(), Vec::new(), Vec::new());
        for note in notes {
            match note {
                Note::Supersede(connection) => superseded.push(connection),
                Note::Changed(connection) => {
                    let open = self.open.get(&connection).filter(|open| self.is_certain(open));
                    changed.extend(open.map(|open| self.with_subscriptions(&open)));
                }
                Note::Forget(session) => over.push(self.forget(*session)),
            }
        }
        if !superseded.is_empty() {
            let question = api::superseded(&superseded);
            if let Err(error) = self.bus.ask_gateways(question, 1, TELL).await {
                tracing::debug!(%error, "other gateways learn from the store what is superseded");
            }
        }
        if !changed.is_empty() {
            self.write(changed).await;
        }
        join_all(over).await;
    }

    /// Unless another connection has it by now: what was passed on is not for this one to end, and
    /// that is learnt by writing it once more.
    async fn forget(&self, session: KeptSession) {
        let key = session.key;
        let ended = match self.store.keep(vec![session], self.ttl()).await {
            Ok(passed_on) if !passed_on.is_empty() => Ok(()),
            Ok(_) => self.store.take(key, self.remembered()).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a session that is over lasts for its window");
            self.metrics.store_error();
        }
        self.over.remove(&key);
    }
}

fn new_secret() -> Token {
    let bytes: [u8; SECRET_BYTES] = rand::random();
    Token::new(URL_SAFE_NO_PAD.encode(bytes))
}

fn key_of(secret: &Token) -> SessionKey {
    SessionKey(Sha256::digest(secret.reveal()).into())
}

/// Another one: what a client is recovered by, beside its token, resumes nothing by itself.
fn recovery_key_of(secret: &Token) -> SessionKey {
    SessionKey(
        Sha256::new().chain_update("recovery ").chain_update(secret.reveal()).finalize().into(),
    )
}

#[cfg(test)]
mod tests;

//! A client of the gateways that takes in the prober's messages and comes back when it is cut off,
//! as `docs/protocol.md` asks of clients.

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use broker_core::{
    Data, Interest, Message, Position,
    session::{Command, Since, Token},
};
use broker_protocol::native::client::ServerFrame;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::time::{self, Instant, MissedTickBehavior};

use super::{
    Body,
    figures::Figures,
    ledger::{Ledger, Outcome},
};
use crate::{
    auth::mint,
    cli::{
        Exit,
        client::connection::{ClientError, Connection},
        token,
    },
    config::Key,
};

/// First and longest bound of the pause before an attempt to connect, which is random below it.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(20));
/// How often it is looked at what has not come.
const LOOK: Duration = Duration::from_millis(250);
/// How long a token is good that the prober makes for itself.
const TOKEN_TTL: Duration = Duration::from_mins(10);

/// What the client shows to be let in.
#[derive(Debug)]
pub(super) enum Credentials {
    /// Nothing.
    None,
    Token(Token),
    /// Read anew each time: whoever writes it may renew it.
    File(PathBuf),
    /// Made anew each time.
    Minted {
        key: Key,
        claims: Map<String, Value>,
    },
}

impl Credentials {
    fn token(&self) -> Result<Option<Token>, ClientError> {
        match self {
            Self::None => Ok(None),
            Self::Token(token) => Ok(Some(token.clone())),
            Self::File(file) => {
                let text = token::read(file).map_err(|_| ClientError::NoToken)?;
                Ok(Some(Token::new(text.trim().to_owned())))
            }
            Self::Minted { key, claims } => {
                let minted = mint::mint(key, claims.clone(), TOKEN_TTL).map_err(|error| {
                    tracing::error!(%error, "no token");
                    ClientError::NoToken
                })?;
                Ok(Some(Token::new(minted.reveal().to_owned())))
            }
        }
    }
}

/// The client.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) server: String,
    pub(super) interest: Interest,
    pub(super) credentials: Arc<Credentials>,
    /// Whose messages count.
    pub(super) run: u32,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) figures: Arc<Figures>,
    /// Of the last message that came, in namespaces with history.
    pub(super) position: Option<Position>,
    /// When the server asks to come back.
    pub(super) after: Option<Duration>,
}

impl Watcher {
    /// Connects and subscribes, from where it stands if the namespace has history.
    pub(super) async fn join(&mut self) -> Result<Connection, ClientError> {
        let joined = self.try_join().await;
        self.figures.connected(joined.is_ok());
        joined
    }

    async fn try_join(&mut self) -> Result<Connection, ClientError> {
        let mut connection = Connection::open(&self.server, self.credentials.token()?).await?;
        let since = Since { position: self.position, age: None, rewind: None };
        let since = Some(Box::new(since)).filter(|since| !since.is_now());
        let command = Command::Subscribe { interest: self.interest.clone(), since };
        let ServerFrame::Subscribed { start, .. } = connection.ask(command).await? else {
            return Err(ClientError::Protocol("another answer than asked for".to_owned()));
        };
        if let Some(start) = &start
            && start.recovered != Some(true)
        {
            self.position = start.position;
        }
        self.ledger.lock().subscribed(Instant::now(), start.is_some());
        tracing::info!(
            server = self.server(),
            recovered = start.and_then(|it| it.recovered),
            "subscribed"
        );
        Ok(connection)
    }

    /// Takes in messages, on this connection and on others after it, until dropped.
    pub(super) async fn run(mut self, mut joined: Option<Connection>) {
        let mut attempt = 0;
        loop {
            let connection = match joined.take() {
                Some(connection) => Ok(connection),
                None => self.join().await,
            };
            let error = match connection {
                Ok(mut connection) => {
                    attempt = 0;
                    match self.listen(&mut connection).await {
                        Ok(never) => match never {},
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            self.ledger.lock().disconnected(Instant::now());
            tracing::warn!(server = self.server(), %error, "not connected");
            time::sleep(self.after.take().unwrap_or_else(|| pause_before(attempt))).await;
            attempt += 1;
        }
    }

    async fn listen(&mut self, connection: &mut Connection) -> Result<Infallible, ClientError> {
        let mut looks = time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            let frame = tokio::select! {
                frame = connection.next() => frame?,
                _ = looks.tick() => {
                    self.look(heard)?;
                    continue;
                }
            };
            heard = Instant::now();
            match frame {
                ServerFrame::Message(message) => self.take(&message),
                ServerFrame::Reconnect { after } => self.after = Some(after),
                ServerFrame::Expiring { .. } => {
                    if let Some(token) = self.credentials.token()? {
                        connection.ask(Command::Refresh { token }).await?;
                    }
                }
                ServerFrame::Unsubscribed { .. } => {
                    let text = "it has ended the subscription".to_owned();
                    return Err(ClientError::Closed(text, Exit::Refused));
                }
                ServerFrame::Error(error) => return Err(ClientError::Server(error)),
                _ => {}
            }
        }
    }

    fn take(&mut self, message: &Message) {
        self.position = message.position().or(self.position);
        let Data::Json(text) = &message.data else { return };
        match serde_json::from_slice(text.as_bytes()) {
            Ok(Body { run, number }) if run == self.run => {
                let judged = self.ledger.lock().arrive(number, Instant::now());
                if let Some((outcome, took)) = judged {
                    self.figures.arrived(outcome, took);
                }
            }
            // Another prober's.
            Ok(_) | Err(_) => {}
        }
    }

    /// Gives up what is lost, and the connection if nothing comes though something should.
    fn look(&self, heard: Instant) -> Result<(), ClientError> {
        let now = Instant::now();
        let mut ledger = self.ledger.lock();
        let lost = ledger.give_up(now);
        if lost > 0 {
            tracing::warn!(server = self.server(), lost, "messages are lost");
            self.figures.count(Outcome::Lost, lost);
        }
        let limit = ledger.patience().of_connection();
        let waits = ledger.longest_wait(now).unwrap_or_default();
        if waits >= limit && now - heard >= limit {
            return Err(ClientError::Silent);
        }
        Ok(())
    }

    /// The URL, without what may be a secret in it.
    pub(super) fn server(&self) -> &str {
        self.server.split('?').next().unwrap_or_default()
    }
}

fn pause_before(attempt: u32) -> Duration {
    let (first, longest) = BACKOFF;
    first.saturating_mul(2u32.saturating_pow(attempt)).min(longest).mul_f64(rand::random())
}

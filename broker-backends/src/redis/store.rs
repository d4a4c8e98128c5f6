//! The connection to Redis: every step has a deadline, and nothing waits for a store that is away.

use std::{fmt, sync::Arc, time::Duration};

use broker_core::{NodeId, ports::StoreError};
use fred::{
    clients::{Client, WithOptions},
    error::{Error, ErrorKind},
    interfaces::{ClientLike, EventInterface, KeysInterface},
    types::{
        Builder, ClientState, ClusterHash, CustomCommand, Value,
        config::{Config, Options, ReconnectPolicy, Server},
    },
};
use tokio::{
    sync::broadcast::{self, error::TryRecvError},
    time::timeout,
};

use super::{calm::Calm, keys::Keys};
use crate::options::{ConnectError, RedisOptions};

/// What may follow `redis` or `valkey` in a URL's scheme.
const SCHEMES: [&str; 6] = ["", "s", "-cluster", "s-cluster", "-sentinel", "s-sentinel"];
/// First and longest pause between attempts to connect, and what is added at random, in ms.
const BACKOFF: (u32, u32, u32) = (100, 5000, 500);
/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(3);
/// A connection that owes an answer for so long is given up, and made anew.
const UNRESPONSIVE: Duration = Duration::from_secs(5);

/// A handle of the one connection.
#[derive(Clone)]
pub(crate) struct Store {
    client: WithOptions<Client>,
    pub(super) keys: Keys,
    pub(super) calm: Arc<Calm>,
    pub(super) deadline: Duration,
}

/// Whether the connection was made anew.
#[derive(Debug)]
pub(crate) struct Reconnects(broadcast::Receiver<Server>);

impl Reconnects {
    /// Since this was asked last.
    pub(crate) fn any(&mut self) -> bool {
        let mut any = false;
        while !matches!(self.0.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {
            any = true;
        }
        any
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("state", &self.client.state()).finish_non_exhaustive()
    }
}

impl Store {
    /// Starts to connect, and goes on trying for ever.
    pub(crate) fn open(options: &RedisOptions) -> Result<Self, ConnectError> {
        let wrong = |error: Error| ConnectError::Option {
            option: "redis.url",
            reason: error.details().to_owned(),
        };
        // fred takes any scheme for `redis`.
        let scheme = options.url.split("://").next().unwrap_or_default();
        let scheme = scheme.strip_prefix("valkey").or_else(|| scheme.strip_prefix("redis"));
        if !scheme.is_some_and(|rest| SCHEMES.contains(&rest)) {
            let reason =
                "it must start with redis://, rediss://, redis-cluster:// or redis-sentinel://";
            return Err(ConnectError::Option { option: "redis.url", reason: reason.into() });
        }
        let mut config = Config::from_url(&options.url).map_err(wrong)?;
        // Of the first attempt to connect only: false means that further ones follow.
        config.fail_fast = false;
        let (least, most, jitter) = BACKOFF;
        let mut policy = ReconnectPolicy::new_exponential(0, least, most, 2);
        policy.set_jitter(jitter);
        let deadline = options.command_timeout;
        let client = Builder::from_config(config)
            .with_connection_config(|connection| {
                connection.connection_timeout = CONNECT;
                connection.internal_command_timeout = CONNECT;
                connection.max_command_attempts = 1;
                connection.max_command_buffer_len = options.max_in_flight;
                connection.unresponsive.max_timeout = Some(UNRESPONSIVE);
                connection.unresponsive.interval = Duration::from_secs(1);
            })
            .with_performance_config(|performance| performance.default_command_timeout = deadline)
            .set_policy(policy)
            .build()
            .map_err(wrong)?;
        // The client owns its task; `quit` ends it.
        let calm = Arc::new(Calm::new(client.reconnect_rx()));
        drop(client.connect());
        let client = client.with_options(&Options {
            // A write whose answer was lost must not be written twice.
            max_attempts: Some(1),
            timeout: Some(deadline),
            fail_fast: true,
            ..Options::default()
        });
        Ok(Self { client, keys: Keys::new(&options.prefix), calm, deadline })
    }

    /// Waits a moment for the first connection, so that the first call does not find it missing.
    pub(crate) async fn first_connection(&self) {
        if !matches!(timeout(self.deadline, self.client.wait_for_connect()).await, Ok(Ok(()))) {
            tracing::warn!("Redis is not in reach: going on without it until it is");
        }
        self.calm.forget_reconnects();
    }

    /// Hears of new connections from now on.
    pub(crate) fn reconnects(&self) -> Reconnects {
        Reconnects(self.client.reconnect_rx())
    }

    /// The client, if the store is in reach.
    pub(super) fn client(&self) -> Result<&WithOptions<Client>, StoreError> {
        let connected = self.client.state() == ClientState::Connected;
        connected.then_some(&self.client).ok_or(StoreError::Unavailable)
    }

    /// One step of a call, within the deadline.
    pub(super) async fn step<T>(
        &self,
        step: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreError> {
        let answer = timeout(self.deadline, step).await.map_err(|_| StoreError::Unavailable)?;
        answer.map_err(|error| {
            if is_refusal(&error) {
                StoreError::Refused(error.details().to_owned())
            } else {
                StoreError::Unavailable
            }
        })
    }

    /// Whether a gateway has a lease.
    pub(super) async fn lives(&self, node: &NodeId) -> Result<bool, StoreError> {
        let there: u64 = self.step(self.client()?.exists(self.keys.lease(node))).await?;
        Ok(there > 0)
    }

    /// The server's clock, in ms since 1970: the same for all gateways.
    pub(super) async fn now(&self) -> Result<u64, StoreError> {
        let command = CustomCommand::new_static("TIME", None::<u16>, false);
        let (seconds, micros): (u64, u64) =
            self.step(self.client()?.custom(command, Vec::<Value>::new())).await?;
        Ok(seconds * 1000 + micros / 1000)
    }

    /// Some fields of a hash, each followed by its value, and where to go on; 0 at the end.
    pub(super) async fn scan_hash(
        &self,
        key: &str,
        cursor: u64,
        count: usize,
    ) -> Result<(u64, Vec<String>), StoreError> {
        let command = CustomCommand::new_static("HSCAN", ClusterHash::FirstKey, false);
        let arguments = [key, &cursor.to_string(), "COUNT", &count.to_string()];
        let arguments: Vec<Value> = arguments.into_iter().map(Value::from).collect();
        let (next, fields): (String, Vec<String>) =
            self.step(self.client()?.custom(command, arguments)).await?;
        let next = next.parse().map_err(|_| StoreError::Refused("no cursor".into()))?;
        Ok((next, fields))
    }

    pub(crate) async fn close(self) {
        if timeout(self.deadline, self.client.quit()).await.is_err() {
            tracing::debug!("Redis is away: the connection ends without its goodbye");
        }
    }
}

/// Whether repeating the command later would not help.
fn is_refusal(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::InvalidArgument
        | ErrorKind::InvalidCommand
        | ErrorKind::Parse
        | ErrorKind::Auth => true,
        // Besides fred's own troubles, what the server says with a code: `LOADING`, `READONLY`
        // and others pass.
        ErrorKind::Unknown => {
            ["ERR ", "NOPERM ", "OOM "].iter().any(|code| error.details().starts_with(code))
        }
        _ => false,
    }
}

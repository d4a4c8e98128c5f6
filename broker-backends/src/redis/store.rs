//! The connection to Redis: every step has a deadline, and nothing waits for a store that is away.

use std::{fmt, time::Duration};

use broker_core::ports::StoreError;
use fred::{
    clients::{Client, WithOptions},
    error::{Error, ErrorKind},
    interfaces::ClientLike,
    types::{
        Builder, ClientState,
        config::{Config, Options, ReconnectPolicy},
    },
};
use tokio::time::timeout;

use super::keys::Keys;
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
    deadline: Duration,
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
        drop(client.connect());
        let client = client.with_options(&Options {
            // A write whose answer was lost must not be written twice.
            max_attempts: Some(1),
            timeout: Some(deadline),
            fail_fast: true,
            ..Options::default()
        });
        Ok(Self { client, keys: Keys::new(&options.prefix), deadline })
    }

    /// Waits a moment for the first connection, so that the first call does not find it missing.
    pub(crate) async fn first_connection(&self) {
        if !matches!(timeout(self.deadline, self.client.wait_for_connect()).await, Ok(Ok(()))) {
            tracing::warn!("Redis is not in reach: going on without it until it is");
        }
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

//! How to reach the servers, and every bound with its default.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use broker_core::{History, Namespace, NodeId, history::Queue};

/// The embedded backends' bounds.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Fan-out workers: how many [`BusEvents`](crate::BusEvents) there are.
    pub workers: usize,
    /// Events that wait for each worker.
    pub queue_capacity: usize,
    /// How long a publish waits for the fan-out.
    pub deadline: Duration,
    /// Keys of repeatable requests that are remembered at once; and as many sessions.
    pub session_capacity: usize,
    /// What is kept, by namespace.
    pub histories: Histories,
    /// Bytes of messages that all logs keep together; with more, publishes are refused.
    pub history_bytes: usize,
    /// How account is kept of who is in a channel.
    pub roster: RosterOptions,
    /// The offline queues of the namespace `user`; its history is then [`Queue::history`].
    pub queue: Option<Queue>,
}

/// What is kept of the channels of each namespace that has history.
pub type Histories = BTreeMap<Namespace, History>;

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            queue_capacity: 8192,
            deadline: Duration::from_secs(2),
            session_capacity: 100_000,
            histories: Histories::new(),
            history_bytes: 256 << 20,
            roster: RosterOptions::default(),
            queue: None,
        }
    }
}

/// How account is kept of who is in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RosterOptions {
    /// How long after their last connection a user has not left yet.
    pub grace: Duration,
    /// For how long it is kept when a user was last seen.
    pub last_seen: Duration,
    /// Of how many users that is kept in memory; in Redis, of as many as there are.
    pub last_seen_capacity: usize,
}

impl Default for RosterOptions {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(5),
            last_seen: Duration::from_hours(24 * 30),
            last_seen_capacity: 100_000,
        }
    }
}

/// The cluster's servers.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The bus.
    pub nats: NatsOptions,
    /// The store.
    pub redis: RedisOptions,
    /// What is kept, by namespace.
    pub histories: Histories,
    /// The offline queues of the namespace `user`; its history is then [`Queue::history`].
    pub queue: Option<Queue>,
}

/// How to use NATS.
#[derive(Clone)]
pub struct NatsOptions {
    /// Servers, such as `nats://nats-0:4222`; `tls://` asks for TLS.
    pub urls: Vec<String>,
    /// How to log in.
    pub auth: NatsAuth,
    /// Certificates.
    pub tls: TlsFiles,
    /// What the server's operators see.
    pub name: String,
    /// This gateway.
    pub node: NodeId,
    /// First token of every subject.
    pub prefix: String,
    /// Prefix of the subjects to which answers go; services need to be allowed to publish there.
    pub inbox_prefix: String,
    /// Fan-out workers: how many [`BusEvents`](crate::BusEvents) there are.
    pub workers: usize,
    /// Messages that wait for each fan-out worker before one is dropped, which makes a gap.
    pub queue_capacity: usize,
    /// Publishes that wait to be handed over.
    pub publish_capacity: usize,
    /// How long anything waits for the server to confirm.
    pub deadline: Duration,
    /// How long to go on trying while the server is out of reach, or its JetStream is not whole
    /// yet; zero: once.
    pub connect_within: Duration,
    /// How messages are stored.
    pub streams: StreamOptions,
    /// Whether to start without a server and go on trying: until one is there, everything is
    /// answered as out of reach, and one that is too old is only logged.
    pub wait: bool,
}

impl std::fmt::Debug for NatsOptions {
    /// Without the URLs, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsOptions")
            .field("auth", &self.auth)
            .field("node", &self.node)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl NatsOptions {
    /// The defaults, for these servers.
    #[must_use]
    pub fn new(urls: Vec<String>, node: NodeId) -> Self {
        Self {
            urls,
            auth: NatsAuth::None,
            tls: TlsFiles::default(),
            name: format!("fanfare {node}"),
            node,
            prefix: "fanfare".into(),
            inbox_prefix: "_INBOX".into(),
            workers: 1,
            queue_capacity: 65_536,
            publish_capacity: 8192,
            deadline: Duration::from_secs(2),
            connect_within: Duration::ZERO,
            streams: StreamOptions::default(),
            wait: false,
        }
    }
}

/// How JetStream stores what has history: one stream for each namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOptions {
    /// Servers of the cluster that store each message, 1 to 5; with 3, any one may be lost.
    pub replicas: usize,
    /// Where.
    pub storage: Storage,
    /// Bytes that each stream may take; when it is full, publishes are refused. `None`: as many
    /// as the server has.
    pub max_bytes: Option<u64>,
    /// Publishes under way to each stream at once; more wait. A server drops what comes faster
    /// than it can store.
    pub window: usize,
}

/// Where a stream keeps its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    File,
    /// In memory: with all of a stream's servers, its messages are gone.
    Memory,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { replicas: 1, storage: Storage::File, max_bytes: None, window: 512 }
    }
}

/// How to log in to NATS; a user and password in a URL are not used.
#[derive(Clone)]
pub enum NatsAuth {
    /// Not at all.
    None,
    /// A `.creds` file: JWT and NKey seed.
    Credentials(PathBuf),
    /// User and password.
    User {
        /// The user.
        name: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
}

impl std::fmt::Debug for NatsAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Credentials(path) => f.debug_tuple("Credentials").field(path).finish(),
            Self::User { name, .. } => {
                f.debug_struct("User").field("name", name).finish_non_exhaustive()
            }
            Self::Token(_) => f.write_str("Token(..)"),
        }
    }
}

/// Certificates, as PEM files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may vouch for the server, instead of the system's authorities.
    pub ca: Option<PathBuf>,
    /// This client's certificate.
    pub certificate: Option<PathBuf>,
    /// The certificate's key.
    pub key: Option<PathBuf>,
}

/// How to use Redis or Valkey.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://`, `rediss://`, `redis-cluster://`, `redis-sentinel://`, as fred reads them.
    pub url: String,
    /// Prefix of every key.
    pub prefix: String,
    /// How long any call may take.
    pub command_timeout: Duration,
    /// Commands under way at once; more are refused.
    pub max_in_flight: usize,
    /// How account is kept of who is in a channel.
    pub roster: RosterOptions,
}

impl std::fmt::Debug for RedisOptions {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisOptions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl RedisOptions {
    /// The defaults, for this server.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "fanfare".into(),
            command_timeout: Duration::from_secs(1),
            max_in_flight: 20_000,
            roster: RosterOptions::default(),
        }
    }
}

/// Why there are no backends.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An option is not of its form.
    #[error("the option {option} is wrong: {reason}")]
    Option {
        /// Which.
        option: &'static str,
        /// Why.
        reason: String,
    },
    /// NATS is out of reach, or refuses.
    #[error("cannot connect to NATS: {0}")]
    Nats(String),
    /// History needs JetStream.
    #[error("history needs JetStream, which this nats-server or account does not have: {0}")]
    NoJetStream(String),
    /// A namespace's stream is not as the configuration says, and cannot be made so.
    #[error("the stream {stream} cannot be made as configured ({differences}): {reason}")]
    Stream {
        /// The stream.
        stream: String,
        /// Each field that differs, with what is wanted and what was found; or that the stream is
        /// not there.
        differences: String,
        /// The server's words.
        reason: String,
    },
    /// The server is older than what Fanfare needs.
    #[error("nats-server {found} is too old: at least {wanted} is needed")]
    NatsTooOld {
        /// The server's version.
        found: String,
        /// The oldest that will do.
        wanted: &'static str,
    },
}

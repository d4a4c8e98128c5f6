//! `[nats]`, `[redis]` and `[presence]`: what several gateways share.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::{problems::Checks, secret::Secret, text};

/// The bus between gateways. Without it, messages reach the clients of this one gateway only.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawNats {
    /// URLs of the NATS servers, with commas, such as `nats://nats-0:4222,nats://nats-1:4222`;
    /// `tls://` for TLS. Without it, the bus is embedded in the process.
    pub(crate) url: Option<String>,
    /// NATS credentials file (`.creds`).
    pub(crate) credentials_file: Option<PathBuf>,
    /// User, together with `password` or `password_file`.
    pub(crate) user: Option<String>,
    /// Password of `user`.
    pub(crate) password: Option<Secret>,
    /// File that holds `password`; a final line break is ignored.
    pub(crate) password_file: Option<PathBuf>,
    /// Token, where the servers ask for one.
    pub(crate) token: Option<Secret>,
    /// File that holds `token`; a final line break is ignored.
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file with the certificate authorities to trust, instead of the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// First token of all subjects: `venue:42` is `fanfare.ch.venue.42`. Gateways with the same
    /// prefix on the same servers are one cluster.
    pub(crate) prefix: String,
    /// Longest time that a publish or a subscription waits for the servers; then it is answered
    /// as refused or unknown.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) deadline: Duration,
    /// How long a gateway that starts goes on trying while NATS is out of reach or its JetStream is
    /// not whole yet; then it ends with exit code 69. `0s`: it tries once.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) connect_within: Duration,
    /// How long the gateway stays subscribed to a channel after its last client has left it, so
    /// that reconnects cost the bus nothing.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) linger: Duration,
    /// Messages that may wait between the NATS connection and each of the fan-out workers, of which
    /// there is one for each processor core; beyond it, or beyond 64 MiB of them, they are dropped,
    /// counted and reported as lost.
    pub(crate) queue_capacity: usize,
}

impl Default for RawNats {
    fn default() -> Self {
        Self {
            url: None,
            credentials_file: None,
            user: None,
            password: None,
            password_file: None,
            token: None,
            token_file: None,
            ca_file: None,
            prefix: "fanfare".to_owned(),
            deadline: Duration::from_secs(2),
            connect_within: Duration::from_secs(30),
            linger: Duration::from_secs(5),
            queue_capacity: 65_536,
        }
    }
}

/// The bus between gateways.
#[derive(Debug, Clone)]
pub(crate) struct Nats {
    /// URLs of the servers; empty: the bus is embedded in the process.
    pub(crate) url: Vec<String>,
    /// Credentials file.
    pub(crate) credentials_file: Option<PathBuf>,
    /// User, who has a password then.
    pub(crate) user: Option<String>,
    /// Password of the user.
    pub(crate) password: Option<Secret>,
    /// Token.
    pub(crate) token: Option<Secret>,
    /// PEM file with the certificate authorities to trust.
    pub(crate) ca_file: Option<PathBuf>,
    /// First token of all subjects.
    pub(crate) prefix: String,
    /// Longest wait for the servers.
    pub(crate) deadline: Duration,
    /// How long a gateway that starts tries to connect.
    pub(crate) connect_within: Duration,
    /// How long a subscription outlives its last client.
    pub(crate) linger: Duration,
    /// Messages that may wait for each fan-out worker.
    pub(crate) queue_capacity: usize,
}

impl RawNats {
    pub(in crate::config) fn resolve(self, checks: &mut Checks<'_>) -> Nats {
        let url: Vec<String> = self
            .url
            .iter()
            .flat_map(|list| list.split(','))
            .map(|url| url.trim().to_owned())
            .filter(|url| !url.is_empty())
            .collect();
        for url in &url {
            check_nats_url(url, checks);
        }
        let password = checks
            .file_or(("nats.password", self.password), ("nats.password_file", self.password_file));
        let token =
            checks.file_or(("nats.token", self.token), ("nats.token_file", self.token_file));
        if self.user.is_some() != password.is_some() {
            checks.fail("nats.user", "`user` and `password` (or `password_file`) go together");
        }
        let ways = [self.credentials_file.is_some(), self.user.is_some(), token.is_some()];
        if ways.iter().filter(|given| **given).count() > 1 {
            checks.fail("nats", "give one of `credentials_file`, `user` and `token`");
        }
        check_prefix("nats.prefix", &self.prefix, checks);
        checks.positive("nats.deadline", self.deadline);
        if self.queue_capacity == 0 {
            checks.fail("nats.queue_capacity", "write at least 1");
        }
        Nats {
            url,
            credentials_file: self.credentials_file,
            user: self.user,
            password,
            token,
            ca_file: self.ca_file,
            prefix: self.prefix,
            deadline: self.deadline,
            connect_within: self.connect_within,
            linger: self.linger,
            queue_capacity: self.queue_capacity,
        }
    }
}

/// Where presence is kept, with its leases. Without it, presence is embedded in the process.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawRedis {
    /// URL of the Redis server: `redis://[user:password@]host[:port][/database]`, or `rediss://`
    /// for TLS. It is treated as a secret, for the password that it may hold.
    pub(crate) url: Option<Secret>,
    /// File that holds `url`; a final line break is ignored.
    pub(crate) url_file: Option<PathBuf>,
    /// Start of all keys.
    pub(crate) prefix: String,
    /// Longest time that one command may take.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) command_timeout: Duration,
}

impl Default for RawRedis {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            prefix: "fanfare".to_owned(),
            command_timeout: Duration::from_secs(1),
        }
    }
}

/// Where presence is kept.
#[derive(Debug, Clone)]
pub(crate) struct Redis {
    /// URL of the server; `None`: presence is embedded in the process.
    pub(crate) url: Option<Secret>,
    /// Start of all keys.
    pub(crate) prefix: String,
    /// Longest time that one command may take.
    pub(crate) command_timeout: Duration,
}

impl RawRedis {
    pub(in crate::config) fn resolve(self, checks: &mut Checks<'_>) -> Redis {
        let url = checks.file_or(("redis.url", self.url), ("redis.url_file", self.url_file));
        if let Some(url) = &url
            && !Url::parse(url.reveal())
                .is_ok_and(|url| url.scheme().starts_with("redis") && url.has_host())
        {
            checks.fail("redis.url", "write redis://host:port, or rediss:// for TLS");
        }
        check_prefix("redis.prefix", &self.prefix, checks);
        checks.positive("redis.command_timeout", self.command_timeout);
        Redis { url, prefix: self.prefix, command_timeout: self.command_timeout }
    }
}

/// Graces are looked at each second.
const LEAST_GRACE: Duration = Duration::from_secs(1);

/// How gateways know of each other's connections, and of who is in which channel.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Presence {
    /// A gateway that has not renewed its lease for this long counts as dead, and its connections
    /// with it.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) lease: Duration,
    /// How often a gateway renews its lease; at most half of `lease`.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) renew: Duration,
    /// How long after their last connection a user has not left a channel yet: a reconnect within
    /// it goes unnoticed. What a dead gateway held leaves without it. At least 1 s.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) grace: Duration,
    /// For how long it is kept when a user was last seen, where `namespaces.user` has presence.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) last_seen: Duration,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(5),
            grace: Duration::from_secs(5),
            last_seen: Duration::from_hours(30 * 24),
        }
    }
}

impl Presence {
    pub(in crate::config) fn check(&self, checks: &mut Checks<'_>) {
        checks.positive("presence.renew", self.renew);
        if self.grace < LEAST_GRACE {
            checks.fail(
                "presence.grace",
                "write at least \"1s\": users who reconnect at once have not left",
            );
        }
        checks.positive("presence.last_seen", self.last_seen);
        if self.renew * 2 > self.lease {
            checks.fail(
                "presence.renew",
                "write at most half of `presence.lease`, so that one lost renewal does no harm",
            );
        }
    }
}

/// Passwords have options of their own, which are never shown.
fn check_nats_url(url: &str, checks: &mut Checks<'_>) {
    let parsed =
        if url.contains("://") { Url::parse(url) } else { Url::parse(&format!("nats://{url}")) };
    match parsed {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => checks.fail_secret(
            "nats.url",
            "leave user, password and token out of the URL: use `nats.user` with \
             `nats.password_file`, `nats.token_file` or `nats.credentials_file`",
        ),
        Ok(url) if url.has_host() && matches!(url.scheme(), "nats" | "tls") => {}
        _ => checks.fail("nats.url", "write nats://host:port, several with commas"),
    }
}

fn check_prefix(key: &str, prefix: &str, checks: &mut Checks<'_>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if prefix.is_empty() || prefix.len() > 64 || !prefix.chars().all(plain) {
        checks.fail(key, "write 1 to 64 of A-Z a-z 0-9 _ -");
    }
}

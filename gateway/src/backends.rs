//! From configuration to backends: embedded, or a cluster.

use broker_backends::{
    Backends, ClusterOptions, ConnectError, EmbeddedOptions, NatsAuth, NatsOptions, RedisOptions,
    RosterOptions, TlsFiles,
};
use broker_core::NodeId;

use crate::config::{Config, Nats, Redis};

/// Connects to NATS and Redis where they are configured; without both, everything is embedded.
pub(crate) async fn open(config: &Config, node: &NodeId) -> Result<Backends, ConnectError> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let redis_url = config.redis.url.as_ref();
    let roster = RosterOptions {
        grace: config.presence.grace,
        last_seen: config.presence.last_seen,
        ..RosterOptions::default()
    };
    match (config.nats.url.is_empty(), redis_url) {
        (true, None) => {
            let options = EmbeddedOptions {
                workers,
                deadline: config.nats.deadline,
                histories: config.histories(),
                history_bytes: config.history.memory_bytes,
                roster,
                queue: config.queue(),
                ..EmbeddedOptions::default()
            };
            Ok(broker_backends::embedded(&options).await)
        }
        (false, Some(url)) => {
            let nats = NatsOptions {
                streams: config.history.streams(),
                ..nats(&config.nats, node.clone(), workers)
            };
            let redis = RedisOptions { roster, ..redis(&config.redis, url.reveal()) };
            let (histories, queue) = (config.histories(), config.queue());
            broker_backends::cluster(ClusterOptions { nats, redis, histories, queue }).await
        }
        (nats_missing, _) => {
            let option = if nats_missing { "nats.url" } else { "redis.url" };
            let reason =
                "a cluster needs both NATS and Redis; without both, everything is embedded"
                    .to_owned();
            Err(ConnectError::Option { option, reason })
        }
    }
}

/// How to reach NATS.
pub(crate) fn nats(config: &Nats, node: NodeId, workers: usize) -> NatsOptions {
    let auth = match (&config.credentials_file, &config.user, &config.password, &config.token) {
        (Some(file), ..) => NatsAuth::Credentials(file.clone()),
        (None, Some(name), Some(password), _) => {
            NatsAuth::User { name: name.clone(), password: password.reveal().to_owned() }
        }
        (None, _, _, Some(token)) => NatsAuth::Token(token.reveal().to_owned()),
        _ => NatsAuth::None,
    };
    NatsOptions {
        auth,
        tls: TlsFiles { ca: config.ca_file.clone(), ..TlsFiles::default() },
        prefix: config.prefix.clone(),
        workers,
        queue_capacity: config.queue_capacity,
        deadline: config.deadline,
        connect_within: config.connect_within,
        ..NatsOptions::new(config.url.clone(), node)
    }
}

fn redis(config: &Redis, url: &str) -> RedisOptions {
    RedisOptions {
        prefix: config.prefix.clone(),
        command_timeout: config.command_timeout,
        ..RedisOptions::new(url)
    }
}

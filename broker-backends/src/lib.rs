//! Fanfare's seams, each twice: embedded (in memory) and cluster (NATS and Redis).
//!
//! The only crate that knows async-nats and fred. [`embedded`] and [`cluster`] build the same
//! [`Backends`]; nothing in their types says which it is. Read [`BusEvents`] for what arrives,
//! then `memory/` as the reference of each law, then `nats/` and `redis/`.

mod arrivals;
mod clock;
mod escape;
mod inbox;
mod memory;
mod nats;
mod options;
mod redis;
mod stats;

use std::sync::Arc;

use broker_core::ports::{Bus, Presence, Sessions};

pub use arrivals::{BusEvents, Handled, Inbound};
pub use inbox::{Inbox, Question, QuestionKind};
pub use options::{
    ClusterOptions, ConnectError, EmbeddedOptions, NatsAuth, NatsOptions, RedisOptions, TlsFiles,
};
pub use stats::BusStats;

/// All seams of one gateway.
#[derive(Debug)]
pub struct Backends {
    /// Live routing, outgoing.
    pub bus: Arc<dyn Bus>,
    /// Live routing, incoming: one for each fan-out worker. All messages of one channel come by
    /// the same one.
    pub events: Vec<BusEvents>,
    /// What others ask this gateway.
    pub inbox: Inbox,
    /// Who is connected where.
    pub presence: Arc<dyn Presence>,
    /// Answers to requests that may be repeated.
    pub sessions: Arc<dyn Sessions>,
    /// The bus in figures.
    pub stats: Arc<BusStats>,
    /// Ends the connections in good order.
    pub closer: Closer,
}

/// Ends the connections to servers; dropping it ends nothing.
#[derive(Debug)]
pub struct Closer {
    nats: Option<nats::Link>,
    redis: Option<redis::Store>,
}

impl Closer {
    /// Ends the connections: [`BusEvents::next_batch`] and [`Inbox::next`] then say so.
    pub async fn close(self) {
        if let Some(link) = self.nats {
            link.close().await;
        }
        if let Some(store) = self.redis {
            store.close().await;
        }
    }
}

/// Everything in this process's memory: no server, one gateway.
#[expect(clippy::unused_async, reason = "the same shape as `cluster`")]
pub async fn embedded(options: &EmbeddedOptions) -> Backends {
    let stats = Arc::new(BusStats::default());
    let (bus, events, inbox) = memory::bus(options, Arc::clone(&stats));
    Backends {
        bus: Arc::new(bus),
        events,
        inbox,
        presence: Arc::new(memory::MemoryPresence::default()),
        sessions: Arc::new(memory::MemorySessions::new(options.session_capacity)),
        stats,
        closer: Closer { nats: None, redis: None },
    }
}

/// NATS and Redis, shared with other gateways.
///
/// # Errors
/// When NATS is out of reach (unless [`NatsOptions::wait`]) or too old, or an option is wrong.
/// Redis may be away: presence and sessions then say so until it comes.
pub async fn cluster(options: ClusterOptions) -> Result<Backends, ConnectError> {
    let store = redis::Store::open(&options.redis)?;
    let stats = Arc::new(BusStats::default());
    let nats::Parts { bus, events, inbox, link } =
        nats::connect(options.nats, Arc::clone(&stats)).await?;
    store.first_connection().await;
    Ok(Backends {
        bus: Arc::new(bus),
        events,
        inbox,
        presence: Arc::new(redis::RedisPresence::new(store.clone())),
        sessions: Arc::new(redis::RedisSessions::new(store.clone())),
        stats,
        closer: Closer { nats: Some(link), redis: Some(store) },
    })
}

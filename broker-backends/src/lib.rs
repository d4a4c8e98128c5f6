//! Fanfare's seams, each twice: embedded (in memory) and cluster (NATS and Redis).
//!
//! The only crate that knows async-nats and fred. [`embedded`] and [`cluster`] build the same
//! [`Backends`]; nothing in their types says which it is. Read [`BusEvents`] for what arrives,
//! then `memory/` as the reference of each law, then `nats/` and `redis/`.

mod arrivals;
mod clock;
mod escape;
mod feeder;
mod inbox;
mod member;
mod memory;
mod nats;
mod options;
mod queue;
mod redis;
mod stats;

use std::sync::Arc;

use broker_core::ports::{Bus, Log, OfflineQueue, Presence, Roster, Sessions};

pub use arrivals::{BusEvents, Handled, Inbound};
pub use inbox::{Inbox, Question, QuestionKind};
pub use nats::ServiceLink;
pub use options::{
    ClusterOptions, ConnectError, EmbeddedOptions, Histories, NatsAuth, NatsOptions, RedisOptions,
    RosterOptions, Storage, StreamOptions, TlsFiles,
};
pub use stats::{BusStats, QueueStats};

/// All seams of one gateway.
#[derive(Debug)]
pub struct Backends {
    /// Live routing, outgoing.
    pub bus: Arc<dyn Bus>,
    /// Live routing, incoming: one for each fan-out worker. All messages of one channel come by
    /// the same one.
    pub events: Vec<BusEvents>,
    /// The recent messages of channels with history.
    pub log: Arc<dyn Log>,
    /// What of users' messages is not acknowledged, where that is configured.
    pub queue: Option<Arc<dyn OfflineQueue>>,
    /// How they are fed, in figures.
    pub queue_stats: Arc<QueueStats>,
    /// What others ask this gateway.
    pub inbox: Inbox,
    /// Who is connected where.
    pub presence: Arc<dyn Presence>,
    /// Who is in which channel.
    pub roster: Arc<dyn Roster>,
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
    let log = Arc::new(memory::MemoryLog::new(options));
    let queue = log.queue().map(|queue| queue as Arc<dyn OfflineQueue>);
    let (bus, events, inbox) = memory::bus(options, Arc::clone(&log), Arc::clone(&stats));
    let presence = Arc::new(memory::MemoryPresence::default());
    Backends {
        bus: Arc::new(bus),
        events,
        log,
        queue,
        queue_stats: Arc::default(),
        inbox,
        roster: Arc::new(memory::MemoryRoster::new(Arc::clone(&presence), options.roster)),
        presence,
        sessions: Arc::new(memory::MemorySessions::new(options.session_capacity)),
        stats,
        closer: Closer { nats: None, redis: None },
    }
}

/// NATS and Redis, shared with other gateways.
///
/// # Errors
/// When NATS is out of reach (unless [`NatsOptions::wait`]) or too old, or an option is wrong, or a
/// stream cannot be made as configured.
/// Redis may be away: presence and sessions then say so until it comes.
pub async fn cluster(options: ClusterOptions) -> Result<Backends, ConnectError> {
    let store = redis::Store::open(&options.redis)?;
    let roster = options.redis.roster;
    let stats = Arc::new(BusStats::default());
    let nats::Parts { bus, events, log, consumer, inbox, link } = {
        let (histories, queue) = (&options.histories, options.queue.as_ref());
        nats::connect(options.nats, histories, queue, Arc::clone(&stats)).await?
    };
    store.first_connection().await;
    let queue = options.queue.map(|it| Arc::new(redis::RedisQueue::new(store.clone(), &it)));
    let queue_stats = Arc::new(QueueStats::default());
    if let (Some(consumer), Some(queue)) = (consumer, &queue) {
        let (queue, stats) = (Arc::clone(queue), Arc::clone(&queue_stats));
        link.spawn(feeder::Feeder::new(consumer, queue, store.reconnects(), stats).run());
    }
    Ok(Backends {
        bus: Arc::new(bus),
        events,
        log: Arc::new(log),
        queue: queue.map(|queue| queue as Arc<dyn OfflineQueue>),
        queue_stats,
        inbox,
        presence: Arc::new(redis::RedisPresence::new(store.clone())),
        roster: Arc::new(redis::RedisRoster::new(store.clone(), roster)),
        sessions: Arc::new(redis::RedisSessions::new(store.clone())),
        stats,
        closer: Closer { nats: Some(link), redis: Some(store) },
    })
}

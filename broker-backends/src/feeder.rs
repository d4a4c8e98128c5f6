//! From the stream of users' messages into the offline queues: the work of all gateways together.
//!
//! A message is acknowledged to JetStream once Redis has taken it, and taking it twice does no
//! harm. So while one of the two is away, messages wait in the stream, and when a gateway dies,
//! another one gets what it had.
//!
//! Redis may lose what it took: in a failover its newest writes, or everything. So each shard of
//! the queues keeps up to where the stream was fed into it. Where that is less than what JetStream
//! has acknowledged though nothing is on its way, or than it was before, the consumer is set back.

use std::{sync::Arc, time::Duration};

use broker_core::{
    Epoch, Offset,
    ports::{OfflineQueue, StoreError},
};
use tokio::time::{Instant, sleep};

use crate::{
    nats::{ApiError, Consumer, Given, pause_before},
    redis::{Reconnects, RedisQueue},
    stats::{QueueStats, add},
};

/// How often one of the gateways compares what Redis and JetStream know.
pub(crate) const TEND_EVERY: Duration = Duration::from_secs(2);

/// One gateway's share of the work.
#[derive(Debug)]
pub(crate) struct Feeder {
    consumer: Consumer,
    queue: Arc<RedisQueue>,
    reconnects: Reconnects,
    stats: Arc<QueueStats>,
    /// Given by JetStream, and not yet taken by Redis.
    held: Vec<Given>,
    tend_at: Instant,
    /// Up to where all shards were fed when this gateway last looked.
    known: Option<(Epoch, Offset)>,
    /// Redis may have lost something since.
    doubtful: bool,
}

/// Why the work does not go on for now.
#[derive(Debug, thiserror::Error)]
enum Stuck {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Stream(#[from] ApiError),
}

impl Feeder {
    pub(crate) fn new(
        consumer: Consumer,
        queue: Arc<RedisQueue>,
        reconnects: Reconnects,
        stats: Arc<QueueStats>,
    ) -> Self {
        Self {
            consumer,
            queue,
            reconnects,
            stats,
            held: Vec::new(),
            tend_at: Instant::now(),
            known: None,
            doubtful: true,
        }
    }

    /// Runs until dropped.
    pub(crate) async fn run(mut self) {
        let mut failed = 0;
        loop {
            match self.step().await {
                Ok(()) => failed = 0,
                Err(error) => {
                    if failed == 0 {
                        tracing::warn!(%error, "users' messages wait to be queued");
                    }
                    failed += 1;
                    sleep(pause_before(failed)).await;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<(), Stuck> {
        if Instant::now() >= self.tend_at {
            self.tend().await?;
            self.tend_at = Instant::now() + TEND_EVERY;
        }
        if self.held.is_empty() {
            let given = self.consumer.next(self.tend_at).await;
            // Perhaps there is no consumer.
            self.held = given.inspect_err(|_| self.tend_at = Instant::now())?;
        }
        self.feed().await
    }

    async fn feed(&mut self) -> Result<(), Stuck> {
        if self.held.is_empty() {
            return Ok(());
        }
        let epoch = self.consumer.epoch().ok_or(ApiError::Silent)?;
        // Of another life of the stream, it would take the place of what is pending in this one.
        self.held.retain(|given| given.queued.as_ref().is_none_or(|it| it.epoch == epoch));
        let Some(last) = self.held.last() else { return Ok(()) };
        self.stats.set_waiting(last.waiting);
        let queued: Vec<_> = self.held.iter().filter_map(|given| given.queued.clone()).collect();
        let count = queued.len() as u64;
        self.queue.enqueue(queued).await?;
        add(&self.stats.fed, count);
        self.consumer.acknowledge(std::mem::take(&mut self.held)).await?;
        Ok(())
    }

    /// Compares what Redis and JetStream know, unless another gateway has done so just now.
    async fn tend(&mut self) -> Result<(), Stuck> {
        if !self.queue.claim_tending(TEND_EVERY).await? {
            return Ok(());
        }
        let epoch = self.consumer.epoch().ok_or(ApiError::Silent)?;
        let fed = self.queue.fed().await?;
        // After this answer, and so of the connection that gave it too.
        self.doubtful |= self.reconnects.any();
        let least = fed.least(epoch);
        // Perhaps nobody else is left who knew that the stream had more.
        self.consumer.confirm(epoch, least.unwrap_or(Offset(0))).await?;
        let set_back = self.known.is_some_and(|known| known.0 == epoch && least < Some(known.1));
        let floor = match self.consumer.floor(epoch).await? {
            Some(floor) if !set_back && (least >= Some(floor) || !self.doubtful) => floor,
            floor => {
                let from = least.unwrap_or(Offset(0));
                self.consumer.start_after(epoch, from).await?;
                if floor.is_some() {
                    tracing::info!(from = from.0, "the offline queues are fed anew");
                    add(&self.stats.rewinds, 1);
                }
                from
            }
        };
        self.doubtful = false;
        // Of a new stream also that it is 0: otherwise a shard that lost all looks like it.
        if Some(floor) > least {
            self.queue.note_fed(&fed, epoch, floor).await?;
        }
        self.known = Some((epoch, floor));
        Ok(())
    }
}

//! The offline queues: an index of the log, packed into few keys.
//!
//! Users are spread over a fixed number of shards. A shard has one hash with a packed record for each
//! user, one sorted set of when to look at which record, and its share of the figures, all in one
//! slot: so one script changes a record and counts it at once, a batch costs one script for each
//! shard that it touches, a sweep finds what is due without a scan, and the figures are a sum over
//! a fixed number of hashes. Keys of their own would cost each user some 100 B more, and what a
//! sweep finds due could not be named to Redis as the script's keys beforehand.

use std::{collections::BTreeMap, time::Duration};

use broker_core::{
    Epoch, Offset, Timestamp, UserId,
    history::Queue,
    ports::{Backlog, BoxFuture, OfflineQueue, QueueFigures, Queued, StoreError},
};
use fred::{
    interfaces::{HashesInterface, KeysInterface},
    types::{Expiration, FromValue, SetOptions, Value},
};
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::{
    keys::Shard,
    script::{ACKNOWLEDGE, BACKLOG, ENQUEUE, PENDING, PURGE, SWEEP, Script},
    store::Store,
};
use crate::{
    clock,
    queue::{after, keep},
};

/// Messages or acknowledgements for one run of a script: Redis does nothing else meanwhile.
const STEP: usize = 500;
/// Records that one run of a script looks at.
const SWEPT: u64 = 100;
/// How long whoever sweeps has for it, in ms.
const SWEEP_MS: i64 = 10_000;

/// The queues of all gateways.
#[derive(Debug)]
pub(crate) struct RedisQueue {
    pub(super) store: Store,
    size: usize,
    keep: Duration,
}

impl RedisQueue {
    pub(crate) fn new(store: Store, queue: &Queue) -> Self {
        Self { store, size: queue.size, keep: keep(queue) }
    }

    fn forget_at(&self, now: Timestamp) -> Value {
        number(after(now, self.keep).0)
    }

    /// Runs a script for items of any shards: all runs at once, none of them long.
    async fn spread(
        &self,
        script: &Script,
        first: &[Value],
        items: impl Iterator<Item = (Shard, Vec<Value>)>,
    ) -> Result<(), StoreError> {
        let client = self.store.client()?;
        let mut shards: BTreeMap<Shard, Vec<Vec<Value>>> = BTreeMap::new();
        for (shard, item) in items {
            shards.entry(shard).or_default().push(item);
        }
        let runs = shards.iter().flat_map(|(shard, items)| {
            items.chunks(STEP).map(|items| {
                let arguments = first.iter().chain(items.iter().flatten()).cloned().collect();
                script.run::<()>(client, self.keys(*shard), arguments)
            })
        });
        self.store.step(try_join_all(runs)).await.map(drop)
    }

    /// Runs a script for one user.
    async fn of_user<T: FromValue>(
        &self,
        script: &Script,
        user: &UserId,
        argument: Option<Value>,
    ) -> Result<T, StoreError> {
        let keys = self.keys(Shard::of(user));
        let arguments = [text(user)].into_iter().chain(argument).collect();
        self.store.step(script.run(self.store.client()?, keys, arguments)).await
    }

    async fn sweep_now(&self, now: Timestamp) -> Result<u64, StoreError> {
        let (client, claim) = (self.store.client()?, self.store.keys.queue_sweep());
        let (expiry, unless_there) = (Some(Expiration::PX(SWEEP_MS)), Some(SetOptions::NX));
        let claimed: Option<String> =
            self.store.step(client.set(&claim, "1", expiry, unless_there, false)).await?;
        if claimed.is_none() {
            return Ok(0);
        }
        let swept = self.sweep_shards(now).await;
        self.store.step(client.del::<(), _>(claim)).await?;
        swept
    }

    /// Sweeps what can be swept in the time of one call; the next one goes on.
    async fn sweep_shards(&self, now: Timestamp) -> Result<u64, StoreError> {
        let end = Instant::now() + self.store.deadline;
        let client = self.store.client()?;
        let arguments = vec![number(now.0), self.forget_at(now), number(SWEPT)];
        let mut shards: Vec<Shard> = Shard::all().collect();
        let mut expired = 0;
        while !shards.is_empty() && Instant::now() < end {
            let runs = shards
                .iter()
                .map(|shard| SWEEP.run::<(u64, u64)>(client, self.keys(*shard), arguments.clone()));
            let swept = self.store.step(try_join_all(runs)).await?;
            expired += swept.iter().map(|(expired, _)| expired).sum::<u64>();
            let unfinished = shards.into_iter().zip(swept).filter(|(_, (_, seen))| *seen == SWEPT);
            shards = unfinished.map(|(shard, _)| shard).collect();
        }
        Ok(expired)
    }

    async fn figures_now(&self) -> Result<QueueFigures, StoreError> {
        let client = self.store.client()?;
        let fields = || ["pending", "delivered", "evicted", "expired"].map(String::from).to_vec();
        let reads = Shard::all().map(|shard| {
            let [_, _, figures] = self.store.keys.queue(shard);
            client.hmget::<Vec<Option<u64>>, _, _>(figures, fields())
        });
        let shares = self.store.step(try_join_all(reads)).await?;
        let sum = |field: usize| {
            shares.iter().filter_map(|share| share.get(field).copied().flatten()).sum()
        };
        Ok(QueueFigures { pending: sum(0), delivered: sum(1), evicted: sum(2), expired: sum(3) })
    }

    fn keys(&self, shard: Shard) -> Vec<String> {
        self.store.keys.queue(shard).to_vec()
    }
}

impl OfflineQueue for RedisQueue {
    fn enqueue(&self, messages: Vec<Queued>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let first = [number(self.size as u64), self.forget_at(clock::now())];
            let items = messages.iter().map(|Queued { user, epoch, offset, expires }| {
                let item = vec![text(user), hex(*epoch), number(offset.0), number(expires.0)];
                (Shard::of(user), item)
            });
            self.spread(&ENQUEUE, &first, items).await
        })
    }

    fn backlog(&self, user: UserId) -> BoxFuture<'_, Result<Backlog, StoreError>> {
        Box::pin(async move {
            let (epoch, floor, evicted, expired): (String, u64, u64, u64) =
                self.of_user(&BACKLOG, &user, None).await?;
            let after =
                (floor > 0).then(|| Ok((read_epoch(&epoch)?, Offset(floor)))).transpose()?;
            Ok(Backlog { after, evicted, expired })
        })
    }

    fn acknowledge(
        &self,
        acknowledged: Vec<(UserId, Epoch, Offset)>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let first = [self.forget_at(clock::now())];
            let items = acknowledged.iter().map(|(user, epoch, offset)| {
                (Shard::of(user), vec![text(user), hex(*epoch), number(offset.0)])
            });
            self.spread(&ACKNOWLEDGE, &first, items).await
        })
    }

    fn sweep(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.sweep_now(now))
    }

    fn pending(
        &self,
        user: UserId,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Epoch, Offset)>, StoreError>> {
        Box::pin(async move {
            let (epoch, offsets): (String, Vec<u64>) =
                self.of_user(&PENDING, &user, Some(number(limit as u64))).await?;
            let at = |offset| Ok((read_epoch(&epoch)?, Offset(offset)));
            offsets.into_iter().map(at).collect()
        })
    }

    fn purge(&self, user: UserId) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let forget_at = self.forget_at(clock::now());
            self.of_user(&PURGE, &user, Some(forget_at)).await
        })
    }

    fn figures(&self) -> BoxFuture<'_, Result<QueueFigures, StoreError>> {
        Box::pin(self.figures_now())
    }
}

/// As text: fred's integers have a sign.
pub(super) fn number(number: u64) -> Value {
    number.to_string().into()
}

fn text(user: &UserId) -> Value {
    user.as_str().into()
}

pub(super) fn hex(epoch: Epoch) -> Value {
    format!("{:x}", epoch.0).into()
}

fn read_epoch(hex: &str) -> Result<Epoch, StoreError> {
    let epoch = u64::from_str_radix(hex, 16);
    epoch.map(Epoch).map_err(|_| StoreError::Refused("the record holds no epoch".into()))
}

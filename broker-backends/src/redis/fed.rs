//! How far the stream was fed into each shard of the queues.

use std::time::Duration;

use broker_core::{Epoch, Offset, ports::StoreError};
use fred::{
    interfaces::{HashesInterface, KeysInterface},
    types::{Expiration, SetOptions},
};
use futures_util::future::try_join_all;

use super::{
    keys::Shard,
    queue::{RedisQueue, hex, number},
    record::millis,
    script::FED,
};

/// What each shard says, as it is written there.
#[derive(Debug)]
pub(crate) struct Fed(Vec<Vec<Option<String>>>);

impl Fed {
    /// All of the stream up to here was fed into all shards; `None`: one of them says nothing of
    /// this stream.
    pub(crate) fn least(&self, epoch: Epoch) -> Option<Offset> {
        let epoch = format!("{:x}", epoch.0);
        let of_shard = |shard: &Vec<Option<String>>| match &shard[..] {
            [Some(known), Some(offset)] if *known == epoch => offset.parse().ok().map(Offset),
            _ => None,
        };
        self.0.iter().map(of_shard).min().flatten()
    }
}

impl RedisQueue {
    /// Whether no gateway has claimed it for so long.
    pub(crate) async fn claim_tending(&self, every: Duration) -> Result<bool, StoreError> {
        let (client, key) = (self.store.client()?, self.store.keys.queue_tended());
        let expiry = Some(Expiration::PX(i64::try_from(millis(every)).unwrap_or(i64::MAX)));
        let claim = client.set(key, "1", expiry, Some(SetOptions::NX), false);
        let claimed: Option<String> = self.store.step(claim).await?;
        Ok(claimed.is_some())
    }

    pub(crate) async fn fed(&self) -> Result<Fed, StoreError> {
        let client = self.store.client()?;
        let fields = || ["fed_epoch", "fed"].map(String::from).to_vec();
        let reads = Shard::all().map(|shard| {
            let [_, _, figures] = self.store.keys.queue(shard);
            client.hmget::<Vec<Option<String>>, _, _>(figures, fields())
        });
        Ok(Fed(self.store.step(try_join_all(reads)).await?))
    }

    /// Notes that all of the stream up to here was fed; not in a shard that does not say any more
    /// what it said before, because Redis has lost something.
    pub(crate) async fn note_fed(
        &self,
        before: &Fed,
        epoch: Epoch,
        offset: Offset,
    ) -> Result<(), StoreError> {
        let client = self.store.client()?;
        let runs = Shard::all().zip(&before.0).map(|(shard, before)| {
            let before = before.iter().map(|text| text.clone().unwrap_or_default().into());
            let arguments = before.chain([hex(epoch), number(offset.0)]).collect();
            FED.run::<()>(client, self.store.keys.queue(shard).to_vec(), arguments)
        });
        self.store.step(try_join_all(runs)).await.map(drop)
    }
}

//! Keeps the cluster's account of who is in which channel.
//!
//! Connections only note that they come and go ([`register`](crate::register)). One task brings
//! the [`book`] up to date, tells the store what changed, and has the [`herald`] tell the world.
//! Where the store was away or has forgotten something, it is told anew, in whole. Delivery never
//! depends on it.

mod book;
mod herald;

use std::{future::ready, sync::Arc, time::Duration};

use broker_core::{
    ErrorCode, NodeId, Timestamp,
    ports::{BoxFuture, Bus, MemberEvent, Roster, StoreError, Tell},
    session::{Failure, MembersQuery, Present},
};
use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    time::{self, Instant, MissedTickBehavior},
};

use crate::{
    clock,
    hub::Hub,
    register::{Doubt, Note, member},
    telemetry::Metrics,
};
use book::Book;
use herald::Herald;

/// Notes that are taken, or members that are told of, at once.
const BATCH: usize = 512;
/// How often graces and dead gateways are looked after, and a store that was away is tried.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// The account's keeper.
#[derive(Debug)]
pub(crate) struct Keeper {
    notes: mpsc::Receiver<Note>,
    doubt: Doubt,
    roster: Arc<dyn Roster>,
    hub: Arc<Hub>,
    herald: Arc<Herald>,
    metrics: Arc<Metrics>,
    node: NodeId,
    book: Book,
    /// Which life of the store the book was told to.
    life: Option<u64>,
}

/// What the keeper works with.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) roster: Arc<dyn Roster>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) node: NodeId,
}

impl Keeper {
    /// `notes` are those that connections leave in the hub's register; `None` where it has none.
    pub(crate) fn new(notes: mpsc::Receiver<Note>, tools: Tools) -> Option<Self> {
        let Tools { roster, bus, hub, metrics, node } = tools;
        let doubt = hub.register()?.doubt().clone();
        // The first telling is of nobody, and finds out which life of the store this is.
        doubt.raise();
        let herald = Arc::new(Herald { bus, metrics: Arc::clone(&metrics) });
        let book = Book::default();
        Some(Self { notes, doubt, roster, hub, herald, metrics, node, book, life: None })
    }

    /// Keeps the account until dropped.
    pub(crate) async fn run(self) {
        let tending = tend(Arc::clone(&self.roster), Arc::clone(&self.herald));
        tokio::join!(self.keep(), tending);
    }

    async fn keep(mut self) {
        let mut ticks = time::interval(TEND_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => self.tell_anew_if_in_doubt().await,
                count = self.notes.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.write(batch.drain(..)).await;
                }
            }
            self.metrics.presence.members(self.book.len());
        }
    }

    async fn write(&mut self, notes: impl Iterator<Item = Note>) {
        let now = clock::wall();
        for Note { channel, member, connection, came } in notes {
            if came {
                self.book.came((channel, member), connection, now);
            } else {
                self.book.left((channel, member), connection);
            }
        }
        // While in doubt, all is told anew before long.
        if !self.doubt.is_raised()
            && let Err(error) = self.tell_news().await
        {
            self.note_failure(&error);
        }
    }

    async fn tell_news(&mut self) -> Result<(), StoreError> {
        loop {
            let news = self.book.next_news(BATCH);
            if news.is_empty() {
                return Ok(());
            }
            let told = Arc::new(Mutex::new(Vec::new()));
            let tell = {
                let (told, herald) = (Arc::clone(&told), Arc::clone(&self.herald));
                move |events: Vec<MemberEvent>| {
                    told.lock().extend_from_slice(&events);
                    Arc::clone(&herald).tell(&events)
                }
            };
            self.roster.note(self.node.clone(), news.clone(), &tell).await?;
            let mut again = self.book.note_told(&news);
            again.retain(|event| !told.lock().contains(event));
            Arc::clone(&self.herald).tell(&again).await;
        }
    }

    async fn tell_anew_if_in_doubt(&mut self) {
        if self.doubt.take()
            && let Err(error) = self.tell_anew().await
        {
            self.note_failure(&error);
        }
    }

    async fn tell_anew(&mut self) -> Result<(), StoreError> {
        let life = self.roster.life(self.node.clone()).await?;
        // A store that has gone back may hold some who left, of whom the book knows no more. Those
        // who are still there are within a grace until they are told below; whom a gateway of this
        // name held before this one came, nobody tells below.
        match self.life {
            Some(_) => self.roster.take_back(self.node.clone()).await?,
            None => self.roster.retire(self.node.clone()).await?,
        }
        if self.life.is_some_and(|before| before != life) {
            // It knows nobody any more: who was told before does not join again.
            let silent: &Tell = &|_| Box::pin(ready(()));
            for part in self.book.all_told(BATCH) {
                self.roster.note(self.node.clone(), part, silent).await?;
            }
        }
        self.life = Some(life);
        // Notes that wait are older than what the hub says.
        while self.notes.try_recv().is_ok() {}
        self.read_hub();
        self.metrics.presence.told_anew.inc();
        tracing::info!(members = self.book.len(), "the store is told anew who is in which channel");
        self.tell_news().await
    }

    fn read_hub(&mut self) {
        self.book.clear();
        let (now, wall) = (Instant::now(), clock::wall());
        let Some(register) = self.hub.register() else { return };
        for (interest, _) in self.hub.subscriptions() {
            let Some(channel) = register.channel(&interest) else { continue };
            self.hub.subscribers().for_each(&interest, |id, subscriber| {
                let Some(info) = subscriber.outbox.info() else { return };
                let ago = now.saturating_duration_since(subscriber.since).as_millis();
                let ago = u64::try_from(ago).unwrap_or(u64::MAX);
                let since = Timestamp(wall.0.saturating_sub(ago));
                self.book.came((channel.clone(), member(info)), id, since);
            });
        }
        self.book.doubt_all();
    }

    fn note_failure(&self, error: &StoreError) {
        tracing::debug!(%error, "the store was not told who is in which channel");
        self.metrics.store_error();
        self.doubt.raise();
    }
}

/// Looks after graces and dead gateways until dropped.
async fn tend(roster: Arc<dyn Roster>, herald: Arc<Herald>) {
    let tell: Box<Tell> = Box::new(move |events: Vec<MemberEvent>| -> BoxFuture<'static, ()> {
        Arc::clone(&herald).tell(&events)
    });
    let mut ticks = time::interval(TEND_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = roster.tidy(&*tell).await {
            tracing::debug!(%error, "graces and dead gateways could not be looked after");
        }
    }
}

/// Who is in a channel.
///
/// # Errors
/// The store is away, or the cursor is none of its own.
pub(crate) async fn look_up(
    roster: &dyn Roster,
    MembersQuery { channel, cursor, limit }: MembersQuery,
) -> Result<Present, Failure> {
    let count = roster.count(channel.clone()).await?;
    if limit == 0 {
        return Ok(Present { channel, count, page: None });
    }
    let resumed = cursor.is_some();
    match roster.members(channel.clone(), cursor, limit).await {
        Ok(page) => Ok(Present { channel, count, page: Some(page) }),
        Err(StoreError::Refused(why)) if resumed => {
            Err(Failure::new(ErrorCode::BadRequest, format!("`cursor`: {why}")))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;

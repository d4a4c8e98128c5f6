//! Sessions of clients whose subscriptions the server sees to.

use std::time::Duration;

use broker_core::{
    ConnectionId, UserId,
    recovery::{Progress, Recovered, Unrecoverable},
    resume::KeptSession,
    session::{Since, Token},
};

use super::{Keeper, Open, recovery_key_of};
use crate::{clock, dialect::Offset};

/// A client that has come back.
#[derive(Debug)]
pub(crate) struct Comeback {
    pub(crate) connection: ConnectionId,
    pub(crate) user: Option<UserId>,
    pub(crate) secret: Token,
    pub(crate) offset: Offset,
    /// How long clients may be out of reach unnoticed.
    pub(crate) silence: Duration,
}

/// What it goes on with.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) recovered: Recovered,
    pub(crate) progress: Progress,
}

impl Keeper {
    /// Takes over what is kept under the client's secret. Where that is nothing, says why, as the
    /// value of a label.
    pub(crate) async fn recover(&self, comeback: &Comeback) -> Result<Recovery, &'static str> {
        let mark = match &comeback.offset {
            Offset::None => None,
            Offset::Mark(mark) => Some(mark),
            Offset::Foreign => return Err("foreign_offset"),
        };
        let key = recovery_key_of(&comeback.secret);
        if self.over.contains_key(&key) {
            return Err("lost");
        }
        let passed = self.store.pass(key, comeback.connection, self.ttl()).await;
        let session = passed.map_err(|error| {
            tracing::debug!(%error, "a client is not recovered");
            self.metrics.store_error();
            "unavailable"
        })?;
        let KeptSession { connection, origin, identity, subscriptions, .. } =
            session.ok_or("lost")?;
        let kept = subscriptions.ok_or("lost")?;
        self.supersede(connection).await;
        if identity.user != comeback.user {
            return Err("denied");
        }
        let progress = Progress::recover(origin, &kept, mark).map_err(|error| match error {
            Unrecoverable::NoPosition => "no_position",
            Unrecoverable::NotKept => "not_kept",
        })?;
        let away = clock::wall().0.saturating_sub(kept.confirmed.0);
        let age = Some(Duration::from_millis(away) + comeback.silence);
        let since = |position| Since { position: Some(position), age, rewind: None };
        let subscriptions = progress
            .positions()
            .map(|(interest, position)| (interest.clone(), Box::new(since(position))))
            .collect();
        Ok(Recovery { recovered: Recovered { origin, subscriptions }, progress })
    }

    /// Writes what the connection is subscribed to, before it begins; it does so at the latest when
    /// all are written again.
    pub(crate) async fn keep_subscriptions(&self, connection: ConnectionId) {
        let session = self.open.get(&connection).map(|open| self.with_subscriptions(&open));
        if let Some(session) = session {
            self.write(vec![session]).await;
        }
    }

    /// In its latest form.
    pub(super) fn with_subscriptions(&self, open: &Open) -> KeptSession {
        let outbox = self.hub.connection(open.session.connection);
        let subscriptions = outbox.and_then(|outbox| {
            outbox.with_progress(|progress| Box::new(progress.kept(clock::wall())))
        });
        KeptSession { subscriptions, ..open.session.clone() }
    }

    /// What its marks may rely on.
    pub(super) fn note_written(&self, session: &KeptSession) {
        if let (Some(kept), Some(outbox)) =
            (&session.subscriptions, self.hub.connection(session.connection))
        {
            outbox.with_progress(|progress| progress.written(kept.version));
        }
    }
}

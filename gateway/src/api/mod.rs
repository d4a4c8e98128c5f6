//! What services and operators ask of Fanfare, over HTTP and over NATS.
//!
//! 1. [`publish`]: the publish command; [`idempotency`]: how it is carried out once.
//! 2. [`history`]: what was published before; [`snapshot`]: the newest of many channels; [`queue`]:
//!    what waits for users who are away.
//! 3. [`channels`], [`connections`], [`members`], [`stats`]: what goes on in the cluster; [`ask`]:
//!    what single clients are asked; [`tickets`]: who may come.
//! 4. [`peers`]: what gateways ask each other for these; [`door`]: where requests are handed over.
//! 5. [`routes`] and [`inbox`]: the two ways in; [`caller`]: who may, over HTTP; [`commands`]: what
//!    clients without WebSocket ask of their connections.
//! 6. [`asked`]: the same for HTTP requests that profiles answer.
//! 7. [`openapi`]: the specification, made from the code. What can go wrong is a
//!    [`Problem`].

mod ask;
mod asked;
mod caller;
mod channels;
mod commands;
mod connections;
mod door;
mod history;
mod idempotency;
mod inbox;
mod members;
mod openapi;
mod peers;
mod publish;
mod queue;
mod routes;
mod snapshot;
mod stats;
mod tickets;

use std::{str::FromStr, sync::Arc};

use broker_core::{
    ErrorCode, NodeId, message,
    name::NameError,
    ports::{Bus, Log, OfflineQueue, Presence, Roster, Sessions},
    session::Rules,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use asked::Asked;
pub(crate) use caller::Asker;
pub(crate) use commands::{Pass, router as commands_router};
pub(crate) use door::{Door, DoorKey};
pub(crate) use history::Turns;
pub(crate) use inbox::serve as serve_inbox;
pub(crate) use peers::{ask_for_door, superseded};
pub(crate) use routes::{FOR_PAGES, Payload, body_bytes, no_method, no_route, router};

use crate::{
    asks::Asks,
    auth::Authenticator,
    clock,
    hub::Hub,
    problem::Problem,
    public_url::PublicUrl,
    telemetry::{Source, Tracing},
};
use publish::Publisher;

/// Messages of a batch.
const MAX_BATCH: usize = 1_000;
/// Channels, users and roles that one message is published to.
const MAX_TARGETS: usize = 100;
/// Messages of a batch, each counted once for each of its targets.
const MAX_COPIES: usize = 10_000;
/// Connections and users that one message must not reach.
const MAX_EXCLUDED: usize = 1_000;
/// Entries of a list in one answer.
const MAX_PAGE: usize = 1_000;
/// The same, where the request does not say.
const USUAL_PAGE: usize = 100;

/// What the API works with.
#[derive(Debug, Clone)]
pub(crate) struct Deps {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) roster: Arc<dyn Roster>,
    pub(crate) sessions: Arc<dyn Sessions>,
    pub(crate) log: Arc<dyn Log>,
    /// Where users have an offline queue.
    pub(crate) queue: Option<Arc<dyn OfflineQueue>>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) asks: Arc<Asks>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) authenticator: Authenticator,
    pub(crate) public_url: PublicUrl,
    pub(crate) tracing: Arc<Tracing>,
    /// Where other gateways hand over requests to this one.
    pub(crate) door: Option<Door>,
    pub(crate) node: NodeId,
}

impl Deps {
    fn publisher(
        &self,
        name: message::Publisher,
        source: Source,
        trace: Option<Arc<str>>,
    ) -> Publisher {
        let (bus, tracing) = (Arc::clone(&self.bus), Arc::clone(&self.tracing));
        Publisher { bus, name, tracing, source, trace, now: clock::wall() }
    }
}

/// Whether an answer speaks for the whole cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Coverage {
    /// Whether something may be missing from this answer.
    partial: bool,
    /// Gateways that did not answer in time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
    /// Why something may be missing.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Coverage {
    fn partial(reason: impl Into<String>) -> Self {
        Self { partial: true, missing: Vec::new(), reason: Some(reason.into()) }
    }
}

fn page_size(limit: Option<usize>) -> Result<usize, Problem> {
    match limit {
        None => Ok(USUAL_PAGE),
        Some(limit) if (1..=MAX_PAGE).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::bad_request(format!("`limit` is between 1 and {MAX_PAGE}"))),
    }
}

fn parse_name<T: FromStr<Err = NameError>>(member: &str, text: &str) -> Result<T, Problem> {
    const SHOWN: usize = 60;
    text.parse().map_err(|error: NameError| {
        let shown: String = text.chars().take(SHOWN).collect();
        Problem::new(ErrorCode::InvalidName, format!("`{member}`, `{shown}`: {error}"))
    })
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("structs of text and numbers have a JSON form")
}

#[cfg(test)]
mod tests;

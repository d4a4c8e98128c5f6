//! What waits for users who are away.

use std::sync::Arc;

use broker_core::{
    ChannelName, ErrorCode, Message, Offset, UserId,
    history::{From, Slice},
    ports::{LogError, OfflineQueue, StoreError},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{Deps, page_size, parse_name};
use crate::problem::Problem;

/// All users' offline queues in figures, since they exist.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QueueStats)]
pub(super) struct QueueStatsBody {
    /// Messages that wait for an acknowledgement.
    pending: u64,
    /// Messages that were acknowledged.
    delivered: u64,
    /// Messages that were dropped, because too many waited for one user.
    evicted: u64,
    /// Messages that nobody acknowledged in time.
    expired: u64,
}

/// How much of a queue to show.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PeekQuery {
    /// At most this many messages, the oldest: 1 to 1,000, usually 100.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(super) limit: Option<usize>,
}

/// What waits for a user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Queue)]
pub(super) struct QueueBody {
    /// The user.
    user: String,
    /// The oldest messages that nobody has acknowledged.
    pending: Vec<PendingBody>,
}

/// A message that waits.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Pending)]
pub(super) struct PendingBody {
    /// Its id.
    message: String,
    /// Its place in the log.
    position: String,
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    /// When it was accepted, in milliseconds since 1970.
    time: u64,
    /// The body, where it is JSON.
    #[schema(nullable = false, value_type = Option<serde_json::Value>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    /// Its size in bytes.
    size: usize,
}

/// How many messages were dropped.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Purged)]
pub(super) struct PurgedBody {
    purged: u64,
}

pub(super) async fn stats(deps: &Deps) -> Result<QueueStatsBody, Problem> {
    let figures = queue(deps)?.figures().await.map_err(|error| away(&error))?;
    Ok(QueueStatsBody {
        pending: figures.pending,
        delivered: figures.delivered,
        evicted: figures.evicted,
        expired: figures.expired,
    })
}

/// The messages themselves are in the log; the queue knows which.
pub(super) async fn peek(deps: &Deps, user: &str, query: PeekQuery) -> Result<QueueBody, Problem> {
    let limit = page_size(query.limit)?;
    let user: UserId = parse_name("user", user)?;
    let pending = queue(deps)?.pending(user.clone(), limit).await.map_err(|error| away(&error))?;
    let (Some((_, first)), Some((_, last))) = (pending.first(), pending.last()) else {
        return Ok(QueueBody { user: user.to_string(), pending: Vec::new() });
    };
    let slice = Slice { from: From::Offset(*first), until: *last, messages: limit };
    let read = deps.log.read(ChannelName::of_user(&user), slice).await.map_err(|error| {
        let code = match error {
            LogError::NoHistory => ErrorCode::NoQueue,
            LogError::Unavailable => ErrorCode::Unavailable,
        };
        Problem::new(code, error.to_string())
    })?;
    let waits = |offset: Offset| pending.iter().any(|(_, waiting)| *waiting == offset);
    let pending = read.iter().filter(|message| message.stored.is_some_and(|it| waits(it.offset)));
    Ok(QueueBody { user: user.to_string(), pending: pending.filter_map(PendingBody::of).collect() })
}

pub(super) async fn purge(deps: &Deps, user: &str) -> Result<PurgedBody, Problem> {
    let user = parse_name("user", user)?;
    let purged = queue(deps)?.purge(user).await.map_err(|error| away(&error))?;
    Ok(PurgedBody { purged })
}

impl PendingBody {
    fn of(message: &Message) -> Option<Self> {
        let data = match &message.data {
            broker_core::Data::Json(text) => serde_json::from_slice(text.as_bytes()).ok(),
            broker_core::Data::Binary(_) => None,
        };
        Some(Self {
            message: message.id.to_string(),
            position: message.position()?.to_string(),
            event: message.event.as_ref().map(ToString::to_string),
            time: message.time.0,
            data,
            size: message.data.len(),
        })
    }
}

fn queue(deps: &Deps) -> Result<&Arc<dyn OfflineQueue>, Problem> {
    deps.queue.as_ref().ok_or_else(|| {
        let text = "users have no offline queue: configure [namespaces.user.queue]";
        Problem::new(ErrorCode::NoQueue, text)
    })
}

fn away(error: &StoreError) -> Problem {
    Problem::new(ErrorCode::Unavailable, error.to_string())
}

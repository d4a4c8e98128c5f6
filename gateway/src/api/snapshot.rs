//! The newest message of every channel that matches a pattern, page by page.

use broker_core::{
    ChannelPattern, ErrorCode, Interest, Message, name::ChannelName, retained::Readiness,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Deps,
    history::{MessageBody, PAGE_BYTES, Reader, messages},
    page_size, parse_name,
};
use crate::{
    clock,
    hub::retained::{Refusal, too_much},
    problem::Problem,
};

/// Which messages to read.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SnapshotQuery {
    /// Of which channels.
    #[param(example = "screen:*")]
    pattern: String,
    /// `next` of the page before; without it, the first page.
    cursor: Option<String>,
    /// At most this many: 1 to 1,000, usually 100. There may be fewer although there is `next`.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// The newest messages of channels.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Snapshot)]
pub(super) struct SnapshotBody {
    /// One for each channel, by the channel's name.
    #[schema(value_type = Vec<MessageBody<'_>>)]
    #[serde(serialize_with = "messages")]
    messages: Vec<Message>,
    /// The `cursor` of the next page, where there is one.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Reads a page.
pub(super) async fn read(
    deps: &Deps,
    reader: &Reader,
    query: SnapshotQuery,
) -> Result<SnapshotBody, Problem> {
    let pattern: ChannelPattern = parse_name("pattern", &query.pattern)?;
    let after: Option<ChannelName> =
        query.cursor.as_deref().map(|cursor| parse_name("cursor", cursor)).transpose()?;
    let limit = page_size(query.limit)?;
    reader.authorize(&deps.rules.namespaces, &Interest::Pattern(pattern.clone()))?;
    let watched = deps.hub.watched(pattern.namespace()).ok_or_else(|| {
        let text = format!("there are no snapshots of the namespace of `{pattern}`");
        Problem::new(ErrorCode::NoHistory, text)
    })?;
    let unavailable = |error: broker_core::ports::LogError| {
        Problem::new(ErrorCode::Unavailable, error.to_string())
    };
    watched.ready(true).await.map_err(unavailable)?;
    let values = watched.lock();
    if values.readiness() == Readiness::TooMuch {
        watched.refused(Refusal::Bounds);
        return Err(too_much(&pattern).into());
    }
    let after = after.as_ref().map(ChannelName::as_str);
    let found = values
        .matching(&pattern, after, clock::wall())
        .filter(|message| !reader.is_excluded(message));
    let (mut messages, mut bytes) = (Vec::new(), 0);
    for message in found {
        bytes += message.data.len();
        if messages.len() == limit || (bytes > PAGE_BYTES && !messages.is_empty()) {
            let next = messages.last().map(|last: &Message| last.channel.to_string());
            return Ok(SnapshotBody { messages, next });
        }
        messages.push(message.clone());
    }
    Ok(SnapshotBody { messages, next: None })
}

//! The past of a channel, page by page: to look back, and to follow it without a connection.
//!
//! 1. [`since`]: how a request says where it wants to start.
//! 2. [`page`]: what is read of the log for it.

mod page;
mod since;

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use broker_core::{
    Action, ChannelName, Data, ErrorCode, Identity, Interest, Message, UserId,
    access::{Denied, Namespaces},
    ports::LogError,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time,
};
use utoipa::{IntoParams, ToSchema};

use super::{Deps, page_size, parse_name};
use crate::problem::Problem;
pub(super) use page::PAGE_BYTES;
use page::{Order, Page, Wanted, is_excluded};
use since::{Cursor, NoPlace, Since};

/// Logs that are read at once.
const READS: usize = 16;
/// How long a request may wait for its turn.
const WAIT: Duration = Duration::from_secs(1);
/// How long reading may take; it may need all that a channel keeps.
const PATIENCE: Duration = Duration::from_secs(5);

/// Logs are read in turns, so that there is room for what is read.
#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

/// Who reads.
#[derive(Debug)]
pub(super) enum Reader {
    /// Whom no rules of namespaces bind.
    Operator,
    /// A client, which may read what it may subscribe to.
    Client(Identity),
}

/// Which messages to read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MessagesQuery {
    /// Only what is behind this: a position, or `next` of the answer before. Or only what was
    /// accepted at this time or later: RFC 3339, or milliseconds since 1970.
    #[param(value_type = Option<String>, example = "2026-07-01T12:00:00Z")]
    since: Option<Since>,
    /// Only what is before this: a position, or `next` of the answer before. Newest first.
    #[param(value_type = Option<String>)]
    before: Option<Cursor>,
    /// `asc`, oldest first, or `desc`, newest first. Usually `asc` with `since` alone, else `desc`.
    #[param(inline)]
    order: Option<OrderParam>,
    /// At most this many: 1 to 1,000, usually 100. There may be fewer although there is `more`.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OrderParam {
    Asc,
    Desc,
}

/// Messages of a channel that are kept.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Messages)]
pub(super) struct MessagesBody {
    /// In the order that was asked for.
    #[schema(value_type = Vec<MessageBody<'_>>)]
    #[serde(serialize_with = "messages")]
    messages: Vec<Message>,
    /// Where a position was given: whether everything since it is here, or will be with `next`.
    /// If not, messages are lost: fetch the state anew from where it is kept.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
    /// Where the log ends now: subscribe with it to get all that is later.
    position: String,
    /// Whether there is more now: ask with `next`.
    more: bool,
    /// To go on with: as `since` where the oldest come first, and then always there; else as
    /// `before`, where there is more.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A message that is kept.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StoredMessage)]
pub(super) struct MessageBody<'a> {
    /// Its id.
    message: &'a str,
    channel: &'a str,
    /// What kind of thing it says.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    /// The body, if it is JSON.
    #[schema(value_type = Value, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    /// The body, if it is bytes.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    /// When the first gateway accepted it, in milliseconds since 1970.
    time: u64,
    /// Its place in the log.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(READS))
    }
}

impl Turns {
    /// All that there are.
    #[cfg(test)]
    pub(super) fn take_all(&self) -> Vec<SemaphorePermit<'_>> {
        std::iter::from_fn(|| self.0.try_acquire().ok()).collect()
    }

    async fn next(&self) -> Result<SemaphorePermit<'_>, Problem> {
        match time::timeout(WAIT, self.0.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => {
                Err(Problem::new(ErrorCode::Overloaded, "too many logs are being read"))
            }
        }
    }
}

impl Reader {
    fn user(&self) -> Option<&UserId> {
        match self {
            Self::Operator => None,
            Self::Client(identity) => identity.user.as_ref(),
        }
    }

    /// Whether the message is kept from it.
    pub(super) fn is_excluded(&self, message: &Message) -> bool {
        is_excluded(self.user(), message)
    }

    /// Whether it may read this: for a client, what it may subscribe to, and what the server would
    /// subscribe it to.
    pub(super) fn authorize(
        &self,
        namespaces: &Namespaces,
        interest: &Interest,
    ) -> Result<(), Denied> {
        let namespace = interest.namespace();
        match self {
            Self::Operator if namespaces.knows(namespace) => Ok(()),
            Self::Operator => Err(Denied::UnknownNamespace(namespace.to_owned())),
            Self::Client(identity) => match interest {
                Interest::Channel(channel)
                    if namespaces.channels_on_connect(identity).contains(channel) =>
                {
                    Ok(())
                }
                Interest::Channel(_) => namespaces.authorize(identity, Action::Subscribe, interest),
                Interest::Pattern(_) => namespaces.authorize(identity, Action::Wildcard, interest),
            },
        }
    }
}

impl MessagesQuery {
    /// From this place on.
    pub(super) fn since(place: &str) -> Result<Self, Problem> {
        let since = place.parse().map_err(|error: NoPlace| {
            Problem::bad_request(format!("where to begin is not understood: {error}"))
        })?;
        Ok(Self { since: Some(since), ..Self::default() })
    }

    fn order(&self) -> Result<Order, Problem> {
        match (self.order, self.since, self.before) {
            (Some(OrderParam::Asc), _, Some(_)) => {
                Err(Problem::bad_request("`before` goes with the newest first: write `order=desc`"))
            }
            (Some(OrderParam::Asc), ..) | (None, Some(_), None) => Ok(Order::OldestFirst),
            _ => Ok(Order::NewestFirst),
        }
    }
}

/// Reads a page of a channel's past.
pub(super) async fn read(
    deps: &Deps,
    reader: &Reader,
    channel: &str,
    query: MessagesQuery,
) -> Result<MessagesBody, Problem> {
    let channel: ChannelName = parse_name("channel", channel)?;
    let namespaces = &deps.rules.namespaces;
    reader.authorize(namespaces, &Interest::Channel(channel.clone()))?;
    let history = namespaces.history(channel.namespace()).ok_or_else(|| no_history(&channel))?;
    let wanted = Wanted {
        history,
        user: reader.user(),
        since: query.since,
        before: query.before.map(|before| before.position),
        order: query.order()?,
        limit: page_size(query.limit)?,
        channel: channel.clone(),
    };
    let _turn = deps.turns.next().await?;
    let page = time::timeout(PATIENCE, wanted.read(&*deps.log)).await;
    match page.unwrap_or(Err(LogError::Unavailable)) {
        Ok(page) => Ok(page.into()),
        Err(LogError::NoHistory) => Err(no_history(&channel)),
        Err(error) => Err(Problem::new(ErrorCode::Unavailable, error.to_string())),
    }
}

fn no_history(channel: &ChannelName) -> Problem {
    let text = format!("the namespace of `{channel}` has no history: nothing of it is kept");
    Problem::new(ErrorCode::NoHistory, text)
}

impl From<Page> for MessagesBody {
    fn from(page: Page) -> Self {
        Self {
            messages: page.messages,
            recovered: page.recovered,
            position: page.end.to_string(),
            more: page.more,
            next: page.next.map(|next| next.to_string()),
        }
    }
}

impl<'a> From<&'a Message> for MessageBody<'a> {
    fn from(message: &'a Message) -> Self {
        let (data, data_base64) = match &message.data {
            Data::Json(text) => (serde_json::from_slice(text.as_bytes()).ok(), None),
            Data::Binary(bytes) => (None, Some(BASE64_STANDARD.encode(bytes))),
        };
        Self {
            message: message.id.as_str(),
            channel: message.channel.as_str(),
            event: message.event.as_ref().map(AsRef::as_ref),
            data,
            data_base64,
            time: message.time.0,
            position: message.position().map(|position| position.to_string()),
        }
    }
}

pub(super) fn messages<S: Serializer>(messages: &[Message], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(messages.iter().map(MessageBody::from))
}

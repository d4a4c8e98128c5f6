//! What comes over the bus: questions of other gateways, and the API for services on NATS.
//!
//! `fanfare.api.<operation>` takes and gives the same JSON as HTTP, but for errors, which are
//! `{"error":{"code","text","retry"}}`. Who may ask is a matter of NATS permissions: whoever can
//! publish to a subject below `fanfare.api.` may use that operation.

use std::{future::Future, sync::Arc};

use arc_swap::ArcSwap;
use broker_backends::{Inbox, QuestionKind};
use broker_core::{ErrorCode, MessageId, message};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::{
    Deps, ask,
    channels::{self, ChannelsQuery},
    connections::{self, CloseQuery, ConnectionsQuery},
    history::{self, MessagesQuery, Reader},
    idempotency::{self, Key},
    members::{self, PageQuery},
    peers::{self, Ask},
    publish::{self, Ids},
    queue::{self, PeekQuery},
    snapshot, stats, tickets,
};
use crate::{
    problem::{ErrorBody, Problem},
    telemetry::Source,
};

/// Requests of services that are carried out at a time; further ones are refused.
const CONCURRENCY: usize = 256;
/// The same of those that wait for clients, which take the time that they like: beside the others,
/// which must not wait for them.
const ASKS: usize = 1_024;
/// Which these are.
const ASK: &str = "ask";
/// Whose idempotency keys these are: NATS does not say who sent a request.
const CALLER: &str = "nats";

/// Answers until the bus is closed, then waits for what is under way. `deps` may be replaced.
pub(crate) async fn serve(mut inbox: Inbox, deps: Arc<ArcSwap<Deps>>) {
    let (mut under_way, mut asks) = (JoinSet::new(), JoinSet::new());
    while let Some(question) = inbox.next().await {
        let deps = deps.load_full();
        match &question.kind {
            // At once: it takes no waiting, and must not wait for requests that themselves wait
            // for the answers of gateways.
            QuestionKind::Gateway => match peers::read_question(&question.body) {
                Some(Ask::Client(carried)) if asks.len() < ASKS => {
                    let deps = Arc::clone(&deps);
                    asks.spawn(async move {
                        let said = ask::answer_peer(&deps, carried).await;
                        question.answer(peers::reply_of(&deps.node, said));
                    });
                }
                _ => {
                    let answer =
                        peers::answer(&question.body, &deps.hub, deps.door.as_ref(), &deps.node);
                    question.answer(answer);
                }
            },
            QuestionKind::Api { operation } => {
                let (with, limit) = match operation == ASK {
                    true => (&mut asks, ASKS),
                    false => (&mut under_way, CONCURRENCY),
                };
                if with.len() >= limit {
                    let text = "too many requests are under way";
                    question.answer(refusal(&Problem::new(ErrorCode::Overloaded, text)));
                    continue;
                }
                let span = tracing::info_span!("api", operation);
                let (deps, operation) = (Arc::clone(&deps), operation.clone());
                let serving = async move {
                    let request = Request {
                        operation: &operation,
                        body: &question.body,
                        trace: question.trace.as_ref(),
                        message_id: question.message_id.as_ref(),
                    };
                    let answer = respond(&deps, request).await;
                    question.answer(answer);
                };
                with.spawn(serving.instrument(span));
            }
        }
        while under_way.try_join_next().is_some() || asks.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() || asks.join_next().await.is_some() {}
}

/// A request of a service.
pub(super) struct Request<'a> {
    pub(super) operation: &'a str,
    pub(super) body: &'a Bytes,
    pub(super) trace: Option<&'a Arc<str>>,
    /// The idempotency key.
    pub(super) message_id: Option<&'a MessageId>,
}

pub(super) async fn respond(deps: &Deps, request: Request<'_>) -> Bytes {
    let outcome = match request.operation {
        "publish" => publish(deps, &request).await,
        operation => carry_out(deps, operation, request.body).await,
    };
    outcome.unwrap_or_else(|error| refusal(&error))
}

async fn carry_out(deps: &Deps, operation: &str, body: &Bytes) -> Result<Bytes, Problem> {
    match operation {
        "messages" => {
            let (channel, query) = read_with_channel(body)?;
            reply(history::read(deps, &Reader::Operator, &channel, query)).await
        }
        "snapshot" => reply(snapshot::read(deps, &Reader::Operator, read(body)?)).await,
        "channels" => {
            let query: ChannelsQuery = read(body)?;
            reply(channels::list(deps, query)).await
        }
        "channel" => {
            let ChannelRequest { channel } = read(body)?;
            reply(members::count(deps, &channel)).await
        }
        "members" => {
            let MembersRequest { channel, cursor, limit } = read(body)?;
            reply(members::list(deps, &channel, PageQuery { cursor, limit })).await
        }
        "user" => {
            let UserRequest { user } = read(body)?;
            reply(members::user(deps, &user)).await
        }
        "connections" => {
            let query: ConnectionsQuery = read(body)?;
            reply(connections::list(deps, query)).await
        }
        "connection" => {
            let ConnectionRequest { id } = read(body)?;
            reply(connections::find(deps, &id)).await
        }
        ASK => reply(ask::ask_over_nats(deps, body)).await,
        "ticket" => reply(tickets::make(deps, body)).await,
        "disconnect" => disconnect(deps, read(body)?).await,
        "stats" => {
            let Nothing {} = read(body)?;
            reply(async { Ok(stats::read(deps).await) }).await
        }
        "queue-stats" => {
            let Nothing {} = read(body)?;
            reply(queue::stats(deps)).await
        }
        "queue" => {
            let QueueRequest { user, limit } = read(body)?;
            reply(queue::peek(deps, &user, PeekQuery { limit })).await
        }
        "queue-purge" => {
            let UserRequest { user } = read(body)?;
            reply(queue::purge(deps, &user)).await
        }
        other => {
            let text = format!(
                "there is no operation `{other}`: publish, messages, snapshot, channels, channel, members, user, connections, connection, ask, ticket, disconnect, queue, queue-stats, queue-purge and stats are"
            );
            Err(Problem::new(ErrorCode::UnknownCommand, text))
        }
    }
}

async fn publish(deps: &Deps, request: &Request<'_>) -> Result<Bytes, Problem> {
    let name = message::Publisher::Service(CALLER.into());
    let publisher = deps.publisher(name, Source::Nats, request.trace.cloned());
    let command = publish::read(request.body, &deps.rules, publisher.now)?;
    let Some(key) = request.message_id else {
        let answer = publish::publish(&publisher, command, &Ids::Random).await?;
        return Ok(answer.body);
    };
    let key = Key::new(CALLER, key.as_str(), request.body)?;
    let ids = Ids::Of(key.clone());
    let work = async move { publish::publish(&publisher, command, &ids).await };
    Ok(idempotency::once(&deps.sessions, key, work).await?.body)
}

async fn disconnect(deps: &Deps, request: DisconnectRequest) -> Result<Bytes, Problem> {
    let query = CloseQuery { reconnect: request.reconnect, reason: request.reason };
    match (request.connection, request.user) {
        (Some(id), None) => reply(connections::close(deps, &id, &query)).await,
        (None, Some(user)) => reply(connections::close_user(deps, &user, &query)).await,
        _ => Err(Problem::bad_request("give either `connection` or `user`")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct ConnectionRequest {
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct QueueRequest {
    user: String,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct ChannelRequest {
    channel: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct MembersRequest {
    channel: String,
    cursor: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct UserRequest {
    user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct DisconnectRequest {
    connection: Option<String>,
    user: Option<String>,
    #[serde(default)]
    reconnect: bool,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Nothing {}

/// An empty body stands for an empty object.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(error.to_string()))
}

/// The query, with the channel that over HTTP is in the path.
fn read_with_channel(body: &[u8]) -> Result<(String, MessagesQuery), Problem> {
    let mut members: Map<String, Value> = read(body)?;
    let Some(Value::String(channel)) = members.remove("channel") else {
        return Err(Problem::bad_request("`channel` is missing, or no string"));
    };
    let query = serde_json::from_value(members.into());
    Ok((channel, query.map_err(|error| Problem::bad_request(error.to_string()))?))
}

async fn reply<T: Serialize>(
    operation: impl Future<Output = Result<T, Problem>>,
) -> Result<Bytes, Problem> {
    Ok(super::json(&operation.await?).into())
}

fn refusal(error: &Problem) -> Bytes {
    #[derive(Serialize)]
    struct Refusal<'a> {
        error: ErrorBody<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    }
    super::json(&Refusal { error: error.body(), id: error.message() }).into()
}

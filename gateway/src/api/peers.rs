//! What gateways ask each other, as versioned JSON.
//!
//! Gateways of two versions may run side by side: members that are not known are ignored, and a
//! question that is not known is answered as such.

use std::{collections::BTreeSet, time::Duration};

use broker_core::{
    CloseCode, ConnectionId, ErrorCode, Interest, NodeId, NodeMark, UserId,
    ports::{Bus, BusError},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Coverage, Deps, Door,
    ask::{Carried, Outcome},
};
use crate::{
    asks::Unanswered,
    hub::Hub,
    problem::Problem,
    socket::{CommandKey, HandedIn},
};

const VERSION: u8 = 1;
/// How long other gateways may take.
const WAIT: Duration = Duration::from_secs(1);

/// A question to other gateways; most to every one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(super) enum Ask {
    /// Which channels and patterns have subscribers.
    Channels(Wanted),
    /// End this connection, if you have it.
    CloseConnection {
        connection: String,
        reconnect: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// End this user's connections.
    CloseUser {
        user: String,
        reconnect: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Commands of a client for a connection that you have.
    HandIn { connection: String, key: CommandKey, commands: String },
    /// End these connections, if you have them: others have resumed their sessions.
    Supersede { connections: Vec<String> },
    /// Where, and with what key, requests are handed over to you.
    Door,
    /// Ask a client of yours. The answer takes as long as the client does.
    Client(Carried),
}

/// Which channels are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    pub(super) prefix: String,
    /// Only names behind this one.
    pub(super) after: Option<String>,
    pub(super) limit: usize,
}

/// A channel or pattern, and how many connections are subscribed to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Channel)]
pub(super) struct Subscribed {
    /// Channel name or pattern.
    #[schema(example = "venue:42")]
    pub(super) name: String,
    /// Whether it is a pattern.
    #[serde(default)]
    pub(super) pattern: bool,
    /// Connections that are subscribed to it by this very name.
    pub(super) subscribers: u64,
}

impl Wanted {
    /// The first of what is wanted, in order, and whether there is more. A channel and a pattern
    /// of the same name stay together, so that `after` can part the list between any two names.
    pub(super) fn select(&self, all: impl Iterator<Item = Subscribed>) -> (Vec<Subscribed>, bool) {
        let wanted = |entry: &Subscribed| {
            entry.name.starts_with(&self.prefix)
                && self.after.as_ref().is_none_or(|after| entry.name > *after)
        };
        let mut list: Vec<Subscribed> = all.filter(wanted).collect();
        list.sort_unstable_by(|a, b| (&a.name, a.pattern).cmp(&(&b.name, b.pattern)));
        let mut end = self.limit.min(list.len());
        while (1..list.len()).contains(&end) && list[end].name == list[end - 1].name {
            end += 1;
        }
        let more = end < list.len();
        list.truncate(end);
        (list, more)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Envelope<T> {
    v: u8,
    #[serde(flatten)]
    content: T,
}

/// One gateway's answer.
#[derive(Debug, Serialize, Deserialize)]
struct Reply {
    node: String,
    answer: Content,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Content {
    Channels {
        list: Vec<Subscribed>,
        more: bool,
    },
    Closed(u64),
    HandedIn(HandedIn),
    /// `None`: nowhere.
    Door(Option<Door>),
    Client(Outcome),
    /// The question is of a version that this gateway does not know.
    NotUnderstood,
}

/// The code that a connection is closed with.
pub(super) const fn close_code(reconnect: bool) -> CloseCode {
    if reconnect { CloseCode::Reconnect } else { CloseCode::Disconnected }
}

/// What another gateway asks; `None` if this one does not understand it.
pub(super) fn read_question(question: &[u8]) -> Option<Ask> {
    match serde_json::from_slice::<Envelope<Ask>>(question) {
        Ok(Envelope { v: VERSION, content: ask }) => Some(ask),
        Ok(_) | Err(_) => None,
    }
}

/// This gateway's answer, where it is known at once.
pub(super) fn answer(question: &[u8], hub: &Hub, door: Option<&Door>, node: &NodeId) -> Bytes {
    let asked = read_question(question);
    reply_of(node, asked.map_or(Content::NotUnderstood, |ask| reply(ask, hub, door)))
}

pub(super) fn reply_of(node: &NodeId, answer: Content) -> Bytes {
    let reply = Reply { node: node.to_string(), answer };
    super::json(&Envelope { v: VERSION, content: reply }).into()
}

fn reply(ask: Ask, hub: &Hub, door: Option<&Door>) -> Content {
    match ask {
        Ask::Channels(wanted) => {
            let interests = hub.subscriptions();
            let (list, more) =
                wanted.select(interests.iter().map(|(interest, count)| Subscribed {
                    name: interest.to_string(),
                    pattern: matches!(interest, Interest::Pattern(_)),
                    subscribers: *count as u64,
                }));
            Content::Channels { list, more }
        }
        Ask::CloseConnection { connection, reconnect, reason } => {
            let (id, code) = (connection.parse::<ConnectionId>(), close_code(reconnect));
            let closed = id.is_ok_and(|id| hub.disconnect(id, code, reason.as_deref()));
            Content::Closed(closed.into())
        }
        Ask::Supersede { connections } => {
            let ids = connections.iter().filter_map(|id| id.parse().ok());
            Content::Closed(ids.filter(|id| hub.close(*id, CloseCode::Superseded)).count() as u64)
        }
        Ask::CloseUser { user, reconnect, reason } => {
            let (user, code) = (user.parse::<UserId>(), close_code(reconnect));
            let closed = user.map_or(0, |user| hub.disconnect_user(&user, code, reason.as_deref()));
            Content::Closed(closed as u64)
        }
        Ask::HandIn { connection, key, commands } => {
            let connection = connection.parse::<ConnectionId>();
            let handed_in = connection.map(|id| hand_in(hub, id, &key, &commands));
            Content::HandedIn(handed_in.unwrap_or(HandedIn::Refused))
        }
        Ask::Door => Content::Door(door.cloned()),
        // Whoever can wait for a client does not come here.
        Ask::Client(_) => Content::Client(Outcome::Unanswered(Unanswered::Overloaded)),
    }
}

/// Hands a client's commands to its connection, if this gateway has it.
pub(super) fn hand_in(
    hub: &Hub,
    connection: ConnectionId,
    key: &CommandKey,
    commands: &str,
) -> HandedIn {
    let outbox = hub.connection(connection);
    outbox.map_or(HandedIn::Refused, |outbox| outbox.socket().hand_in(key, commands))
}

/// The answer of one other gateway, which may itself wait for something so long; `None` if there
/// is no such gateway.
pub(super) async fn ask_one(
    deps: &Deps,
    node: NodeMark,
    ask: &Ask,
    waits: Duration,
) -> Result<Option<Content>, Problem> {
    let question = super::json(&Envelope { v: VERSION, content: ask }).into();
    match deps.bus.ask_gateway(node, question, WAIT + waits).await {
        Ok(answer) => {
            let Some(answer) = answer else { return Ok(None) };
            let reply = read(&answer).ok_or_else(|| {
                let text = "the connection's gateway is of another version: try again later";
                Problem::new(ErrorCode::Unavailable, text)
            })?;
            Ok(Some(reply.answer))
        }
        Err(BusError::Unavailable) => {
            let text = "the bus is not in reach, and with it the connection's gateway";
            Err(Problem::new(ErrorCode::Unavailable, text))
        }
        Err(BusError::TooLarge) => {
            let text = "the commands are larger than the bus takes: send fewer at once";
            Err(Problem::new(ErrorCode::MessageTooLarge, text))
        }
        Err(BusError::Timeout) => {
            let text = "the connection's gateway did not answer in time";
            Err(Problem::new(ErrorCode::Unknown, text))
        }
    }
}

/// The question that ends connections whose sessions others have resumed.
pub(crate) fn superseded(connections: &[ConnectionId]) -> Bytes {
    let connections = connections.iter().map(ToString::to_string).collect();
    super::json(&Envelope { v: VERSION, content: Ask::Supersede { connections } }).into()
}

/// Where requests are handed over to another gateway; `None` if there is no such gateway, or it
/// takes none.
///
/// # Errors
/// The bus is away, or the gateway did not answer in time.
pub(crate) async fn ask_for_door(bus: &dyn Bus, node: NodeId) -> Result<Option<Door>, BusError> {
    let question = super::json(&Envelope { v: VERSION, content: Ask::Door }).into();
    let answer = bus.ask_gateway(node.mark(), question, WAIT).await?;
    Ok(answer.and_then(|answer| match read(&answer)?.answer {
        Content::Door(door) => door,
        _ => None,
    }))
}

/// What came back from a question.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) contents: Vec<Content>,
    pub(super) coverage: Coverage,
}

impl Round {
    pub(super) fn closed(&self) -> u64 {
        let closed =
            |content: &Content| if let Content::Closed(count) = content { *count } else { 0 };
        self.contents.iter().map(closed).sum()
    }

    /// That nothing was found, if that can be said.
    pub(super) fn not_found(self, what: &str) -> Problem {
        if !self.coverage.partial {
            return Problem::new(ErrorCode::NotFound, format!("there is no such {what}"));
        }
        let reason = self.coverage.reason.unwrap_or_default();
        let text = format!("the {what} was not found, but {reason}: repeat the request");
        Problem::new(ErrorCode::Unknown, text)
    }
}

/// Asks every gateway, this one included. Where the bus is away, this one alone answers.
pub(super) async fn ask(deps: &Deps, ask: &Ask) -> Round {
    let question = Bytes::from(super::json(&Envelope { v: VERSION, content: ask }));
    let known = deps.presence.gateways().await.ok().map(|leases| {
        let others = leases.into_iter().map(|lease| lease.node.to_string());
        others.chain([deps.node.to_string()]).collect::<BTreeSet<String>>()
    });
    let expected = known.as_ref().map_or(usize::MAX, BTreeSet::len);
    let (answers, bus) = match deps.bus.ask_gateways(question.clone(), expected, WAIT).await {
        Ok(answers) => (answers, Ok(())),
        Err(error) => {
            (vec![answer(&question, &deps.hub, deps.door.as_ref(), &deps.node)], Err(error))
        }
    };
    let replies: Vec<Reply> = answers.iter().filter_map(|answer| read(answer)).collect();
    let missing: Vec<String> = known
        .iter()
        .flatten()
        .filter(|node| replies.iter().all(|reply| reply.node != **node))
        .cloned()
        .collect();
    let reason = match (bus, &known) {
        (Err(error), _) => Some(format!("{error}, so only this gateway was asked")),
        (Ok(()), None) => Some(
            "the store is not in reach, so it is not known which gateways there are".to_owned(),
        ),
        (Ok(()), Some(_)) if missing.is_empty() => None,
        (Ok(()), Some(_)) => Some("some gateways did not answer in time".to_owned()),
    };
    Round {
        contents: replies.into_iter().map(|reply| reply.answer).collect(),
        coverage: Coverage { partial: reason.is_some(), missing, reason },
    }
}

/// An answer that says something; a gateway that did not understand counts as missing.
fn read(answer: &[u8]) -> Option<Reply> {
    let envelope: Envelope<Reply> = serde_json::from_slice(answer).ok()?;
    let understood =
        envelope.v == VERSION && !matches!(envelope.content.answer, Content::NotUnderstood);
    understood.then_some(envelope.content)
}

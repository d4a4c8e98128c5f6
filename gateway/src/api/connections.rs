//! Who is connected, and the end of it.

use broker_core::{
    ConnectionId, ErrorCode, Interest, UserId,
    name::ChannelName,
    ports::{ConnectionInfo, ConnectionPage, StoreError},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Coverage, Deps, page_size, parse_name,
    peers::{self, Ask, close_code},
};
use crate::problem::Problem;

/// Characters of a reason that are passed on.
const MAX_REASON: usize = 200;

/// Which connections to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ConnectionsQuery {
    /// Only those of this user; then all of them are in one answer.
    pub(super) user: Option<String>,
    /// Where to go on: `next` of the answer before.
    pub(super) cursor: Option<String>,
    /// About this many: 1 to 1,000, usually 100.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(super) limit: Option<usize>,
}

/// How connections are ended.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CloseQuery {
    /// Whether clients should come back (close code 4004) or stay away (4501).
    pub(super) reconnect: bool,
    /// What they are told of why, cut to 200 characters; a WebSocket's close frame has room for 123
    /// bytes.
    pub(super) reason: Option<String>,
}

impl CloseQuery {
    /// The reason, cut to what is passed on.
    fn told(&self) -> Option<String> {
        self.reason.as_ref().map(|reason| reason.chars().take(MAX_REASON).collect())
    }
}

/// A connection.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connection)]
pub(super) struct ConnectionBody {
    /// Its id.
    #[schema(example = "6f1c0f2d7a914c3e8b5d2a90c4e7f013")]
    id: String,
    /// Its user; none if it is anonymous.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The gateway that holds it.
    node: String,
    /// How it is connected, such as `websocket`.
    transport: String,
    /// When it came, in milliseconds since 1970.
    connected_at: u64,
    /// What the client calls itself.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
}

/// Connections.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connections)]
pub(super) struct ConnectionsBody {
    connections: Vec<ConnectionBody>,
    /// The `cursor` for more; none at the end.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(flatten)]
    coverage: Coverage,
}

/// How many connections were told to end.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Closed)]
pub(super) struct ClosedBody {
    /// How many.
    closed: u64,
    #[serde(flatten)]
    coverage: Coverage,
}

impl From<ConnectionInfo> for ConnectionBody {
    fn from(info: ConnectionInfo) -> Self {
        Self {
            id: info.connection.to_string(),
            user: info.user.map(|user| user.to_string()),
            node: info.node.to_string(),
            transport: info.transport.into_owned(),
            connected_at: info.connected_at.0,
            user_agent: info.user_agent.map(String::from),
        }
    }
}

/// Lists connections. With the store away, those of this gateway.
pub(super) async fn list(deps: &Deps, query: ConnectionsQuery) -> Result<ConnectionsBody, Problem> {
    let limit = page_size(query.limit)?;
    let user = query.user.map(|user| parse_name::<UserId>("user", &user)).transpose()?;
    let resumed = query.cursor.is_some();
    let page = match user.clone() {
        Some(_) if resumed => {
            return Err(Problem::bad_request(
                "a user's connections are one page: leave out `cursor`",
            ));
        }
        Some(user) => deps.presence.connections_of(user).await.map(|mut connections| {
            connections.sort_by_key(|info| (info.connected_at, info.connection));
            ConnectionPage { connections, next: None }
        }),
        None => deps.presence.connections(query.cursor, limit).await,
    };
    let (page, coverage) = match page {
        Ok(page) => (page, Coverage::default()),
        Err(StoreError::Refused(why)) if resumed => {
            return Err(Problem::bad_request(format!("`cursor`: {why}")));
        }
        Err(error) if resumed => {
            return Err(Problem::new(ErrorCode::Unavailable, error.to_string()));
        }
        Err(error) => {
            let reason = format!("{error}, so these are connections of this gateway only");
            (local(deps, user.as_ref(), limit), Coverage::partial(reason))
        }
    };
    let connections = page.connections.into_iter().map(Into::into).collect();
    Ok(ConnectionsBody { connections, next: page.next, coverage })
}

fn local(deps: &Deps, user: Option<&UserId>, limit: usize) -> ConnectionPage {
    let mut connections = Vec::new();
    match user {
        Some(user) => {
            let own = Interest::Channel(ChannelName::of_user(user));
            deps.hub.subscribers().for_each(&own, |_, subscriber| {
                connections.extend(subscriber.outbox.info().map(|info| (**info).clone()));
            });
        }
        None => deps.hub.for_each_connection(|outbox| {
            if connections.len() < limit {
                connections.extend(outbox.info().map(|info| (**info).clone()));
            }
        }),
    }
    ConnectionPage { connections, next: None }
}

/// One connection.
pub(super) async fn find(deps: &Deps, id: &str) -> Result<ConnectionBody, Problem> {
    let id: ConnectionId = parse_name("id", id)?;
    let local =
        deps.hub.connection(id).and_then(|outbox| outbox.info().map(|info| (**info).clone()));
    let found = match local {
        Some(info) => Some(info),
        None => deps.presence.connection(id).await.map_err(|error| {
            let text = format!("{error}, and this gateway has no such connection");
            Problem::new(ErrorCode::Unavailable, text)
        })?,
    };
    found
        .map(Into::into)
        .ok_or_else(|| Problem::new(ErrorCode::NotFound, "there is no such connection"))
}

/// Ends one connection, wherever it is.
pub(super) async fn close(
    deps: &Deps,
    id: &str,
    query: &CloseQuery,
) -> Result<ClosedBody, Problem> {
    let id: ConnectionId = parse_name("id", id)?;
    let reason = query.told();
    if deps.hub.disconnect(id, close_code(query.reconnect), reason.as_deref()) {
        return Ok(ClosedBody { closed: 1, coverage: Coverage::default() });
    }
    let (connection, reconnect) = (id.to_string(), query.reconnect);
    let ask = Ask::CloseConnection { connection, reconnect, reason };
    let round = peers::ask(deps, &ask).await;
    match round.closed() {
        0 => Err(round.not_found("connection")),
        closed => Ok(ClosedBody { closed, coverage: Coverage::default() }),
    }
}

/// Ends all connections of a user. None is a fine number.
pub(super) async fn close_user(
    deps: &Deps,
    user: &str,
    query: &CloseQuery,
) -> Result<ClosedBody, Problem> {
    let user: UserId = parse_name("user", user)?;
    let (user, reconnect) = (user.to_string(), query.reconnect);
    let ask = Ask::CloseUser { user, reconnect, reason: query.told() };
    let round = peers::ask(deps, &ask).await;
    Ok(ClosedBody { closed: round.closed(), coverage: round.coverage })
}

//! Who is in a channel, and who is online.

use broker_core::{
    ChannelName, ErrorCode, UserId,
    name::USER_NAMESPACE,
    ports::{Member, MemberInfo, StoreError},
    session::{Failure, MembersQuery, Present},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Deps, page_size, parse_name};
use crate::{problem::Problem, roster};

/// Which members to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Where to go on: `next` of the answer before.
    pub(super) cursor: Option<String>,
    /// About this many: 1 to 1,000, usually 100.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(super) limit: Option<usize>,
}

/// Whoever is subscribed to a channel by its very name, or a part of them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Members)]
pub(super) struct MembersBody {
    #[serde(flatten)]
    count: CountBody,
    members: Vec<MemberBody>,
    /// The `cursor` for more; none at the end.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How many are in a channel.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MemberCount)]
pub(super) struct CountBody {
    /// The channel.
    #[schema(example = "venue:42")]
    channel: String,
    /// Users, those included who may come back within the grace.
    users: u64,
    /// Connections, with and without a user.
    connections: u64,
}

/// A user with some connections, or a connection without a user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
pub(super) struct MemberBody {
    /// The user.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// The user's connections in the channel; 0 within the grace after the last one.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u64>,
    /// The connection that has no user.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    /// When the first connection came, in milliseconds since 1970.
    since: u64,
}

/// Whether a user is online.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub(super) struct UserBody {
    /// The user.
    user: String,
    /// Whether the user has a connection. With presence in the namespace `user`, also within the
    /// grace after the last one.
    online: bool,
    /// Connections.
    connections: u64,
    /// When the last connection of a user who is offline went, in milliseconds since 1970; with
    /// presence in the namespace `user`, and for a while.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<u64>,
}

impl From<MemberInfo> for MemberBody {
    fn from(info: MemberInfo) -> Self {
        let since = info.since.0;
        match info.member {
            Member::User(user) => Self {
                user: Some(user.to_string()),
                connections: Some(info.connections),
                connection: None,
                since,
            },
            Member::Anonymous(connection) => Self {
                user: None,
                connections: None,
                connection: Some(connection.to_string()),
                since,
            },
        }
    }
}

/// Members of a channel, and how many there are.
pub(super) async fn list(
    deps: &Deps,
    channel: &str,
    query: PageQuery,
) -> Result<MembersBody, Problem> {
    let (limit, cursor) = (page_size(query.limit)?, query.cursor);
    let channel = channel_with_presence(deps, channel)?;
    let present = look_up(deps, MembersQuery { channel, cursor, limit }).await?;
    let page = present.page.clone().unwrap_or_default();
    Ok(MembersBody {
        count: present.into(),
        members: page.members.into_iter().map(Into::into).collect(),
        next: page.next,
    })
}

/// How many are in a channel.
pub(super) async fn count(deps: &Deps, channel: &str) -> Result<CountBody, Problem> {
    let channel = channel_with_presence(deps, channel)?;
    Ok(look_up(deps, MembersQuery { channel, cursor: None, limit: 0 }).await?.into())
}

impl From<Present> for CountBody {
    fn from(present: Present) -> Self {
        let (users, connections) = (present.count.users, present.count.connections);
        Self { channel: present.channel.to_string(), users, connections }
    }
}

async fn look_up(deps: &Deps, query: MembersQuery) -> Result<Present, Problem> {
    let found = roster::look_up(&*deps.roster, query).await;
    found.map_err(|Failure { code, text, .. }| Problem::new(code, text))
}

fn channel_with_presence(deps: &Deps, channel: &str) -> Result<ChannelName, Problem> {
    let channel: ChannelName = parse_name("channel", channel)?;
    let namespace = channel.namespace();
    if deps.rules.namespaces.has_presence(namespace) {
        return Ok(channel);
    }
    let text = format!("presence is off for `{namespace}`: nobody knows who is in its channels");
    Err(Problem::new(ErrorCode::NotFound, text))
}

/// Whether a user is online. Without presence in the namespace `user`, from the directory of
/// connections.
pub(super) async fn user(deps: &Deps, user: &str) -> Result<UserBody, Problem> {
    let user: UserId = parse_name("user", user)?;
    read_user(deps, user)
        .await
        .map_err(|error| Problem::new(ErrorCode::Unavailable, error.to_string()))
}

async fn read_user(deps: &Deps, user: UserId) -> Result<UserBody, StoreError> {
    let body = |online, connections, last_seen| UserBody {
        user: user.to_string(),
        online,
        connections,
        last_seen,
    };
    if !deps.rules.namespaces.has_presence(USER_NAMESPACE) {
        let connections = deps.presence.connections_of(user.clone()).await?.len() as u64;
        return Ok(body(connections > 0, connections, None));
    }
    let count = deps.roster.count(ChannelName::of_user(&user)).await?;
    if count.users > 0 {
        return Ok(body(true, count.connections, None));
    }
    let last_seen = deps.roster.last_seen(user.clone()).await?;
    Ok(body(false, 0, last_seen.map(|at| at.0)))
}

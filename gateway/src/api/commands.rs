//! Commands of clients that hear by server-sent events, and so must speak by another way.
//!
//! A request lands on any gateway; the pass that it shows names the one that has the connection.

use std::{str::FromStr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    routing::post,
};
use broker_core::{ConnectionId, ErrorCode, NodeMark};

use super::{
    Deps, parse_name,
    peers::{self, Ask, Content},
    routes::{Payload, Segment},
};
use crate::{
    problem::Problem,
    socket::{CommandKey, HandedIn},
};

/// What lets a client speak for a connection: where that is, and the key to it. As text, the two
/// with a dot between. Where is a mark, since clients need not know what hosts are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) node: NodeMark,
    pub(crate) key: CommandKey,
}

/// The route, for bodies of at most `body_bytes`.
pub(crate) fn router(deps: Arc<Deps>, body_bytes: usize) -> Router {
    Router::new()
        .route("/v1/connections/{id}/commands", post(take))
        .layer(DefaultBodyLimit::max(body_bytes))
        .with_state(deps)
}

async fn take(
    State(deps): State<Arc<Deps>>,
    Segment(id): Segment,
    headers: HeaderMap,
    Payload(body): Payload,
) -> Result<StatusCode, Problem> {
    let connection: ConnectionId = parse_name("id", &id)?;
    let pass = presented(&headers)?;
    let commands =
        str::from_utf8(&body).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
    let outcome = if pass.node == deps.node.mark() {
        peers::hand_in(&deps.hub, connection, &pass.key, commands)
    } else {
        forward(&deps, connection, pass, commands).await?
    };
    match outcome {
        HandedIn::Taken => Ok(StatusCode::ACCEPTED),
        HandedIn::Full => {
            let text = "too many commands of this connection wait: send them again later";
            Err(Problem::new(ErrorCode::Overloaded, text))
        }
        HandedIn::Refused => {
            let text = "there is no such connection, or the secret is not its own";
            Err(Problem::new(ErrorCode::NotFound, text))
        }
    }
}

async fn forward(
    deps: &Deps,
    connection: ConnectionId,
    pass: Pass,
    commands: &str,
) -> Result<HandedIn, Problem> {
    let (connection, commands) = (connection.to_string(), commands.to_owned());
    let ask = Ask::HandIn { connection, key: pass.key, commands };
    match peers::ask_one(deps, pass.node, &ask, Duration::ZERO).await? {
        Some(Content::HandedIn(outcome)) => Ok(outcome),
        Some(_) | None => Ok(HandedIn::Refused),
    }
}

fn presented(headers: &HeaderMap) -> Result<Pass, Problem> {
    let pass = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, pass) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| pass.trim().parse().ok())?
    });
    pass.ok_or_else(|| {
        let text = "send `Authorization: Bearer <secret>`, with the `secret` of `connected`";
        Problem::new(ErrorCode::Unauthorized, text)
            .with_header(header::WWW_AUTHENTICATE, r#"Bearer realm="fanfare""#)
    })
}

/// The text is no pass.
#[derive(Debug, thiserror::Error)]
#[error("not a pass")]
pub(crate) struct NoPass;

impl FromStr for Pass {
    type Err = NoPass;

    fn from_str(text: &str) -> Result<Self, NoPass> {
        let (node, key) = text.split_once('.').ok_or(NoPass)?;
        let node = node.parse().map_err(|_| NoPass)?;
        Ok(Self { node, key: key.parse().map_err(|_| NoPass)? })
    }
}

/// For the client that it is for, and nobody else.
impl Pass {
    pub(crate) fn reveal(&self) -> String {
        format!("{}.{}", self.node, String::from(self.key))
    }
}

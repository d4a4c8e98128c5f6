//! Tickets with which users connect once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{extract::State, response::Response};
use broker_core::{Identity, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Deps,
    caller::Issuer,
    openapi::TicketErrors,
    parse_name,
    routes::{Payload, unstored},
};
use crate::{
    auth::{
        claims::{self, ClaimError},
        tickets::Ticket,
    },
    config::MAX_TICKET_TTL,
    problem::Problem,
};

/// What a ticket may say of its user, in bytes.
const MAX_BYTES: usize = 8 << 10;

/// Who may connect with the ticket: what a token would say.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = TicketRequest)]
pub(super) struct TicketRequest {
    /// The user's id.
    user: String,
    /// The user's roles.
    #[serde(default)]
    roles: Vec<String>,
    /// Further claims for the rules of namespaces: text, numbers, booleans, and lists of these.
    #[serde(default)]
    claims: BTreeMap<String, Value>,
    /// What rules with the term `granted` allow, as in a token: an object such as
    /// `{"subscribe": ["venue:42"], "publish": []}`.
    #[serde(default)]
    grants: Value,
    /// Milliseconds after which the ticket is of no use, at most five minutes; usually
    /// `auth.tickets.ttl`.
    #[schema(nullable = false, minimum = 1, maximum = 300_000)]
    expires_in: Option<u64>,
}

/// A ticket.
#[derive(Serialize, ToSchema)]
#[schema(as = Ticket)]
pub(super) struct TicketBody {
    /// The ticket: one client connects with it, as `?ticket=…`, or in the place of a token.
    #[schema(example = "fft_b3BlbiBzZXNhbWUuLi4uLi4uLi4uLi4uLi4uLi4uLi4")]
    ticket: String,
    /// Until when, in milliseconds since 1970.
    expires: u64,
}

/// Make a ticket
///
/// One client of the user can connect with it, at any gateway, once and soon. For services with an
/// API key of scope `tickets`.
#[utoipa::path(
    post,
    path = "/v1/tickets",
    operation_id = "makeTicket",
    tag = "cluster",
    request_body = TicketRequest,
    responses((status = 200, description = "The ticket.", body = TicketBody), TicketErrors<'static>),
)]
pub(super) async fn make_ticket(
    State(deps): State<Arc<Deps>>,
    _: Issuer,
    Payload(body): Payload,
) -> Result<Response, Problem> {
    Ok(unstored(&make(&deps, &body).await?))
}

/// Makes a ticket.
pub(super) async fn make(deps: &Deps, body: &[u8]) -> Result<TicketBody, Problem> {
    if body.len() > MAX_BYTES {
        let text = format!("a ticket says at most {MAX_BYTES} bytes of its user");
        return Err(Problem::bad_request(text));
    }
    let request: TicketRequest =
        serde_json::from_slice(body).map_err(|error| Problem::bad_request(error.to_string()))?;
    let ttl = match request.expires_in.map(Duration::from_millis) {
        Some(ttl) if ttl.is_zero() || ttl > MAX_TICKET_TTL => {
            let text = format!("`expires_in` is between 1 and {}", MAX_TICKET_TTL.as_millis());
            return Err(Problem::bad_request(text));
        }
        ttl => ttl,
    };
    Ok(deps.authenticator.tickets.issue(request.identity()?, ttl).await?.into())
}

/// Makes a ticket for a user of whom nothing else is said.
pub(super) async fn make_for(deps: &Deps, user: UserId) -> Result<TicketBody, Problem> {
    let identity = Identity { user: Some(user), ..Identity::default() };
    Ok(deps.authenticator.tickets.issue(identity, None).await?.into())
}

impl TicketRequest {
    fn identity(&self) -> Result<Identity, Problem> {
        let mut roles = Vec::new();
        for role in &self.roles {
            let role = parse_name("roles", role)?;
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        let grants = match &self.grants {
            Value::Null => Vec::new(),
            grants => claims::granted(grants, "grants").map_err(|error| ungranted(&error))?,
        };
        let claim = |(name, value): (&String, &Value)| (name.clone(), claims::texts(value));
        Ok(Identity {
            user: Some(parse_name("user", &self.user)?),
            key: None,
            roles,
            claims: self.claims.iter().map(claim).collect(),
            grants,
            expires: None,
        })
    }
}

fn ungranted(error: &ClaimError) -> Problem {
    Problem::bad_request(match error {
        ClaimError::Name(_, error) => format!("`grants`: {error}"),
        _ => {
            "`grants` is an object of lists: subscribe, wildcard, publish, request, members".into()
        }
    })
}

impl From<Ticket> for TicketBody {
    fn from(ticket: Ticket) -> Self {
        Self { ticket: ticket.secret.reveal().to_owned(), expires: ticket.expires.0 }
    }
}

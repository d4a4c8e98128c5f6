//! What services ask single clients: an event that the client acknowledges.

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use broker_core::{ConnectionId, Data, ErrorCode, EventName, JsonText};
use broker_protocol::socketio::{Arg, Args};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    Deps,
    caller::Admin,
    openapi::AdminErrors,
    parse_name,
    peers::{self, Ask, Content},
    publish,
    routes::{Payload, Segment},
};
use crate::{
    asks::{Question, Unanswered},
    problem::Problem,
};

/// What a client is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = Ask)]
pub(super) struct AskBody<'a> {
    /// Over NATS: the connection's id.
    #[schema(ignore)]
    connection: Option<String>,
    /// The event that the client receives, with a callback for its answer.
    #[schema(example = "confirm")]
    event: String,
    /// Its argument: any JSON. Without this and `data_base64`, it has none.
    #[serde(borrow, default, deserialize_with = "publish::present")]
    #[schema(value_type = Value, required = false)]
    data: Option<&'a RawValue>,
    /// Its argument, where it is bytes and not JSON.
    data_base64: Option<String>,
    /// How many milliseconds the client may take; never longer than `limits.request_timeout`,
    /// which also holds without it.
    #[schema(minimum = 1)]
    timeout: Option<u64>,
}

/// What the client said.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClientAnswer)]
pub(super) struct AnswerBody {
    /// What it acknowledged with: the one argument, or a list of several or none.
    #[schema(value_type = Value, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    /// The one argument, where it is bytes and not JSON.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    /// Bytes that `{"_placeholder":true,"num":0}` and so on stand for in `data`, in base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<String>,
}

/// A question on its way to the gateway that has the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Carried {
    connection: String,
    event: String,
    /// JSON, or bytes in base64, or nothing.
    data: Option<String>,
    data_base64: Option<String>,
    /// In milliseconds.
    timeout: u64,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Answered {
        array: String,
        attachments: Vec<String>,
    },
    Unanswered(Unanswered),
    /// The answer is larger than a message may be.
    TooLarge,
    /// The connection is not here.
    NotHere,
}

/// Ask a client
///
/// Sends an event to one connection and waits for the client's acknowledgement: what
/// `socket.on(event, (data, callback) => callback(answer))` gives. For clients of Socket.IO; others
/// have no acknowledgements.
#[utoipa::path(
    post,
    path = "/v1/connections/{id}/ask",
    operation_id = "askClient",
    tag = "cluster",
    params(("id" = String, Path, description = "The connection's id.")),
    request_body = AskBody<'static>,
    responses((status = 200, description = "What the client said.", body = AnswerBody), AdminErrors<'static>),
)]
pub(super) async fn ask_client(
    State(deps): State<Arc<Deps>>,
    _: Admin,
    Segment(id): Segment,
    Payload(body): Payload,
) -> Result<axum::Json<AnswerBody>, Problem> {
    let asked = read(&body)?;
    if asked.connection.is_some() {
        return Err(Problem::bad_request("`connection` is in the path: leave it out of the body"));
    }
    Ok(axum::Json(ask(&deps, &id, asked, &body).await?))
}

/// The same, with the connection in the body.
pub(super) async fn ask_over_nats(deps: &Deps, body: &Bytes) -> Result<AnswerBody, Problem> {
    let mut asked = read(body)?;
    let Some(id) = asked.connection.take() else {
        return Err(Problem::bad_request("`connection` is missing"));
    };
    ask(deps, &id, asked, body).await
}

fn read(body: &[u8]) -> Result<AskBody<'_>, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(error.to_string()))
}

async fn ask(
    deps: &Deps,
    id: &str,
    asked: AskBody<'_>,
    body: &Bytes,
) -> Result<AnswerBody, Problem> {
    let connection: ConnectionId = parse_name("id", id)?;
    let longest = deps.rules.limits.request_timeout;
    let question = Question {
        event: parse_name("event", &asked.event)?,
        data: match (asked.data, asked.data_base64) {
            (None, None) => None,
            given => Some(publish::data(body, &deps.rules, given)?),
        },
        timeout: match asked.timeout {
            Some(0) => return Err(Problem::bad_request("`timeout` is at least 1 millisecond")),
            Some(wanted) => Duration::from_millis(wanted).min(longest),
            None => longest,
        },
    };
    let outcome = match deps.hub.connection(connection) {
        Some(outbox) => Outcome::of(deps, deps.asks.ask(&outbox, &question).await),
        None => elsewhere(deps, connection, &question).await?,
    };
    outcome.body()
}

async fn elsewhere(
    deps: &Deps,
    connection: ConnectionId,
    question: &Question,
) -> Result<Outcome, Problem> {
    let listed = deps.presence.connection(connection).await.map_err(|error| {
        let text = format!("{error}, and this gateway has no such connection");
        Problem::new(ErrorCode::Unavailable, text)
    })?;
    let Some(info) = listed.filter(|info| info.node != deps.node) else {
        return Ok(Outcome::NotHere);
    };
    let ask = Ask::Client(Carried::of(connection, question));
    match peers::ask_one(deps, info.node.mark(), &ask, question.timeout).await? {
        Some(Content::Client(outcome)) => Ok(outcome),
        Some(_) | None => Ok(Outcome::NotHere),
    }
}

/// Asks for another gateway.
pub(super) async fn answer_peer(deps: &Deps, carried: Carried) -> Content {
    let connection = carried.connection.parse().ok();
    let outbox = connection.and_then(|connection| deps.hub.connection(connection));
    Content::Client(match (outbox, carried.question()) {
        (Some(outbox), Some(question)) => {
            Outcome::of(deps, deps.asks.ask(&outbox, &question).await)
        }
        _ => Outcome::NotHere,
    })
}

impl Carried {
    fn of(connection: ConnectionId, question: &Question) -> Self {
        let (data, data_base64) = match &question.data {
            Some(Data::Json(json)) => (Some(text_of(json)), None),
            Some(Data::Binary(bytes)) => (None, Some(BASE64_STANDARD.encode(bytes))),
            None => (None, None),
        };
        let timeout = u64::try_from(question.timeout.as_millis()).unwrap_or(u64::MAX);
        let connection = connection.to_string();
        Self { connection, event: question.event.to_string(), data, data_base64, timeout }
    }

    /// `None` if it is not of its form.
    fn question(self) -> Option<Question> {
        let event: EventName = self.event.parse().ok()?;
        let data = match (self.data, self.data_base64) {
            (Some(text), None) => Some(Data::Json(broker_protocol::json::checked(text.into())?)),
            (None, Some(text)) => Some(Data::Binary(BASE64_STANDARD.decode(text).ok()?.into())),
            (None, None) => None,
            (Some(_), Some(_)) => return None,
        };
        Some(Question { event, data, timeout: Duration::from_millis(self.timeout) })
    }
}

impl Outcome {
    /// With the same bound wherever the client is: what is larger may not fit the bus.
    fn of(deps: &Deps, outcome: Result<Args, Unanswered>) -> Self {
        match outcome {
            Ok(args) if args.len() > deps.rules.limits.message_bytes => Self::TooLarge,
            Ok(args) => {
                let attachments = args.attachments().iter().map(|it| BASE64_STANDARD.encode(it));
                let attachments = attachments.collect();
                Self::Answered { array: text_of(&args.to_array()), attachments }
            }
            Err(unanswered) => Self::Unanswered(unanswered),
        }
    }

    fn body(self) -> Result<AnswerBody, Problem> {
        let (code, text) = match self {
            Self::Answered { array, attachments } => return answer(array, attachments),
            Self::NotHere => (ErrorCode::NotFound, "there is no such connection"),
            Self::TooLarge => (
                ErrorCode::MessageTooLarge,
                "the client's answer is larger than `limits.message_bytes`",
            ),
            Self::Unanswered(Unanswered::Closed) => {
                (ErrorCode::NotFound, "the connection is not open")
            }
            Self::Unanswered(Unanswered::Unable) => (
                ErrorCode::Unanswerable,
                "the client speaks a protocol without acknowledgements: it needs Socket.IO",
            ),
            Self::Unanswered(Unanswered::Overloaded) => {
                (ErrorCode::Overloaded, "too many questions wait for clients of its gateway")
            }
            Self::Unanswered(Unanswered::Ended) => {
                (ErrorCode::ClientTimeout, "the connection ended before the client answered")
            }
            Self::Unanswered(Unanswered::TimedOut) => {
                (ErrorCode::ClientTimeout, "the client did not answer in time")
            }
        };
        Err(Problem::new(code, text))
    }
}

/// One argument as it is, several or none as a list.
fn answer(array: String, attachments: Vec<String>) -> Result<AnswerBody, Problem> {
    let unreadable = || Problem::new(ErrorCode::Internal, "the client's answer was garbled");
    let bytes: Option<Vec<Bytes>> =
        attachments.iter().map(|text| BASE64_STANDARD.decode(text).ok().map(Bytes::from)).collect();
    let array = JsonText::from_checked(array.into());
    let args = Args::new(&array, bytes.ok_or_else(unreadable)?).map_err(|_| unreadable())?;
    let mut each = args.iter();
    let said = match (each.next(), each.next()) {
        (Some(Arg::Binary(bytes)), None) => {
            let data_base64 = Some(BASE64_STANDARD.encode(bytes));
            return Ok(AnswerBody { data: None, data_base64, attachments: Vec::new() });
        }
        (Some(Arg::Json(json)), None) => json,
        _ => args.to_array(),
    };
    let data = RawValue::from_string(text_of(&said)).map_err(|_| unreadable())?;
    Ok(AnswerBody { data: Some(data), data_base64: None, attachments })
}

fn text_of(json: &JsonText) -> String {
    String::from_utf8_lossy(json.as_bytes()).into_owned()
}

//! Long polling: a connection for each request, which goes on where the last one ended.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{FromRequest as _, Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use broker_core::session::Token;
use broker_protocol::native::MAX_COMMANDS;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::{
    Deps,
    cursor::{Cursor, Earlier},
    line::{Line, Said, closed},
    object::Object,
    wanted::{Wanted, WantedBody},
};
use crate::{
    api::Payload,
    clock,
    connection::{Client, Transport},
    problem::Problem,
    socket::CommandKey,
};

/// How long what came is kept back, for what comes with it.
const GATHER: Duration = Duration::from_millis(10);
/// How much longer than a service the slowest command may take.
const LEEWAY: Duration = Duration::from_secs(5);
/// The largest id of a command.
const MAX_ID: u64 = (1 << 53) - 1;

/// The body of a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Body<'a> {
    token: Option<String>,
    #[serde(default)]
    subscribe: Vec<WantedBody>,
    /// Of the answer before.
    #[serde(default)]
    cursor: String,
    /// In milliseconds; never longer than the server's limit, which also holds without it.
    wait: Option<u64>,
    #[serde(borrow)]
    commands: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Numbered {
    id: Option<u64>,
}

/// `POST /v1/poll`
pub(super) async fn poll(
    State(deps): State<Arc<Deps>>,
    request: Request,
) -> Result<Response, Problem> {
    let (admission, limits) = (&deps.admission, &deps.admission.deps.rules.limits);
    let metrics = &admission.deps.metrics;
    admission.admit(request.headers()).inspect_err(|problem| metrics.handshake(problem.code))?;
    let client = Client::of(request.headers(), Transport::Poll);
    let token = admission.token(request.headers(), request.uri());
    let Payload(body) = Payload::from_request(request, &()).await?;
    let body: Body<'_> =
        serde_json::from_slice(&body).map_err(|error| Problem::bad_request(error.to_string()))?;
    let wanted = body.subscribe.into_iter().map(Wanted::try_from).collect::<Result<Vec<_>, _>>()?;
    let answers = body.commands.map_or(Ok(0), count)?;
    let wait = body.wait.map_or(Duration::MAX, Duration::from_millis).min(limits.ping_interval);

    let started = Instant::now();
    let token = token.or_else(|| body.token.map(Token::new));
    let mut line = Line::open(admission, client, token, CommandKey::random());
    let connected = line.connected().await?;
    let subscriptions = wanted.len();
    let cursor = line.subscribe(&connected, wanted, Earlier::read(&body.cursor));
    let limit = admission.deps.wire.queue_bytes;
    let mut round = Round::begin(connected, cursor, limit, (subscriptions, answers));
    if let Some(commands) = body.commands.filter(|_| answers > 0) {
        line.commands(commands.get());
    }
    let slowest = limits.request_timeout + LEEWAY;
    round.gather(&mut line, started + wait, started + wait.max(slowest)).await;
    round.take_the_rest(&mut line).await;
    line.close();
    Ok(round.answer())
}

/// How many answers commands will have: as many as there are, each with the id that its command
/// must have.
fn count(commands: &RawValue) -> Result<usize, Problem> {
    let commands: Vec<Numbered> = serde_json::from_str(commands.get())
        .map_err(|error| Problem::bad_request(format!("`commands`: {error}")))?;
    if commands.len() > MAX_COMMANDS {
        let text = format!("a poll may hold {MAX_COMMANDS} commands: send several");
        return Err(Problem::bad_request(text));
    }
    if commands.iter().any(|command| command.id.is_none_or(|id| id > MAX_ID)) {
        let text = "each command of a poll needs an `id`, by which its answer is known";
        return Err(Problem::bad_request(text));
    }
    Ok(commands.len())
}

/// What is said during one poll.
#[derive(Debug)]
struct Round {
    objects: Vec<String>,
    bytes: usize,
    /// With so many, the rest is left for the next poll.
    limit: usize,
    cursor: Cursor,
    /// Subscriptions and commands that are not answered yet.
    subscriptions: usize,
    answers: usize,
    /// Something was said that the client waits for.
    told: bool,
    closed: bool,
}

impl Round {
    fn begin(
        connected: Object,
        cursor: Cursor,
        limit: usize,
        (subscriptions, answers): (usize, usize),
    ) -> Self {
        Self {
            cursor,
            limit,
            bytes: connected.json.len(),
            objects: vec![connected.json],
            subscriptions,
            answers,
            told: false,
            closed: false,
        }
    }

    /// Waits until `end` for something to tell, but until `latest` for what is under way, unless
    /// there is enough to tell without it.
    async fn gather(&mut self, line: &mut Line, end: Instant, latest: Instant) {
        loop {
            let under_way = self.subscriptions + self.answers > 0;
            if self.closed || self.is_full() || (self.told && !under_way) {
                return;
            }
            let end = if under_way { latest } else { end };
            let Ok(Some(said)) = timeout_at(end, line.next()).await else { return };
            self.note(said);
        }
    }

    /// What comes with it.
    async fn take_the_rest(&mut self, line: &mut Line) {
        let end = Instant::now() + GATHER;
        while !self.closed && !self.is_full() {
            let Ok(Some(said)) = timeout_at(end, line.next()).await else { break };
            self.note(said);
        }
        line.held().into_iter().for_each(|object| self.note(Said::Object(object)));
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.limit
    }

    fn note(&mut self, said: Said) {
        let object = match said {
            Said::Ping => return,
            Said::Closed { code, reason } => {
                self.closed = true;
                closed(code, &reason)
            }
            Said::Object(object) => {
                self.cursor.note(&object);
                match (&*object.kind, object.id) {
                    (_, Some(_)) => {
                        self.answers = self.answers.saturating_sub(1);
                        self.told = true;
                    }
                    ("subscribed", None) => {
                        self.subscriptions = self.subscriptions.saturating_sub(1);
                    }
                    ("error", None) => {
                        self.subscriptions = self.subscriptions.saturating_sub(1);
                        self.told = true;
                    }
                    // What each poll may hear must not end each poll.
                    ("evicted" | "expiring", None) => {}
                    _ => self.told = true,
                }
                object.json
            }
        };
        self.bytes += object.len();
        self.objects.push(object);
    }

    fn answer(&self) -> Response {
        let mut body = format!(r#"{{"objects":[{}]"#, self.objects.join(","));
        if let Some(cursor) = self.cursor.text(clock::wall()) {
            // Of letters that need no escapes.
            body.push_str(&format!(r#","cursor":"{cursor}""#));
        }
        body.push('}');
        let kind = HeaderValue::from_static("application/json");
        let fresh = HeaderValue::from_static("no-store");
        ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, fresh)], body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use broker_protocol::ws::frame;

    use super::*;
    use crate::socket::{Socket as _, pipe};

    const END: Duration = Duration::from_secs(25);
    const LATEST: Duration = Duration::from_secs(60);
    const LIMIT: usize = 1000;

    /// How long a poll waits that has so many commands under way and hears this, and how many
    /// objects it tells.
    async fn poll(answers: usize, said: &[String]) -> (Duration, usize) {
        let (socket, end) = pipe(CommandKey::random(), 0);
        let mut line = Line::on(end);
        for said in said {
            let frame = frame::text_frame(said.as_bytes());
            assert_eq!(socket.try_write_vectored(&[IoSlice::new(&frame)]).unwrap(), frame.len());
        }
        let connected = Object::read(r#"{"type":"connected"}"#.to_owned()).unwrap();
        let cursor = Cursor::new(&[], &[], None);
        let mut round = Round::begin(connected, cursor, LIMIT, (0, answers));
        let started = Instant::now();
        round.gather(&mut line, started + END, started + LATEST).await;
        (started.elapsed(), round.objects.len() - 1)
    }

    fn message(data: &str) -> String {
        format!(r#"{{"type":"message","channel":"venue:1","data":"{data}"}}"#)
    }

    #[tokio::test(start_paused = true)]
    async fn what_every_poll_hears_ends_none() {
        let evicted = r#"{"type":"evicted","evicted":1,"expired":0,"position":"a.1"}"#.to_owned();
        let expiring = r#"{"type":"expiring","in":5000}"#.to_owned();
        let mut said = vec![evicted, expiring];
        assert_eq!(poll(0, &said).await, (END, 2));
        said.push(message("news"));
        assert_eq!(poll(0, &said).await, (Duration::ZERO, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_ends_when_it_has_enough_whatever_is_under_way() {
        let said: Vec<String> = (0..100).map(|_| message("some news")).collect();
        assert_eq!(poll(1, &said[..3]).await, (LATEST, 3));
        let (waited, told) = poll(1, &said).await;
        assert_eq!((waited, told), (Duration::ZERO, LIMIT.div_ceil(said[0].len())));
    }
}

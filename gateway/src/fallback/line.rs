//! The client's end of a connection.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};

use broker_core::{
    CloseCode, ErrorCode,
    session::{Acks, Command, Request, Resumption, Token},
};
use broker_protocol::{
    native,
    ws::{Decoder, Incoming, Opcode, Role},
};
use bytes::{Buf as _, Bytes, BytesMut};

use super::{
    cursor::{Cursor, Earlier, own_channel},
    object::Object,
    repeats::Repeats,
    wanted::Wanted,
};
use crate::{
    clock,
    connection::{Admission, Client, Connection},
    problem::Problem,
    socket::{CommandKey, PipeEnd, pipe},
};

/// A connection, as its client has it. Dropping it is going away without a word.
#[derive(Debug)]
pub(super) struct Line {
    pipe: PipeEnd,
    decoder: Decoder,
    /// Read, but not decoded yet.
    input: BytesMut,
    /// Decoded, but not told yet.
    said: VecDeque<Said>,
    repeats: Option<Repeats>,
    /// Whether [`ACK`] is under way.
    acknowledging: bool,
}

/// The id of the acknowledgement that a cursor stands for: its answer is not for the client.
const ACK: u64 = (1 << 53) - 1;

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Object(Object),
    /// It wants a sign of life, and has got one.
    Ping,
    /// The last word.
    Closed {
        code: u16,
        reason: String,
    },
}

impl Line {
    /// Opens a connection and says who comes: with a token, or as nobody.
    pub(super) fn open(
        admission: &Admission,
        client: Client,
        token: Option<Token>,
        key: CommandKey,
    ) -> Self {
        let deps = Arc::clone(&admission.deps);
        let (socket, pipe) = pipe(key, deps.wire.frame_bytes);
        let connection = Connection::new(deps, Box::new(socket), client, false);
        admission.serve(connection, None, Bytes::new());
        let line = Self::on(pipe);
        // The answers to pings are the gateway's own: they say nothing of the client.
        line.command(Command::Connect { token, acks: Acks::Client, session: Resumption::Never });
        line
    }

    pub(super) fn on(pipe: PipeEnd) -> Self {
        Self {
            pipe,
            decoder: Decoder::new(Role::Client, usize::MAX),
            input: BytesMut::new(),
            said: VecDeque::new(),
            repeats: None,
            acknowledging: false,
        }
    }

    /// Sends a command, which is answered without an id.
    fn command(&self, command: Command) {
        self.request(&Request { id: None, command });
    }

    fn request(&self, request: &Request) {
        let (opcode, payload) = native::client::encode_request(request);
        self.pipe.send(opcode, &payload);
    }

    /// Subscribes, where the client has been before with what came since, and follows it.
    pub(super) fn subscribe(
        &mut self,
        connected: &Object,
        wanted: Vec<Wanted>,
        earlier: Option<Earlier<'_>>,
    ) -> Cursor {
        let cursor = Cursor::new(&connected.channels, &wanted, earlier);
        if let Some(channel) = own_channel(&connected.channels) {
            let position = earlier.and_then(|earlier| earlier.position(channel));
            self.repeats = Some(Repeats::new(channel.to_owned(), position));
            // Whoever brings a cursor has got what it tells of.
            if let Some(position) = position {
                self.acknowledging = true;
                self.request(&Request {
                    id: Some(ACK),
                    command: Command::Acknowledge { position },
                });
            }
        }
        let now = clock::wall();
        for Wanted { interest, mut since } in wanted {
            if let (None, Some(earlier)) = (since.position, earlier) {
                (since.position, since.age) = earlier.stand(now, &interest).unzip();
            }
            let since = (!since.is_now()).then(|| Box::new(since));
            self.command(Command::Subscribe { interest, since });
        }
        cursor
    }

    /// Sends commands as the client wrote them.
    pub(super) fn commands(&self, text: &str) {
        self.pipe.send(Opcode::Text, text.as_bytes());
    }

    /// What was held back as a repetition, but is none as far as can be told.
    pub(super) fn held(&mut self) -> Vec<Object> {
        self.repeats.as_mut().map_or(Vec::new(), Repeats::release)
    }

    /// Goes away politely.
    pub(super) fn close(self) {
        self.pipe.send(Opcode::Close, &CloseCode::Normal.number().to_be_bytes());
    }

    /// Waits for `connected`.
    ///
    /// # Errors
    /// Why the client is not let in.
    pub(super) async fn connected(&mut self) -> Result<Object, Problem> {
        loop {
            match self.next().await {
                Some(Said::Object(object)) => match &*object.kind {
                    "connected" => return Ok(object),
                    "error" => return Err(object.problem()),
                    _ => {}
                },
                Some(Said::Ping) => {}
                Some(Said::Closed { code, reason }) => return Err(refusal(code, &reason)),
                None => return Err(refusal(CloseCode::TryAgainLater.number(), "")),
            }
        }
    }

    /// What the server says next; `None` at the end. May be cancelled without loss.
    pub(super) async fn next(&mut self) -> Option<Said> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Said>> {
        loop {
            if let Some(said) = self.said.pop_front() {
                return Poll::Ready(Some(said));
            }
            self.said = VecDeque::new();
            match self.decode() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(what) => {
                    tracing::error!(what, "a gateway cannot read what it wrote itself");
                    return Poll::Ready(None);
                }
            }
            match ready!(self.pipe.poll_read(cx)) {
                Some(bytes) => self.input = bytes,
                None => return Poll::Ready(None),
            }
        }
    }

    /// Takes the next word of what was read; whether there was one. If not, what was read is used
    /// up, and freed.
    fn decode(&mut self) -> Result<bool, String> {
        let mut rest = &mut self.input[..];
        let before = rest.len();
        let said = match self.decoder.next(&mut rest).map_err(|error| error.to_string())? {
            None => {
                self.input = BytesMut::new();
                return Ok(false);
            }
            Some(Incoming::Text(text)) => Said::Object(Object::read(text.to_owned())?),
            Some(Incoming::Binary(frame)) => {
                let text = native::text_of_binary(frame).ok_or("no object before the data")?;
                Said::Object(Object::read(text)?)
            }
            Some(Incoming::Ping(payload)) => {
                self.pipe.send(Opcode::Pong, payload);
                Said::Ping
            }
            Some(Incoming::Pong(_)) => return Err("an answer to no ping".to_owned()),
            Some(Incoming::Close(frame)) => {
                let (code, reason) = frame.map_or((1005, ""), |frame| (frame.code, frame.reason));
                Said::Closed { code, reason: reason.to_owned() }
            }
        };
        let used = before - rest.len();
        self.input.advance(used);
        self.pass(said);
        Ok(true)
    }

    /// Tells what is for the client, and new.
    fn pass(&mut self, said: Said) {
        let objects = match (said, &mut self.repeats) {
            (Said::Object(object), _) if self.acknowledging && object.id == Some(ACK) => {
                self.acknowledging = false;
                return;
            }
            (Said::Object(object), Some(repeats)) => repeats.pass(object),
            (Said::Object(object), None) => vec![object],
            (other, _) => {
                let held = self.held();
                self.said.extend(held.into_iter().map(Said::Object));
                return self.said.push_back(other);
            }
        };
        self.said.extend(objects.into_iter().map(Said::Object));
    }
}

/// The last word as an object, since HTTP has no close frame.
pub(super) fn closed(code: u16, reason: &str) -> String {
    let reason = serde_json::Value::from(reason);
    format!(r#"{{"type":"close","code":{code},"reason":{reason}}}"#)
}

fn refusal(code: u16, reason: &str) -> Problem {
    if code == CloseCode::TooBig.number() {
        return Problem::new(ErrorCode::MessageTooLarge, "the token is too long");
    }
    Problem::new(ErrorCode::Unavailable, format!("this gateway lets nobody in now: {reason}"))
}

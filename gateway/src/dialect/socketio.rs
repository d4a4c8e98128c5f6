//! What one client is told in one namespace of Socket.IO.

use std::{mem, sync::Arc};

use broker_core::{
    CloseCode, Data, Interest, JsonText, Message,
    code::Retry,
    ports::GapReason,
    session::{Failure, Outgoing, Reply},
};
use broker_protocol::{
    socketio::{self, AckId, Arguments, Namespace, Parser},
    ws,
};
use bytes::{Bytes, BytesMut};
use serde_json::json;

/// How messages are written to all who have the same parser in the same namespace.
#[derive(Debug)]
pub(crate) struct Framing {
    pub(crate) namespace: Namespace,
    pub(crate) parser: Parser,
    /// Whether clients get back what they say, and nothing else.
    pub(crate) echo: bool,
}

/// What is remembered of a client in a namespace.
#[derive(Debug)]
pub(crate) struct SocketIo {
    framing: Arc<Framing>,
    /// Events that are not done yet, each with the number that its commands have.
    calls: Vec<(u64, Call)>,
    next: u64,
    /// What the client said of itself.
    auth: Option<JsonText>,
    /// Whether the client was let in.
    connected: bool,
    /// Whether it is to be asked what it has taken in.
    probing: bool,
}

/// An event of the client's that commands were made of.
#[derive(Debug)]
struct Call {
    ack: Option<AckId>,
    /// Commands without an outcome.
    left: usize,
    /// What the first command that matters came to.
    outcome: Option<Outgoing>,
}

impl Framing {
    pub(crate) fn encode_message(&self, message: &Message, out: &mut BytesMut) {
        let name = message.event.as_ref().map_or("message", |event| event.as_str());
        let json;
        let args = match &message.data {
            Data::Json(text) => {
                json = [text.clone()];
                Arguments::Json(&json)
            }
            Data::Binary(bytes) => Arguments::Binary(bytes),
        };
        self.encode_event(name, args, out);
    }

    pub(crate) fn encode_event(&self, name: &str, args: Arguments<'_>, out: &mut BytesMut) {
        self.encode(&socketio::Outgoing::Event { name, id: None, args, offset: None }, out);
    }

    pub(crate) fn encode(&self, outgoing: &socketio::Outgoing<'_>, out: &mut BytesMut) {
        self.parser.encode(&self.namespace, outgoing, out);
    }

    /// Word that messages may be missing.
    pub(crate) fn gap(&self, interest: Option<&Interest>, reason: GapReason) -> Bytes {
        let mut body = json!({ "reason": reason.as_str() });
        if let Some(interest) = interest {
            body["channel"] = interest.as_str().into();
        }
        let mut out = BytesMut::new();
        self.encode_notice("fanfare:gap", body, &mut out);
        out.freeze()
    }

    /// Something that concerns the connection, as an event of the server's own.
    pub(super) fn encode_notice(&self, name: &str, body: serde_json::Value, out: &mut BytesMut) {
        self.encode_event(name, Arguments::Json(&[text_of(body)]), out);
    }
}

impl SocketIo {
    pub(crate) fn new(framing: Arc<Framing>, auth: Option<JsonText>) -> Self {
        Self { framing, calls: Vec::new(), next: 0, auth, connected: false, probing: false }
    }

    pub(crate) fn framing(&self) -> &Arc<Framing> {
        &self.framing
    }

    /// An event becomes so many commands, all with the number that this returns; once all of them
    /// have an outcome, the event is acknowledged.
    pub(crate) fn begin(&mut self, ack: Option<AckId>, commands: usize) -> u64 {
        self.next += 1;
        self.calls.push((self.next, Call { ack, left: commands, outcome: None }));
        self.next
    }

    /// Whether the client is to be asked for a sign of life now.
    pub(crate) fn take_probe(&mut self) -> bool {
        mem::take(&mut self.probing)
    }

    pub(super) fn probe(&mut self) {
        self.probing = true;
    }

    pub(super) fn encode_reply(&mut self, reply: &Reply, out: &mut BytesMut) {
        match (reply.id, &reply.body) {
            (None, Outgoing::Connected(connected)) => {
                self.connected = true;
                let sid = connected.connection.to_string();
                self.framing.encode(&socketio::Outgoing::Connect { sid: &sid, pid: None }, out);
                if self.framing.echo {
                    let nothing = || JsonText::from_checked(Bytes::from_static(b"{}"));
                    let auth = [self.auth.take().unwrap_or_else(nothing)];
                    self.framing.encode_event("auth", Arguments::Json(&auth), out);
                }
            }
            (None, Outgoing::Error(failure)) if !self.connected => self.refuse(failure, out),
            (None, body) => self.notice(body, out),
            (Some(id), body) => self.outcome(id, body, out),
        }
    }

    /// Who may come back by himself is not refused: his connection is closed.
    fn refuse(&self, failure: &Failure, out: &mut BytesMut) {
        if failure.code.retry() == Retry::Later {
            return;
        }
        let data = text_of(json!({ "code": failure.code.as_str() }));
        let refusal =
            socketio::Outgoing::ConnectError { message: &failure.text, data: Some(&data) };
        self.framing.encode(&refusal, out);
    }

    fn notice(&self, body: &Outgoing, out: &mut BytesMut) {
        let (name, body) = match body {
            Outgoing::Error(failure) => ("fanfare:error", error(failure)),
            Outgoing::Evicted { evicted, expired } => {
                ("fanfare:evicted", json!({ "evicted": evicted, "expired": expired }))
            }
            Outgoing::Unsubscribed { interest } => {
                ("fanfare:unsubscribed", json!({ "channel": interest.as_str() }))
            }
            Outgoing::Expiring { left } => ("fanfare:expiring", json!({ "in": left.as_secs() })),
            // The connection closes, and the client comes back.
            _ => return,
        };
        self.framing.encode_notice(name, body, out);
    }

    fn outcome(&mut self, id: u64, body: &Outgoing, out: &mut BytesMut) {
        let Some(index) = self.calls.iter().position(|(call, _)| *call == id) else { return };
        let call = &mut self.calls[index].1;
        call.left -= 1;
        let failed = matches!(call.outcome, Some(Outgoing::Error(_)));
        if call.outcome.is_none() || (!failed && matches!(body, Outgoing::Error(_))) {
            call.outcome = Some(body.clone());
        }
        if call.left > 0 {
            return;
        }
        let (_, Call { ack, outcome, .. }) = self.calls.swap_remove(index);
        if let (Some(id), Some(outcome)) = (ack, outcome) {
            self.acknowledge(id, &outcome, out);
        }
    }

    fn acknowledge(&self, id: AckId, outcome: &Outgoing, out: &mut BytesMut) {
        let json;
        let args = match outcome {
            Outgoing::Answer { data: Data::Binary(bytes) } => Arguments::Binary(bytes),
            Outgoing::Answer { data: Data::Json(text) } => {
                json = [text.clone()];
                Arguments::Json(&json)
            }
            other => {
                json = [text_of(success(other))];
                Arguments::Json(&json)
            }
        };
        self.framing.encode(&socketio::Outgoing::Ack { id, args }, out);
    }

    /// The last word: to the namespace where the client is not to come back by itself, and to the
    /// transport where it is.
    pub(super) fn last_frame(&self, code: CloseCode) -> Bytes {
        if closes_transport(code) {
            return ws::frame::close_frame(code.number(), code.reason());
        }
        if !self.connected {
            return Bytes::new();
        }
        let mut out = BytesMut::new();
        self.framing.encode(&socketio::Outgoing::Disconnect, &mut out);
        out.freeze()
    }
}

/// Whether the end of one namespace's session ends the transport, and so brings the client back.
pub(crate) fn closes_transport(code: CloseCode) -> bool {
    code.reconnect() || matches!(code, CloseCode::Protocol | CloseCode::TooBig)
}

fn success(outcome: &Outgoing) -> serde_json::Value {
    match outcome {
        Outgoing::Error(failure) => error(failure),
        Outgoing::Published { message, accepted } => {
            let mut body = json!({ "ok": true, "id": message.as_str() });
            if let Some(position) = &accepted.position {
                body["position"] = position.to_string().into();
            }
            if accepted.duplicate {
                body["duplicate"] = true.into();
            }
            body
        }
        _ => json!({ "ok": true }),
    }
}

fn error(failure: &Failure) -> serde_json::Value {
    json!({ "error": failure.text, "code": failure.code.as_str() })
}

fn text_of(value: serde_json::Value) -> JsonText {
    JsonText::from_checked(value.to_string().into())
}

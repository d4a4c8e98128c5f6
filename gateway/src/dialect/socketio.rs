//! What one client is told in one namespace of Socket.IO.

use std::{mem, sync::Arc};

use broker_core::{
    CloseCode, ConnectionId, Data, ErrorCode, EventName, Identity, Interest, JsonText, Message,
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

use super::{
    calls::{Calls, Event, Settled},
    rates::Rates,
};
use crate::{
    clock,
    profile::{Context, Emission, Face, Outgoing as Told, RenderError},
};

/// How messages are written to all who have the same parser in the same namespace.
#[derive(Debug)]
pub(crate) struct Framing {
    pub(crate) namespace: Namespace,
    pub(crate) parser: Parser,
    pub(crate) face: Arc<Face>,
    /// Whether clients get back what they say, and nothing else.
    pub(crate) echo: bool,
}

/// What is remembered of a client in a namespace.
#[derive(Debug)]
pub(crate) struct SocketIo {
    framing: Arc<Framing>,
    id: ConnectionId,
    pub(crate) calls: Calls,
    pub(crate) rates: Rates,
    /// What the client said of itself.
    auth: Option<JsonText>,
    state: State,
    /// Whether it is to be asked what it has taken in.
    probing: bool,
    /// What is to be done for a client that was just let in.
    welcome: Option<Event>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has no answer yet.
    Waiting,
    Connected,
    /// It was told that it may not be here, in the face's own words.
    Refused,
}

impl Framing {
    /// What clients are told of a message.
    pub(crate) fn told(&self, message: &Message) -> Result<Told, RenderError> {
        self.face.outgoing(message)
    }

    pub(crate) fn encode(&self, outgoing: &socketio::Outgoing<'_>, out: &mut BytesMut) {
        self.parser.encode(&self.namespace, outgoing, out);
    }

    pub(crate) fn encode_event(&self, name: &str, args: Arguments<'_>, out: &mut BytesMut) {
        self.encode(&socketio::Outgoing::Event { name, id: None, args, offset: None }, out);
    }

    pub(crate) fn encode_emission(&self, emission: &Emission, out: &mut BytesMut) {
        let name = emission.event.as_str();
        with_arguments(&emission.args, |args| self.encode_event(name, args, out));
    }

    /// An event of a service's, which the client is to acknowledge.
    pub(super) fn question(&self, id: AckId, event: &EventName, data: &Data) -> Bytes {
        let mut out = BytesMut::new();
        with_arguments(std::slice::from_ref(data), |args| {
            let name = event.as_str();
            self.encode(
                &socketio::Outgoing::Event { name, id: Some(id), args, offset: None },
                &mut out,
            );
        });
        out.freeze()
    }

    /// What was wrong with something that has no acknowledgement.
    pub(crate) fn encode_error(&self, code: ErrorCode, text: &str, out: &mut BytesMut) {
        let body = json!({ "error": text, "code": code.as_str() });
        self.encode_notice("fanfare:error", &body, out);
    }

    /// Word that messages may be missing.
    pub(crate) fn gap(&self, interest: Option<&Interest>, reason: GapReason) -> Bytes {
        let mut body = json!({ "reason": reason.as_str() });
        if let Some(interest) = interest {
            body["channel"] = interest.as_str().into();
        }
        let mut out = BytesMut::new();
        self.encode_notice("fanfare:gap", &body, &mut out);
        out.freeze()
    }

    /// Something that concerns the connection, as an event of the server's own.
    fn encode_notice(&self, name: &str, body: &serde_json::Value, out: &mut BytesMut) {
        self.encode_event(name, Arguments::Json(&[text_of(body)]), out);
    }
}

impl SocketIo {
    pub(crate) fn new(framing: Arc<Framing>, id: ConnectionId, auth: Option<JsonText>) -> Self {
        Self {
            framing,
            id,
            calls: Calls::default(),
            rates: Rates::default(),
            auth,
            state: State::Waiting,
            probing: false,
            welcome: None,
        }
    }

    pub(crate) fn framing(&self) -> &Arc<Framing> {
        &self.framing
    }

    /// Whether the client was let in, and told so.
    pub(crate) fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// Whether the client was told that it may not be here.
    pub(crate) fn is_refused(&self) -> bool {
        self.state == State::Refused
    }

    /// What is to be done now, for a client that was just let in, or has asked for it.
    pub(crate) fn take_ready(&mut self) -> Option<Event> {
        self.welcome.take().or_else(|| self.calls.take_ready())
    }

    /// Whether the client is to be asked for a sign of life now.
    pub(crate) fn take_probe(&mut self) -> bool {
        mem::take(&mut self.probing)
    }

    pub(super) fn probe(&mut self) {
        self.probing = true;
    }

    pub(super) fn encode_message(
        &self,
        message: &Message,
        identity: &Identity,
        out: &mut BytesMut,
    ) -> Result<(), RenderError> {
        let told = self.framing.told(message)?;
        let id;
        let subject = match &identity.user {
            Some(user) => user.as_str(),
            None => {
                id = self.id.to_string();
                &id
            }
        };
        if let Some(emission) = told.emission(subject) {
            self.framing.encode_emission(emission, out);
        }
        Ok(())
    }

    pub(super) fn encode_reply(&mut self, reply: &Reply, identity: &Identity, out: &mut BytesMut) {
        match (reply.id, &reply.body) {
            (None, Outgoing::Connected(_)) => self.connected(identity, out),
            (None, Outgoing::Error(failure)) if self.state == State::Waiting => {
                self.refuse(failure.code, &failure.text, out);
            }
            (None, body) => self.notice(body, out),
            (Some(number), body) => {
                let settled = self.calls.settle(number, body);
                self.encode_settled(settled, out);
            }
        }
    }

    fn connected(&mut self, identity: &Identity, out: &mut BytesMut) {
        let sid = self.id.to_string();
        let face = Arc::clone(&self.framing.face);
        if let Err(unmet) = face.auth.require.check(identity) {
            return self.refuse(ErrorCode::Forbidden, &unmet.to_string(), out);
        }
        self.state = State::Connected;
        self.framing.encode(&socketio::Outgoing::Connect { sid: &sid, pid: None }, out);
        if self.framing.echo {
            let nothing = || JsonText::from_checked(Bytes::from_static(b"{}"));
            let auth = [self.auth.take().unwrap_or_else(nothing)];
            return self.framing.encode_event("auth", Arguments::Json(&auth), out);
        }
        let context = Context { connection: &sid, identity, now: clock::wall() };
        match face.on_connect(&context) {
            Ok(actions) => self.welcome = Some(Event::welcome(actions)),
            Err(failure) => self.framing.encode_error(failure.code, &failure.text, out),
        }
    }

    /// Who may come back by himself is not refused: his connection is closed.
    fn refuse(&mut self, code: ErrorCode, text: &str, out: &mut BytesMut) {
        if code.retry() == Retry::Later {
            return;
        }
        self.state = State::Refused;
        if let Some(emission) = self.framing.face.refusal(clock::wall(), code, text) {
            let sid = self.id.to_string();
            self.framing.encode(&socketio::Outgoing::Connect { sid: &sid, pid: None }, out);
            self.framing.encode_emission(&emission, out);
            return self.framing.encode(&socketio::Outgoing::Disconnect, out);
        }
        let data = text_of(&json!({ "code": code.as_str() }));
        let refusal = socketio::Outgoing::ConnectError { message: text, data: Some(&data) };
        self.framing.encode(&refusal, out);
    }

    fn notice(&self, body: &Outgoing, out: &mut BytesMut) {
        let (name, body) = match body {
            Outgoing::Error(failure) => ("fanfare:error", error(failure)),
            Outgoing::Evicted { evicted, expired, .. } => {
                ("fanfare:evicted", json!({ "evicted": evicted, "expired": expired }))
            }
            Outgoing::Unsubscribed { interest } => {
                ("fanfare:unsubscribed", json!({ "channel": interest.as_str() }))
            }
            Outgoing::Expiring { left } => ("fanfare:expiring", json!({ "in": left.as_secs() })),
            // The connection closes, and the client comes back.
            _ => return,
        };
        self.framing.encode_notice(name, &body, out);
    }

    /// What has come of a command, and with the last of an event, its acknowledgement.
    pub(crate) fn encode_settled(&self, settled: Settled, out: &mut BytesMut) {
        if let Some(emission) = settled.emission {
            self.framing.encode_emission(&emission, out);
        }
        if let Some((id, args)) = settled.ack {
            self.encode_ack(id, &args, out);
        }
        if let Some((code, text)) = settled.error {
            self.framing.encode_error(code, &text, out);
        }
    }

    pub(crate) fn encode_ack(&self, id: AckId, args: &[Data], out: &mut BytesMut) {
        with_arguments(args, |args| {
            self.framing.encode(&socketio::Outgoing::Ack { id, args }, out);
        });
    }

    /// The last word: to the namespace where the client is not to come back by itself, and to the
    /// transport where it is.
    pub(super) fn last_frame(&self, code: CloseCode) -> Bytes {
        if closes_transport(code) {
            return ws::frame::close_frame(code.number(), code.reason());
        }
        if self.state != State::Connected {
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

/// Bytes beside other arguments become null: a packet of the server's has JSON, or one of bytes.
fn with_arguments(args: &[Data], encode: impl FnOnce(Arguments<'_>)) {
    if let [Data::Binary(bytes)] = args {
        return encode(Arguments::Binary(bytes));
    }
    let texts: Vec<JsonText> = args
        .iter()
        .map(|arg| match arg {
            Data::Json(text) => text.clone(),
            Data::Binary(_) => JsonText::from_checked(Bytes::from_static(b"null")),
        })
        .collect();
    encode(Arguments::Json(&texts));
}

pub(super) fn error(failure: &Failure) -> serde_json::Value {
    json!({ "error": failure.text, "code": failure.code.as_str() })
}

pub(super) fn text_of(value: &serde_json::Value) -> JsonText {
    JsonText::from_checked(value.to_string().into())
}

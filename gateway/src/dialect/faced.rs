//! What one client is told that is shown a face of a profile: over Socket.IO, in one of its
//! namespaces, or in envelopes.

use std::{collections::VecDeque, mem, sync::Arc};

use broker_core::{
    CloseCode, ConnectionId, ErrorCode, Identity, JsonText, Message,
    code::Retry,
    session::{Connected, Failure, Outgoing, Reply, Resumption, Token},
};
use broker_protocol::{
    envelope::Envelope,
    socketio::{self, Arguments},
    ws,
};
use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::{
    PROBE,
    calls::{Calls, Event, Settled},
    framing::{Form, Framing, ReplyTo},
    rates::Rates,
    returning::Returning,
};
use crate::{
    clock,
    profile::{Context, RenderError},
};

/// What is remembered of a client that is shown a face.
#[derive(Debug)]
pub(crate) struct Faced {
    framing: Arc<Framing>,
    id: ConnectionId,
    pub(crate) calls: Calls,
    pub(crate) rates: Rates,
    /// What the client said when it came, where the face asks for that.
    said: Option<JsonText>,
    state: State,
    /// Whether it is to be asked what it has taken in.
    probing: bool,
    /// What is to be done for a client that was just let in: boxed, since it is soon done.
    welcome: Option<Box<Event>>,
    opening: Option<Box<Opening>>,
    /// What it goes on with.
    returning: Option<Box<Returning>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has not said who it is.
    Unknown,
    /// It has said who it is, and has no answer yet.
    Waiting,
    Connected,
    /// It was told that it may not be here, in the face's own words.
    Refused,
}

/// What a client in envelopes has said before it was let in.
#[derive(Debug, Default)]
struct Opening {
    /// What it called the envelope in which it said who it is.
    asked: Option<ReplyTo>,
    /// What it said behind that, to be taken up once it is let in.
    early: VecDeque<Envelope>,
}

/// What becomes of an envelope.
pub(crate) enum Taken {
    /// It is an event.
    Event(Envelope),
    /// It is the first, and may say who the client is.
    First(Envelope),
    /// It waits, or is for nobody any more.
    Done,
}

impl Faced {
    pub(crate) fn new(framing: Arc<Framing>, id: ConnectionId, auth: Option<&JsonText>) -> Self {
        let recovers = framing.recovery().is_some();
        let returning = auth.filter(|_| recovers).and_then(Returning::of);
        Self {
            returning: returning.map(Box::new),
            framing,
            id,
            calls: Calls::default(),
            rates: Rates::default(),
            said: None,
            state: State::Unknown,
            probing: false,
            welcome: None,
            opening: None,
        }
    }

    /// With what is to be remembered of how it came.
    pub(crate) fn with_said(self, said: Option<JsonText>) -> Self {
        Self { said, ..self }
    }

    pub(crate) fn said(&self) -> Option<&JsonText> {
        self.said.as_ref()
    }

    pub(crate) fn framing(&self) -> &Arc<Framing> {
        &self.framing
    }

    /// Whether its session is to be recovered, and from what.
    pub(crate) fn resumption(&self) -> Resumption {
        match (self.framing.recovery(), &self.returning) {
            (None, _) => Resumption::Never,
            (Some(_), None) => Resumption::Recoverable(None),
            (Some(_), Some(it)) => Resumption::Recoverable(Some(it.secret.clone())),
        }
    }

    pub(crate) fn returning(&mut self) -> &mut Option<Box<Returning>> {
        &mut self.returning
    }

    /// It goes on as who it was.
    pub(crate) fn go_on_as(&mut self, origin: ConnectionId) {
        self.id = origin;
    }

    /// The client has said who it is; `asked`, where it wants to know what comes of that.
    pub(crate) fn introduced(&mut self, asked: Option<ReplyTo>) {
        self.state = State::Waiting;
        if asked.is_some() {
            self.opening.get_or_insert_default().asked = asked;
        }
    }

    /// Whether the client was let in, and told so.
    pub(crate) fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// Whether the client was told that it may not be here.
    pub(crate) fn is_refused(&self) -> bool {
        self.state == State::Refused
    }

    /// Looks what an envelope is.
    pub(crate) fn sort(&mut self, envelope: Envelope) -> Taken {
        match self.state {
            State::Unknown => Taken::First(envelope),
            State::Waiting => {
                self.opening.get_or_insert_default().early.push_back(envelope);
                Taken::Done
            }
            State::Connected => Taken::Event(envelope),
            State::Refused => Taken::Done,
        }
    }

    /// What the client said before it was let in, once it is.
    pub(crate) fn take_early(&mut self) -> Option<Envelope> {
        if self.state != State::Connected {
            return None;
        }
        let early = self.opening.as_mut().and_then(|opening| opening.early.pop_front());
        if early.is_none() {
            self.opening = None;
        }
        early
    }

    /// Whether something that the client said waits until it is let in.
    pub(crate) fn has_early(&self) -> bool {
        self.opening.as_ref().is_some_and(|opening| !opening.early.is_empty())
    }

    /// What is to be done now, for a client that was just let in, or has asked for it.
    pub(crate) fn take_ready(&mut self) -> Option<Event> {
        self.welcome.take().map(|event| *event).or_else(|| self.calls.take_ready())
    }

    /// Whether the client is to be asked for a sign of life now.
    pub(crate) fn take_probe(&mut self) -> bool {
        mem::take(&mut self.probing)
    }

    /// Socket.IO has pings of its own, for all namespaces of a connection.
    pub(super) fn ping(&self, out: &mut BytesMut) {
        match &self.framing.form {
            Form::SocketIo(_) => {}
            Form::Envelope => out.extend_from_slice(&ws::frame::ping_frame(b"")),
        }
    }

    pub(super) fn probe(&mut self) -> Option<Bytes> {
        match &self.framing.form {
            Form::SocketIo(_) => {
                self.probing = true;
                None
            }
            Form::Envelope => Some(ws::frame::ping_frame(PROBE)),
        }
    }

    pub(super) fn encode_message(
        &self,
        message: &Message,
        (identity, mark): (&Identity, Option<&str>),
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
            self.framing.encode_marked((message, emission), mark, out);
        }
        Ok(())
    }

    pub(super) fn encode_reply(&mut self, reply: &Reply, identity: &Identity, out: &mut BytesMut) {
        match (reply.id, &reply.body) {
            (None, Outgoing::Connected(connected)) => self.connected(connected, identity, out),
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

    fn connected(&mut self, connected: &Connected, identity: &Identity, out: &mut BytesMut) {
        let sid = self.id.to_string();
        let face = self.framing.face();
        self.state = State::Connected;
        let asked = self.opening.as_mut().and_then(|opening| opening.asked.take());
        let pid = connected.session.as_ref().map(Token::reveal);
        self.framing.encode_welcome((&sid, pid), (asked.as_ref(), identity), out);
        if connected.resumed {
            return;
        }
        if self.framing.echo {
            return self.echo_auth(out);
        }
        let (now, handshake) = (clock::wall(), self.said.as_ref());
        let context = Context { connection: &sid, identity, now, handshake };
        match face.on_connect(&context) {
            Ok(actions) => self.welcome = Some(Box::new(Event::welcome(actions))),
            Err(failure) => self.framing.encode_error(None, (failure.code, &failure.text), out),
        }
    }

    fn echo_auth(&mut self, out: &mut BytesMut) {
        let nothing = || JsonText::from_checked(Bytes::from_static(b"{}"));
        let auth = [self.said.take().unwrap_or_else(nothing)];
        if let Some(space) = self.framing.space() {
            space.encode_event("auth", Arguments::Json(&auth), out);
        }
    }

    /// Who may come back by himself is not refused: his connection is closed.
    fn refuse(&mut self, code: ErrorCode, text: &str, out: &mut BytesMut) {
        if code.retry() == Retry::Later {
            return;
        }
        self.state = State::Refused;
        let asked = self.opening.take().and_then(|opening| opening.asked);
        let sid = self.id.to_string();
        self.framing.encode_refusal(&sid, asked.as_ref(), (code, text), out);
    }

    fn notice(&self, body: &Outgoing, out: &mut BytesMut) {
        let (name, body) = match body {
            Outgoing::Error(Failure { code, text, .. }) => {
                return self.framing.encode_error(None, (*code, text), out);
            }
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
    fn encode_settled(&self, settled: Settled, out: &mut BytesMut) {
        if let Some(emission) = settled.emission {
            self.framing.encode_emission(&emission, out);
        }
        if let Some((reply_to, args)) = settled.failed {
            self.framing.encode_failed(&reply_to, &args, out);
        }
        if let Some((code, text)) = settled.error {
            self.framing.encode_error(None, (code, &text), out);
        }
    }

    /// The last word: to the namespace where the client is not to come back by itself, and to the
    /// transport where it is, or where there is nothing else.
    pub(super) fn last_frame(&self, code: CloseCode, reason: Option<&str>) -> Bytes {
        let space = match &self.framing.form {
            Form::SocketIo(space) if !closes_transport(code) => space,
            _ => return ws::frame::close_frame(code.number(), reason.unwrap_or(code.reason())),
        };
        if self.state != State::Connected {
            return Bytes::new();
        }
        let mut out = BytesMut::new();
        if let Some(reason) = reason {
            let body = json!({ "reason": reason });
            self.framing.encode_notice("fanfare:disconnect", &body, &mut out);
        }
        space.encode(&socketio::Outgoing::Disconnect, &mut out);
        out.freeze()
    }
}

/// Whether the end of one namespace's session ends the transport, and so brings the client back.
pub(crate) fn closes_transport(code: CloseCode) -> bool {
    code.reconnect() || matches!(code, CloseCode::Protocol | CloseCode::TooBig)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each connection that is shown a face has one.
    #[test]
    fn what_is_remembered_of_an_idle_client_is_little() {
        assert!(size_of::<Faced>() <= 192, "{}", size_of::<Faced>());
    }
}

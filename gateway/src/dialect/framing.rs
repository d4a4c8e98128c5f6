//! How what clients of a face are told becomes frames.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use broker_core::{
    Data, ErrorCode, EventName, Identity, Interest, JsonText, Message, Timestamp, ports::GapReason,
};
use broker_protocol::{
    envelope,
    socketio::{self, AckId, Arguments, Namespace, Parser},
};
use bytes::{Bytes, BytesMut};
use serde_json::json;

use crate::{
    clock,
    profile::{Emission, Face, Outgoing as Told, Refusal, RenderError},
};

/// How messages are written to all who are shown the same face in the same way: what is made of a
/// message is made once for them.
#[derive(Debug)]
pub(crate) struct Framing {
    pub(crate) form: Form,
    /// Replaced when a profile is reloaded.
    pub(crate) face: ArcSwap<Face>,
    /// Whether clients get back what they say, and nothing else.
    pub(crate) echo: bool,
}

/// A face, and the clients that are to be shown it.
pub(crate) type Shown = (Arc<Framing>, Arc<Face>);

/// What frames look like.
#[derive(Debug)]
pub(crate) enum Form {
    SocketIo(Space),
    Envelope,
}

/// A namespace of Socket.IO, for clients with the same parser.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) namespace: Namespace,
    pub(crate) parser: Parser,
    /// How long a client may be out of reach unnoticed, where clients are recovered.
    pub(crate) recovery: Option<Duration>,
}

/// What a client calls an event of which it wants to know what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplyTo {
    Packet(AckId),
    Envelope(envelope::Id),
}

impl ReplyTo {
    /// Whether the client waits for an answer also where there is nothing more to say than that it
    /// is done: the id of an envelope asks for nothing.
    pub(crate) const fn is_awaited(&self) -> bool {
        matches!(self, Self::Packet(_))
    }
}

impl Space {
    pub(crate) fn encode(&self, outgoing: &socketio::Outgoing<'_>, out: &mut BytesMut) {
        self.parser.encode(&self.namespace, outgoing, out);
    }

    /// Where clients are recovered, they take a text at an event's end for its mark.
    pub(crate) fn encode_event(&self, name: &str, args: Arguments<'_>, out: &mut BytesMut) {
        if let (Some(_), Arguments::Json(values)) = (self.recovery, args)
            && values.last().is_none_or(|last| last.as_bytes().starts_with(b"\""))
        {
            let null = JsonText::from_checked(Bytes::from_static(b"null"));
            let values: Vec<JsonText> = values.iter().cloned().chain([null]).collect();
            return self.encode_with(name, Arguments::Json(&values), None, out);
        }
        self.encode_with(name, args, None, out);
    }

    fn encode_with(
        &self,
        name: &str,
        args: Arguments<'_>,
        offset: Option<&str>,
        out: &mut BytesMut,
    ) {
        self.encode(&socketio::Outgoing::Event { name, id: None, args, offset }, out);
    }
}

impl Framing {
    /// What clients can say and are told, at this moment.
    pub(crate) fn face(&self) -> Arc<Face> {
        self.face.load_full()
    }

    /// Has all clients shown another face from now on, those included that are connected.
    pub(crate) fn show(&self, face: Arc<Face>) {
        self.face.store(face);
    }

    /// The namespace, of Socket.IO.
    pub(crate) const fn space(&self) -> Option<&Space> {
        match &self.form {
            Form::SocketIo(space) => Some(space),
            Form::Envelope => None,
        }
    }

    /// How long a client may be out of reach unnoticed, where clients are recovered.
    pub(crate) fn recovery(&self) -> Option<Duration> {
        self.space()?.recovery
    }

    /// What clients are told of a message.
    pub(crate) fn told(&self, message: &Message) -> Result<Told, RenderError> {
        self.face.load().outgoing(message)
    }

    /// What a client, or all of a group, is told of a message.
    pub(crate) fn encode_message(
        &self,
        message: &Message,
        emission: &Emission,
        out: &mut BytesMut,
    ) {
        match &self.form {
            Form::SocketIo(_) => self.encode_emission(emission, out),
            Form::Envelope => {
                let Emission { event, args } = emission;
                let (event, id) = (event.as_str(), message.id.as_str());
                let time = message.time;
                envelope::Outgoing { id, event, args, in_reply_to: None, time }.encode(out);
            }
        }
    }

    /// The same, with where the client stands then.
    pub(crate) fn encode_marked(
        &self,
        (message, emission): (&Message, &Emission),
        mark: Option<&str>,
        out: &mut BytesMut,
    ) {
        match (&self.form, mark) {
            (Form::SocketIo(space), Some(mark)) => with_arguments(&emission.args, |args| {
                space.encode_with(emission.event.as_str(), args, Some(mark), out);
            }),
            _ => self.encode_message(message, emission, out),
        }
    }

    /// Word that a subscription could not be kept, so that the client is not recovered for now.
    pub(crate) fn encode_unkept(&self, interest: &Interest, mark: &str, out: &mut BytesMut) {
        let body = [text_of(&json!({ "channel": interest.as_str() }))];
        if let Some(space) = self.space() {
            space.encode_with("fanfare:unkept", Arguments::Json(&body), Some(mark), out);
        }
    }

    /// An event that is not of a message.
    pub(crate) fn encode_emission(&self, emission: &Emission, out: &mut BytesMut) {
        let (name, args) = (emission.event.as_str(), &*emission.args);
        match &self.form {
            Form::SocketIo(space) => {
                with_arguments(args, |args| space.encode_event(name, args, out));
            }
            Form::Envelope => put_envelope(name, args, None, out),
        }
    }

    /// What came of an event.
    pub(crate) fn encode_done(&self, reply_to: &ReplyTo, args: &[Data], out: &mut BytesMut) {
        self.encode_answer("ack", reply_to, args, out);
    }

    /// What went wrong with an event.
    pub(crate) fn encode_failed(&self, reply_to: &ReplyTo, args: &[Data], out: &mut BytesMut) {
        self.encode_answer("error", reply_to, args, out);
    }

    /// What was wrong with something that has no acknowledgement of its own; `asked`, what the
    /// client called it.
    pub(crate) fn encode_error(
        &self,
        asked: Option<&ReplyTo>,
        (code, text): (ErrorCode, &str),
        out: &mut BytesMut,
    ) {
        let body = json!({ "error": text, "code": code.as_str() });
        match (&self.form, asked) {
            (Form::SocketIo(_), _) => self.encode_notice("fanfare:error", &body, out),
            (Form::Envelope, None) => self.encode_notice("error", &body, out),
            (Form::Envelope, Some(asked)) => {
                self.encode_failed(asked, &[Data::Json(text_of(&body))], out);
            }
        }
    }

    /// Something that concerns the connection, as an event of the server's own.
    pub(super) fn encode_notice(&self, name: &str, body: &serde_json::Value, out: &mut BytesMut) {
        let args = [text_of(body)];
        match &self.form {
            Form::SocketIo(space) => space.encode_event(name, Arguments::Json(&args), out),
            Form::Envelope => put_envelope(name, &args.map(Data::Json), None, out),
        }
    }

    /// An event of a service's, which the client is to acknowledge; in envelopes it cannot.
    pub(super) fn question(&self, id: AckId, event: &EventName, args: &[Data]) -> Option<Bytes> {
        let (space, name) = (self.space()?, event.as_str());
        let mut out = BytesMut::new();
        with_arguments(args, |args| {
            let question = socketio::Outgoing::Event { name, id: Some(id), args, offset: None };
            space.encode(&question, &mut out);
        });
        Some(out.freeze())
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

    /// The client is let in; `asked`, where it has asked for it by an event.
    pub(super) fn encode_welcome(
        &self,
        (sid, pid): (&str, Option<&str>),
        (asked, identity): (Option<&ReplyTo>, &Identity),
        out: &mut BytesMut,
    ) {
        match &self.form {
            Form::SocketIo(space) => space.encode(&socketio::Outgoing::Connect { sid, pid }, out),
            Form::Envelope => {
                let Some(asked) = asked else { return };
                let mut body = json!({ "connection": sid });
                if let Some(user) = &identity.user {
                    body["user"] = user.as_str().into();
                }
                if let Some(Timestamp(expires)) = identity.expires {
                    body["expires"] = expires.into();
                }
                self.encode_done(asked, &[Data::Json(text_of(&body))], out);
            }
        }
    }

    /// The client is not let in: in the face's words, where it has some.
    pub(super) fn encode_refusal(
        &self,
        sid: &str,
        asked: Option<&ReplyTo>,
        (code, text): (ErrorCode, &str),
        out: &mut BytesMut,
    ) {
        let emission = self.face.load().failure(clock::wall(), code, text);
        match (&self.form, emission) {
            (Form::SocketIo(space), Some(emission)) => {
                space.encode(&socketio::Outgoing::Connect { sid, pid: None }, out);
                self.encode_emission(&emission, out);
                space.encode(&socketio::Outgoing::Disconnect, out);
            }
            (Form::SocketIo(space), None) => {
                let (message, data) = self.refusal_words(code, text);
                let data = data.as_ref();
                space.encode(&socketio::Outgoing::ConnectError { message: &message, data }, out);
            }
            (Form::Envelope, Some(emission)) => self.encode_emission(&emission, out),
            (Form::Envelope, None) => self.encode_error(asked, (code, text), out),
        }
    }

    fn refusal_words(&self, code: ErrorCode, text: &str) -> (String, Option<JsonText>) {
        match self.face.load().refusal(clock::wall(), code, text) {
            Some(Refusal { message, data: Some(Data::Json(data)) }) => (message, Some(data)),
            Some(Refusal { message, .. }) => (message, None),
            None => (text.to_owned(), Some(text_of(&json!({ "code": code.as_str() })))),
        }
    }

    fn encode_answer(&self, name: &str, reply_to: &ReplyTo, args: &[Data], out: &mut BytesMut) {
        match (&self.form, reply_to) {
            (Form::SocketIo(space), ReplyTo::Packet(id)) => with_arguments(args, |args| {
                space.encode(&socketio::Outgoing::Ack { id: *id, args }, out);
            }),
            (Form::Envelope, ReplyTo::Envelope(id)) => {
                put_envelope(name, args, Some(id.as_str()), out);
            }
            // Nobody has such a name here.
            (Form::SocketIo(_), ReplyTo::Envelope(_)) | (Form::Envelope, ReplyTo::Packet(_)) => {}
        }
    }
}

/// One that is not of a message, and so has an id of its own.
fn put_envelope(event: &str, args: &[Data], in_reply_to: Option<&str>, out: &mut BytesMut) {
    let id = format!("{:032x}", rand::random::<u128>());
    envelope::Outgoing { id: &id, event, args, in_reply_to, time: clock::wall() }.encode(out);
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

pub(super) fn text_of(value: &serde_json::Value) -> JsonText {
    JsonText::from_checked(value.to_string().into())
}

//! What clients say in envelopes.

use broker_core::{
    Data, ErrorCode,
    session::{Acks, Token},
};
use broker_protocol::envelope::{self, Envelope, Malformed};

use super::{Conversation, credentials};
use crate::dialect::{Dialect, ReplyTo, Taken};

/// The event in which a client says who it is, unless it did so with its request.
const AUTH: &str = "auth";

impl Conversation {
    /// The client has said with its request who it is; without a token, it may be nobody where
    /// that is allowed, or says it in its first envelope.
    pub(super) fn introduce(&mut self, token: Option<Token>) {
        if token.is_some() || self.deps.rules.anonymous {
            self.introduce_as(token, None);
        }
    }

    fn introduce_as(&mut self, token: Option<Token>, asked: Option<ReplyTo>) {
        let Dialect::Faced(faced) = &mut self.dialect else { return };
        faced.introduced(asked);
        self.connect(token, Acks::Transport);
    }

    /// Takes a text frame. What is wrong with it is answered, and the connection stays.
    pub(super) fn take_envelope_text(&mut self, text: &str) {
        match Envelope::decode(text) {
            Ok(envelope) => self.take_envelope(envelope),
            Err(Malformed { id, problem }) => {
                self.refuse_envelope(id, ErrorCode::BadRequest, &problem.to_string());
            }
        }
    }

    /// Bytes are no envelope.
    pub(super) fn refuse_binary(&self) {
        self.refuse_envelope(None, ErrorCode::BadRequest, "an envelope is a text frame");
    }

    pub(super) fn take_envelope(&mut self, envelope: Envelope) {
        let Dialect::Faced(faced) = &mut self.dialect else { return };
        match faced.sort(envelope) {
            Taken::Done => {}
            Taken::Event(Envelope { id, event, .. })
                if &*event == AUTH && faced.framing().face().verb(AUTH).is_none() =>
            {
                let text = "it is known who you are: bring another token with a new connection";
                self.refuse_envelope(id, ErrorCode::AlreadyConnected, text);
            }
            Taken::Event(Envelope { id, event, payload }) => {
                let args: Vec<Data> = payload.map(Data::Json).into_iter().collect();
                self.take_event(&event, id.map(ReplyTo::Envelope), &args);
            }
            Taken::First(Envelope { id, event, payload }) if &*event == AUTH => {
                let token = credentials::token_said(&faced.framing().face(), payload.as_ref());
                self.introduce_as(token, id.map(ReplyTo::Envelope));
            }
            Taken::First(Envelope { id, .. }) => {
                let text = "say who you are first: {\"type\":\"auth\",\"payload\":{\"token\":…}}";
                self.refuse_envelope(id, ErrorCode::NotConnected, text);
            }
        }
    }

    fn refuse_envelope(&self, id: Option<envelope::Id>, code: ErrorCode, text: &str) {
        self.count_error(code);
        let asked = id.map(ReplyTo::Envelope);
        self.say_framed(|framing, out| framing.encode_error(asked.as_ref(), (code, text), out));
    }
}

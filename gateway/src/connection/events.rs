//! What a client's events ask for, by the face that it is shown.

use std::sync::Arc;

use broker_core::{Data, session::Command};
use bytes::BytesMut;

use super::Conversation;
use crate::{
    clock,
    dialect::{Dialect, Event, Framing, ReplyTo},
    profile::{Action, Context, Failure, Reaction},
};

impl Conversation {
    /// Does what an event asks for; who wants to know what comes of it gets an answer in any case.
    pub(crate) fn take_event(&mut self, name: &str, reply_to: Option<ReplyTo>, args: &[Data]) {
        match self.evaluate(name, args) {
            Ok(Reaction { actions, ack }) => {
                self.go_on(Event::new(reply_to.map(|id| (id, ack)), actions));
            }
            Err(failure) => {
                self.count_error(failure.code);
                self.say_framed(|framing, out| match &reply_to {
                    Some(id) => framing.encode_failed(id, &failure.ack, out),
                    None => framing.encode_error(None, (failure.code, &failure.text), out),
                });
            }
        }
    }

    fn evaluate(&mut self, name: &str, args: &[Data]) -> Result<Reaction, Failure> {
        let connection = self.session.origin().to_string();
        let identity = Arc::clone(self.session.identity());
        let Dialect::Faced(faced) = &mut self.dialect else {
            return Err(Failure::unknown_event(name));
        };
        let framing = Arc::clone(faced.framing());
        let (now, said) = (clock::wall(), faced.said().cloned());
        let handshake = said.as_ref();
        let context = Context { connection: &connection, identity: &identity, now, handshake };
        let face = framing.face();
        let Some(verb) = face.verb(name) else {
            return Err(Failure::unknown_event(name));
        };
        if verb.rate.is_some_and(|rate| !faced.rates.allow(&face, (verb.number, rate))) {
            return Err(verb.too_often(&context, name));
        }
        verb.evaluate(&context, name, args)
    }

    /// Does what is to be done, up to what must be waited for. At the end, the event is
    /// acknowledged.
    pub(super) fn go_on(&mut self, mut event: Event) {
        while let Some(action) = event.actions.pop_front() {
            let (command, call) = match action {
                Action::Emit(emission) => {
                    self.say_framed(|framing, out| framing.encode_emission(&emission, out));
                    continue;
                }
                Action::Snapshot(snapshot) => {
                    self.tell_snapshot(snapshot);
                    continue;
                }
                Action::Join(interest) if event.decided => {
                    let Dialect::Faced(faced) = &mut self.dialect else { return };
                    let number = faced.calls.wait(event, None);
                    return self.admit(number, interest);
                }
                Action::Join(interest) => (Command::Subscribe { interest, since: None }, None),
                Action::Leave(interest) => (Command::Unsubscribe { interest }, None),
                Action::Publish(posting) => (Command::Publish(posting.publish), None),
                Action::Call(call) => (Command::Call(call.request.clone()), Some(call)),
                // What waits for a user comes by itself; the others are for requests.
                Action::FlushOffline
                | Action::Read(_)
                | Action::Disconnect(..)
                | Action::Ticket(_) => continue,
            };
            let Dialect::Faced(faced) = &mut self.dialect else { return };
            let number = faced.calls.wait(event, call);
            return self.request(Some(number), command);
        }
        if let Some((id, ack)) = event.ack
            && (id.is_awaited() || ack.has_more_to_say(event.reply.as_ref()))
        {
            let args = ack.done(event.reply.as_ref());
            self.say_framed(|framing, out| framing.encode_done(&id, &args, out));
        }
    }

    /// Tells the client something, by the face that it is shown.
    pub(super) fn say_framed(&self, encode: impl FnOnce(&Framing, &mut BytesMut)) {
        let Dialect::Faced(faced) = &self.dialect else { return };
        let mut out = BytesMut::new();
        encode(faced.framing(), &mut out);
        self.say(&out.freeze());
    }

    /// Does what the session wants done, and what the client asked for, step by step.
    pub(crate) fn settle_events(&mut self) {
        loop {
            self.settle();
            let Dialect::Faced(faced) = &mut self.dialect else { return };
            if let Some(event) = faced.take_ready() {
                self.go_on(event);
            } else if faced.is_refused() && self.end.is_none() {
                self.end_refused();
            } else if let Some(envelope) = faced.take_early() {
                self.take_envelope(envelope);
            } else {
                return;
            }
        }
    }
}

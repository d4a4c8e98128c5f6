//! What a client's events ask for, by the face that it is shown.

use std::sync::Arc;

use broker_core::{Data, session::Command};
use broker_protocol::socketio::{AckId, Arg, Args, Arguments, Outgoing};
use bytes::BytesMut;

use super::snapshot;
use crate::{
    clock,
    connection::Conversation,
    dialect::{Dialect, Event, Framing, SocketIo},
    profile::{Action, Context, Failure, Reaction},
};

/// Does what an event asks for; who wants it acknowledged gets an answer in any case.
pub(super) fn take(space: &mut Conversation, name: &str, id: Option<AckId>, args: &Args) {
    let Dialect::SocketIo(socket) = space.dialect() else { return };
    let framing = Arc::clone(socket.framing());
    if framing.echo {
        return echo(space, &framing, (name, id), args);
    }
    let args: Vec<Data> = args
        .iter()
        .map(|arg| match arg {
            Arg::Json(text) => Data::Json(text),
            Arg::Binary(bytes) => Data::Binary(bytes),
        })
        .collect();
    match evaluate(space, &framing, name, &args) {
        Ok(Reaction { actions, ack }) => {
            go_on(space, Event::new(id.map(|id| (id, ack)), actions));
        }
        Err(failure) => {
            space.count_error(failure.code);
            say(space, |socket, out| match id {
                Some(id) => socket.encode_ack(id, &failure.ack, out),
                None => socket.framing().encode_error(failure.code, &failure.text, out),
            });
        }
    }
}

fn evaluate(
    space: &mut Conversation,
    framing: &Framing,
    name: &str,
    args: &[Data],
) -> Result<Reaction, Failure> {
    let connection = space.outbox().id().to_string();
    let identity = Arc::clone(space.identity());
    let context = Context { connection: &connection, identity: &identity, now: clock::wall() };
    let Some(verb) = framing.face.verb(name) else {
        return Err(Failure::unknown_event(name));
    };
    let Dialect::SocketIo(socket) = space.dialect_mut() else {
        return Err(Failure::unknown_event(name));
    };
    if verb.rate.is_some_and(|rate| !socket.rates.allow(verb.number, rate)) {
        return Err(verb.too_often(&context, name));
    }
    verb.evaluate(&context, name, args)
}

/// Does what is to be done, up to what must be waited for. At the end, the event is acknowledged.
pub(super) fn go_on(space: &mut Conversation, mut event: Event) {
    while let Some(action) = event.actions.pop_front() {
        let (command, call) = match action {
            Action::Emit(emission) => {
                say(space, |socket, out| socket.framing().encode_emission(&emission, out));
                continue;
            }
            Action::Snapshot(snapshot) => {
                snapshot::read(space, snapshot);
                continue;
            }
            Action::Join(interest) if event.decided => {
                let Dialect::SocketIo(socket) = space.dialect_mut() else { return };
                let number = socket.calls.wait(event, None);
                return space.admit(number, interest);
            }
            Action::Join(interest) => (Command::Subscribe { interest, since: None }, None),
            Action::Leave(interest) => (Command::Unsubscribe { interest }, None),
            Action::Publish(posting) => (Command::Publish(posting.publish), None),
            Action::Call(call) => (Command::Call(call.request.clone()), Some(call)),
            // What waits for a user comes by itself; the others are for requests.
            Action::FlushOffline | Action::Read(_) | Action::Disconnect(..) => continue,
        };
        let Dialect::SocketIo(socket) = space.dialect_mut() else { return };
        let number = socket.calls.wait(event, call);
        return space.request(Some(number), command);
    }
    if let Some((id, ack)) = event.ack {
        let args = ack.done(event.reply.as_ref());
        say(space, |socket, out| socket.encode_ack(id, &args, out));
    }
}

/// Tells the client something.
pub(super) fn say(space: &mut Conversation, encode: impl FnOnce(&SocketIo, &mut BytesMut)) {
    let Dialect::SocketIo(socket) = space.dialect() else { return };
    let mut out = BytesMut::new();
    encode(socket, &mut out);
    space.say(&out.freeze());
}

/// As conformance suites want it.
fn echo(
    space: &mut Conversation,
    framing: &Framing,
    (name, ack): (&str, Option<AckId>),
    args: &Args,
) {
    let mut out = BytesMut::new();
    let args = Arguments::Same(args);
    match ack {
        None if name == "message" => framing.encode_event("message-back", args, &mut out),
        Some(id) => framing.encode(&Outgoing::Ack { id, args }, &mut out),
        None => {}
    }
    space.say(&out.freeze());
}

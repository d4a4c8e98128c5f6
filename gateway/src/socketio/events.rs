//! What a client's packets say, beside where they belong.

use broker_core::Data;
use broker_protocol::socketio::{AckId, Arg, Args, Arguments, Outgoing};
use bytes::BytesMut;

use crate::{
    connection::Conversation,
    dialect::{Dialect, ReplyTo, Space},
};

/// Does what an event asks for; who wants it acknowledged gets an answer in any case.
pub(super) fn take(space: &mut Conversation, name: &str, id: Option<AckId>, args: &Args) {
    if let Dialect::Faced(faced) = space.dialect()
        && faced.framing().echo
        && let Some(place) = faced.framing().space()
    {
        return space.say(&echo(place, (name, id), args).freeze());
    }
    let args: Vec<Data> = args
        .iter()
        .map(|arg| match arg {
            Arg::Json(text) => Data::Json(text),
            Arg::Binary(bytes) => Data::Binary(bytes),
        })
        .collect();
    space.take_event(name, id.map(ReplyTo::Packet), &args);
}

/// As conformance suites want it.
fn echo(place: &Space, (name, ack): (&str, Option<AckId>), args: &Args) -> BytesMut {
    let mut out = BytesMut::new();
    let args = Arguments::Same(args);
    match ack {
        None if name == "message" => place.encode_event("message-back", args, &mut out),
        Some(id) => place.encode(&Outgoing::Ack { id, args }, &mut out),
        None => {}
    }
    out
}

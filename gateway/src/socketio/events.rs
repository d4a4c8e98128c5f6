//! What a client's events ask for.

use std::sync::Arc;

use broker_core::{
    Data, ErrorCode, Interest, JsonText,
    name::NameError,
    session::{Command, Failure, Publish},
};
use broker_protocol::socketio::{AckId, Arg, Args, Arguments, Outgoing};
use bytes::BytesMut;
use serde::Deserialize;

use crate::{
    connection::Conversation,
    dialect::{Dialect, Framing},
};

/// The argument of `subscribe` and `unsubscribe`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Target {
    Name(String),
    Object { channel: String },
}

/// The argument of `publish`, beside its data.
#[derive(Deserialize)]
struct Publication<'a> {
    channel: String,
    event: Option<String>,
    id: Option<String>,
    #[serde(borrow)]
    data: Option<&'a serde_json::value::RawValue>,
}

/// Does what an event asks for; who wants it acknowledged gets an answer in any case.
pub(super) fn take(space: &mut Conversation, name: &str, ack: Option<AckId>, args: &Args) {
    let Dialect::SocketIo(socket) = space.dialect_mut() else { return };
    let framing = Arc::clone(socket.framing());
    if framing.echo {
        return echo(space, &framing, (name, ack), args);
    }
    let Dialect::SocketIo(socket) = space.dialect_mut() else { return };
    let command = command(name, args);
    let number = Some(socket.begin(ack, 1));
    match command {
        Ok(command) => space.request(number, command),
        Err(failure) => space.refuse(number, failure),
    }
}

/// As conformance suites want it.
fn echo(space: &Conversation, framing: &Framing, (name, ack): (&str, Option<AckId>), args: &Args) {
    let mut out = BytesMut::new();
    match ack {
        None if name == "message" => {
            framing.encode_event("message-back", Arguments::Same(args), &mut out);
        }
        Some(id) => framing.encode(&Outgoing::Ack { id, args: Arguments::Same(args) }, &mut out),
        None => {}
    }
    space.say(&out.freeze());
}

fn command(name: &str, args: &Args) -> Result<Command, Failure> {
    let first = args.iter().next();
    let malformed =
        |error: String| Failure::new(ErrorCode::BadRequest, format!("`{name}`: {error}"));
    let target = || match &first {
        Some(Arg::Json(json)) => serde_json::from_slice(json.as_bytes())
            .map(|target| match target {
                Target::Name(channel) | Target::Object { channel } => channel,
            })
            .map_err(|_| malformed("its argument is a channel, or an object that names it".into())),
        _ => Err(malformed("its argument is a channel, or an object that names it".into())),
    };
    let invalid = |error: NameError| Failure::new(ErrorCode::InvalidName, error.to_string());
    Ok(match name {
        "subscribe" => {
            Command::Subscribe { interest: interest(&target()?).map_err(invalid)?, since: None }
        }
        "unsubscribe" => Command::Unsubscribe { interest: interest(&target()?).map_err(invalid)? },
        "publish" => {
            let Some(Arg::Json(json)) = &first else {
                return Err(malformed("its argument is an object with channel and data".into()));
            };
            let publication: Publication<'_> = serde_json::from_slice(json.as_bytes())
                .map_err(|error| malformed(error.to_string()))?;
            let data = match (publication.data, args.iter().nth(1)) {
                (Some(data), _) => Data::Json(JsonText::from_checked(
                    json.as_bytes().slice_ref(data.get().as_bytes()),
                )),
                (None, Some(Arg::Json(data))) => Data::Json(data),
                (None, Some(Arg::Binary(data))) => Data::Binary(data),
                (None, None) => return Err(malformed("there is no data".into())),
            };
            Command::Publish(Publish {
                channel: publication.channel.parse().map_err(invalid)?,
                event: publication.event.map(|event| event.parse()).transpose().map_err(invalid)?,
                data,
                id: publication.id.map(|id| id.parse()).transpose().map_err(invalid)?,
                echo: true,
                trace: None,
            })
        }
        _ => {
            let text = format!("nothing is known of an event `{name}`");
            return Err(Failure::new(ErrorCode::UnknownCommand, text));
        }
    })
}

fn interest(text: &str) -> Result<Interest, NameError> {
    Ok(if text.contains('*') {
        Interest::Pattern(text.parse()?)
    } else {
        Interest::Channel(text.parse()?)
    })
}

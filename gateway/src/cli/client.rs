//! `fanfare pub` and `fanfare sub`: a client of the native protocol.

pub(super) mod connection;

use base64::{Engine, prelude::BASE64_STANDARD};
use broker_core::{
    Data, Interest, JsonText, Message,
    session::{Command, Publish, Rewind, Since, Token},
};
use broker_protocol::native::client::ServerFrame;
use bytes::Bytes;
use serde_json::{Value, value::RawValue};

use super::{
    Exit,
    args::{PubArguments, ServerArguments, SubArguments},
    output, token,
};
use crate::config::Environment;
use connection::{ClientError, Connection};

/// Publishes one message.
pub(super) async fn publish(arguments: PubArguments, env: &Environment) -> Exit {
    let channel = match arguments.channel.parse() {
        Ok(channel) => channel,
        Err(error) => return usage(&format!("`{}`: {error}", arguments.channel)),
    };
    let text = if arguments.data == "-" { token::read_stdin() } else { Ok(arguments.data) };
    let text = match text {
        Ok(text) => text,
        Err(exit) => return exit,
    };
    let publish = Publish {
        channel,
        event: arguments.event,
        data: data(&text),
        id: None,
        echo: true,
        trace: None,
    };
    let outcome = async {
        let mut connection = open(&arguments.server, env).await?;
        connection.ask(Command::Publish(publish)).await
    };
    match outcome.await {
        Ok(ServerFrame::Published { message, accepted, .. }) => {
            if let Some(position) = accepted.position {
                output::complain(&format!("stored at {position}"));
            }
            output::print(message.as_str())
        }
        Ok(_) => complain(&ClientError::Protocol("another answer than asked for".to_owned())),
        Err(error) => complain(&error),
    }
}

/// Prints messages until there were enough, or the connection ends.
pub(super) async fn subscribe(arguments: SubArguments, env: &Environment) -> Exit {
    let interests: Result<Vec<Interest>, String> =
        arguments.channels.iter().map(|name| interest(name, arguments.pattern)).collect();
    let interests = match interests {
        Ok(interests) => interests,
        Err(error) => return usage(&error),
    };
    if arguments.since.is_some() && interests.len() > 1 {
        return usage("a position is of one channel: give --since with that one only");
    }
    let outcome = async {
        let mut connection = open(&arguments.server, env).await?;
        let rewind = arguments.rewind.or(arguments.snapshot.then_some(Rewind::Snapshot));
        let since = Since { position: arguments.since, age: None, rewind };
        for interest in interests {
            let since = Some(Box::new(since.clone())).filter(|since| !since.is_now());
            let command = Command::Subscribe { interest: interest.clone(), since };
            let answer = connection.ask(command).await?;
            output::complain(&format!("subscribed to {interest}"));
            if let ServerFrame::Subscribed { start: Some(start), .. } = answer
                && start.recovered == Some(false)
            {
                output::complain("not everything since that position is left");
            }
        }
        print_messages(&mut connection, arguments.count).await
    };
    match outcome.await {
        Ok(exit) => exit,
        Err(error) => complain(&error),
    }
}

async fn print_messages(
    connection: &mut Connection,
    count: Option<u64>,
) -> Result<Exit, ClientError> {
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        match connection.next().await? {
            ServerFrame::Message(message) => {
                left -= 1;
                if output::write(&line(&message)).is_err() {
                    return Ok(Exit::Success);
                }
            }
            ServerFrame::Gap { interest, reason } => {
                let of = interest.map_or_else(|| "all subscriptions".to_owned(), |i| i.to_string());
                output::complain(&format!("messages may be missing from {of}: {reason}"));
            }
            ServerFrame::Expiring { left } => {
                let left = humantime::format_duration(left);
                output::complain(&format!("the token expires in {left}"));
            }
            ServerFrame::Unsubscribed { interest, .. } => {
                output::complain(&format!("the server has ended the subscription to {interest}"));
            }
            ServerFrame::Error(error) => return Err(ClientError::Server(error)),
            _ => {}
        }
    }
    Ok(Exit::Success)
}

async fn open(arguments: &ServerArguments, env: &Environment) -> Result<Connection, ClientError> {
    let token = match &arguments.token_file {
        Some(file) => Some(token::read(file).map_err(|_| ClientError::NoToken)?),
        None => env.get("FANFARE_TOKEN").map(str::to_owned),
    };
    let token = token.map(|text| Token::new(text.trim().to_owned()));
    Connection::open(&arguments.server, token).await
}

fn interest(name: &str, pattern: bool) -> Result<Interest, String> {
    let parsed = if pattern {
        name.parse().map(Interest::Pattern)
    } else if name.split(':').any(|segment| matches!(segment, "*" | "**")) {
        return Err(format!("`{name}` is a pattern: add --pattern"));
    } else {
        name.parse().map(Interest::Channel)
    };
    parsed.map_err(|error| format!("`{name}`: {error}"))
}

/// JSON as it is; other text as a JSON string.
fn data(text: &str) -> Data {
    let trimmed = text.trim();
    let json = match serde_json::from_str::<&RawValue>(trimmed) {
        Ok(_) => trimmed.to_owned(),
        Err(_) => Value::from(text).to_string(),
    };
    Data::Json(JsonText::from_checked(Bytes::from(json)))
}

/// A message as one line of JSON; data that is not JSON is in `base64`.
fn line(message: &Message) -> String {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        channel: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        event: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
        id: &'a str,
        time: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        position: Option<String>,
    }
    let (data, base64) = match &message.data {
        Data::Json(text) => (serde_json::from_slice(text.as_bytes()).ok(), None),
        Data::Binary(bytes) => (None, Some(BASE64_STANDARD.encode(bytes))),
    };
    let line = Line {
        channel: message.channel.as_str(),
        event: message.event.as_ref().map(|event| event.as_str()),
        data,
        base64,
        id: message.id.as_str(),
        time: message.time.0,
        position: message.position().map(|position| position.to_string()),
    };
    serde_json::to_string(&line).expect("texts and numbers can be written as JSON")
}

fn usage(text: &str) -> Exit {
    output::complain(text);
    Exit::Usage
}

fn complain(error: &ClientError) -> Exit {
    output::complain(&error.to_string());
    error.exit()
}

#[cfg(test)]
mod tests;

//! Says in plain JSON what a frame means, for comparison with the fixtures.

use std::time::Duration;

use broker_core::{
    Data, Interest,
    code::Retry,
    ports::{Member, MemberInfo},
    session::{Acks, Command, Present, Request, RequestId, Resumption, Rewind},
};
use serde_json::{Map, Value, json};

use crate::native::{Malformed, client::ServerFrame};

pub(super) fn command(decoded: &Result<Request, Malformed>) -> Value {
    let Request { id, command } = match decoded {
        Ok(request) => request,
        Err(Malformed { id, failure }) => {
            let error = json!({"id": id, "code": failure.code.as_str(), "text": failure.text});
            return compact(json!({"error": compact(error)}));
        }
    };
    compact(match command {
        Command::Connect { token, acks, session } => json!({
            "command": "connect", "id": id, "token": token.as_ref().map(|it| it.reveal()),
            "acks": (*acks == Acks::Client).then_some("client"),
            "session": match session {
                Resumption::Never | Resumption::Recoverable(_) => json!(null),
                Resumption::Offered => json!(true),
                Resumption::From(secret) => json!(secret.reveal()),
            },
        }),
        Command::Acknowledge { position } => {
            json!({"command": "ack", "id": id, "position": position.to_string()})
        }
        Command::Refresh { token } => {
            json!({"command": "refresh", "id": id, "token": token.reveal()})
        }
        Command::Subscribe { interest, since } => {
            let mut described = with_interest("command", "subscribe", *id, interest);
            if let Some(since) = since {
                let time = |it: Duration| it.as_millis() as u64;
                described["position"] = json!(since.position.map(|it| it.to_string()));
                described["age"] = json!(since.age.map(time));
                match since.rewind {
                    Some(Rewind::Messages(count)) => described["rewind"] = json!(count),
                    Some(Rewind::For(span)) => described["rewind_time"] = json!(time(span)),
                    Some(Rewind::Snapshot) => described["snapshot"] = json!(true),
                    None => {}
                }
            }
            described
        }
        Command::Unsubscribe { interest } => with_interest("command", "unsubscribe", *id, interest),
        Command::Publish(publish) => json!({
            "command": "publish", "id": id, "channel": publish.channel.as_str(),
            "event": publish.event.as_ref().map(AsRef::<str>::as_ref), "data": data(&publish.data),
            "message": publish.id.as_ref().map(ToString::to_string), "echo": publish.echo,
            "trace": publish.trace.as_deref(),
        }),
        Command::Abandon { channel } => {
            json!({"command": "abandon", "id": id, "channel": channel.as_str()})
        }
        Command::Call(call) => json!({
            "command": "request", "id": id, "service": call.address.as_str(),
            "event": call.event.as_ref().map(AsRef::<str>::as_ref), "data": data(&call.data),
            "timeout": call.timeout.map(|it| it.as_millis() as u64), "trace": call.trace.as_deref(),
        }),
        Command::Members(query) => json!({
            "command": "presence", "id": id, "channel": query.channel.as_str(),
            "cursor": query.cursor, "limit": query.limit,
        }),
        Command::Ping => json!({"command": "ping", "id": id}),
    })
}

pub(super) fn server_frame(frame: &ServerFrame) -> Value {
    compact(match frame {
        ServerFrame::Connected { id, connected, version } => json!({
            "notice": "connected", "id": id, "connection": connected.connection.to_string(),
            "user": connected.user.as_ref().map(ToString::to_string),
            "expires": connected.expires.map(|it| it.0),
            "channels": connected.channels.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "ping": connected.ping_interval.as_millis() as u64,
            "max_message": connected.message_bytes, "version": version,
            "resumed": connected.resumed.then_some(true),
            "session": connected.session.as_ref().map(|it| it.reveal()),
        }),
        ServerFrame::Refreshed { id, expires } => {
            json!({"notice": "refreshed", "id": id, "expires": expires.map(|it| it.0)})
        }
        ServerFrame::Subscribed { id, interest, start } => {
            let mut described = with_interest("notice", "subscribed", *id, interest);
            if let Some(start) = start {
                described["position"] = json!(start.position.map(|it| it.to_string()));
                described["recovered"] = json!(start.recovered);
                described["replayed"] = json!(start.replayed);
            }
            described
        }
        ServerFrame::Unsubscribed { id, interest } => {
            with_interest("notice", "unsubscribed", *id, interest)
        }
        ServerFrame::Published { id, message, accepted } => json!({
            "notice": "published", "id": id, "message": message.as_str(),
            "position": accepted.position.map(|it| it.to_string()),
            "duplicate": accepted.duplicate.then_some(true),
        }),
        ServerFrame::Acked { id } => json!({"notice": "acked", "id": id}),
        ServerFrame::Evicted { evicted, expired, position } => json!({
            "notice": "evicted", "evicted": evicted, "expired": expired,
            "position": position.to_string(),
        }),
        ServerFrame::Abandoned { id } => json!({"notice": "abandoned", "id": id}),
        ServerFrame::Reply { id, data: body } => {
            json!({"notice": "reply", "id": id, "data": data(body)})
        }
        ServerFrame::Present { id, present } => members(*id, present),
        ServerFrame::Pong { id } => json!({"notice": "pong", "id": id}),
        ServerFrame::Error(error) => json!({
            "notice": "error", "id": error.id, "code": error.code, "text": error.text,
            "retry": retry(error.retry), "message": error.message.as_ref().map(ToString::to_string),
        }),
        ServerFrame::Message(message) => json!({
            "notice": "message", "channel": message.channel.as_str(),
            "event": message.event.as_ref().map(ToString::to_string),
            "message": message.id.as_str(), "time": message.time.0, "data": data(&message.data),
            "position": message.position().map(|it| it.to_string()),
        }),
        ServerFrame::Gap { interest: None, reason } => json!({"notice": "gap", "reason": reason}),
        ServerFrame::Gap { interest: Some(interest), reason } => {
            let mut described = with_interest("notice", "gap", None, interest);
            described["reason"] = json!(reason);
            described
        }
        ServerFrame::Expiring { left } => {
            json!({"notice": "expiring", "in": left.as_millis() as u64})
        }
        ServerFrame::Reconnect { after } => {
            json!({"notice": "reconnect", "after": after.as_millis() as u64})
        }
        ServerFrame::Unknown { kind } => json!({"notice": "unknown", "type": kind}),
    })
}

fn members(id: RequestId, present: &Present) -> Value {
    let page = present.page.as_ref();
    let members = page.map(|page| page.members.iter().map(member).collect::<Vec<_>>());
    json!({
        "notice": "present", "id": id, "channel": present.channel.as_str(),
        "users": present.count.users, "connections": present.count.connections,
        "members": members, "next": page.and_then(|page| page.next.as_ref()),
    })
}

fn member(info: &MemberInfo) -> Value {
    match &info.member {
        Member::User(user) => {
            json!({"user": user.as_str(), "connections": info.connections, "since": info.since.0})
        }
        Member::Anonymous(id) => json!({"connection": id.to_string(), "since": info.since.0}),
    }
}

pub(super) const fn retry(retry: Retry) -> &'static str {
    match retry {
        Retry::No => "no",
        Retry::Later => "later",
        Retry::Unknown => "unknown",
    }
}

fn with_interest(kind: &str, name: &str, id: Option<u64>, interest: &Interest) -> Value {
    match interest {
        Interest::Channel(channel) => json!({kind: name, "id": id, "channel": channel.as_str()}),
        Interest::Pattern(pattern) => json!({kind: name, "id": id, "pattern": pattern.as_str()}),
    }
}

/// As text or hex digits, not as a value: each byte of it must survive.
fn data(data: &Data) -> Value {
    match data {
        Data::Json(text) => json!({"json": std::str::from_utf8(text.as_bytes()).unwrap()}),
        Data::Binary(bytes) => {
            json!({"hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()})
        }
    }
}

fn compact(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.into_iter().filter(|(_, it)| !it.is_null()).collect::<Map<_, _>>())
        }
        other => other,
    }
}

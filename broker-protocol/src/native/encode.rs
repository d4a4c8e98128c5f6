//! What the server says, as finished frames: header and payload, unmasked, one object each.

use broker_core::{
    Data, Interest, Message,
    code::Retry,
    history::Start,
    ports::{GapReason, Member, MemberInfo},
    session::{Connected, Failure, Outgoing, Present, Reply, RequestId, Token},
};
use bytes::BytesMut;

use super::{
    VERSION,
    payload::{self, LENGTH_BYTES, Object},
};
use crate::ws::frame;

/// Usual length of an answer without data. Only a guess: see [`frame::begin`].
const USUAL_REPLY: usize = 100;

/// Everything in a message that is of the same length in all of them; times have 13 digits until
/// the year 2286.
const MESSAGE_FRAME: usize =
    r#"{"type":"message","channel":"","message":"","time":1234567890123}"#.len();
const EVENT_MEMBER: usize = r#","event":"""#.len();
/// With an epoch of 16 digits; room for an offset of 20 is more than most need.
const POSITION_MEMBER: usize = r#","position":"123456789abcdef0.1234567890.12345678""#.len();
const DATA_MEMBER: usize = r#","data":"#.len();

/// Appends the frame of an answer or notice to `out`.
pub fn encode_reply(reply: &Reply, out: &mut BytesMut) {
    match &reply.body {
        Outgoing::Connected(connected) => encode_connected(reply.id, connected, out),
        Outgoing::Answer { data } => {
            append(out, "reply", Some(data), USUAL_REPLY + data.len(), |o| {
                o.maybe_number("id", reply.id);
            })
        }
        Outgoing::Error(failure) => encode_error(reply.id, failure, out),
        Outgoing::Refreshed { expires } => brief(out, "refreshed", reply.id, |o| {
            o.maybe_number("expires", expires.map(|at| at.0));
        }),
        Outgoing::Subscribed { interest, start } => brief(out, "subscribed", reply.id, |o| {
            o.interest(interest);
            if let Some(start) = start {
                put_start(start, o);
            }
        }),
        Outgoing::Unsubscribed { interest } => brief(out, "unsubscribed", reply.id, |o| {
            o.interest(interest);
        }),
        Outgoing::Published { message, accepted } => brief(out, "published", reply.id, |o| {
            o.text("message", message.as_str());
            o.maybe_position(accepted.position.as_ref());
            if accepted.duplicate {
                o.flag("duplicate", true);
            }
        }),
        Outgoing::Acknowledged => brief(out, "acked", reply.id, |_| {}),
        Outgoing::Evicted { evicted, expired, position } => brief(out, "evicted", reply.id, |o| {
            o.number("evicted", *evicted).number("expired", *expired);
            o.maybe_position(Some(position));
        }),
        Outgoing::Abandoned => brief(out, "abandoned", reply.id, |_| {}),
        Outgoing::Present(present) => encode_present(reply.id, present, out),
        Outgoing::Pong => brief(out, "pong", reply.id, |_| {}),
        Outgoing::Expiring { left } => brief(out, "expiring", reply.id, |o| {
            o.number("in", payload::millis(*left));
        }),
        Outgoing::Reconnect { after } => brief(out, "reconnect", reply.id, |o| {
            o.number("after", payload::millis(*after));
        }),
    }
}

fn put_start(start: &Start, object: &mut Object<'_>) {
    object.maybe_position(start.position.as_ref());
    if let Some(recovered) = start.recovered {
        object.flag("recovered", recovered);
    }
    object.number("replayed", start.replayed as u64);
}

/// Appends the frame of a message to `out`, its data as it is.
///
/// The hot path: one pass, and at most one allocation, for the growth of `out`.
pub fn encode_message(message: &Message, out: &mut BytesMut) {
    let length = message_length(message);
    append(out, "message", Some(&message.data), length, |object| {
        object
            .text("channel", message.channel.as_str())
            .maybe_text("event", message.event.as_ref().map(AsRef::as_ref))
            .text("message", message.id.as_str())
            .number("time", message.time.0)
            .maybe_position(message.position().as_ref());
    });
}

/// Appends the notice that messages may have been lost: of this interest, or of any where it is
/// `None`.
pub fn encode_gap(interest: Option<&Interest>, reason: GapReason, out: &mut BytesMut) {
    brief(out, "gap", None, |object| {
        if let Some(interest) = interest {
            object.interest(interest);
        }
        object.text("reason", reason.as_str());
    });
}

/// Length of a message's payload, exact where no name holds a quote or backslash.
pub(super) fn message_length(message: &Message) -> usize {
    let data = match &message.data {
        Data::Json(json) => DATA_MEMBER + json.as_bytes().len(),
        Data::Binary(bytes) => LENGTH_BYTES + bytes.len(),
    };
    let event = message.event.as_ref().map_or(0, |event| EVENT_MEMBER + event.as_str().len());
    let position = message.stored.map_or(0, |_| POSITION_MEMBER);
    MESSAGE_FRAME
        + position
        + message.channel.as_str().len()
        + message.id.as_str().len()
        + event
        + data
}

fn encode_connected(id: RequestId, connected: &Connected, out: &mut BytesMut) {
    brief(out, "connected", id, |object| {
        object
            .text("connection", &connected.connection.to_string())
            .maybe_text("user", connected.user.as_ref().map(AsRef::as_ref))
            .maybe_number("expires", connected.expires.map(|at| at.0))
            .texts("channels", connected.channels.iter().map(Interest::as_str))
            .number("ping", payload::millis(connected.ping_interval))
            .number("max_message", connected.message_bytes as u64)
            .number("version", VERSION.into())
            .maybe_text("session", connected.session.as_ref().map(Token::reveal));
        if connected.resumed {
            object.flag("resumed", true);
        }
    });
}

fn encode_present(id: RequestId, present: &Present, out: &mut BytesMut) {
    brief(out, "present", id, |object| {
        object
            .text("channel", present.channel.as_str())
            .number("users", present.count.users)
            .number("connections", present.count.connections);
        if let Some(page) = &present.page {
            object
                .objects("members", &page.members, put_member)
                .maybe_text("next", page.next.as_deref());
        }
    });
}

fn put_member(object: &mut Object<'_>, info: &MemberInfo) {
    match &info.member {
        Member::User(user) => {
            object.text("user", user.as_str()).number("connections", info.connections)
        }
        Member::Anonymous(connection) => object.text("connection", &connection.to_string()),
    }
    .number("since", info.since.0);
}

fn encode_error(id: RequestId, failure: &Failure, out: &mut BytesMut) {
    let retry = match failure.code.retry() {
        Retry::No => "no",
        Retry::Later => "later",
        Retry::Unknown => "unknown",
    };
    brief(out, "error", id, |object| {
        object
            .text("code", failure.code.as_str())
            .text("text", &failure.text)
            .text("retry", retry)
            .maybe_text("message", failure.message.as_ref().map(broker_core::MessageId::as_str));
    });
}

/// Appends a frame without data.
fn brief(out: &mut BytesMut, kind: &str, id: RequestId, members: impl FnOnce(&mut Object<'_>)) {
    append(out, kind, None, USUAL_REPLY, |object| members(object.maybe_number("id", id)));
}

fn append(
    out: &mut BytesMut,
    kind: &str,
    data: Option<&Data>,
    expected_length: usize,
    members: impl FnOnce(&mut Object<'_>),
) {
    let mark = frame::begin(out, expected_length);
    let opcode = payload::write(out, kind, data, members);
    frame::finish(out, mark, opcode);
}

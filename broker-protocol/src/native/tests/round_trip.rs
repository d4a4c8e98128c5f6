//! What one side writes, the other reads.

use std::time::Duration;

use broker_core::{
    ChannelName, ChannelPattern, ConnectionId, Data, Epoch, ErrorCode, EventName, Interest,
    JsonText, Message, MessageId, Offset, Position, Timestamp, UserId,
    history::Start,
    message::Stored,
    ports::{Accepted, GapReason, Member, MemberCount, MemberInfo, MemberPage},
    position::Fingerprint,
    session::{
        Acks, Command, Connected, Failure, MembersQuery, Outgoing, Present, Publish, Reply,
        Request, RequestId, Resumption, Rewind, ServiceCall, Since, Token,
    },
};
use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::native::client::{ServerError, ServerFrame, encode_request};

fn channel() -> impl Strategy<Value = ChannelName> {
    ("[a-zA-Z0-9_-]{1,12}", vec("[^:*\\p{Cc}]{1,12}", 0..3)).prop_map(|(namespace, segments)| {
        std::iter::once(namespace).chain(segments).collect::<Vec<_>>().join(":").parse().unwrap()
    })
}

fn interest() -> impl Strategy<Value = Interest> {
    let pattern = channel().prop_map(|it| format!("{it}:*").parse::<ChannelPattern>().unwrap());
    prop_oneof![channel().prop_map(Interest::Channel), pattern.prop_map(Interest::Pattern)]
}

fn event() -> impl Strategy<Value = Option<EventName>> {
    option::of("[^\\p{Cc}]{1,30}".prop_map(|text| text.parse().unwrap()))
}

fn message_id() -> impl Strategy<Value = MessageId> {
    "[!-~]{1,128}".prop_map(|text| text.parse().unwrap())
}

fn trace() -> impl Strategy<Value = Option<std::sync::Arc<str>>> {
    option::of("00-[0-9a-f]{31}1-[0-9a-f]{15}1-[0-9a-f]{2}".prop_map(Into::into))
}

fn id() -> impl Strategy<Value = RequestId> {
    option::of(0..=(1_u64 << 53) - 1)
}

fn millis() -> impl Strategy<Value = Duration> {
    (1..1_u64 << 53).prop_map(Duration::from_millis)
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("-12.50E+400".to_owned()),
        Just(r#""\ud800 \/ \u0041""#.to_owned()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        any::<i64>().prop_map(|number| number.to_string()),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{} ]", items.join(" ,\n"))),
            vec(inner, 0..4).prop_map(|items| {
                let member = |value| format!("\t\"data\" : {value}");
                format!("{{{}}}", items.into_iter().map(member).collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

fn json_data(text: String) -> Data {
    Data::Json(JsonText::from_checked(text.into()))
}

fn data() -> impl Strategy<Value = Data> {
    prop_oneof![
        json().prop_map(json_data),
        vec(any::<u8>(), 0..200).prop_map(|bytes| Data::Binary(bytes.into())),
        (0..70_000_usize).prop_map(|length| Data::Binary(vec![b'}'; length].into())),
    ]
}

fn stored() -> impl Strategy<Value = Option<Stored>> {
    option::of((any::<u64>(), any::<u64>()).prop_map(|(epoch, offset)| Stored {
        epoch: Epoch(epoch),
        offset: Offset(offset),
        previous: None,
    }))
}

fn position() -> impl Strategy<Value = Option<Position>> {
    (stored(), option::of(message_id())).prop_map(|(stored, id)| {
        stored.map(|Stored { epoch, offset, .. }| Position {
            epoch,
            offset,
            fingerprint: id.as_ref().map(Fingerprint::of),
        })
    })
}

fn since() -> impl Strategy<Value = Option<Box<Since>>> {
    let rewind = prop_oneof![
        Just(None),
        Just(Some(Rewind::Snapshot)),
        (1..1_usize << 32).prop_map(|count| Some(Rewind::Messages(count))),
        millis().prop_map(|time| Some(Rewind::For(time))),
    ];
    (position(), option::of(millis()), rewind).prop_map(|(position, age, rewind)| {
        let since = Since { position, age: age.filter(|_| position.is_some()), rewind };
        (!since.is_now()).then(|| Box::new(since))
    })
}

fn message() -> impl Strategy<Value = Message> {
    (message_id(), channel(), event(), data(), any::<u64>(), stored()).prop_map(
        |(id, channel, event, data, time, stored)| Message {
            id,
            channel,
            event,
            data,
            time: Timestamp(time),
            stored,
            options: None,
        },
    )
}

fn token() -> impl Strategy<Value = Token> {
    any::<String>().prop_map(Token::new)
}

fn command() -> impl Strategy<Value = Command> {
    let publish = (channel(), event(), data(), option::of(message_id()), any::<bool>(), trace())
        .prop_map(|(channel, event, data, id, echo, trace)| {
            Command::Publish(Publish { channel, event, data, id, echo, trace })
        });
    let call = (channel(), event(), data(), option::of(millis()), trace()).prop_map(
        |(address, event, data, timeout, trace)| {
            Command::Call(ServiceCall { address, event, data, timeout, trace })
        },
    );
    prop_oneof![
        connect(),
        position()
            .prop_filter_map("none", |position| position)
            .prop_map(|position| Command::Acknowledge { position }),
        token().prop_map(|token| Command::Refresh { token }),
        (interest(), since()).prop_map(|(interest, since)| Command::Subscribe { interest, since }),
        interest().prop_map(|interest| Command::Unsubscribe { interest }),
        channel().prop_map(|channel| Command::Abandon { channel }),
        Just(Command::Ping),
        (channel(), option::of("\\PC*"), 0..=MAX_MEMBERS).prop_map(|(channel, cursor, limit)| {
            Command::Members(MembersQuery { channel, cursor, limit })
        }),
        publish,
        call,
    ]
}

fn connect() -> impl Strategy<Value = Command> {
    let fresh = (option::of(token()), any::<bool>()).prop_map(|(token, keep)| {
        (token, if keep { Resumption::Offered } else { Resumption::Never })
    });
    let resumed = token().prop_map(|secret| (None, Resumption::From(secret)));
    (prop_oneof![fresh, resumed], any::<bool>()).prop_map(|((token, session), client)| {
        let acks = if client { Acks::Client } else { Acks::Transport };
        Command::Connect { token, acks, session }
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    let code = prop::sample::select(ErrorCode::ALL);
    (code, any::<String>(), option::of(message_id()))
        .prop_map(|(code, text, message)| Failure { message, ..Failure::new(code, text) })
}

fn present() -> impl Strategy<Value = Present> {
    let user = ("[^\\p{Cc}]{1,30}", any::<u64>())
        .prop_map(|(user, count)| (Member::User(user.parse().unwrap()), count));
    let nobody = any::<u128>().prop_map(|id| (Member::Anonymous(ConnectionId(id)), 1));
    let member =
        (prop_oneof![user, nobody], any::<u64>()).prop_map(|((member, connections), at)| {
            MemberInfo { member, connections, since: Timestamp(at) }
        });
    let page = (vec(member, 0..4), option::of("\\PC*"))
        .prop_map(|(members, next)| MemberPage { members, next });
    (channel(), any::<(u64, u64)>(), option::of(page)).prop_map(
        |(channel, (users, connections), page)| Present {
            channel,
            count: MemberCount { users, connections },
            page,
        },
    )
}

/// An answer, and how the client reads it.
fn reply() -> impl Strategy<Value = (Reply, ServerFrame)> {
    let body = prop_oneof![
        (interest(), position(), option::of(any::<bool>()), option::of(any::<usize>())).prop_map(
            |(interest, position, recovered, replayed)| {
                let start = replayed.map(|replayed| Start { position, recovered, replayed });
                Outgoing::Subscribed { interest, start }
            }
        ),
        (message_id(), position(), any::<bool>()).prop_map(|(message, position, duplicate)| {
            Outgoing::Published { message, accepted: Accepted { position, duplicate } }
        }),
        data().prop_map(|data| Outgoing::Answer { data }),
        failure().prop_map(Outgoing::Error),
        present().prop_map(|present| Outgoing::Present(Box::new(present))),
        (any::<u128>(), vec(channel(), 0..3), option::of(any::<u64>()), option::of(token()))
            .prop_map(|(connection, channels, expires, session)| {
                Outgoing::Connected(Box::new(Connected {
                    connection: ConnectionId(connection),
                    user: expires.map(|_| "alice \"\\".parse::<UserId>().unwrap()),
                    expires: expires.map(Timestamp),
                    channels: channels.into_iter().map(Interest::Channel).collect(),
                    ping_interval: Duration::from_millis(25_000),
                    message_bytes: 65_536,
                    resumed: session.is_some(),
                    session,
                }))
            }),
    ];
    (id(), body).prop_map(|(id, body)| {
        let frame = match body.clone() {
            Outgoing::Subscribed { interest, start } => {
                ServerFrame::Subscribed { id, interest, start }
            }
            Outgoing::Published { message, accepted } => {
                ServerFrame::Published { id, message, accepted }
            }
            Outgoing::Answer { data } => ServerFrame::Reply { id, data },
            Outgoing::Error(Failure { code, text, message }) => ServerFrame::Error(ServerError {
                id,
                code: code.as_str().to_owned(),
                text: text.into_owned(),
                retry: code.retry(),
                message,
            }),
            Outgoing::Present(present) => ServerFrame::Present { id, present },
            Outgoing::Connected(connected) => ServerFrame::Connected { id, connected, version: 1 },
            other => panic!("{other:?}"),
        };
        (Reply { id, body }, frame)
    })
}

proptest! {
    #[test]
    fn servers_read_what_clients_ask(id in id(), command in command()) {
        let request = Request { id, command };
        let decoded = match encode_request(&request) {
            (Opcode::Text, payload) => commands(std::str::from_utf8(&payload).unwrap()).remove(0),
            (_, payload) => binary_command(&payload),
        };
        prop_assert_eq!(decoded, Ok(request));
    }

    #[test]
    fn clients_read_messages_that_were_joined_in_one_block(messages in vec(message(), 1..6)) {
        let mut out = BytesMut::new();
        messages.iter().for_each(|message| encode_message(message, &mut out));
        let expected: Vec<_> = messages.into_iter().map(ServerFrame::Message).collect();
        prop_assert_eq!(parse_all(out), expected);
    }

    #[test]
    fn clients_read_answers((reply, frame) in reply()) {
        let mut out = BytesMut::new();
        encode_reply(&reply, &mut out);
        prop_assert_eq!(parse_all(out), [frame]);
    }

    #[test]
    fn data_stays_as_it_is(text in json()) {
        let frame = format!(r#"{{"type":"publish","data": {text} ,"channel":"a"}}"#);
        let Ok(Request { command: Command::Publish(publish), .. }) = commands(&frame).remove(0)
        else { panic!("{frame}") };
        prop_assert_eq!(publish.data, json_data(text));
    }

    #[test]
    fn several_commands_come_in_order(commands_sent in vec((id(), command()), 1..8)) {
        let requests = commands_sent.into_iter().map(|(id, command)| Request { id, command });
        let (mut frame, mut expected) = (Vec::new(), Vec::new());
        for request in requests {
            if let (Opcode::Text, payload) = encode_request(&request) {
                frame.push(std::str::from_utf8(&payload).unwrap().to_owned());
                expected.push(Ok(request));
            }
        }
        prop_assume!(!frame.is_empty());
        prop_assert_eq!(commands(&format!(" [{}\n]", frame.join(" , "))), expected);
    }

    #[test]
    fn nothing_makes_either_side_panic(text: String, bytes: Vec<u8>) {
        prop_assert!(!commands(&text).is_empty());
        let _command = binary_command(&bytes);
        let (_text, _binary) = (client::parse_text(&text), client::parse_binary(&bytes));
    }

    #[test]
    fn no_slip_makes_either_side_panic(
        request in command(),
        at in any::<prop::sample::Index>(),
        slip: char,
    ) {
        let (_, payload) = encode_request(&Request { id: Some(1), command: request });
        let mut text: Vec<char> = String::from_utf8_lossy(&payload).chars().collect();
        let at = at.index(text.len());
        text[at] = slip;
        let text: String = text.into_iter().collect();
        prop_assert!(!commands(&text).is_empty());
        let array = format!("[{text}]");
        prop_assert!(!commands(&array).is_empty());
        let _command = binary_command(text.as_bytes());
        let _frame = client::parse_text(&text);
    }
}

#[test]
fn a_message_is_written_without_being_moved() {
    let message = Message {
        id: MessageId::random(1),
        channel: "venue:42".parse().unwrap(),
        event: Some("config_update".parse().unwrap()),
        data: json_data("{}".into()),
        time: Timestamp(1_785_000_000_000),
        stored: None,
        options: None,
    };
    let binary = Message { data: Data::Binary(Bytes::from_static(b"1234")), ..message.clone() };
    let eventless = Message { event: None, ..message.clone() };
    for message in [message, binary, eventless] {
        let mut out = BytesMut::new();
        encode_message(&message, &mut out);
        assert_eq!(payloads(out)[0].1.len(), encode::message_length(&message));
    }
}

#[test]
fn gaps_name_what_they_concern() {
    let mut out = BytesMut::new();
    let interest: Interest = Interest::Pattern("orders:**".parse().unwrap());
    encode_gap(Some(&interest), GapReason::Overrun, &mut out);
    encode_gap(None, GapReason::Malformed, &mut out);
    let gap = |interest, reason: &str| ServerFrame::Gap { interest, reason: reason.to_owned() };
    assert_eq!(parse_all(out), [gap(Some(interest), "bus_overrun"), gap(None, "malformed")]);
}

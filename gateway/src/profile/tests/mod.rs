mod bounds;
mod built_in;
mod problems;
mod shapes;
mod verbs;

use broker_core::{Identity, MessageId, access::Namespaces};
use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::config::Sources;

/// 2026-07-01T12:00:00.123Z
pub(super) const NOW: broker_core::Timestamp = broker_core::Timestamp(1_782_907_200_123);
pub(super) const NOW_ISO: &str = "2026-07-01T12:00:00.123Z";

pub(super) fn data(value: &Value) -> broker_core::Data {
    raw(&value.to_string())
}

pub(super) fn raw(text: &str) -> broker_core::Data {
    let checked = broker_protocol::json::checked(Bytes::copy_from_slice(text.as_bytes()));
    broker_core::Data::Json(checked.expect("the test writes JSON"))
}

pub(super) fn text(data: &broker_core::Data) -> &str {
    match data {
        broker_core::Data::Json(text) => std::str::from_utf8(text.as_bytes()).unwrap(),
        broker_core::Data::Binary(_) => panic!("bytes"),
    }
}

pub(super) fn value(data: &broker_core::Data) -> Value {
    serde_json::from_str(text(data)).unwrap()
}

pub(super) fn user(name: &str, roles: &[&str]) -> Identity {
    Identity {
        user: Some(name.parse().unwrap()),
        roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
        ..Identity::default()
    }
}

pub(super) fn context(identity: &Identity) -> Context<'_> {
    Context { connection: "c-1", identity, now: NOW, handshake: None }
}

pub(super) fn message(channel: &str, event: Option<&str>, body: &Value) -> broker_core::Message {
    broker_core::Message {
        id: MessageId::random(7),
        channel: channel.parse().unwrap(),
        event: event.map(|event| event.parse().unwrap()),
        data: data(body),
        time: NOW,
        stored: None,
        options: None,
    }
}

/// A profile of the folder `profiles`.
pub(super) fn shipped(name: &str) -> Profile {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles").join(name);
    Profile::load(&file).unwrap_or_else(|errors| panic!("{errors}"))
}

/// What clients of the face are told, as `(event, arguments)`.
pub(super) fn told(face: &Face, message: &broker_core::Message) -> (String, Vec<Value>) {
    let outgoing = face.outgoing(message).unwrap();
    assert!(outgoing.split.is_none());
    emitted(&outgoing.emissions[0])
}

pub(super) fn emitted(emission: &Emission) -> (String, Vec<Value>) {
    (emission.event.to_string(), emission.args.iter().map(value).collect())
}

/// The actions in short, for comparison.
pub(super) fn short(actions: &[Action]) -> Vec<String> {
    let emission = |it: &Emission| {
        let args: Vec<&str> = it.args.iter().map(text).collect();
        format!("{} {}", it.event, args.join(" "))
    };
    let one = |action: &Action| match action {
        Action::Join(interest) => format!("join {interest}"),
        Action::Leave(interest) => format!("leave {interest}"),
        Action::Emit(it) => format!("emit {}", emission(it)),
        Action::Publish(it) => {
            let event = it.publish.event.as_ref().map(|event| format!(" {event}"));
            let event = event.unwrap_or_default();
            let exclude: Vec<String> =
                it.exclude_users.iter().map(|user| format!(" -{user}")).collect();
            let data = text(&it.publish.data);
            format!("publish {}{event} {data}{}", it.publish.channel, exclude.concat())
        }
        Action::Call(it) => {
            let event = it.request.event.as_ref().map(|event| format!(" {event}"));
            let event = event.unwrap_or_default();
            format!("call {}{event} {}", it.request.address, text(&it.request.data))
        }
        Action::Snapshot(it) => format!("snapshot {}", it.interest()),
        Action::FlushOffline => "flush".to_owned(),
        Action::Read(read) => format!("{read:?}"),
        Action::Disconnect(user, reason) => format!("disconnect {user} {reason:?}"),
        Action::Ticket(user) => format!("ticket {user}"),
    };
    actions.iter().map(one).collect()
}

/// What comes of an event with these arguments, in short.
pub(super) fn react(
    face: &Face,
    identity: &Identity,
    event: &str,
    args: &[Value],
) -> Result<Vec<String>, Failure> {
    let args: Vec<_> = args.iter().map(data).collect();
    let verb = face.verb(event).expect("a verb");
    verb.evaluate(&context(identity), event, &args).map(|it| short(&it.actions))
}

#[test]
fn the_configuration_of_each_profile_goes_below_the_operators() {
    for name in ["config-push", "platform-admin", "venues", "enterprise-push", "activities"] {
        let profile = shipped(&format!("{name}.toml"));
        let sources = Sources { profiles: vec![profile.config().clone()], ..Sources::default() };
        let loaded = sources.load().unwrap_or_else(|errors| panic!("{name}: {errors}"));
        let Namespaces { declared, .. } = loaded.config.namespaces;
        assert!(!declared.is_empty(), "{name}");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("own.toml");
    std::fs::write(&file, "[heartbeat]\ninterval = \"7s\"\n").unwrap();
    let profiles = vec![shipped("enterprise-push.toml").config().clone()];
    let sources = Sources { profiles, file: Some(file), ..Sources::default() };
    let config = sources.load().unwrap().config;
    assert_eq!(config.heartbeat.interval.as_secs(), 7);
    assert_eq!(config.queue().unwrap().size, 100);
}

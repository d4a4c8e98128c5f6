//! A profile as it is written. The doc comments are its reference, in short; `docs/profiles.md`
//! has it at length.

use std::{collections::BTreeMap, time::Duration};

use broker_core::access::Term;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{auth::Input, rate::Rate};
use crate::config::text::{self, Text};

/// Any value; its texts are templates where it is a payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Free(pub(super) toml::Value);

impl JsonSchema for Free {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Free".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({})
    }
}

/// A profile file.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawProfile {
    /// Configuration that the profile needs. The operator's own goes before it.
    pub(super) config: Option<Free>,
    /// Where Socket.IO clients connect.
    pub(super) socketio: Vec<RawSocketIo>,
    /// Where plain WebSockets connect.
    pub(super) websocket: Vec<RawWebSocket>,
    /// What clients can say and what they are told, by name.
    pub(super) faces: BTreeMap<String, RawFace>,
    /// HTTP requests that the profile answers.
    pub(super) rest: Vec<RawRest>,
}

/// Where Socket.IO clients connect.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSocketIo {
    /// Paths, such as `/socket.io`.
    pub(super) paths: Vec<String>,
    /// The face of each Socket.IO namespace, such as `"/" = "app"`.
    pub(super) namespaces: BTreeMap<String, String>,
}

/// Where plain WebSockets connect.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawWebSocket {
    /// Paths, such as `/ws`.
    pub(super) paths: Vec<String>,
    /// What is spoken there.
    pub(super) dialect: Dialect,
    /// The face, with `envelope`; `native` has commands of its own.
    pub(super) face: Option<String>,
}

/// What is spoken over plain WebSockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Dialect {
    /// Fanfare's own protocol.
    #[default]
    Native,
    /// `{id, type, payload, timestamp}`, with the event as `type`, for a face.
    Envelope,
}

/// What clients can say and what they are told.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawFace {
    /// How clients say who they are.
    pub(super) auth: RawAuth,
    /// What happens when a client has connected.
    pub(super) on_connect: Vec<RawStep>,
    /// What happens when a client sends an event, by the event.
    pub(super) verbs: BTreeMap<String, RawVerb>,
    /// What happens when it sends any other event. Without this, it is refused.
    pub(super) fallback: Option<RawVerb>,
    /// What clients are told of messages; the first that matches holds. A message that none
    /// matches is told as its own event, or as `message`, with its data.
    pub(super) outgoing: Vec<RawOutgoing>,
}

/// How clients say who they are.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAuth {
    /// Where a token may stand: `auth.NAME` (what a Socket.IO client gives as `auth`, and the
    /// payload of an envelope `auth`), `query.NAME` or `header.NAME`; the first that is there
    /// counts.
    pub(super) token: Vec<Text<Input>>,
    /// Where an API key may stand, likewise, for clients that come without a token.
    pub(super) api_key: Vec<Text<Input>>,
    /// Who is let in, of those, as in `namespaces.NAME.subscribe`; without it, everyone.
    pub(super) require: Vec<Text<Term>>,
    /// What a client is told that is not let in, before the connection ends. Without it, the
    /// connection is refused.
    pub(super) failure: Option<RawEmission>,
    /// How the refusal of a connection is worded. Without it, it is a sentence, with the code.
    pub(super) refusal: Option<RawRefusal>,
}

/// How the refusal of a connection is worded.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRefusal {
    /// The `message` of a Socket.IO client's `connect_error`.
    pub(super) message: String,
    /// Its `data`.
    pub(super) data: Option<Free>,
}

/// An event, as a client is told it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawEmission {
    /// The event.
    pub(super) emit: String,
    /// Its one argument.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Free>,
    /// Its arguments, in place of `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) args: Option<Vec<Free>>,
}

/// What happens when a client sends an event.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawVerb {
    /// The steps, in their order.
    #[serde(rename = "do")]
    pub(super) steps: Vec<RawStep>,
    /// The acknowledgement, where the client asks for one: the service's reply or `{ok: true}`,
    /// unless this says otherwise.
    pub(super) ack: Option<Free>,
    /// The acknowledgement of what failed; `error.code` and `error.text` say why.
    pub(super) ack_error: Option<Free>,
    /// How often one connection may do it, such as `10/s`, `30/m`.
    pub(super) rate: Option<Text<Rate>>,
    /// Who may, as in `namespaces.NAME.subscribe`; without it, everyone who is connected.
    pub(super) require: Vec<Text<Term>>,
}

/// What clients are told of messages.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawOutgoing {
    /// The channels: `*` stands for one segment, `{name}` for one that becomes a variable.
    pub(super) channel: String,
    /// Only messages with this event.
    pub(super) event: Option<String>,
    /// The event that clients are told.
    pub(super) emit: String,
    /// Its one argument.
    pub(super) data: Option<Free>,
    /// Its arguments, in place of `data`.
    pub(super) args: Option<Vec<Free>>,
    /// How recipients are split into groups that are told different things.
    pub(super) variants: Option<RawVariants>,
}

/// How recipients are split.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawVariants {
    /// The name of the split: with the same name, a user is always in the same group.
    pub(super) test: String,
    /// The names of the groups: an expression that gives a list, or an object with these members.
    pub(super) of: String,
    /// Their weights: an expression that gives an object of whole numbers. Without it, all are
    /// equal.
    pub(super) weights: Option<String>,
}

/// An HTTP request that the profile answers.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRest {
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub(super) method: String,
    /// The path; `{name}` stands for one segment that becomes a variable.
    pub(super) path: String,
    /// Who may ask: a service with an API key, or a client with a token.
    pub(super) caller: Caller,
    /// The steps, in their order.
    #[serde(rename = "do")]
    pub(super) steps: Vec<RawStep>,
    /// The answer; without it, what was read, or `{ok: true}`.
    pub(super) response: Option<Free>,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Caller {
    /// A service with an API key.
    #[default]
    Service,
    /// A client with a token.
    Client,
}

/// One thing to do. Exactly one of the fields that say what is given; the others go with it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawStep {
    /// Only where this expression holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) when: Option<String>,
    /// Tell the client an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) emit: Option<String>,
    /// Subscribe the client to a channel or pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) join: Option<String>,
    /// End that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) leave: Option<String>,
    /// Publish to a channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) publish: Option<String>,
    /// Ask the service that listens at this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) call: Option<String>,
    /// Tell the client the last message of each channel: `{name}` stands for the segment that
    /// names it in `snapshot`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snapshot: Option<String>,
    /// Tell the client what waited for its user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flush_offline: Option<bool>,
    /// Read the recent messages of a channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) messages: Option<String>,
    /// Read the figures of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stats: Option<bool>,
    /// Read the figures of the offline queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue: Option<bool>,
    /// Read the connections of a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections: Option<String>,
    /// End the connections of a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disconnect: Option<String>,
    /// Make a ticket with which a user can connect once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ticket: Option<String>,
    /// The payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Free>,
    /// For `emit`: several arguments, in place of `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) args: Option<Vec<Free>>,
    /// For `publish` and `call`: the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event: Option<String>,
    /// For `publish`: the message's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    /// For `publish`: whether the sender gets it too; it does unless this says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) echo: Option<bool>,
    /// For `publish`: an expression that gives the users who must not get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exclude_users: Option<String>,
    /// For `call`: how long to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<Time>,
    /// For `call`: what the client is told of the reply, beside the acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) on_reply: Option<RawEmission>,
    /// For `call` and `snapshot`: what the client is told where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) on_error: Option<RawEmission>,
    /// For `messages`: where to begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
    /// For `disconnect`: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// A time with its unit.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Time(
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(super) Duration,
);

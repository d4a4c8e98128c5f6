//! `[namespaces.NAME]` and `[connect]`

use std::{collections::BTreeMap, time::Duration};

use broker_core::{
    History,
    access::{ChannelTemplate, NamespaceRules, Namespaces, Rule, Term},
    history::Queue,
    name::PRESENCE_NAMESPACE,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{
    problems::Checks,
    text::{self, Text},
};

/// The namespace whose rules hold for all that are not declared.
const FALLBACK: &str = "*";

/// Rules by namespace; what is not declared can be used by nobody.
pub(crate) type RawNamespaces = BTreeMap<String, RawRules>;

/// Who may do what in one namespace, the first segment of a channel name. `[namespaces."*"]` has
/// the rules for all namespaces that are not declared; without it, those can be used by nobody.
///
/// A rule is a list of terms, one of which is enough; with an empty list, nobody may. The
/// terms are `anyone`, `authenticated` (by a token, a ticket or an API key), `granted` (the
/// token's own claim, see `auth.claims.grants`), `role:NAME`, `user:ID`, `user:{1}`,
/// `claim:NAME=VALUE` and `claim:NAME={1}`, where `{1}` is the channel's segment with that number
/// and the namespace has number 0. The claim must be listed in `auth.claims.keep`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawRules {
    /// Who may subscribe to channels.
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) subscribe: Vec<Text<Term>>,
    /// Who may subscribe to patterns, such as `venue:*`.
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) wildcard: Vec<Text<Term>>,
    /// Who may publish over a client connection. Services with an API key or on the bus always
    /// may.
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) publish: Vec<Text<Term>>,
    /// Who may send requests to services.
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) request: Vec<Text<Term>>,
    /// The messages that are kept of each channel, for those who come later or come back; without
    /// this table, none are. In a cluster they are in a JetStream stream of the namespace, else in
    /// memory. Only for namespaces that are declared by their name, so not for `"*"`.
    pub(crate) history: Option<RawHistory>,
    /// Messages to `user:ID` that no connection of the user has acknowledged: they are there on the
    /// user's next connect, on whichever gateway. In a cluster the messages are in a JetStream
    /// stream, and what is pending of them in Redis; else both are in memory. Only for
    /// `[namespaces.user]`, which then has no `history` of its own.
    pub(crate) queue: Option<RawQueue>,
    /// Whether account is kept of who is subscribed to each channel, and told on `presence:` with
    /// the channel's name who joins and leaves. It costs the store a write for each `subscribe`
    /// and `unsubscribe`. In `[namespaces.user]`, it tells who is online.
    pub(crate) presence: bool,
    /// Who may see who is in a channel; without it, those who may subscribe.
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) members: Option<Vec<Text<Term>>>,
}

/// What waits for users who are away.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawQueue {
    /// Most messages that wait for one user: 1 to 1000. With more, the oldest are dropped; the
    /// user is told how many.
    pub(crate) size: usize,
    /// For how long a message waits: 10 seconds or more.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) ttl: Duration,
}

impl Default for RawQueue {
    fn default() -> Self {
        Self { size: 100, ttl: Duration::from_secs(24 * 3600) }
    }
}

/// What is kept of each channel.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawHistory {
    /// How many messages, the newest: 1 to 10000.
    pub(crate) size: usize,
    /// How long each is kept at most: 10 seconds or more.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) ttl: Duration,
    /// Whether every gateway has the newest message of each channel at hand, so that clients can
    /// begin with all of them: `snapshot` in `subscribe`, and `GET /v1/snapshot`. For namespaces
    /// whose channels hold a state, such as a configuration, of which the last message counts.
    /// Every gateway then gets every message of the namespace; how much it keeps is bounded by
    /// `history.retained_channels` and `history.retained_bytes`.
    pub(crate) retained: bool,
}

impl Default for RawHistory {
    fn default() -> Self {
        Self { size: 100, ttl: Duration::from_secs(3600), retained: false }
    }
}

/// What happens when a client connects.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawConnect {
    /// Channels that the server subscribes each connection to, beside its own `user:ID` and
    /// `role:ROLE`. `{user}` and `{claim.NAME}` stand for one segment each, as in
    /// `org:{claim.org}`; where the token lacks the claim, the channel is left out.
    pub(crate) channels: Vec<Text<ChannelTemplate>>,
}

pub(in crate::config) fn resolve(
    raw: RawNamespaces,
    connect: RawConnect,
    checks: &mut Checks<'_>,
) -> Namespaces {
    let mut namespaces = Namespaces {
        on_connect: connect.channels.into_iter().map(|template| template.value).collect(),
        ..Namespaces::default()
    };
    for (name, rules) in raw {
        let queue = rules.queue.and_then(|raw| queue(&name, &raw, checks));
        let history = match (&queue, rules.history.as_ref()) {
            (Some(queue), None) => Some(queue.history()),
            (Some(_), Some(_)) => {
                let text = "a namespace with a queue keeps what the queue needs: leave this out";
                checks.fail(&format!("namespaces.{name}.history"), text);
                None
            }
            (None, raw) => raw.and_then(|raw| history(&name, raw, checks)),
        };
        let retained = rules.history.as_ref().is_some_and(|raw| raw.retained);
        let rules = NamespaceRules {
            subscribe: rule(rules.subscribe),
            wildcard: rule(rules.wildcard),
            publish: rule(rules.publish),
            request: rule(rules.request),
            retained: retained && history.is_some(),
            history,
            queue,
            presence: rules.presence,
            members: rules.members.map(rule),
        };
        if name == PRESENCE_NAMESPACE {
            let why = "this namespace is the server's own: set `presence` in others";
            checks.fail(&format!("namespaces.{name}"), why);
        }
        if name == FALLBACK {
            if rules.history.is_some() {
                let text =
                    "only a namespace that is declared by its name can have history: leave it out";
                checks.fail("namespaces.*.history", text);
            }
            namespaces.fallback = Some(rules);
            continue;
        }
        match name.parse() {
            Ok(namespace) => drop(namespaces.declared.insert(namespace, rules)),
            Err(_) => checks.fail(
                &format!("namespaces.{name}"),
                "a namespace has 1 to 64 of A-Z a-z 0-9 _ -; `\"*\"` stands for all others",
            ),
        }
    }
    namespaces
}

/// Most messages that a channel's log keeps: it is read as a whole.
const MAX_HISTORY: usize = 10_000;
/// Most messages that wait for one user: Redis looks through all of them for each that comes.
const MAX_QUEUE: usize = 1_000;
/// Shorter than this, what is missed would be gone before it is noticed.
const MIN_TTL: Duration = Duration::from_secs(10);

fn history(namespace: &str, raw: &RawHistory, checks: &mut Checks<'_>) -> Option<History> {
    let key = format!("namespaces.{namespace}.history");
    if !(1..=MAX_HISTORY).contains(&raw.size) {
        checks.fail(&format!("{key}.size"), format!("write 1 to {MAX_HISTORY}"));
        return None;
    }
    if raw.ttl < MIN_TTL {
        checks.fail(&format!("{key}.ttl"), "write at least \"10s\"");
        return None;
    }
    Some(History { size: raw.size, ttl: raw.ttl })
}

fn queue(namespace: &str, raw: &RawQueue, checks: &mut Checks<'_>) -> Option<Queue> {
    let key = format!("namespaces.{namespace}.queue");
    if namespace != "user" {
        checks.fail(&key, "only users have offline queues: write [namespaces.user.queue]");
        return None;
    }
    if !(1..=MAX_QUEUE).contains(&raw.size) {
        checks.fail(&format!("{key}.size"), format!("write 1 to {MAX_QUEUE}"));
        return None;
    }
    if raw.ttl < MIN_TTL {
        checks.fail(&format!("{key}.ttl"), "write at least \"10s\"");
        return None;
    }
    Some(Queue { size: raw.size, ttl: raw.ttl })
}

fn rule(terms: Vec<Text<Term>>) -> Rule {
    Rule(terms.into_iter().map(|term| term.value).collect())
}

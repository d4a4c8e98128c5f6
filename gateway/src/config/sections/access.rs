//! `[namespaces.NAME]` and `[connect]`

use std::collections::BTreeMap;

use broker_core::access::{ChannelTemplate, NamespaceRules, Namespaces, Rule, Term};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{problems::Checks, text::Text};

/// The namespace whose rules hold for all that are not declared.
const FALLBACK: &str = "*";

/// Rules by namespace; what is not declared can be used by nobody.
pub(crate) type RawNamespaces = BTreeMap<String, RawRules>;

/// Who may do what in one namespace, the first segment of a channel name. `[namespaces."*"]` has
/// the rules for all namespaces that are not declared; without it, those can be used by nobody.
///
/// Each option is a list of terms, one of which is enough; with an empty list, nobody may. The
/// terms are `anyone`, `authenticated`, `granted` (the token's own claim, see
/// `auth.claims.grants`), `role:NAME`, `user:ID`, `user:{1}`, `claim:NAME=VALUE` and
/// `claim:NAME={1}`, where `{1}` is the channel's segment with that number and the namespace has
/// number 0. The claim must be listed in `auth.claims.keep`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawRules {
    /// Who may subscribe to channels.
    pub(crate) subscribe: Vec<Text<Term>>,
    /// Who may subscribe to patterns, such as `venue:*`.
    pub(crate) wildcard: Vec<Text<Term>>,
    /// Who may publish over a client connection. Services with an API key or on the bus always
    /// may.
    pub(crate) publish: Vec<Text<Term>>,
    /// Who may send requests to services.
    pub(crate) request: Vec<Text<Term>>,
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
        let rules = NamespaceRules {
            subscribe: rule(rules.subscribe),
            wildcard: rule(rules.wildcard),
            publish: rule(rules.publish),
            request: rule(rules.request),
        };
        if name == FALLBACK {
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

fn rule(terms: Vec<Text<Term>>) -> Rule {
    Rule(terms.into_iter().map(|term| term.value).collect())
}

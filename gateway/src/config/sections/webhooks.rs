//! `[webhooks.NAME]`

use std::{collections::BTreeMap, path::PathBuf, str::FromStr, time::Duration};

use broker_core::{
    Interest,
    access::Namespaces,
    name::{ChannelPattern, NameError},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::{
    key::Key,
    problems::Checks,
    secret::{Secret, SigningKey},
    text::{self, Text},
};

/// Most webhooks of a gateway: each has metrics of its own.
const MAX_WEBHOOKS: usize = 16;

/// Webhooks by name.
pub(crate) type RawWebhooks = BTreeMap<String, RawWebhook>;

/// A service that is asked over HTTP instead of NATS: requests of clients to its addresses, by
/// `request` or a profile's `call`, are posted to it, and what it answers is the reply. Who may send
/// requests there is said by `namespaces.NAME.request`. See [webhooks.md](webhooks.md).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawWebhook {
    /// Addresses of the service, such as `billing:quote`, `admin:*` (one segment) or `rpc:**` (all
    /// the rest). No address can be that of two webhooks.
    pub(crate) addresses: Vec<Text<Address>>,
    /// Where requests are posted: an `https` URL, or `http` to this host.
    pub(crate) url: Option<Text<Url>>,
    /// Whether `url` may be `http` to other hosts too, such as those of a private network.
    pub(crate) allow_http: bool,
    /// Secret that requests are signed with, as
    /// [Standard Webhooks](https://www.standardwebhooks.com) have it: `whsec_` and 24 to 64 bytes
    /// in base64. To change it, give the new and the old one with a space between them, until the
    /// service knows the new one.
    pub(crate) secret: Option<Secret>,
    /// File that holds `secret`; a final line break is ignored.
    pub(crate) secret_file: Option<PathBuf>,
    /// Whether requests go without a signature, so that the service cannot know who asks.
    pub(crate) unsigned: bool,
    /// Longest time for an answer. Where it is longer, `limits.request_timeout` counts.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) timeout: Duration,
    /// Requests of this gateway that may be under way at once; beyond it, clients are told
    /// `overloaded`.
    pub(crate) in_flight: usize,
}

impl Default for RawWebhook {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            url: None,
            allow_http: false,
            secret: None,
            secret_file: None,
            unsigned: false,
            timeout: Duration::from_secs(5),
            in_flight: 64,
        }
    }
}

/// One address, or all that match a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(Interest);

impl FromStr for Address {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let pattern = text.parse::<ChannelPattern>().map(Interest::Pattern);
        pattern.or_else(|_| text.parse().map(Interest::Channel)).map(Self)
    }
}

/// A service that is asked over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Webhook {
    /// Its name in logs and metrics.
    pub(crate) name: String,
    /// The addresses whose requests it gets.
    pub(crate) addresses: Vec<Interest>,
    /// Where requests are posted.
    pub(crate) url: Url,
    /// What requests are signed with, the newest first; empty: they are not signed.
    pub(crate) keys: Vec<SigningKey>,
    /// Longest time for an answer.
    pub(crate) timeout: Duration,
    /// Requests that may be under way at once.
    pub(crate) in_flight: usize,
}

impl Webhook {
    /// What is said of addresses that nobody may send requests to.
    pub(in crate::config) fn unheard(
        &self,
        namespaces: &Namespaces,
    ) -> impl Iterator<Item = String> {
        let unheard = self.addresses.iter().filter(|address| {
            let declared = namespaces.declared.get(address.namespace());
            let rules = declared.or(namespaces.fallback.as_ref());
            rules.is_none_or(|rules| rules.request.0.is_empty())
        });
        unheard.map(|address| {
            let (name, namespace) = (&self.name, address.namespace());
            format!(
                "nobody may send requests to {address}, so webhooks.{name} is never asked there: \
                 set namespaces.{namespace}.request"
            )
        })
    }
}

pub(in crate::config) fn resolve(raw: RawWebhooks, checks: &mut Checks<'_>) -> Vec<Webhook> {
    if raw.len() > MAX_WEBHOOKS {
        let text = format!("write at most {MAX_WEBHOOKS}: one can have many addresses");
        checks.fail("webhooks", text);
    }
    let mut webhooks: Vec<Webhook> = Vec::new();
    for (name, raw) in raw {
        let key = Key::from("webhooks").entry(&name);
        for (index, Text { value: Address(address), .. }) in raw.addresses.iter().enumerate() {
            let other =
                webhooks.iter().find(|it| it.addresses.iter().any(|its| meet(its, address)));
            if let Some(Webhook { name, .. }) = other {
                let text = format!("some of these are addresses of webhooks.{name} too");
                checks.fail_at(&key.entry("addresses").element(index), text);
            }
        }
        webhooks.extend(webhook(name, &key, raw, checks));
    }
    webhooks
}

fn webhook(name: String, key: &Key, raw: RawWebhook, checks: &mut Checks<'_>) -> Option<Webhook> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        checks.fail_at(key, "a webhook's name has 1 to 64 of A-Z a-z 0-9 _ -");
        return None;
    }
    if raw.addresses.is_empty() {
        checks.fail_at(&key.entry("addresses"), "write at least one, such as [\"billing:*\"]");
    }
    if raw.in_flight == 0 {
        checks.fail_at(&key.entry("in_flight"), "write at least 1");
    }
    checks.positive(&format!("{key}.timeout"), raw.timeout);
    let keys = signing_keys(key, &raw, checks);
    let url = checked_url(key, &raw, checks)?;
    let addresses = raw.addresses.into_iter().map(|text| text.value.0).collect();
    Some(Webhook { name, addresses, url, keys, timeout: raw.timeout, in_flight: raw.in_flight })
}

/// Over plain HTTP, others could read what users say, and answer.
fn checked_url(key: &Key, raw: &RawWebhook, checks: &mut Checks<'_>) -> Option<Url> {
    let key = key.entry("url");
    let Some(Text { value: url, .. }) = &raw.url else {
        checks.fail_at(&key, "write where requests are posted, such as \"https://host/path\"");
        return None;
    };
    let wanted = match url.scheme() {
        "https" | "http" if !url.username().is_empty() || url.password().is_some() => {
            checks.fail_secret(
                &key.to_string(),
                "leave user and password out of the URL: the signature says who asks",
            );
            return None;
        }
        "https" => return Some(url.clone()),
        "http" if raw.allow_http || text::is_this_host(url) => return Some(url.clone()),
        "http" => "write an https URL, or `allow_http = true` if the network can be trusted",
        _ => "write an https URL",
    };
    checks.fail_at(&key, wanted);
    None
}

fn signing_keys(key: &Key, raw: &RawWebhook, checks: &mut Checks<'_>) -> Vec<SigningKey> {
    let (inline, file) = (format!("{key}.secret"), format!("{key}.secret_file"));
    let at = if raw.secret_file.is_some() { &file } else { &inline };
    let secret = checks.file_or((&inline, raw.secret.clone()), (&file, raw.secret_file.clone()));
    let Some(secret) = secret else {
        if !raw.unsigned && raw.secret_file.is_none() {
            let text = "write a secret, from `echo whsec_$(openssl rand -base64 32)`, or \
                        `unsigned = true`";
            checks.fail(at, text);
        }
        return Vec::new();
    };
    if raw.unsigned {
        checks.fail(at, "leave it out, or `unsigned`");
    }
    let keys: Result<Vec<SigningKey>, _> =
        secret.reveal().split_whitespace().map(str::parse).collect();
    match keys {
        Ok(keys) if !keys.is_empty() => return keys,
        Ok(_) => checks.fail(at, "it is empty"),
        Err(error) => checks.fail(at, error.to_string()),
    }
    Vec::new()
}

/// Whether some address matches both.
fn meet(one: &Interest, other: &Interest) -> bool {
    let (mut ones, mut others) = (one.as_str().split(':'), other.as_str().split(':'));
    loop {
        match (ones.next(), others.next()) {
            (Some("**"), Some(_)) | (Some(_), Some("**")) | (None, None) => return true,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Interest {
        text.parse::<Address>().unwrap().0
    }

    #[test]
    fn addresses_meet_where_one_could_be_both() {
        for (one, other, expected) in [
            ("a:b", "a:b", true),
            ("a:b", "a:*", true),
            ("a:*:c", "a:b:*", true),
            ("a:**", "a:b:c", true),
            ("a:**", "a:*", true),
            ("a:b", "a:c", false),
            ("a:**", "a", false),
            ("a:*", "a:b:c", false),
            ("a:b:**", "a:c:**", false),
        ] {
            assert_eq!(meet(&address(one), &address(other)), expected, "{one} {other}");
            assert_eq!(meet(&address(other), &address(one)), expected, "{other} {one}");
        }
    }
}

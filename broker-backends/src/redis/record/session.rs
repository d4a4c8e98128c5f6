use std::{collections::BTreeMap, sync::Arc};

use broker_core::{
    Action, Identity, Interest, Timestamp,
    recovery::{KeptSubscription, KeptSubscriptions},
    resume::{KeptSession, SessionKey},
};
use serde::{Deserialize, Serialize};

use super::{VERSION, read, write};

#[derive(Serialize, Deserialize)]
struct SessionRecord {
    v: u32,
    connection: String,
    origin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    claims: BTreeMap<String, Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    grants: Vec<GrantRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subscriptions: Option<SubscriptionsRecord>,
}

/// `version` comes first: `lua/keep.lua` looks for it.
#[derive(Serialize, Deserialize)]
struct SubscriptionsRecord {
    version: u64,
    next: u32,
    confirmed_ms: u64,
    all: Vec<SubscriptionRecord>,
}

#[derive(Serialize, Deserialize)]
struct SubscriptionRecord {
    number: u32,
    #[serde(flatten)]
    to: InterestRecord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct GrantRecord {
    to: ActionRecord,
    #[serde(flatten)]
    interest: InterestRecord,
}

#[derive(Serialize, Deserialize)]
struct InterestRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ActionRecord {
    Subscribe,
    Wildcard,
    Publish,
    Request,
    Members,
}

pub(in super::super) fn write_session(session: &KeptSession) -> String {
    let KeptSession { connection, origin, identity, subscriptions, .. } = session;
    write(&SessionRecord {
        v: VERSION,
        connection: connection.to_string(),
        origin: origin.to_string(),
        user: identity.user.as_ref().map(ToString::to_string),
        key: identity.key.as_deref().map(str::to_owned),
        roles: identity.roles.iter().map(ToString::to_string).collect(),
        claims: identity.claims.clone(),
        grants: identity.grants.iter().map(write_grant).collect(),
        expires_ms: identity.expires.map(|at| at.0),
        subscriptions: subscriptions.as_deref().map(write_subscriptions),
    })
}

/// A record of which a part cannot be read is none: nobody gets half of a session. An empty one
/// was left by who took the session.
pub(in super::super) fn read_session(key: SessionKey, json: &[u8]) -> Option<KeptSession> {
    if json.is_empty() {
        return None;
    }
    let record: SessionRecord = read(std::str::from_utf8(json).ok()?)?;
    let identity = Identity {
        user: record.user.map(|user| user.parse()).transpose().ok()?,
        key: record.key.map(Into::into),
        roles: record.roles.iter().map(|role| role.parse()).collect::<Result<_, _>>().ok()?,
        claims: record.claims,
        grants: record.grants.iter().map(read_grant).collect::<Option<_>>()?,
        expires: record.expires_ms.map(Timestamp),
    };
    Some(KeptSession {
        key,
        connection: record.connection.parse().ok()?,
        origin: record.origin.parse().ok()?,
        identity: Arc::new(identity),
        subscriptions: match &record.subscriptions {
            Some(subscriptions) => Some(Box::new(read_subscriptions(subscriptions)?)),
            None => None,
        },
    })
}

fn write_subscriptions(kept: &KeptSubscriptions) -> SubscriptionsRecord {
    let all = kept.all.iter().map(|it| SubscriptionRecord {
        number: it.number,
        to: write_interest(&it.interest),
        from: it.from.map(|position| position.to_string()),
    });
    SubscriptionsRecord {
        version: kept.version,
        next: kept.next,
        confirmed_ms: kept.confirmed.0,
        all: all.collect(),
    }
}

fn read_subscriptions(record: &SubscriptionsRecord) -> Option<KeptSubscriptions> {
    let all = record.all.iter().map(|it| {
        let from = it.from.as_deref().map(str::parse).transpose().ok()?;
        Some(KeptSubscription { number: it.number, interest: read_interest(&it.to)?, from })
    });
    Some(KeptSubscriptions {
        version: record.version,
        next: record.next,
        confirmed: Timestamp(record.confirmed_ms),
        all: all.collect::<Option<_>>()?,
    })
}

fn write_grant((action, interest): &(Action, Interest)) -> GrantRecord {
    let to = match action {
        Action::Subscribe => ActionRecord::Subscribe,
        Action::Wildcard => ActionRecord::Wildcard,
        Action::Publish => ActionRecord::Publish,
        Action::Request => ActionRecord::Request,
        Action::Members => ActionRecord::Members,
    };
    GrantRecord { to, interest: write_interest(interest) }
}

fn write_interest(interest: &Interest) -> InterestRecord {
    let (channel, pattern) = match interest {
        Interest::Channel(channel) => (Some(channel.to_string()), None),
        Interest::Pattern(pattern) => (None, Some(pattern.to_string())),
    };
    InterestRecord { channel, pattern }
}

fn read_grant(grant: &GrantRecord) -> Option<(Action, Interest)> {
    let action = match grant.to {
        ActionRecord::Subscribe => Action::Subscribe,
        ActionRecord::Wildcard => Action::Wildcard,
        ActionRecord::Publish => Action::Publish,
        ActionRecord::Request => Action::Request,
        ActionRecord::Members => Action::Members,
    };
    Some((action, read_interest(&grant.interest)?))
}

fn read_interest(record: &InterestRecord) -> Option<Interest> {
    match (&record.channel, &record.pattern) {
        (Some(channel), None) => channel.parse().ok().map(Interest::Channel),
        (None, Some(pattern)) => pattern.parse().ok().map(Interest::Pattern),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use broker_core::ConnectionId;

    use super::*;

    const KEY: SessionKey = SessionKey([7; 32]);

    #[test]
    fn the_form_of_version_1_stays() {
        let session = KeptSession {
            key: KEY,
            connection: ConnectionId(9),
            origin: ConnectionId(8),
            identity: Arc::new(Identity {
                user: Some("ann".parse().unwrap()),
                key: None,
                roles: vec!["staff".parse().unwrap()],
                claims: [("tenant".to_owned(), vec!["a".to_owned()])].into(),
                grants: vec![
                    (Action::Subscribe, Interest::Channel("venue:1".parse().unwrap())),
                    (Action::Wildcard, Interest::Pattern("orders:*".parse().unwrap())),
                ],
                expires: Some(Timestamp(5)),
            }),
            subscriptions: None,
        };
        let json = concat!(
            r#"{"v":1,"connection":"00000000000000000000000000000009","#,
            r#""origin":"00000000000000000000000000000008","user":"ann","roles":["staff"],"#,
            r#""claims":{"tenant":["a"]},"grants":[{"to":"subscribe","channel":"venue:1"},"#,
            r#"{"to":"wildcard","pattern":"orders:*"}],"expires_ms":5}"#,
        );
        assert_eq!(write_session(&session), json);
        assert_eq!(read_session(KEY, json.as_bytes()), Some(session.clone()));

        let subscription = |number, interest, from: Option<&str>| KeptSubscription {
            number,
            interest,
            from: from.map(|position| position.parse().unwrap()),
        };
        let subscriptions = Some(Box::new(KeptSubscriptions {
            version: 3,
            next: 7,
            confirmed: Timestamp(5),
            all: vec![
                subscription(
                    0,
                    Interest::Channel("venue:1".parse().unwrap()),
                    Some("a.2.0000000b"),
                ),
                subscription(6, Interest::Pattern("orders:*".parse().unwrap()), None),
            ],
        }));
        let session = KeptSession { identity: Arc::default(), subscriptions, ..session };
        let json = concat!(
            r#"{"v":1,"connection":"00000000000000000000000000000009","#,
            r#""origin":"00000000000000000000000000000008","#,
            r#""subscriptions":{"version":3,"next":7,"confirmed_ms":5,"all":["#,
            r#"{"number":0,"channel":"venue:1","from":"a.2.0000000b"},"#,
            r#"{"number":6,"pattern":"orders:*"}]}}"#,
        );
        assert_eq!(write_session(&session), json);
        assert_eq!(read_session(KEY, json.as_bytes()), Some(session));
    }

    #[test]
    fn nobody_gets_half_of_an_identity() {
        let id = ConnectionId(9);
        let with = |more: &str| {
            let json = format!(r#"{{"v":1,"connection":"{id}","origin":"{id}"{more}}}"#);
            read_session(KEY, json.as_bytes())
        };
        assert_eq!(with("").unwrap().identity, Arc::default());
        for bad in [
            r#","user":"""#,
            r#","roles":["staff",""]"#,
            r#","grants":[{"to":"rule","channel":"venue:1"}]"#,
            r#","grants":[{"to":"publish"}]"#,
        ] {
            assert_eq!(with(bad), None, "{bad}");
        }
        assert_eq!(read_session(KEY, b""), None);
    }
}

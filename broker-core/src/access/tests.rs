use super::*;

fn rule(terms: &[&str]) -> Rule {
    Rule(terms.iter().map(|term| term.parse().unwrap()).collect())
}

fn channel(name: &str) -> Interest {
    Interest::Channel(name.parse().unwrap())
}

fn pattern(name: &str) -> Interest {
    Interest::Pattern(name.parse().unwrap())
}

fn alice() -> Identity {
    Identity {
        user: Some("alice".parse().unwrap()),
        roles: vec!["editor".parse().unwrap()],
        claims: BTreeMap::from([
            ("org".to_owned(), vec!["acme".to_owned()]),
            ("teams".to_owned(), vec!["red".to_owned(), "blue".to_owned()]),
            ("star".to_owned(), vec!["*".to_owned()]),
        ]),
        grants: vec![
            (Action::Subscribe, pattern("room:*")),
            (Action::Wildcard, pattern("room:*")),
            (Action::Publish, channel("room:7")),
        ],
        ..Identity::default()
    }
}

#[test]
fn each_term_is_its_own_gate() {
    let cases = [
        (&["anyone"][..], "a:1", true),
        (&["authenticated"], "a:1", true),
        (&[], "a:1", false),
        (&["role:editor"], "a:1", true),
        (&["role:admin"], "a:1", false),
        (&["role:admin", "role:editor"], "a:1", true),
        (&["user:alice"], "a:1", true),
        (&["user:{1}"], "a:alice", true),
        (&["user:{1}"], "a:bob", false),
        (&["user:{2}"], "a:alice", false),
        (&["claim:org=acme"], "a:1", true),
        (&["claim:org={1}"], "a:acme:x", true),
        (&["claim:org={1}"], "a:other", false),
        (&["claim:teams={1}"], "a:blue", true),
        (&["claim:absent=x"], "a:1", false),
        (&["granted"], "room:7", true),
        (&["granted"], "a:1", false),
    ];
    for (terms, name, allowed) in cases {
        let rules = NamespaceRules { subscribe: rule(terms), ..NamespaceRules::default() };
        let namespaces = Namespaces { fallback: Some(rules), ..Namespaces::default() };
        let verdict = namespaces.authorize(&alice(), Action::Subscribe, &channel(name));
        assert_eq!(verdict.is_ok(), allowed, "{terms:?} on {name}: {verdict:?}");
    }
}

#[test]
fn an_anonymous_connection_has_only_anyone() {
    for (term, allowed) in
        [("anyone", true), ("authenticated", false), ("user:{1}", false), ("granted", false)]
    {
        let rules = NamespaceRules { publish: rule(&[term]), ..NamespaceRules::default() };
        let namespaces = Namespaces { fallback: Some(rules), ..Namespaces::default() };
        let verdict = namespaces.authorize(&Identity::default(), Action::Publish, &channel("a:x"));
        assert_eq!(verdict.is_ok(), allowed, "{term}");
    }
}

#[test]
fn who_has_a_key_is_authenticated_but_no_user() {
    let kiosk = Identity { key: Some("kiosk".into()), ..Identity::default() };
    for (term, allowed) in [("anyone", true), ("authenticated", true), ("user:{1}", false)] {
        let rules = NamespaceRules { publish: rule(&[term]), ..NamespaceRules::default() };
        let namespaces = Namespaces { fallback: Some(rules), ..Namespaces::default() };
        let verdict = namespaces.authorize(&kiosk, Action::Publish, &channel("a:kiosk"));
        assert_eq!(verdict.is_ok(), allowed, "{term}");
    }
    assert!(Namespaces::default().channels_on_connect(&kiosk).is_empty());
}

#[test]
fn a_wildcard_needs_its_own_rule_and_no_claim_equals_a_wildcard() {
    let rules = NamespaceRules {
        subscribe: rule(&["anyone"]),
        wildcard: rule(&["claim:star={1}", "claim:org={1}", "granted"]),
        ..NamespaceRules::default()
    };
    let namespaces = Namespaces { fallback: Some(rules), ..Namespaces::default() };
    let allowed = |text| namespaces.authorize(&alice(), Action::Wildcard, &pattern(text)).is_ok();
    assert!(!allowed("a:*"));
    assert!(allowed("a:acme:*"));
    assert!(allowed("room:*"));
    assert!(!allowed("room:**"));
}

#[test]
fn a_denial_says_what_is_needed() {
    let declared = BTreeMap::from([(
        "venue".parse().unwrap(),
        NamespaceRules {
            publish: rule(&["role:admin", "claim:org={1}"]),
            ..NamespaceRules::default()
        },
    )]);
    let namespaces = Namespaces { declared, ..Namespaces::default() };
    let denied = namespaces.authorize(&alice(), Action::Publish, &channel("venue:1")).unwrap_err();
    assert_eq!(denied.to_string(), "to publish to `venue:1` you need role:admin or claim:org={1}");
    assert_eq!(denied.code(), ErrorCode::Forbidden);
    let denied = namespaces.authorize(&alice(), Action::Publish, &channel("other:1")).unwrap_err();
    assert_eq!(denied.code(), ErrorCode::UnknownNamespace);
}

#[test]
fn personal_channels_are_the_servers_to_subscribe() {
    let rules = NamespaceRules {
        subscribe: rule(&["anyone"]),
        wildcard: rule(&["anyone"]),
        ..NamespaceRules::default()
    };
    let namespaces = Namespaces { fallback: Some(rules), ..Namespaces::default() };
    assert!(namespaces.authorize(&alice(), Action::Subscribe, &channel("user:alice")).is_err());
    assert!(namespaces.authorize(&alice(), Action::Wildcard, &pattern("user:*")).is_err());
    assert!(namespaces.authorize(&alice(), Action::Subscribe, &channel("role:editor")).is_err());
}

#[test]
fn a_template_fills_exactly_one_segment() {
    let fill = |text: &str, identity: &Identity| {
        text.parse::<ChannelTemplate>().unwrap().fill(identity).map(|name| name.to_string())
    };
    assert_eq!(fill("news", &alice()).as_deref(), Some("news"));
    assert_eq!(fill("org:{claim.org}:all", &alice()).as_deref(), Some("org:acme:all"));
    assert_eq!(fill("inbox:{user}", &alice()).as_deref(), Some("inbox:alice"));
    assert_eq!(fill("team:{claim.teams}", &alice()), None);
    assert_eq!(fill("org:{claim.absent}", &alice()), None);
    let mut sly = alice();
    sly.claims.insert("org".to_owned(), vec!["a:b".to_owned()]);
    assert_eq!(fill("org:{claim.org}", &sly).as_deref(), Some("org:a%3Ab"));
    for bad in ["{user}:x", "a:{b}", "a:x{user}", "a::b", "a:{claim.}"] {
        assert!(bad.parse::<ChannelTemplate>().is_err(), "{bad}");
    }
}

#[test]
fn a_connection_gets_its_channels_once() {
    let namespaces = Namespaces {
        on_connect: vec!["news".parse().unwrap(), "user:{user}".parse().unwrap()],
        ..Namespaces::default()
    };
    let names: Vec<String> =
        namespaces.channels_on_connect(&alice()).iter().map(ToString::to_string).collect();
    assert_eq!(names, ["user:alice", "role:editor", "news"]);
}

#[test]
fn terms_are_read_as_they_are_written() {
    for text in [
        "anyone",
        "authenticated",
        "granted",
        "role:a",
        "user:{1}",
        "user:x",
        "claim:a=b",
        "claim:a={2}",
    ] {
        assert_eq!(text.parse::<Term>().unwrap().to_string(), text);
    }
    for bad in ["", "everyone", "role:", "user:", "user:{x}", "claim:a", "claim:=b", "admin"] {
        assert!(bad.parse::<Term>().is_err(), "{bad}");
    }
}

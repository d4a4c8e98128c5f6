use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use broker_core::{
    History, Identity, Interest,
    access::{Action, Denied},
};
use toml::Value;

use super::{problems::ConfigErrors, schema::Schema, *};

mod webhooks;

/// A file for one test, gone after it.
struct File {
    directory: tempfile::TempDir,
    path: PathBuf,
}

fn file(name: &str, text: &str) -> File {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    File { directory, path }
}

fn load(text: &str) -> Result<Config, ConfigErrors> {
    let file = file("fanfare.toml", text);
    let sources = Sources { file: Some(file.path), ..Sources::default() };
    sources.load().map(|loaded| loaded.config)
}

/// The problems, with the directory of the test taken out.
fn problems(text: &str) -> Vec<String> {
    let file = file("fanfare.toml", text);
    let sources = Sources { file: Some(file.path.clone()), ..Sources::default() };
    let ConfigErrors(problems) = sources.load().err().unwrap();
    let directory = format!("{}/", file.directory.path().display());
    problems.iter().map(|problem| problem.to_string().replace(&directory, "")).collect()
}

#[test]
fn without_anything_the_defaults_hold() {
    let config = Sources::default().load().unwrap().config;
    assert_eq!(config.http.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(config.limits.message_bytes, 65536);
    assert_eq!(config.heartbeat.interval, Duration::from_secs(25));
    assert!(config.nats.url.is_empty() && config.redis.url.is_none() && config.dev.is_none());
    assert_eq!(config.warnings().len(), 2, "{:?}", config.warnings());
}

#[test]
fn a_file_is_read_as_what_it_means() {
    let text = r#"
        [http]
        listen = ["0.0.0.0:80", "[::]:80"]
        allowed_origins = ["https://app.example"]
        [auth]
        hmac_secret = "0123456789abcdef0123456789abcdef"
        claims.keep = ["org"]
        [namespaces.venue]
        subscribe = ["anyone"]
        [namespaces."*"]
        publish = ["role:admin"]
        [connect]
        channels = ["org:{claim.org}"]
        [limits]
        message_bytes = "1MiB"
        queue_bytes = 2000000
        [heartbeat]
        interval = "1m 5s"
        [nats]
        url = "nats://a:4222, nats://b:4222"
    "#;
    let config = load(text).unwrap();
    assert_eq!(config.http.listen.len(), 2);
    assert_eq!(config.auth.keys[0].algorithm, Algorithm::HS256);
    assert_eq!(config.auth.claims.user, ["sub", "userId"], "the other claims keep their defaults");
    assert_eq!(config.limits.message_bytes, 1 << 20);
    assert_eq!(config.heartbeat.interval, Duration::from_secs(65));
    assert_eq!(config.nats.url, ["nats://a:4222", "nats://b:4222"]);
    assert_eq!(config.namespaces.on_connect.len(), 1);
    let nobody = Identity::default();
    let venue = Interest::Channel("venue:1".parse().unwrap());
    let other = Interest::Channel("other:1".parse().unwrap());
    assert_eq!(config.namespaces.authorize(&nobody, Action::Subscribe, &venue), Ok(()));
    let denied = config.namespaces.authorize(&nobody, Action::Publish, &other);
    assert!(matches!(denied, Err(Denied::Rule { .. })), "{denied:?}");
    assert_eq!(config.warnings(), [""; 0]);
}

#[test]
fn all_problems_are_told_at_once_each_with_its_place_and_what_to_write() {
    let text = r#"
[http]
listen = ["localhost"]
allowed_orgins = ["https://app.example"]
tls_cert = "cert.pem"
[limits]
message_bytes = "64kb"
connect_timeout = 5
[heartbeat]
interval = "0s"
[namespaces.venue]
subscribe = ["anybody"]
[namespaces."a b"]
[auth]
leeway = "2m"
jwks_url = "http://keys.example/jwks"
keys = [{ algorithm = "none", secret = "x" }]
[presence]
renew = "10s"
grace = "0s"
[nats]
url = "nats://me:hunter2@nats:4222"
"#;
    let found = problems(text);
    let expected = [
        "http.allowed_orgins = [\"https://app.example\"] (fanfare.toml:4): there is no such option; did you mean `allowed_origins`?",
        "http.listen = [\"localhost\"] (fanfare.toml:3): write an address as IP:PORT, such as \"0.0.0.0:8080\" or \"[::]:8080\"",
        "limits.message_bytes = \"64kb\" (fanfare.toml:7): write a size such as 65536, \"64KiB\", \"1MiB\" or \"1GiB\"",
        "limits.connect_timeout = 5 (fanfare.toml:8): write a time with its unit, such as \"25s\", \"500ms\" or \"2m\"",
        "heartbeat.interval = \"0s\" (fanfare.toml:10): write a time above zero",
        "http.tls_cert = \"cert.pem\" (fanfare.toml:5): give both `tls_cert` and `tls_key`, or neither",
        "auth.leeway = \"2m\" (fanfare.toml:15): write at most \"60s\"",
        "auth.jwks_url = \"http://keys.example/jwks\" (fanfare.toml:16): write an https URL (http only to localhost)",
        "presence.renew = \"10s\" (fanfare.toml:19): write at most half of `presence.lease`, so that one lost renewal does no harm",
        "presence.grace = \"0s\" (fanfare.toml:20): write at least \"1s\": users who reconnect at once have not left",
    ];
    for line in expected {
        assert!(found.iter().any(|problem| problem == line), "{line}\nis not in\n{found:#?}");
    }
    for start in [
        "namespaces.venue.subscribe[0] = \"anybody\" (fanfare.toml:12): `anybody` is not a rule term",
        "namespaces.a b (fanfare.toml:13): a namespace has",
        "auth.keys[0].algorithm = \"none\" (fanfare.toml:17): unknown variant",
        "nats.url = <redacted> (fanfare.toml:22): leave user, password and token out",
    ] {
        assert!(found.iter().any(|problem| problem.starts_with(start)), "{start}: {found:#?}");
    }
    assert_eq!(found.len(), 14, "{found:#?}");
}

#[test]
fn history_is_of_a_namespace_that_has_a_name() {
    let text = r#"
        [namespaces.room]
        history = { size = 20 }
        [namespaces.order.history]
        ttl = "24h"
        retained = true
        [namespaces.chat]
    "#;
    let config = load(text).unwrap();
    let retained: Vec<_> = config.retained().map(|(name, _)| name.as_str()).collect();
    assert_eq!(retained, ["order"]);
    let histories = config.histories();
    let kept = |name| histories.get(name).map(|it: &History| (it.size, it.ttl.as_secs()));
    assert_eq!(kept("room"), Some((20, 3600)));
    assert_eq!(kept("order"), Some((100, 86_400)));
    assert_eq!(kept("chat"), None);

    let found = problems(
        r#"
[namespaces.a.history]
size = 0
[namespaces.b]
history = { size = 10001, tll = "1h" }
[namespaces.c.history]
ttl = "1s"
[namespaces.d]
history = 100
[namespaces."*".history]
[history]
retained_channels = 0
retained_bytes = 0
"#,
    );
    let expected = [
        "namespaces.b.history.tll = \"1h\" (fanfare.toml:5): there is no such option; did you mean `ttl`?",
        "namespaces.d.history = 100 (fanfare.toml:9): invalid type: integer `100`, expected struct RawHistory",
        "history.retained_channels = 0 (fanfare.toml:12): write 1 to 50000",
        "history.retained_bytes = 0 (fanfare.toml:13): write a size such as \"64MiB\"",
        "namespaces.*.history (fanfare.toml:10): only a namespace that is declared by its name can have history: leave it out",
        "namespaces.a.history.size = 0 (fanfare.toml:3): write 1 to 10000",
        "namespaces.b.history.size = 10001 (fanfare.toml:5): write 1 to 10000",
        "namespaces.c.history.ttl = \"1s\" (fanfare.toml:7): write at least \"10s\"",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_no_toml_is_told_without_quoting_it() {
    let found = problems("[auth]\nhmac_secret = hunter2\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("fanfare.toml:2: "), "{found:?}");
    assert!(!found[0].contains("hunter2"), "{found:?}");
    let found = problems("[auth]\nhmac_secret = 123456\n");
    assert_eq!(
        found,
        ["auth.hmac_secret = <redacted> (fanfare.toml:2): write it as text, in quotes"]
    );
}

#[test]
fn a_missing_file_and_a_missing_field_have_a_place() {
    let sources = Sources { file: Some("/nowhere/fanfare.toml".into()), ..Sources::default() };
    let error = sources.load().err().unwrap().to_string();
    assert!(error.starts_with("/nowhere/fanfare.toml: the file cannot be read"), "{error}");
    let found = problems("[[auth.api_keys]]\nid = \"a\"\nscopes = [\"admin\"]\n");
    assert!(found[0].starts_with("auth.api_keys[0] (fanfare.toml:1): missing field `hash`"));
}

#[test]
fn the_environment_is_read_by_type_and_beats_the_file() {
    let env = Environment::from([
        ("FANFARE__AUTH__HMAC_SECRET", "12345678901234567890123456789012"),
        ("FANFARE__AUTH__AUDIENCE", "a, b"),
        ("FANFARE__AUTH__KEYS", "[{ algorithm = \"HS512\", secret = \"s\" }]"),
        ("FANFARE__AUTH__ANONYMOUS", "true"),
        ("FANFARE__LIMITS__SUBSCRIPTIONS", "7"),
        ("FANFARE__LIMITS__QUEUE_BYTES", "131072"),
        ("FANFARE__NAMESPACES__VENUE__SUBSCRIBE", "anyone,role:staff"),
        ("FANFARE_SERVICE_HOST", "10.0.0.1"),
        ("UNRELATED", "x"),
    ]);
    let file = file("fanfare.toml", "[limits]\nsubscriptions = 5\nin_flight = 3\n");
    let config =
        Sources { file: Some(file.path), env, ..Sources::default() }.load().unwrap().config;
    assert_eq!(config.auth.audience, ["a", "b"]);
    assert_eq!(config.auth.keys[0].material.reveal().len(), 32);
    assert_eq!(config.auth.keys[1].algorithm, Algorithm::HS512);
    assert!(config.auth.anonymous);
    assert_eq!((config.limits.subscriptions, config.limits.in_flight), (7, 3));
    assert_eq!(config.limits.queue_bytes, 131_072);
    assert_eq!(config.namespaces.declared["venue"].subscribe.0.len(), 2);
}

#[test]
fn well_known_variables_work_and_give_way_to_the_full_names() {
    let env = Environment::from([
        ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ("ALLOWED_ORIGINS", "http://localhost:3000, https://app.example"),
        ("WEBSOCKET_PORT", "5002"),
        ("API_KEYS", "ffk_one,ffk_two"),
        ("FANFARE__HTTP__ADMIN_LISTEN", "127.0.0.1:0"),
    ]);
    let file = file("fanfare.toml", "[http]\nlisten = [\"0.0.0.0:80\", \"[::1]:80\"]\n");
    let config =
        Sources { file: Some(file.path), env, ..Sources::default() }.load().unwrap().config;
    assert_eq!(config.auth.keys.len(), 1);
    assert!(config.http.allowed_origins.allow(Some("http://localhost:3000"), None));
    let listen: Vec<String> = config.http.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["0.0.0.0:5002", "[::1]:5002"]);
    assert_eq!(config.auth.api_keys[1].hash, secret::KeyHash::of("ffk_two"));
    assert_eq!(config.auth.api_keys[1].scopes, [Scope::Publish, Scope::Connect]);

    let env = Environment::from([
        ("ALLOWED_ORIGINS", "https://a.example"),
        ("FANFARE__HTTP__ALLOWED_ORIGINS", "*"),
        ("WEBSOCKET_PORT", ""),
        ("FANFARE__LIMITS__MESAGE_BYTES", "1"),
        ("FANFARE__HTTP__PUBLIC_API", "yes"),
    ]);
    let error = Sources { env, ..Sources::default() }.load().err().unwrap();
    let error = error.to_string();
    assert_eq!(error.lines().count(), 2, "{error}");
    assert!(error.contains(
        "limits.mesage_bytes = \"1\" (environment variable FANFARE__LIMITS__MESAGE_BYTES)"
    ));
    assert!(error.contains("http.public_api = \"yes\""), "{error}");
}

#[test]
fn flags_beat_everything() {
    let sources = Sources {
        env: Environment::from([("FANFARE__NATS__URL", "nats://env:4222")]),
        flags: vec![
            ("nats.url", "nats://flag:4222".into(), "--nats"),
            ("http.listen", vec!["127.0.0.1:0"].into(), "--listen"),
        ],
        ..Sources::default()
    };
    let loaded = sources.load().unwrap();
    assert_eq!(loaded.config.nats.url, ["nats://flag:4222"]);
    assert!(loaded.show().contains("url = \"nats://flag:4222\" # flag --nats"));
    assert!(loaded.show().contains("listen = [\"127.0.0.1:0\"] # flag --listen"));
}

#[test]
fn secrets_come_from_files_too() {
    let secret = file("secret", "0123456789abcdef0123456789abcdef\n");
    let text = format!("[auth]\nhmac_secret_file = '{}'\n", secret.path.display());
    let config = load(&text).unwrap();
    assert_eq!(config.auth.keys[0].material.reveal(), "0123456789abcdef0123456789abcdef");
    let found = problems(&format!("{text}hmac_secret = \"x\"\n"));
    assert!(found[0].contains("give it or `auth.hmac_secret`, not both"), "{found:?}");
    let found = problems("[redis]\nurl_file = \"/nowhere/url\"\n");
    assert!(found[0].contains("the file cannot be read"), "{found:?}");
}

#[test]
fn what_is_shown_is_toml_of_the_same_meaning_without_secrets() {
    let text = "[auth]\nhmac_secret = \"hunter2-hunter2-hunter2-hunter2-h\"\n\
        [namespaces.\"*\"]\nsubscribe = [\"anyone\"]\n[redis]\nurl = \"redis://:hunter2@r:6379\"\n\
        [[auth.keys]]\nalgorithm = \"HS256\"\nsecret = \"hunter2\"\nkid = \"k\"\n";
    let file = file("fanfare.toml", text);
    let sources = Sources { file: Some(file.path.clone()), ..Sources::default() };
    let loaded = sources.load().unwrap();
    let shown = loaded.show();
    assert!(
        !shown.contains("hunter2") && !format!("{:?}", loaded.config).contains("hunter2"),
        "{shown}"
    );
    assert!(shown.contains("message_bytes = \"64KiB\" # default"), "{shown}");
    assert!(shown.contains("fanfare.toml:4"), "{shown}");
    let parsed: toml::Table = shown.parse().unwrap();
    assert_eq!(parsed["auth"]["hmac_secret"], Value::from("<redacted>"));
    assert_eq!(parsed["namespaces"]["*"]["subscribe"], Value::from(vec!["anyone"]));
    assert_eq!(parsed["auth"]["keys"][0]["kid"], Value::from("k"));
}

#[test]
fn dev_allows_everything_to_everyone_with_a_token_and_nothing_without() {
    let (one, two) = (Config::dev(), Config::dev());
    assert!(!one.auth.anonymous);
    assert_ne!(one.auth.keys[0].material, two.auth.keys[0].material);
    let key = &one.dev.as_ref().unwrap().api_key;
    assert_eq!(one.auth.api_keys[0].hash, secret::KeyHash::of(key.reveal()));
    let user = Identity { user: Some("u".parse().unwrap()), ..Identity::default() };
    let any = Interest::Channel("anything:at:all".parse().unwrap());
    for action in [Action::Subscribe, Action::Wildcard, Action::Publish, Action::Request] {
        assert_eq!(one.namespaces.authorize(&user, action, &any), Ok(()));
        assert!(one.namespaces.authorize(&Identity::default(), action, &any).is_err());
    }
    assert_eq!(one.warnings(), [""; 0]);
}

/// Each table has its section, each option in it its entry.
fn has_its_place(markdown: &str, at: &str, schema: Schema<'_>) {
    if !schema.is("object") {
        assert!(markdown.contains(&format!("\n### `{at}`\n")), "{at}");
    } else if let Some(any) = schema.entry("").filter(|_| schema.names().next().is_none()) {
        has_its_place(markdown, &format!("{at}.NAME"), any);
    } else {
        assert!(markdown.contains(&format!("\n## `[{at}]`\n")), "{at}");
        for name in schema.names() {
            has_its_place(markdown, &format!("{at}.{name}"), schema.entry(name).unwrap());
        }
    }
}

#[test]
fn every_option_is_documented() {
    let markdown = docs::markdown();
    let mut lines = markdown.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("##") {
            assert_eq!(lines.next(), Some(""));
            assert_ne!(lines.peek(), Some(&""), "{line} has no text");
        }
    }
    let schema = schema::generate();
    let root = Schema::new(&schema);
    for section in root.names().filter(|name| *name != "testing") {
        has_its_place(&markdown, section, root.entry(section).unwrap());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == markdown, "run `fanfare config docs > docs/configuration.md`");
}

use std::fs;

use super::*;
use crate::config::{Config, DevSecrets, Sources};

fn load(text: &str) -> Loaded {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fanfare.toml");
    fs::write(&file, text).unwrap();
    Sources { file: Some(file), ..Sources::default() }.load().expect("a good file")
}

/// What holds after a change, and what waits.
fn change(running: &str, new: &str) -> (Config, Vec<String>) {
    let change = load(running).change_to(load(new)).expect("they go together");
    (change.loaded.config, change.after_restart)
}

const RUNNING: &str = r#"
[http]
listen = ["127.0.0.1:1111"]
[namespaces.order]
subscribe = ["anyone"]
history = { size = 7 }
[namespaces.venue]
publish = ["anyone"]
[nats]
prefix = "here"
"#;

#[test]
fn rules_limits_and_keys_change() {
    let new = r#"
        [http]
        listen = ["127.0.0.1:1111"]
        allowed_origins = ["https://a.example"]
        [auth]
        hmac_secret = "0123456789abcdef0123456789abcdef"
        [limits]
        subscriptions = 3
        [connect]
        channels = ["news"]
        [namespaces.order]
        subscribe = ["role:staff"]
        history = { size = 7 }
        [namespaces.fresh]
        [nats]
        prefix = "here"
    "#;
    let (config, after_restart) = change(RUNNING, new);
    assert_eq!(after_restart, [""; 0]);
    assert_eq!((config.limits.subscriptions, config.auth.keys.len()), (3, 1));
    let declared = &config.namespaces.declared;
    assert_eq!(declared["order"].subscribe.to_string(), "role:staff");
    assert_eq!(declared.keys().map(ToString::to_string).collect::<Vec<_>>(), ["fresh", "order"]);
    assert_eq!(config.namespaces.on_connect.len(), 1);
}

#[test]
fn what_needs_a_restart_stays_and_is_named() {
    let new = r#"
        [http]
        listen = ["127.0.0.1:2222"]
        [heartbeat]
        interval = "7s"
        [namespaces.order]
        subscribe = ["role:staff"]
        history = { size = 8 }
        [namespaces.venue]
        publish = ["anyone"]
        presence = true
    "#;
    let (config, after_restart) = change(RUNNING, new);
    let named = [
        "http.listen",
        "namespaces.order.history",
        "namespaces.venue.presence",
        "nats.prefix",
        "heartbeat.interval",
    ];
    assert_eq!(after_restart, named);
    assert_eq!(config.http.listen[0].port(), 1111);
    assert_eq!((&*config.nats.prefix, config.heartbeat.interval.as_secs()), ("here", 25));
    let order = &config.namespaces.declared["order"];
    assert_eq!(order.subscribe.to_string(), "role:staff");
    assert_eq!(order.history.as_ref().map(|history| history.size), Some(7));
    assert!(!config.namespaces.declared["venue"].presence);
}

#[test]
fn a_listener_keeps_tls_or_its_lack() {
    let tls = |name| format!("[http]\ntls_cert = \"{name}.crt\"\ntls_key = \"{name}.key\"\n");
    let served = |config: &Config| config.http.tls().map(|(cert, _)| cert.to_owned());
    let both = ["http.tls_cert", "http.tls_key"];
    for (running, new, waits, after) in [
        (tls("a"), String::new(), &both[..], Some("a.crt")),
        (String::new(), tls("a"), &both, None),
        (tls("a"), tls("b"), &[], Some("b.crt")),
    ] {
        let (config, after_restart) = change(&running, &new);
        assert_eq!(after_restart, waits);
        assert_eq!(served(&config), after.map(Into::into));
    }
}

#[test]
fn a_default_that_is_written_is_no_change() {
    let (_, after_restart) =
        change("", "[nats]\nprefix = \"fanfare\"\n[session]\nwindow = \"2m\"\n");
    assert_eq!(after_restart, [""; 0]);
}

#[test]
fn a_new_namespace_waits_for_what_is_to_be_kept_of_it() {
    let (config, after_restart) = change(
        RUNNING,
        &format!("{RUNNING}\n[namespaces.log]\nsubscribe = [\"anyone\"]\nhistory = {{}}"),
    );
    assert_eq!(after_restart, ["namespaces.log"]);
    assert!(!config.namespaces.declared.contains_key("log"));
}

#[test]
fn nobody_comes_to_a_namespace_that_was_taken_out() {
    let (config, after_restart) = change(RUNNING, "[http]\nlisten = [\"127.0.0.1:1111\"]");
    assert_eq!(after_restart, ["namespaces.order.history", "nats.prefix"]);
    let declared = &config.namespaces.declared;
    assert_eq!(declared.len(), 1);
    assert!(declared["order"].subscribe.0.is_empty() && declared["order"].history.is_some());
}

#[test]
fn passwords_that_stand_in_files_are_compared() {
    let directory = tempfile::tempdir().unwrap();
    let url = directory.path().join("redis");
    let text = format!("[redis]\nurl_file = {url:?}");
    fs::write(&url, "redis://a").unwrap();
    let running = load(&text);
    assert_eq!(running.layers.files(), std::slice::from_ref(&url));
    fs::write(&url, "redis://b").unwrap();
    let change = running.change_to(load(&text)).unwrap();
    assert_eq!(change.after_restart, ["redis.url"]);
}

#[test]
fn dev_keeps_the_secrets_that_it_has_made_up() {
    let sources = Sources { dev: Some(DevSecrets::random()), ..Sources::default() };
    let (running, new) = (sources.load().unwrap(), sources.load().unwrap());
    let before = running.config.auth.keys[0].material.clone();
    let Change { loaded, after_restart } = running.change_to(new).unwrap();
    assert_eq!(after_restart, [""; 0]);
    assert_eq!(loaded.config.auth.keys[0].material, before);
}

/// Options that name files, by the convention that they are found by.
#[test]
fn files_of_all_options_are_known() {
    let keys = "[[auth.keys]]\nalgorithm = \"HS256\"\nsecret_file = \"/k\"";
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("k");
    fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
    let loaded = load(&keys.replace("/k", &key.display().to_string()));
    assert_eq!(loaded.layers.files(), [key]);
}

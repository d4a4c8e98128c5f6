use std::path::Path;

use super::*;
use crate::config::AllowedOrigins;

fn invoke(line: &str) -> Result<Invocation, Exit> {
    invoke_in(line, &Environment::from([]))
}

fn invoke_in(line: &str, env: &Environment) -> Result<Invocation, Exit> {
    parse_from(line.split_whitespace().map(OsString::from), env)
}

fn gateway(invocation: Result<Invocation, Exit>) -> Config {
    match invocation {
        Ok(Invocation::Gateway(startup)) => startup.loaded.config,
        other => panic!("no gateway: {other:?}"),
    }
}

#[test]
fn flags_of_a_gateway_reach_its_configuration() {
    let config = gateway(invoke(
        "fanfare serve --listen 0.0.0.0:80 --listen [::]:80 --admin-listen 127.0.0.1:0 \
         --nats nats://a:4222,nats://b:4222 --redis redis://r:6379",
    ));
    assert_eq!(config.http.listen.len(), 2);
    assert_eq!(config.http.admin_listen.port(), 0);
    assert_eq!(config.nats.url.len(), 2);
    assert_eq!(config.redis.url.unwrap().reveal(), "redis://r:6379");
    assert!(config.dev.is_none());
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fanfare.toml");
    std::fs::write(&file, "[limits]\nsubscriptions = 3\n").unwrap();
    let env = Environment::from([("FANFARE_CONFIG", file.to_str().unwrap())]);
    assert_eq!(gateway(invoke_in("fanfare serve", &env)).limits.subscriptions, 3);
    assert_eq!(gateway(invoke_in("fanfare dev", &env)).limits.subscriptions, 3);
    let missing = invoke_in("fanfare serve --config /nowhere/fanfare.toml", &env);
    assert_eq!(missing.expect_err("no such file"), Exit::Config);
}

#[test]
fn sabotage_is_asked_for_by_name_and_warned_of() {
    let honest = gateway(invoke("fanfare serve"));
    assert!(honest.sabotage.is_none());
    let config = gateway(invoke("fanfare serve --sabotage drop-one-in-200"));
    let warnings = config.warnings().join("\n");
    assert!(warnings.contains("SABOTAGED (drop-one-in-200)"), "{warnings}");
    assert_eq!(invoke("fanfare dev --sabotage nothing").expect_err("no such bug"), Exit::Usage);
}

#[test]
fn mistakes_have_their_exit_codes() {
    for (line, exit) in [
        ("fanfare", Exit::Usage),
        ("fanfare sing", Exit::Usage),
        ("fanfare serve --listn 1", Exit::Usage),
        ("fanfare serve --redis redis://:hunter2@r:6379", Exit::Usage),
        ("fanfare profile check", Exit::Usage),
        ("fanfare sub", Exit::Usage),
        ("fanfare sub a --rewind 0", Exit::Usage),
        ("fanfare sub a --rewind 5x", Exit::Usage),
        ("fanfare sub a --since yesterday", Exit::Usage),
        ("fanfare sub a:* --pattern --rewind 5", Exit::Usage),
        ("fanfare token mint --user u --ttl never", Exit::Usage),
        ("fanfare probe --count 3", Exit::Usage),
        ("fanfare probe --once --count 0", Exit::Usage),
        ("fanfare probe --interval 1ms", Exit::Usage),
        ("fanfare probe --lost-after 2h", Exit::Usage),
        ("fanfare probe --once --listen 127.0.0.1:1", Exit::Usage),
        ("fanfare probe --nats nats://a --api http://b", Exit::Usage),
        ("fanfare serve --listen localhost", Exit::Config),
        ("fanfare --help", Exit::Success),
        ("fanfare --version", Exit::Success),
    ] {
        assert_eq!(invoke(line).expect_err("nothing to run"), exit, "{line}");
    }
    assert!(matches!(invoke("fanfare version"), Ok(Invocation::Tool(_))));
}

#[test]
fn the_exit_codes_are_those_of_the_help() {
    let help = Arguments::command().render_long_help().to_string();
    for exit in
        [Exit::Success, Exit::Failure, Exit::Usage, Exit::Unavailable, Exit::Refused, Exit::Config]
    {
        assert!(help.contains(&format!("\n  {:<3} ", exit as u8)), "{exit:?}\n{help}");
    }
}

#[test]
fn the_documentation_names_every_command_and_flag() {
    fn walk(command: &clap::Command, path: &str, text: &str) {
        let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
        for flag in shown.filter_map(|argument| argument.get_long()) {
            let documented =
                text.contains(&format!("`--{flag}")) || text.contains(&format!(" --{flag}"));
            assert!(documented || matches!(flag, "help" | "version"), "{path} --{flag}");
        }
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            let path = format!("{path} {}", inner.get_name());
            let leaf = inner.get_subcommands().next().is_none();
            assert!(!leaf || text.contains(&path), "{path}");
            walk(inner, &path, text);
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    walk(&Arguments::command(), "fanfare", &std::fs::read_to_string(file).unwrap());
}

#[test]
fn the_banner_of_dev_has_what_a_first_message_needs() {
    let config = gateway(invoke("fanfare dev"));
    assert_eq!(config.http.allowed_origins, AllowedOrigins::All);
    let banner = dev_banner(&config, "127.0.0.1:4321".parse().unwrap());
    assert!(banner.contains("INSECURE") && banner.contains("ws://127.0.0.1:4321/ws"), "{banner}");
    assert!(banner.contains(config.dev.as_ref().unwrap().api_key.reveal()), "{banner}");
    assert!(!banner.contains(config.auth.keys[0].material.reveal()), "the secret is not shown");
    let (_, rest) = banner.split_once("FANFARE_TOKEN=").unwrap();
    let token =
        broker_core::session::Token::new(rest.split_whitespace().next().unwrap().to_owned());
    let identity = crate::auth::Verifier::new(&config.auth).unwrap().verify_now(&token).unwrap();
    assert_eq!(identity.unwrap().user.unwrap().as_str(), "dev");
    assert!(!banner.contains("other machines"));
    let exposed = dev_banner(&config, "0.0.0.0:80".parse().unwrap());
    assert!(exposed.contains("other machines") && exposed.contains("ws://127.0.0.1:80/ws"));
}

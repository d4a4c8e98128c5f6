//! The command line: what was typed, checked, and the commands that are no gateway.
//!
//! 1. [`args`]: what can be typed.
//! 2. [`parse`]: from there to an [`Invocation`]; `serve` and `dev` are run by `main`, the rest by
//!    [`Tool::run`].
//! 3. [`configuration`], [`profile`], [`token`], [`client`], [`queue`], [`probe`]: the commands;
//!    [`banner`]: the start of `dev`.
//! 4. [`exit`] and [`output`]: how they end, and where they write.

mod args;
mod banner;
mod client;
mod configuration;
mod exit;
mod output;
mod probe;
mod profile;
mod queue;
mod token;

use std::{ffi::OsString, path::PathBuf};

use args::{
    ApiKeyCommand, Arguments, Command, ConfigCommand, GatewayArguments, ProfileCommand,
    TokenCommand, ToolCommand,
};
pub(crate) use banner::dev_banner;
use clap::{CommandFactory, Parser};
pub(crate) use exit::Exit;

use crate::{
    config::{Config, DevSecrets, Environment, Secret, Sources, secret::KeyHash},
    reload::{Inputs, Startup},
};

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// To run a gateway: `serve` or, with [`Config::dev`], `dev`.
    Gateway(Box<Startup>),
    /// To do something else.
    Tool(Tool),
}

/// A command other than `serve` and `dev`.
#[derive(Debug)]
pub(crate) struct Tool(ToolCommand);

/// Reads the command line of the process. Help, mistakes and bad configurations are printed here.
///
/// # Errors
/// How the process is to exit, where there is nothing to run.
pub(crate) fn parse() -> Result<Invocation, Exit> {
    parse_from(std::env::args_os(), &Environment::of_process())
}

fn parse_from(
    arguments: impl IntoIterator<Item = OsString>,
    env: &Environment,
) -> Result<Invocation, Exit> {
    let arguments = Arguments::try_parse_from(arguments).map_err(|error| {
        // Where not even this can be printed, the exit code has to do.
        drop(error.print());
        if error.use_stderr() { Exit::Usage } else { Exit::Success }
    })?;
    let (dev, gateway) = match arguments.command {
        Command::Serve(gateway) => (false, gateway),
        Command::Dev(gateway) => (true, gateway),
        Command::Tool(tool) => return Ok(Invocation::Tool(Tool(tool))),
    };
    if gateway.redis.as_deref().is_some_and(has_password) {
        output::complain(
            "no passwords on the command line, where others can read them: use redis.url_file, or \
             the environment variable FANFARE__REDIS__URL",
        );
        return Err(Exit::Usage);
    }
    let inputs = Inputs {
        profiles: gateway.profiles.clone(),
        sabotage: gateway.sabotage,
        sources: sources(gateway, dev, env),
    };
    let startup = inputs.start().map_err(|errors| {
        output::complain(&errors.to_string());
        Exit::Config
    })?;
    Ok(Invocation::Gateway(Box::new(startup)))
}

/// Prints what `fanfare dev` has to say once it listens; nothing for `serve`.
pub(crate) fn announce(config: &Config, bound: std::net::SocketAddr) {
    if config.dev.is_some() {
        output::complain(&dev_banner(config, bound));
    }
}

/// Says why the process ends, and how.
pub(crate) fn fail(reason: &str, exit: Exit) -> Exit {
    output::complain(&format!("error: {reason}"));
    exit
}

impl Tool {
    /// Does it.
    pub(crate) async fn run(self) -> Exit {
        let env = Environment::of_process();
        match self.0 {
            ToolCommand::Config(ConfigCommand::Check { file }) => configuration::check(file, env),
            ToolCommand::Config(ConfigCommand::Show { file }) => {
                configuration::show(config_file(file, &env), env)
            }
            ToolCommand::Config(ConfigCommand::Docs) => {
                output::print(crate::config::docs::markdown().trim_end())
            }
            ToolCommand::Profile(ProfileCommand::Check { files }) => profile::check(&files),
            ToolCommand::Token(TokenCommand::Mint(arguments)) => token::mint(&arguments, env),
            ToolCommand::Token(TokenCommand::Inspect { file, config }) => {
                token::inspect(file, config, env).await
            }
            ToolCommand::Pub(arguments) => client::publish(arguments, &env).await,
            ToolCommand::Sub(arguments) => client::subscribe(arguments, &env).await,
            ToolCommand::Probe(arguments) => probe::run(&arguments, env).await,
            ToolCommand::Queue(command) => queue::run(command, &env).await,
            ToolCommand::ApiKey(ApiKeyCommand::Generate) => generate_api_key(),
            ToolCommand::Completions { shell } => completions(shell),
            ToolCommand::Version => output::print(concat!("fanfare ", env!("CARGO_PKG_VERSION"))),
        }
    }
}

/// What a gateway is configured by.
fn sources(arguments: GatewayArguments, dev: bool, env: &Environment) -> Sources {
    let mut flags = Vec::new();
    if !arguments.listen.is_empty() {
        flags.push(("http.listen", arguments.listen.into(), "--listen"));
    }
    for (key, value, flag) in [
        ("http.admin_listen", arguments.admin_listen, "--admin-listen"),
        ("nats.url", arguments.nats, "--nats"),
        ("redis.url", arguments.redis, "--redis"),
    ] {
        flags.extend(value.map(|value| (key, value.into(), flag)));
    }
    Sources {
        dev: dev.then(DevSecrets::random),
        file: config_file(arguments.config, env),
        env: env.clone(),
        flags,
        ..Sources::default()
    }
}

fn has_password(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| url.password().is_some())
}

fn config_file(flag: Option<PathBuf>, env: &Environment) -> Option<PathBuf> {
    flag.or_else(|| env.get("FANFARE_CONFIG").map(PathBuf::from))
}

fn generate_api_key() -> Exit {
    let key = Secret::api_key();
    let (key, hash) = (key.reveal(), KeyHash::of(key.reveal()));
    output::complain("Give the key to the service, and its hash to [[auth.api_keys]]:\n");
    output::print(&format!("key  = \"{key}\"\nhash = \"{hash}\""))
}

fn completions(shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "fanfare", &mut script);
    output::print(String::from_utf8_lossy(&script).trim_end())
}

#[cfg(test)]
mod tests;

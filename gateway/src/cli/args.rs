//! What can be typed.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use broker_core::{ChannelName, EventName, Position, UserId, session::Rewind};
use clap::{Args, Parser, Subcommand};

use super::exit;
use crate::sabotage::Sabotage;

/// Fanfare, a realtime message broker.
#[derive(Debug, Parser)]
#[command(name = "fanfare", version, after_help = exit::HELP, propagate_version = false)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a gateway.
    Serve(GatewayArguments),
    /// Run a gateway for development: insecure, with everything allowed and a token to copy.
    Dev(GatewayArguments),
    #[command(flatten)]
    Tool(ToolCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum ToolCommand {
    /// Check and show configurations.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check profiles.
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Make and read tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Publish a message, and wait until it is accepted.
    Pub(PubArguments),
    /// Subscribe, and print each message as a line of JSON.
    Sub(SubArguments),
    /// Publish numbered messages, receive them, and say what became of each.
    Probe(Box<ProbeArguments>),
    /// Look at what waits for users who are away.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Make API keys.
    #[command(subcommand)]
    ApiKey(ApiKeyCommand),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the version.
    Version,
}

/// Options of `serve` and `dev`; each beats the file and the environment.
#[derive(Debug, Args)]
pub(super) struct GatewayArguments {
    /// Configuration file [also: environment variable FANFARE_CONFIG].
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Profile that says how an application's clients are served; may be repeated.
    #[arg(long = "profile", value_name = "FILE")]
    pub(super) profiles: Vec<PathBuf>,
    /// Address to listen on, as IP:PORT; may be repeated.
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Vec<String>,
    /// Address of the operators' listener, as IP:PORT.
    #[arg(long, value_name = "ADDR")]
    pub(super) admin_listen: Option<String>,
    /// URLs of the NATS servers, with commas.
    #[arg(long, value_name = "URL")]
    pub(super) nats: Option<String>,
    /// URL of the Redis server, without password: that is for redis.url_file.
    #[arg(long, value_name = "URL")]
    pub(super) redis: Option<String>,
    /// A deliberate bug, for tests that must find it.
    #[arg(long, value_name = "BUG", hide = true)]
    pub(super) sabotage: Option<Sabotage>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a configuration file, together with the environment.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print the configuration in force and where each value came from.
    Show {
        /// Configuration file [also: environment variable FANFARE_CONFIG].
        #[arg(long = "config", value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print the reference of all options, as Markdown.
    Docs,
}

#[derive(Debug, Subcommand)]
pub(super) enum ProfileCommand {
    /// Say all that is wrong with profiles, or what they do.
    Check {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token with the secret of a configuration.
    Mint(MintArguments),
    /// Print what a token says; with --config, also whether it is good.
    Inspect {
        /// File that holds the token; without it, standard input.
        file: Option<PathBuf>,
        /// Verify it as a gateway with this configuration would.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(super) struct MintArguments {
    /// The user.
    #[arg(long, value_name = "ID")]
    pub(super) user: String,
    /// A role; may be repeated.
    #[arg(long, value_name = "ROLE")]
    pub(super) role: Vec<String>,
    /// A further claim; the value is JSON, or else text. May be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = claim)]
    pub(super) claim: Vec<(String, serde_json::Value)>,
    /// How long it is valid.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub(super) ttl: Duration,
    /// Configuration whose first HS key signs [also: FANFARE_CONFIG]; without one, the secret is
    /// that of the environment variable JWT_SECRET.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// File that holds the HS256 secret to sign with instead.
    #[arg(long, value_name = "FILE")]
    pub(super) secret_file: Option<PathBuf>,
}

/// Which server, as whom.
#[derive(Debug, Args)]
pub(super) struct ServerArguments {
    /// The gateway.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080/ws")]
    pub(super) server: String,
    /// File that holds the token [also: environment variable FANFARE_TOKEN, the token itself].
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct PubArguments {
    /// The channel.
    pub(super) channel: String,
    /// The message: JSON, or else text that is sent as a JSON string. `-` reads standard input.
    pub(super) data: String,
    /// What kind of thing it says.
    #[arg(long)]
    pub(super) event: Option<EventName>,
    #[command(flatten)]
    pub(super) server: ServerArguments,
}

#[derive(Debug, Args)]
pub(super) struct SubArguments {
    /// The channels.
    #[arg(required = true)]
    pub(super) channels: Vec<String>,
    /// Take the channels as patterns, such as `venue:*`.
    #[arg(long)]
    pub(super) pattern: bool,
    /// Begin behind this position, with all that was published since; of one channel with history.
    #[arg(long, value_name = "POSITION", conflicts_with = "pattern")]
    pub(super) since: Option<Position>,
    /// Begin with the latest messages: this many, or those of the last while, such as `10m`.
    #[arg(long, value_name = "N|TIME", value_parser = rewind, conflicts_with = "pattern")]
    pub(super) rewind: Option<Rewind>,
    /// Begin with the newest message of each channel; of retained namespaces.
    #[arg(long, conflicts_with = "rewind")]
    pub(super) snapshot: bool,
    /// End after this many messages.
    #[arg(long, value_name = "N")]
    pub(super) count: Option<u64>,
    #[command(flatten)]
    pub(super) server: ServerArguments,
}

#[derive(Debug, Args)]
pub(super) struct ProbeArguments {
    /// A gateway, or what stands before several; may be repeated: at each, all messages must come.
    #[arg(long = "server", value_name = "URL", default_value = "ws://127.0.0.1:8080/ws")]
    pub(super) servers: Vec<String>,
    /// The channel, which it may share with other probers.
    #[arg(long, default_value = "probe:check")]
    pub(super) channel: ChannelName,
    /// Publish over NATS: URLs of the servers, with commas [also: `nats.url`].
    #[arg(long, value_name = "URL", conflicts_with = "api")]
    pub(super) nats: Option<String>,
    /// Publish by the API of this gateway instead.
    #[arg(long, value_name = "URL")]
    pub(super) api: Option<String>,
    /// File that holds an API key of scope `publish` [also: environment variable FANFARE_API_KEY,
    /// the key itself].
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
    /// File that holds the clients' token [also: environment variable FANFARE_TOKEN, the token
    /// itself]; without, it is made with the first HS key of the configuration.
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Configuration of NATS and of tokens [also: FANFARE_CONFIG].
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Publish some messages, print what became of them, and end: with 1 unless all is well.
    #[arg(long)]
    pub(super) once: bool,
    /// How many messages.
    #[arg(long, value_name = "N", requires = "once", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: u64,
    /// How often a message is published: each second, or ten times a second with --once.
    #[arg(long, value_name = "TIME", value_parser = pace)]
    pub(super) interval: Option<Duration>,
    /// A message that takes longer is late.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(super) late_after: Duration,
    /// A message that takes longer is lost: longer than publishing may take, at most 1h.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = patience)]
    pub(super) lost_after: Duration,
    /// Address of /metrics and /healthz, as IP:PORT.
    #[arg(long, value_name = "ADDR", conflicts_with = "once", default_value = "127.0.0.1:9091")]
    pub(super) listen: SocketAddr,
}

#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// Print how many messages wait for all users, and what became of the others.
    Stats {
        #[command(flatten)]
        api: ApiArguments,
    },
    /// Print the oldest messages that wait for a user.
    Peek {
        /// The user.
        user: UserId,
        /// At most this many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        api: ApiArguments,
    },
    /// Drop all messages that wait for a user.
    Purge {
        /// The user.
        user: UserId,
        #[command(flatten)]
        api: ApiArguments,
    },
}

/// Which API, and the right to use it.
#[derive(Debug, Args)]
pub(super) struct ApiArguments {
    /// The gateway's API, on its admin listener.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    pub(super) api: String,
    /// File that holds an API key of scope `admin` [also: environment variable FANFARE_API_KEY,
    /// the key itself].
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ApiKeyCommand {
    /// Print a new API key and its hash for the configuration.
    Generate,
}

/// A probe is no load test.
fn pace(text: &str) -> Result<Duration, String> {
    let pace = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if pace < Duration::from_millis(10) { Err("write 10ms or more".to_owned()) } else { Ok(pace) }
}

/// So long, each message is remembered.
fn patience(text: &str) -> Result<Duration, String> {
    let patience = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if patience > Duration::from_hours(1) {
        Err("write 1h or less".to_owned())
    } else {
        Ok(patience)
    }
}

fn rewind(text: &str) -> Result<Rewind, String> {
    let rewind = match text.parse() {
        Ok(count) => Rewind::Messages(count),
        Err(_) => Rewind::For(humantime::parse_duration(text).map_err(|error| error.to_string())?),
    };
    match rewind {
        Rewind::Messages(0) | Rewind::For(Duration::ZERO) => Err("write 1 or more".to_owned()),
        rewind => Ok(rewind),
    }
}

fn claim(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

//! What is typed; [`crate::settings`] makes sense of it.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures a message broker from outside: cost, latency, and what was lost.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// N subscribers on one channel.
    Fanout(FanoutArguments),
    /// N channels with one subscriber each.
    Pairs(PairsArguments),
    /// N connections, then silence: memory, handshakes, heartbeats.
    Connect(ConnectArguments),
    /// A fixed rate twice: all read, then some stop reading.
    Slow(SlowArguments),
    /// A fixed rate while connections come and go.
    Churn(ChurnArguments),
    /// A fixed rate; a gateway dies, and everybody comes back to the others.
    Storm(StormArguments),
    /// A fixed rate while somebody replaces the gateways, and everybody comes back and recovers.
    Rollout(RolloutArguments),
    /// All connections go, messages are published, and all come back at once for what they missed.
    Recover(RecoverArguments),
    /// A fixed rate from the first --url to subscribers on the others, and through one gateway.
    Cluster(ClusterArguments),
    /// The server that the ratios refer to: sockets and `send(2)`, nothing else.
    Floor(FloorArguments),
}

/// What all workloads take.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// `fanfare`, `floor`, the name of a template in loadtest/targets, or the path of one.
    #[arg(long, default_value = "fanfare")]
    pub(crate) target: String,
    /// Where to connect; several share the connections.
    #[arg(long = "url", value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// Where to publish [default: the first --url].
    #[arg(long, value_name = "URL")]
    pub(crate) publish_url: Option<String>,
    /// What `{port}` stands for in a template's URL.
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Subscribers.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) connections: usize,
    /// The channel, or what the channels' names begin with.
    #[arg(long, default_value = "venue:load")]
    pub(crate) channel: String,
    /// Length of a message in bytes.
    #[arg(long, default_value_t = 128, value_name = "BYTES")]
    pub(crate) payload: usize,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS", conflicts_with = "messages")]
    pub(crate) duration: f64,
    /// How many messages to measure.
    #[arg(long, value_name = "N")]
    pub(crate) messages: Option<u64>,
    /// How long to publish before measuring, in seconds.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    pub(crate) warmup: f64,
    /// Connections being opened at once.
    #[arg(long, default_value_t = 128, value_name = "N")]
    pub(crate) ramp: usize,
    /// Offer permessage-deflate.
    #[arg(long)]
    pub(crate) compression: bool,
    /// Connect from 127.0.0.1 to 127.0.0.K in turn.
    #[arg(long, default_value_t = 1, value_name = "K")]
    pub(crate) sources: u32,
    /// A file with one token for everybody.
    #[arg(long, value_name = "FILE", conflicts_with = "token_secret_file")]
    pub(crate) token_file: Option<PathBuf>,
    /// A file with an HS256 secret: each connection is its own user.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_secret_file: Option<PathBuf>,
    /// The server's process [default: who listens at the URLs' ports].
    #[arg(long = "server-pid", value_name = "PID")]
    pub(crate) server_pids: Vec<u32>,
    /// Where to write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Where to draw the latencies, as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// No progress.
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Succeed whatever was lost.
    #[arg(long)]
    pub(crate) allow_loss: bool,
    /// How long no connection may make progress while all are opened, in seconds.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub(crate) timeout: f64,
    /// How long to wait for a message that does not come, in seconds.
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub(crate) patience: f64,
}

/// When the next message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// When every subscriber has the last one.
    OneAtATime,
    /// As fast as it goes, with --window messages on their way.
    Flood,
}

#[derive(Debug, Args)]
pub(crate) struct FanoutArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// When the next message is sent.
    #[arg(long, value_enum, default_value = "flood", conflicts_with = "rate")]
    pub(crate) mode: Mode,
    /// Messages on their way in a flood.
    #[arg(long, default_value_t = 64)]
    pub(crate) window: u64,
    /// Messages per second, instead of a mode.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Connections that publish.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) publishers: usize,
}

#[derive(Debug, Args)]
pub(crate) struct PairsArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Messages on their way per channel.
    #[arg(long, default_value_t = 16)]
    pub(crate) window: u64,
    /// Messages per second over all channels, instead of a window.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Connections that publish, each to its share of the channels; 0: each subscriber to its own.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) publishers: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How long to leave the connections idle, in seconds.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub(crate) idle: f64,
}

#[derive(Debug, Args)]
pub(crate) struct SlowArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Messages per second.
    #[arg(long, default_value_t = 200.0)]
    pub(crate) rate: f64,
    /// How many stop reading: a number, or a share such as 1%.
    #[arg(long, default_value = "1%")]
    pub(crate) stalled: Share,
    /// What the system still receives for those who have stopped, in bytes.
    #[arg(long, default_value_t = 65536, value_name = "BYTES")]
    pub(crate) stalled_buffer: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ChurnArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Messages per second.
    #[arg(long, default_value_t = 200.0)]
    pub(crate) rate: f64,
    /// How many come and go per second: a number, or a share such as 10%.
    #[arg(long, default_value = "10%")]
    pub(crate) churn: Share,
}

#[derive(Debug, Args)]
pub(crate) struct StormArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Messages per second.
    #[arg(long, default_value_t = 200.0)]
    pub(crate) rate: f64,
    #[command(flatten)]
    pub(crate) kill: Kill,
    /// When to kill, in seconds after the measurement began.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub(crate) kill_after: f64,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Messages per second, over all channels.
    #[arg(long, default_value_t = 50.0)]
    pub(crate) rate: f64,
    /// Channels, each with its share of the connections.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) channels: usize,
    /// How many connections speak Socket.IO: a number, or a share such as 50%.
    #[arg(long, default_value = "50%")]
    pub(crate) socketio: Share,
    /// Where the first --url serves Socket.IO.
    #[arg(long, default_value = "/socket.io/", value_name = "PATH")]
    pub(crate) socketio_path: String,
    /// A file with an API key that may publish.
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key_file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Messages that everybody has missed.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) missed: u64,
}

/// Who kills the gateway.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Kill {
    /// The process to kill.
    #[arg(long, value_name = "PID")]
    pub(crate) kill_pid: Option<i32>,
    /// A shell command that kills it.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) kill_command: Option<String>,
    /// Somebody else does, whenever they like.
    #[arg(long)]
    pub(crate) wait_for_kill: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ClusterArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Messages per second.
    #[arg(long, default_value_t = 200.0)]
    pub(crate) rate: f64,
}

/// Some of the connections.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Share {
    /// So many.
    Count(usize),
    /// So many of a hundred.
    Percent(f64),
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().map(Self::Percent),
            None => text.parse().ok().map(Self::Count),
        };
        share
            .filter(|share| !matches!(share, Self::Percent(it) if !(0.0..=10_000.0).contains(it)))
            .ok_or_else(|| "neither a number nor a share such as 10%".to_owned())
    }
}

impl Share {
    /// Of so many.
    pub(crate) fn of(self, all: usize) -> f64 {
        match self {
            Self::Count(count) => count as f64,
            Self::Percent(percent) => all as f64 * percent / 100.0,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct FloorArguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Frames per call of send(2), where so many are ready.
    #[arg(long, default_value_t = 1, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) group: u32,
}

//! `loadtest`: measures message brokers from outside. `README.md` is its manual.
//!
//! Reading order: `workload` (what is done), `bench.rs` (what all of them do), `engine` (how), `report`.

mod bench;
mod cli;
mod clock;
mod engine;
mod failure;
mod floor;
mod process;
mod progress;
mod report;
mod settings;
mod stamp;
mod tally;
mod target;
mod token;
mod workload;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use cli::{Cli, Command};
use report::Finished;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Fanout(arguments) => workload::fanout(arguments).and_then(Finished::conclude),
        Command::Pairs(arguments) => workload::pairs(arguments).and_then(Finished::conclude),
        Command::Connect(arguments) => workload::connect(arguments).and_then(Finished::conclude),
        Command::Slow(arguments) => workload::slow(arguments).and_then(Finished::conclude),
        Command::Churn(arguments) => workload::churn(arguments).and_then(Finished::conclude),
        Command::Recover(arguments) => workload::recover(arguments).and_then(Finished::conclude),
        Command::Storm(arguments) => workload::storm(arguments).and_then(Finished::conclude),
        Command::Rollout(arguments) => workload::rollout(arguments).and_then(Finished::conclude),
        Command::Cluster(arguments) => workload::cluster(arguments).and_then(Finished::conclude),
        Command::Floor(arguments) => floor::serve(&arguments),
    };
    done.unwrap_or_else(|failure| {
        // There is nobody to tell that standard error is closed.
        drop(writeln!(io::stderr().lock(), "loadtest: {failure}"));
        failure.exit_code()
    })
}

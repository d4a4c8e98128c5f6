//! `fanfare`: the gateway and its command line.

mod api;
mod app;
mod asks;
mod auth;
mod backends;
mod canary;
mod cli;
mod clock;
mod config;
mod connection;
mod cors;
mod dialect;
mod directory;
mod drain;
mod fallback;
mod fanout;
mod hub;
mod keeper;
mod listener;
mod outbox;
mod probes;
mod problem;
mod profile;
mod public_url;
mod queue;
mod register;
mod reload;
mod rest;
mod roster;
mod sabotage;
mod services;
mod socket;
mod socketio;
mod telemetry;
mod wheel;

use std::process::ExitCode;

use cli::{Exit, Invocation};
use reload::Startup;

/// Small blocks of one size lie close together, and what a handshake needs for a moment leaves no
/// holes: less memory per idle connection than with the C library's, wherever it comes from.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let invocation = match cli::parse() {
        Ok(invocation) => invocation,
        Err(exit) => return exit.into(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // What finds no room in a thread's own queue lands in the global one. At tokio's default,
        // thousands of busy connections keep the former full, and some wait half a second.
        .global_queue_interval(1)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return cli::fail(&format!("the runtime cannot start: {error}"), Exit::Failure).into();
        }
    };
    let exit = match invocation {
        Invocation::Gateway(startup) => runtime.block_on(run_gateway(*startup)),
        Invocation::Tool(tool) => runtime.block_on(tool.run()),
    };
    exit.into()
}

async fn run_gateway(startup: Startup) -> Exit {
    let config = &startup.loaded.config;
    if let Err(error) =
        telemetry::logs::init(config.telemetry.log_format, &config.telemetry.log_level)
    {
        return cli::fail(&error.to_string(), Exit::Config);
    }
    startup.warn();
    let announced = config.clone();
    match app::run(startup, |started| cli::announce(&announced, started.public[0])).await {
        Ok(()) => Exit::Success,
        Err(error) => cli::fail(&error.to_string(), error.exit()),
    }
}

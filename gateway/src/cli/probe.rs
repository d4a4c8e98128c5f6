//! `fanfare probe`: are messages delivered? Numbered messages are published as a service does, and
//! received as clients do; of each it is said what became of it.
//!
//! [`ledger`] judges, [`watcher`] is a client, [`publisher`] the service, [`figures`] what was
//! counted.

mod figures;
mod ledger;
mod publisher;
mod watcher;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use broker_core::{ChannelName, Interest, session::Token};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{self, Instant, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Exit, args::ProbeArguments, config_file, configuration, output, token};
use crate::{
    config::{Auth, Config, Environment, Sources},
    listener::{Server, Site},
    telemetry::logs,
};
use figures::Figures;
use ledger::{Ledger, Outcome, Patience};
use publisher::{Publisher, Refusal, complain};
use watcher::{Credentials, Watcher};

/// How often a message is published, for ever and with `--once`.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(100));
/// How long copies of the last messages are waited for, at most.
const LAST_COPIES: Duration = Duration::from_secs(1);
/// The URL itself is not shown.
const NAMELESS: &str =
    "no user and no password in --server and --api: give a token in --token-file or an API key";
/// Whom a token that the prober makes for itself is about.
const USER: &str = "fanfare-probe";
/// And what rules may call it.
const ROLE: &str = "probe";
/// Who scrapes is near.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_HEADER_BYTES: usize = 16 * 1024;
const SILENCE: Duration = Duration::from_secs(60);

/// What a message says.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Body {
    /// Tells probers apart that share a channel.
    run: u32,
    /// Counts from 0.
    number: u64,
}

/// Probes once, or until SIGTERM or SIGINT.
pub(super) async fn run(arguments: &ProbeArguments, env: Environment) -> Exit {
    let flags = arguments.nats.iter().map(|url| ("nats.url", url.clone().into(), "--nats"));
    let sources = Sources {
        file: config_file(arguments.config.clone(), &env),
        env: env.clone(),
        flags: flags.collect(),
        ..Sources::default()
    };
    let config = match configuration::load_from(&sources) {
        Ok(loaded) => loaded.config,
        Err(exit) => return exit,
    };
    if let Err(error) = logs::init(config.telemetry.log_format, &config.telemetry.log_level) {
        output::complain(&error.to_string());
        return Exit::Config;
    }
    match Probe::open(arguments, &config, &env).await {
        Ok((probe, watchers)) if arguments.once => probe.once(watchers, arguments.count).await,
        Ok((probe, watchers)) => probe.forever(watchers, arguments.listen).await,
        Err(refusal) => complain(&refusal),
    }
}

/// What publishes, and what is known of those who should get it.
struct Probe {
    publisher: Publisher,
    channel: ChannelName,
    run: u32,
    interval: Duration,
    patience: Patience,
    ledgers: Vec<Arc<Mutex<Ledger>>>,
    figures: Arc<Figures>,
}

impl Probe {
    async fn open(
        arguments: &ProbeArguments,
        config: &Config,
        env: &Environment,
    ) -> Result<(Self, Vec<Watcher>), Refusal> {
        let patience = Patience { late: arguments.late_after, lost: arguments.lost_after };
        check(arguments, publisher::deadline(arguments, &config.nats))
            .map_err(|text| Refusal { text, exit: Exit::Usage })?;
        let figures = Figures::new().map_err(|error| Refusal {
            text: format!("the metrics cannot be made: {error}"),
            exit: Exit::Failure,
        })?;
        let (run, figures) = (rand::random(), Arc::new(figures));
        let publisher = Publisher::open(arguments, &config.nats, env, run).await?;
        let default = if arguments.once { INTERVALS.1 } else { INTERVALS.0 };
        let interval = arguments.interval.unwrap_or(default);
        let credentials = Arc::new(credentials(arguments, &config.auth, env));
        let watchers = arguments.servers.iter().map(|server| Watcher {
            server: server.clone(),
            interest: Interest::Channel(arguments.channel.clone()),
            credentials: Arc::clone(&credentials),
            run,
            ledger: Arc::new(Mutex::new(Ledger::new(patience, interval))),
            figures: Arc::clone(&figures),
            position: None,
            after: None,
        });
        let watchers: Vec<Watcher> = watchers.collect();
        let probe = Self {
            publisher,
            channel: arguments.channel.clone(),
            run,
            interval,
            patience,
            ledgers: watchers.iter().map(|watcher| Arc::clone(&watcher.ledger)).collect(),
            figures,
        };
        Ok((probe, watchers))
    }

    /// Publishes `count` messages, waits for them, and prints what became of them.
    async fn once(self, watchers: Vec<Watcher>, count: u64) -> Exit {
        let mut clients = JoinSet::new();
        for mut watcher in watchers {
            match watcher.join().await {
                Ok(connection) => drop(clients.spawn(watcher.run(Some(connection)))),
                Err(error) => {
                    output::complain(&format!("{}: {error}", watcher.server()));
                    return error.exit();
                }
            }
        }
        let (mut sent, mut refused, mut ticks) = (0, None, self.ticks());
        for _ in 0..count {
            ticks.tick().await;
            match self.send(sent).await {
                Ok(was_sent) => sent += u64::from(was_sent),
                Err(refusal) => {
                    sent += 1;
                    refused = Some(refusal);
                }
            }
        }
        self.wait_for_the_rest().await;
        let summary = self.figures.summary();
        let printed = output::print(&format!("{sent} of {count} messages published: {summary}"));
        let exit = match &refused {
            None if sent == count && self.all_came(sent) => printed,
            Some(refusal) if self.figures.of(Outcome::Refused) == sent => complain(refusal),
            _ => Exit::Failure,
        };
        self.publisher.close().await;
        exit
    }

    /// Whether each client got each of `sent` messages, once and in order.
    fn all_came(&self, sent: u64) -> bool {
        let of = |outcome| self.figures.of(outcome);
        of(Outcome::Ok) + of(Outcome::Late) == sent * self.ledgers.len() as u64
            && of(Outcome::Duplicate) == 0
    }

    /// Waits until everything has come that will.
    async fn wait_for_the_rest(&self) {
        let is_awaited = || {
            let now = Instant::now();
            self.ledgers.iter().any(|ledger| ledger.lock().longest_wait(now).is_some())
        };
        let all = async {
            while is_awaited() {
                self.figures.judged().await;
            }
        };
        if time::timeout(self.patience.lost, all).await.is_err() {
            let now = Instant::now();
            for ledger in &self.ledgers {
                self.figures.count(Outcome::Lost, ledger.lock().give_up_all(now));
            }
        }
        // Nothing says that a second copy will not come.
        time::sleep(self.patience.late.min(LAST_COPIES)).await;
    }

    /// Publishes until the process is told to end, and lets others look at the figures.
    async fn forever(self, watchers: Vec<Watcher>, listen: SocketAddr) -> Exit {
        let listener = match TcpListener::bind(listen).await {
            Ok(listener) => listener,
            Err(error) => {
                output::complain(&format!("cannot listen on {listen}: {error}"));
                return Exit::Failure;
            }
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(server(router(&self)).run(listener));
        for watcher in watchers {
            tasks.spawn(watcher.run(None));
        }
        tracing::info!(channel = %self.channel, clients = self.ledgers.len(), %listen, "probing");
        let publishing = async {
            let (mut number, mut ticks) = (0, self.ticks());
            loop {
                ticks.tick().await;
                match self.send(number).await {
                    Ok(was_sent) => number += u64::from(was_sent),
                    Err(_) => number += 1,
                }
            }
        };
        tokio::select! {
            () = publishing => {}
            () = told_to_end() => tracing::info!("told to end"),
        }
        self.publisher.close().await;
        Exit::Success
    }

    /// Publishes a message; `false` where nobody is owed it, because nobody is subscribed.
    async fn send(&self, number: u64) -> Result<bool, Refusal> {
        let now = Instant::now();
        if !self.ledgers.iter().any(|ledger| ledger.lock().is_owed(now)) {
            return Ok(false);
        }
        let mut stored = false;
        for ledger in &self.ledgers {
            let mut ledger = ledger.lock();
            self.figures.count(Outcome::Lost, ledger.publish(now).into());
            stored |= ledger.has_history();
        }
        let body = Body { run: self.run, number };
        let published = self.publisher.publish(&self.channel, body, stored).await;
        if let Err(refusal) = &published {
            tracing::warn!(reason = refusal.text, "a message was not accepted");
            self.ledgers.iter().for_each(|ledger| ledger.lock().refuse());
            self.figures.count(Outcome::Refused, 1);
        }
        published.map(|()| true)
    }

    fn ticks(&self) -> time::Interval {
        let mut ticks = time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }
}

/// Whether the arguments go together. `deadline` is the publisher's, with its name.
fn check(arguments: &ProbeArguments, deadline: (Duration, &str)) -> Result<(), String> {
    let mut urls = arguments.servers.iter().chain(&arguments.api);
    if urls.any(|url| url.split('?').next().is_some_and(|url| url.contains('@'))) {
        return Err(NAMELESS.to_owned());
    }
    if arguments.late_after >= arguments.lost_after {
        return Err("--late-after must be shorter than --lost-after".to_owned());
    }
    let (deadline, name) = deadline;
    // What was given up for lost could be refused after that.
    if arguments.lost_after <= deadline {
        let [lost, deadline] = [arguments.lost_after, deadline].map(humantime::format_duration);
        return Err(format!("--lost-after ({lost}) must be longer than {name} ({deadline})"));
    }
    Ok(())
}

/// In this order: what was given for this; a token made with the configuration's secret; nothing.
fn credentials(arguments: &ProbeArguments, auth: &Auth, env: &Environment) -> Credentials {
    if let Some(file) = &arguments.token_file {
        return Credentials::File(file.clone());
    }
    if let Some(token) = env.get("FANFARE_TOKEN") {
        return Credentials::Token(Token::new(token.trim().to_owned()));
    }
    match auth.keys.iter().find(|key| key.algorithm.is_symmetric()) {
        Some(key) => Credentials::Minted {
            key: key.clone(),
            claims: token::identity(auth, USER, &[ROLE.to_owned()]),
        },
        None => Credentials::None,
    }
}

fn router(probe: &Probe) -> Router {
    let (ledgers, figures) = (probe.ledgers.clone(), Arc::clone(&probe.figures));
    let scrape = move || {
        let now = Instant::now();
        let up = ledgers.iter().all(|ledger| ledger.lock().is_up(now));
        let answer = metrics(&figures, up);
        async { answer }
    };
    // Whether messages come is no reason to start the prober anew.
    Router::new().route("/healthz", get(|| async { "ok\n" })).route("/metrics", get(scrape))
}

fn metrics(figures: &Figures, up: bool) -> Response {
    match figures.render(up) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be rendered\n").into_response()
        }
    }
}

fn server(router: Router) -> Server {
    Server {
        site: Site::new(router, None),
        header_timeout: HEADER_TIMEOUT,
        max_header_bytes: MAX_HEADER_BYTES,
        silence: SILENCE,
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    }
}

/// Waits for SIGTERM or SIGINT.
async fn told_to_end() {
    let heard = |kind| {
        signal(kind).inspect_err(|error| tracing::warn!(%error, "signals cannot be waited for"))
    };
    let wait = async |kind| match heard(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
}

#[cfg(test)]
mod tests;

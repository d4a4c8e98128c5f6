//! When to go.

use std::{future, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What tells the gateway to go. From here on, no signal ends the process by itself.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    /// Taken by who reloads the configuration.
    pub(super) hangup: Hangup,
}

/// SIGHUP: to read the configuration anew.
pub(super) type Hangup = Option<Signal>;

impl Signals {
    pub(super) fn listen() -> Self {
        Self {
            terminate: heard("SIGTERM", signal(SignalKind::terminate())),
            interrupt: heard("SIGINT", signal(SignalKind::interrupt())),
            hangup: heard("SIGHUP", signal(SignalKind::hangup())),
        }
    }

    /// Waits for SIGTERM or SIGINT.
    pub(super) async fn shutdown(&mut self) {
        tokio::select! {
            () = wait(&mut self.terminate) => tracing::info!("SIGTERM: draining"),
            () = wait(&mut self.interrupt) => {
                tracing::info!("SIGINT: draining; once more to exit at once");
            }
        }
    }

    /// Waits for SIGINT.
    pub(super) async fn interrupt(&mut self) {
        wait(&mut self.interrupt).await;
    }
}

fn heard(name: &str, signal: io::Result<Signal>) -> Option<Signal> {
    signal.inspect_err(|error| tracing::warn!(%error, "{name} cannot be waited for")).ok()
}

pub(super) async fn wait(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => future::pending().await,
    }
}

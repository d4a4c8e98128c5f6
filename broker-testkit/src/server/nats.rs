use super::child::{Recipe, ServerProcess, find_binary};

/// A nats-server of one test.
#[derive(Debug)]
pub struct NatsServer(ServerProcess);

impl NatsServer {
    /// Starts a server on a free port and waits until it answers.
    ///
    /// # Panics
    /// When there is no `nats-server` (`NATS_SERVER_BIN`, `.tools/bin`, `PATH`, `~/go/bin`).
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`NatsServer::start`], with more arguments for the command line.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let recipe = Recipe {
            binary: find_binary(&["nats-server"], Some("NATS_SERVER_BIN")),
            arguments: |port, directory| {
                let data = directory.display().to_string();
                ["-a", "127.0.0.1", "-p", &port.to_string(), "-sd", &data].map(String::from).into()
            },
            hello: (b"", b"INFO "),
        };
        Self(ServerProcess::start(recipe, arguments).await)
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.0.port())
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Asks it to end, and waits.
    pub fn stop(&mut self) {
        self.0.stop();
    }

    /// Starts it anew on the same port.
    pub async fn restart(&mut self) {
        self.0.start_again().await;
    }

    /// Copies what JetStream has stored; the server must not run.
    ///
    /// # Panics
    /// When that cannot be copied.
    pub fn back_up(&self) {
        self.0.copy("jetstream", "backup");
    }

    /// Replaces what JetStream has stored by what [`NatsServer::back_up`] copied; the server must
    /// not run.
    ///
    /// # Panics
    /// When that cannot be copied.
    pub fn restore(&self) {
        self.0.copy("backup", "jetstream");
    }

    /// Freezes it: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.0.pause();
    }

    /// Ends [`NatsServer::pause`].
    pub fn resume(&self) {
        self.0.resume();
    }
}

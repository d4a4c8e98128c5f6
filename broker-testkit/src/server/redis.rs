use super::child::{Recipe, ServerProcess, find_binary};

/// A Redis (or Valkey) server of one test, without persistence.
#[derive(Debug)]
pub struct RedisServer(ServerProcess);

impl RedisServer {
    /// Starts a server on a free port and waits until it answers.
    ///
    /// # Panics
    /// When there is no `redis-server` and no `valkey-server` (`REDIS_SERVER_BIN`, `.tools/bin`,
    /// `PATH`, `~/go/bin`).
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`RedisServer::start`], but what it is told survives [`RedisServer::kill`].
    pub async fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes"]).await
    }

    async fn start_with(arguments: &[&str]) -> Self {
        let recipe = Recipe {
            binary: find_binary(&["redis-server", "valkey-server"], Some("REDIS_SERVER_BIN")),
            arguments: |port, directory| {
                let (port, data) = (port.to_string(), directory.display().to_string());
                let address = ["--bind", "127.0.0.1", "--port", &port, "--dir", &data];
                let memory = ["--save", "", "--appendonly", "no"];
                address.into_iter().chain(memory).map(String::from).collect()
            },
            hello: (b"PING\r\n", b"+PONG\r\n"),
        };
        Self(ServerProcess::start(recipe, arguments).await)
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.0.port())
    }

    /// Ends it without warning; what it held is lost, unless it is durable.
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

    /// Freezes it: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.0.pause();
    }

    /// Ends [`RedisServer::pause`].
    pub fn resume(&self) {
        self.0.resume();
    }
}

//! Connecting to one of the servers, up to its first sign that it took the login.

use std::{io, net::SocketAddr, path::Path, time::Duration};

use async_nats::{ConnectInfo, Protocol, ServerAddr, ServerInfo};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use rand::seq::SliceRandom;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};

use super::{
    tls,
    wire::{self, Broken, Op},
};
use crate::options::{NatsAuth, NatsOptions, TlsFiles};

/// A server is asked for a sign of life this often; two without are the end.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(10);
/// First and longest bound of the pause between attempts, which is random below it.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long one attempt may take.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// How long one round through all servers may take.
const ROUND: Duration = Duration::from_secs(15);
/// What is read at once.
pub(super) const READ: usize = 65_536;
/// Servers of the cluster, beside those of the options, that are remembered.
const MAX_DISCOVERED: usize = 64;

/// A connection's bytes, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that the server took.
pub(super) struct Connection {
    pub(super) stream: Box<dyn Stream>,
    /// Read, but not yet handled.
    pub(super) buffer: Vec<u8>,
    pub(super) info: ServerInfo,
}

/// Why there is no connection, or no longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("the server refuses: {0}")]
    Refused(String),
    #[error("the server ended the connection")]
    Closed,
    #[error("the server does not answer in time")]
    Silent,
    #[error("the credentials file {0}")]
    Credentials(String),
    /// Reached, but not the server that was wanted.
    #[error("no address leads to the server to which this gateway publishes")]
    Elsewhere,
    #[error("this gateway publishes to another server now")]
    Moved,
}

/// Knows the servers and how to log in.
pub(super) struct Dialer {
    configured: Vec<ServerAddr>,
    discovered: Vec<ServerAddr>,
    /// Whether the last server was asked for TLS by its URL, and so those that it names.
    tls_by_url: bool,
    auth: NatsAuth,
    tls: TlsFiles,
    name: String,
}

impl Dialer {
    pub(super) fn new(options: &NatsOptions) -> io::Result<Self> {
        Ok(Self {
            configured: options.urls.iter().map(|url| url.parse()).collect::<Result<_, _>>()?,
            discovered: Vec::new(),
            tls_by_url: false,
            auth: options.auth.clone(),
            tls: options.tls.clone(),
            name: options.name.clone(),
        })
    }

    /// Tries each server once. With the id of a server `wanted`, only that one is taken; then
    /// [`Lost::Elsewhere`] says that there would have been another.
    pub(super) async fn dial(&mut self, wanted: Option<&str>) -> Result<Connection, Lost> {
        let end = Instant::now() + ROUND;
        let limit = || end.min(Instant::now() + CONNECT);
        let mut why = Lost::Silent;
        let mut note = |error: Lost| {
            tracing::debug!(%error, "a server that cannot be read from");
            if !matches!(why, Lost::Elsewhere) {
                why = error;
            }
        };
        for server in self.servers() {
            let found = timeout_at(limit(), lookup_host((server.host(), server.port()))).await;
            let addresses = match found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(addresses) => addresses,
                Err(error) => {
                    note(error.into());
                    continue;
                }
            };
            for address in addresses {
                let attempt = self.attempt(&server, address, wanted);
                match timeout_at(limit(), attempt).await.unwrap_or(Err(Lost::Silent)) {
                    Ok(connection) => return Ok(connection),
                    Err(error) => note(error),
                }
            }
        }
        Err(why)
    }

    /// All servers, in random order; but what servers name may lead nowhere from here, and so comes
    /// last.
    fn servers(&self) -> Vec<ServerAddr> {
        let (mut servers, mut discovered) = (self.configured.clone(), self.discovered.clone());
        servers.shuffle(&mut rand::rng());
        discovered.shuffle(&mut rand::rng());
        servers.append(&mut discovered);
        servers
    }

    /// Notes which servers there are in the cluster.
    pub(super) fn learn(&mut self, info: &ServerInfo) {
        if info.connect_urls.is_empty() {
            return;
        }
        let scheme = if self.tls_by_url { "tls" } else { "nats" };
        let urls = info.connect_urls.iter();
        let urls = urls.filter_map(|url| format!("{scheme}://{url}").parse().ok());
        let new = urls.filter(|url| !self.configured.contains(url));
        self.discovered = new.take(MAX_DISCOVERED).collect();
    }

    async fn attempt(
        &mut self,
        server: &ServerAddr,
        address: SocketAddr,
        wanted: Option<&str>,
    ) -> Result<Connection, Lost> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut buffer = Vec::with_capacity(READ);
        let info = match next(&mut stream, &mut buffer).await? {
            Answer::Info(info) => *info,
            Answer::Refused(words) => return Err(Lost::Refused(words)),
            _ => return Err(Lost::Closed),
        };
        let tls = self.tls.ca.is_some() || info.tls_required || server.tls_required();
        let mut stream: Box<dyn Stream> = if tls {
            // What came so far came unprotected.
            buffer.clear();
            Box::new(tls::handshake(&self.tls, server.host(), stream).await?)
        } else {
            Box::new(stream)
        };
        let login = self.login(&info.nonce, tls).await?;
        let login = serde_json::to_vec(&login).map_err(io::Error::from)?;
        stream.write_all(&[b"CONNECT ", login.as_slice(), b"\r\nPING\r\n"].concat()).await?;
        stream.flush().await?;
        let mut connection = Connection { stream, buffer, info };
        if tls {
            // Anybody can have written what came before, and would be sent the next login.
            connection.info.connect_urls.clear();
        }
        loop {
            match next(&mut connection.stream, &mut connection.buffer).await? {
                Answer::Pong => break,
                Answer::Refused(words) => return Err(Lost::Refused(words)),
                Answer::Info(info) => connection.info = *info,
                Answer::Ping => connection.stream.write_all(b"PONG\r\n").await?,
                Answer::Other => {}
            }
        }
        self.tls_by_url = server.tls_required();
        self.learn(&connection.info);
        if wanted.is_some_and(|wanted| wanted != connection.info.server_id) {
            return Err(Lost::Elsewhere);
        }
        Ok(connection)
    }

    async fn login(&self, nonce: &str, tls_required: bool) -> Result<ConnectInfo, Lost> {
        let mut login = ConnectInfo {
            verbose: false,
            pedantic: false,
            user_jwt: None,
            nkey: None,
            signature: None,
            name: Some(format!("{} (reader)", self.name)),
            echo: true,
            lang: "rust-fanfare".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: Protocol::Dynamic,
            tls_required,
            user: None,
            pass: None,
            auth_token: None,
            headers: true,
            no_responders: false,
        };
        match &self.auth {
            NatsAuth::None => {}
            NatsAuth::User { name, password } => {
                (login.user, login.pass) = (Some(name.clone()), Some(password.clone()));
            }
            NatsAuth::Token(token) => login.auth_token = Some(token.clone()),
            NatsAuth::Credentials(path) => {
                let (jwt, key) = credentials(path).await?;
                let signature = key.sign(nonce.as_bytes());
                let signature = signature.map_err(|error| Lost::Credentials(error.to_string()))?;
                login.signature = Some(BASE64_URL_SAFE_NO_PAD.encode(signature));
                login.user_jwt = Some(jwt);
            }
        }
        Ok(login)
    }
}

/// The pause before an attempt, counted from 0: random below a growing bound, so that gateways which
/// lost the same server do not come back as one.
pub(crate) fn pause_before(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt).unwrap_or(u32::MAX).min(16);
    let bound = BACKOFF.0.saturating_mul(1 << doublings).min(BACKOFF.1);
    bound.mul_f64(rand::random::<f64>())
}

/// The JWT and the key of a `.creds` file: the lines that follow those with `BEGIN`.
async fn credentials(path: &Path) -> Result<(String, KeyPair), Lost> {
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|error| Lost::Credentials(format!("cannot be read: {error}")))?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut section = || {
        lines.find(|line| line.starts_with("---") && line.contains("BEGIN"))?;
        lines.next().map(str::to_owned)
    };
    let (Some(jwt), Some(seed)) = (section(), section()) else {
        return Err(Lost::Credentials("holds no JWT and seed".to_owned()));
    };
    let key = KeyPair::from_seed(&seed);
    Ok((jwt, key.map_err(|error| Lost::Credentials(format!("holds no seed: {error}")))?))
}

/// What the server says before it is asked for messages.
enum Answer {
    Info(Box<ServerInfo>),
    Ping,
    Pong,
    Refused(String),
    Other,
}

async fn next(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<Answer, Lost> {
    loop {
        if let Some((op, length)) = wire::parse(buffer, 0)? {
            let answer = match op {
                Op::Info(json) => Answer::Info(Box::new(info(json)?)),
                Op::Ping => Answer::Ping,
                Op::Pong => Answer::Pong,
                Op::Refusal(words) => Answer::Refused(words),
                Op::Ok | Op::Message(_) => Answer::Other,
            };
            buffer.drain(..length);
            return Ok(answer);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(Lost::Closed);
        }
    }
}

/// What the server says of itself.
pub(super) fn info(json: &[u8]) -> Result<ServerInfo, Lost> {
    serde_json::from_slice(json).map_err(|error| io::Error::from(error).into())
}

#[cfg(test)]
mod tests;

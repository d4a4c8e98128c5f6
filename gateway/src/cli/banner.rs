//! What `fanfare dev` says at its start.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use serde_json::{Map, json};

use crate::{auth::mint, config::Config};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The notice of insecurity, a token and an API key, and the lines to copy for a first message to
/// a gateway that listens on `bound`.
pub(crate) fn dev_banner(config: &Config, bound: SocketAddr) -> String {
    let claims = Map::from_iter([
        ("sub".to_owned(), json!("dev")),
        ("name".to_owned(), json!("made by fanfare dev")),
    ]);
    let key = config.auth.keys.iter().find(|key| key.algorithm.is_symmetric());
    let token = key.and_then(|key| mint::mint(key, claims, DAY).ok());
    let token = token.as_ref().map_or("(no secret is configured)", |token| token.reveal());
    let api_key = config.dev.as_ref().map_or("(none)", |dev| dev.api_key.reveal());
    let at = reachable(bound);
    let (ws, http) = if config.http.tls().is_some() { ("wss", "https") } else { ("ws", "http") };
    let path = config.http.paths.first().map_or("/", String::as_str);
    let program = std::env::args().next().unwrap_or_else(|| "fanfare".to_owned());
    let exposed = if bound.ip().is_loopback() {
        ""
    } else {
        "\n  !! It listens to other machines too. Whoever reaches it can read what is printed here."
    };
    format!(
        "
  !! FANFARE DEV IS INSECURE: every token may do everything, on every channel, from every
  !! web page. Token and API key are new at each start. Use `fanfare serve` for anything else.{exposed}

  Open       {http}://{at}/#token={token}
  WebSocket  {ws}://{at}{path}
  API key    {api_key}
  Token      (user dev, 24 hours)
  {token}

  Subscribe in another terminal:

    FANFARE_TOKEN={token} \\
      {program} sub demo:hello --server {ws}://{at}{path}

  (with `--rewind 10m`, also what was said before: `demo` has history) and publish a first message
  from a third one:

    curl {http}://{at}/v1/publish -H 'Authorization: Bearer {api_key}' \\
      -H 'Content-Type: application/json' -d '{{\"channel\":\"demo:hello\",\"data\":{{\"text\":\"Hello!\"}}}}'
"
    )
}

/// An address to connect to: `0.0.0.0` is none everywhere.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

//! Opening a connection: the socket and the handshake's text.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use broker_protocol::ws::handshake::accept_key;
use mio::net::TcpStream;
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

/// Where to connect.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// The host and port as they go into the handshake.
    pub(crate) host: String,
    pub(crate) path: String,
    /// Which of the fleet's protocols is spoken there.
    pub(crate) target: usize,
}

/// The nonce only proves that the server speaks WebSocket, so one will do.
const KEY: &str = "bG9hZHRlc3QgbG9hZHRlcw==";

/// A header line of the handshake, as browsers send it.
pub(super) const DEFLATE_OFFER: &str =
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// A longer head is no answer to a handshake.
const MAX_HEAD: usize = 16 * 1024;

/// Begins to connect; the socket is writable when that is done or has failed.
pub(super) fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
            return Err(error);
        }
        _ => {}
    }
    let stream = TcpStream::from_std(socket.into());
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The `index`th of `count` loopback addresses in turn; none if there is one, so that the system chooses.
pub(super) fn source(index: usize, count: u32) -> Option<IpAddr> {
    let turn = (index as u64 % u64::from(count.max(1))) as u32;
    (count > 1).then(|| Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + turn).into())
}

pub(super) fn request(host: &str, path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
    )
}

/// What the server's answer to the handshake says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Not all of its head is there.
    Incomplete,
    /// The upgrade is done.
    Upgraded {
        /// Bytes of the head; frames follow.
        head: usize,
        /// What was agreed upon compression.
        extensions: String,
    },
    /// It is not.
    Refused(String),
}

pub(super) fn answer(bytes: &[u8]) -> Answer {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        if bytes.len() > MAX_HEAD {
            return Answer::Refused("the answer to the handshake has no end".to_owned());
        }
        return Answer::Incomplete;
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        return Answer::Refused(format!("the handshake was answered by `{status}`"));
    }
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let header = |wanted: &str| {
        headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, it)| it.trim())
    };
    if header("sec-websocket-accept") != Some(&accept_key(KEY.as_bytes())) {
        return Answer::Refused("the handshake's Sec-WebSocket-Accept is wrong".to_owned());
    }
    let extensions = header("sec-websocket-extensions").unwrap_or_default().to_owned();
    Answer::Upgraded { head: end + 4, extensions }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: &str, accept: &str) -> String {
        format!("HTTP/1.1 {status}\r\nUpgrade: websocket\r\nsec-websocket-accept:{accept}\r\n\r\n")
    }

    #[test]
    fn a_good_answer_upgrades_and_frames_follow() {
        let good = head("101 Switching Protocols", &accept_key(KEY.as_bytes()));
        let bytes = [good.as_bytes(), b"\x81\x00"].concat();
        assert_eq!(
            answer(&bytes),
            Answer::Upgraded { head: good.len(), extensions: String::new() }
        );
        assert_eq!(answer(&bytes[..good.len() - 1]), Answer::Incomplete);
    }

    #[test]
    fn other_answers_are_refused() {
        let accept = accept_key(KEY.as_bytes());
        for bytes in [
            head("503 Service Unavailable", &accept),
            head("101 Switching Protocols", "nonsense"),
            "x".repeat(MAX_HEAD + 1),
        ] {
            assert!(matches!(answer(bytes.as_bytes()), Answer::Refused(_)), "{bytes}");
        }
    }

    #[test]
    fn sources_take_turns() {
        assert_eq!(source(5, 1), None);
        let turns = [0, 1, 2].map(|index| source(index, 2).unwrap().to_string());
        assert_eq!(turns, ["127.0.0.1", "127.0.0.2", "127.0.0.1"]);
    }
}

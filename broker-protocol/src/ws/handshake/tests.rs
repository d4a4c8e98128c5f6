use super::*;

type Headers = Vec<(&'static str, &'static [u8])>;

/// The request of RFC 6455 §1.2.
fn request() -> Headers {
    vec![
        ("Host", b"server.example.com"),
        ("Upgrade", b"websocket"),
        ("Connection", b"Upgrade"),
        ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        ("Origin", b"http://example.com"),
        ("Sec-WebSocket-Version", b"13"),
    ]
}

fn with(name: &'static str, value: &'static [u8]) -> Headers {
    let mut headers = without(name);
    headers.push((name, value));
    headers
}

fn without(name: &str) -> Headers {
    request().into_iter().filter(|(other, _)| *other != name).collect()
}

fn repeated(name: &'static str, value: &'static [u8]) -> Headers {
    let mut headers = request();
    headers.push((name, value));
    headers
}

fn get(headers: Headers) -> Result<String, HandshakeError> {
    accept_upgrade("GET", (1, 1), headers)
}

#[test]
fn the_rfcs_request_gets_the_rfcs_answer() {
    assert_eq!(get(request()).as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[test]
fn spelling_that_clients_use_is_accepted() {
    let accepted = [
        with("Connection", b"keep-alive, Upgrade"),
        with("Upgrade", b"WebSocket"),
        with("Upgrade", b"h2c,websocket"),
        with("Sec-WebSocket-Key", b" AQIDBAUGBwgJCgsMDQ4PEC== "),
        repeated("connection", b"keep-alive"),
        request()
            .into_iter()
            .map(|(name, value)| (&*name.to_ascii_lowercase().leak(), value))
            .collect(),
    ];
    for headers in accepted {
        assert!(get(headers.clone()).is_ok(), "{headers:?}");
    }
}

#[test]
fn every_requirement_is_checked() {
    let refused = [
        (without("Host"), HandshakeError::Host),
        (without("Upgrade"), HandshakeError::Upgrade),
        (with("Upgrade", b"websockets"), HandshakeError::Upgrade),
        (without("Connection"), HandshakeError::Connection),
        (with("Connection", b"keep-alive"), HandshakeError::Connection),
        (without("Sec-WebSocket-Version"), HandshakeError::Version),
        (with("Sec-WebSocket-Version", b"8"), HandshakeError::Version),
        (repeated("Sec-WebSocket-Version", b"13"), HandshakeError::Version),
        (without("Sec-WebSocket-Key"), HandshakeError::Key),
        (repeated("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="), HandshakeError::Key),
        (with("Sec-WebSocket-Key", b""), HandshakeError::Key),
        (with("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25j"), HandshakeError::Key),
        (with("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQAA"), HandshakeError::Key),
        (with("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=!"), HandshakeError::Key),
        (with("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ"), HandshakeError::Key),
    ];
    for (headers, error) in refused {
        assert_eq!(get(headers.clone()), Err(error), "{headers:?}");
    }
    assert_eq!(accept_upgrade("POST", (1, 1), request()), Err(HandshakeError::Method));
    assert_eq!(accept_upgrade("GET", (1, 0), request()), Err(HandshakeError::HttpVersion));
}

#[test]
fn a_foreign_version_is_told_ours() {
    assert_eq!(HandshakeError::Version.status(), 426);
    assert_eq!(HandshakeError::Version.header(), Some(("sec-websocket-version", "13")));
    assert_eq!((HandshakeError::Key.status(), HandshakeError::Key.header()), (400, None));
    assert_eq!(
        (HandshakeError::Method.status(), HandshakeError::Method.header()),
        (405, Some(("allow", "GET")))
    );
}

#[test]
fn protocol_offers_keep_their_order() {
    assert_eq!(
        protocols("fanfare.v1, chat ,, bad name,x").collect::<Vec<_>>(),
        ["fanfare.v1", "chat", "x"]
    );
    assert_eq!(protocols("").count(), 0);
}

//! `[http]`

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use axum::http::uri::Authority;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::{
    problems::Checks,
    text::{self, Text},
};

/// Listeners, and what they accept from strangers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Http {
    /// Addresses of the public listeners: WebSocket, and the HTTP API where `public_api` says so.
    /// In a container, `["0.0.0.0:8080"]`. The environment variable `WEBSOCKET_PORT` replaces the
    /// ports.
    #[serde(with = "text::addresses")]
    #[schemars(with = "Vec<String>")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Address of the operators' listener: health, metrics and the HTTP API. Never expose it to
    /// the internet.
    #[serde(with = "text::address")]
    #[schemars(with = "String")]
    pub(crate) admin_listen: SocketAddr,
    /// Address on which the other gateways of a cluster hand over requests that belong to Socket.IO
    /// sessions of this one; it takes nothing from anybody else. Without it, a free port of the
    /// address by which this host reaches NATS. Name a port where a firewall stands between
    /// gateways, such as `"0.0.0.0:7400"`. Not used without NATS.
    #[serde(with = "text::optional_address")]
    #[schemars(with = "Option<String>")]
    pub(crate) internal_listen: Option<SocketAddr>,
    /// How other gateways reach `internal_listen`, as `host:port`. Without it, the address that is
    /// listened on; for `0.0.0.0` and `[::]`, the one by which this host reaches NATS. Needed where
    /// others know this host by another address, or where NATS is reached on `127.0.0.1` and
    /// other gateways are not on this host.
    #[schemars(with = "Option<String>")]
    pub(crate) internal_advertise: Option<Text<HostPort>>,
    /// How clients reach the public listeners, such as `"https://push.example.com"`: for profiles
    /// whose answers name the URL to connect to (`ws_url`). Without it, the host that the request
    /// for it was sent to counts, and whether the listeners speak TLS: so name it where a proxy
    /// ends TLS, and where services reach the gateway by another name.
    #[schemars(with = "Option<String>", extend("x-reloadable" = true))]
    pub(crate) public_url: Option<Text<WebUrl>>,
    /// Paths of the public listeners on which the native WebSocket protocol is spoken.
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) paths: Vec<String>,
    /// Web origins whose pages may connect, each as `scheme://host` or `scheme://host:port`,
    /// compared exactly. Empty: only pages of the same host as the gateway. `"*"`: all of them;
    /// then only the token protects users. Clients that are no browsers send no origin and are
    /// not affected. Also: environment variable `ALLOWED_ORIGINS`, with commas.
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) allowed_origins: AllowedOrigins,
    /// Whether the token may also come in the URL, as `?token=`. URLs end up in the logs of
    /// proxies: leave it off where clients can send `connect`, a header or a subprotocol.
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) query_token: bool,
    /// Whether the HTTP API `/v1` is also served on the public listeners. It needs an API key or
    /// an authorised token there too. What clients without WebSocket use, such as `/v1/sse`, is
    /// served in any case.
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) public_api: bool,
    /// Longest time from the opening of a TCP connection to the end of its request headers.
    #[serde(with = "text::duration")]
    #[schemars(with = "String")]
    pub(crate) header_timeout: Duration,
    /// Largest request line and headers, together, in bytes; at least 8 KiB.
    #[serde(with = "text::size")]
    #[schemars(with = "String")]
    pub(crate) max_header_bytes: usize,
    /// Most connections at once; further ones are answered with 503. 0: as many as the limit of
    /// open files allows.
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) max_connections: usize,
    /// PEM file with the certificate chain of the public listeners. Give both it and `tls_key`,
    /// or neither: then the listeners speak plain HTTP, for a proxy in front that ends TLS.
    /// From the one to the other needs a restart.
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) tls_cert: Option<PathBuf>,
    /// PEM file with the private key that belongs to `tls_cert`.
    #[schemars(extend("x-reloadable" = true))]
    pub(crate) tls_key: Option<PathBuf>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))],
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
            internal_listen: None,
            internal_advertise: None,
            public_url: None,
            paths: vec!["/ws".to_owned(), "/".to_owned()],
            allowed_origins: AllowedOrigins::default(),
            query_token: false,
            public_api: true,
            header_timeout: Duration::from_secs(5),
            max_header_bytes: 16 << 10,
            max_connections: 0,
            tls_cert: None,
            tls_key: None,
        }
    }
}

impl Http {
    /// Certificate chain and private key, where the public listeners speak TLS.
    #[must_use]
    pub(crate) fn tls(&self) -> Option<(&Path, &Path)> {
        self.tls_cert.as_deref().zip(self.tls_key.as_deref())
    }

    pub(in crate::config) fn check(&self, checks: &mut Checks<'_>) {
        if self.listen.is_empty() {
            checks.fail("http.listen", "give at least one address, such as \"0.0.0.0:8080\"");
        }
        for (index, path) in self.paths.iter().enumerate() {
            if !text::is_path(path) {
                checks.fail(&format!("http.paths[{index}]"), text::WANTED_PATH);
            }
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            let given = if self.tls_cert.is_some() { "http.tls_cert" } else { "http.tls_key" };
            checks.fail(given, "give both `tls_cert` and `tls_key`, or neither");
        }
        if self.max_header_bytes < 8 << 10 {
            checks.fail("http.max_header_bytes", "write at least \"8KiB\"");
        }
        checks.positive("http.header_timeout", self.header_timeout);
    }
}

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort(Authority);

/// Why a text is not a host and a port.
#[derive(Debug, thiserror::Error)]
#[error("write host:port, such as \"10.1.2.3:7400\" or \"gateway-0.gateways:7400\"")]
pub(crate) struct HostPortError;

impl HostPort {
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl std::str::FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let authority: Authority = text.parse().map_err(|_| HostPortError)?;
        let names_port = authority.port_u16().is_some_and(|port| port != 0);
        if names_port && !authority.host().is_empty() && !text.contains('@') {
            Ok(Self(authority))
        } else {
            Err(HostPortError)
        }
    }
}

/// The URL of a web server, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebUrl(String);

/// Why a text is not such a URL.
#[derive(Debug, thiserror::Error)]
#[error("write http:// or https:// and a host, such as \"https://push.example.com\"")]
pub(crate) struct WebUrlError;

impl WebUrl {
    /// The same for WebSockets.
    pub(crate) fn websocket(&self) -> String {
        self.0.replacen("http", "ws", 1)
    }
}

impl std::str::FromStr for WebUrl {
    type Err = WebUrlError;

    fn from_str(text: &str) -> Result<Self, WebUrlError> {
        let url = Url::parse(text).map_err(|_| WebUrlError)?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if matches!(url.scheme(), "http" | "https") && plain {
            Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
        } else {
            Err(WebUrlError)
        }
    }
}

/// The web origins whose pages may connect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
#[schemars(with = "Vec<String>", inline)]
pub(crate) enum AllowedOrigins {
    /// Those of the host that the request itself names.
    #[default]
    SameHost,
    /// Every one.
    All,
    /// These.
    Only(Vec<String>),
}

impl AllowedOrigins {
    /// Whether a request with this `Origin` header, sent to this host (`Host`, or `:authority`),
    /// may come in. A request without `Origin` comes from no browser and is allowed.
    #[must_use]
    pub(crate) fn allow(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        match self {
            Self::All => true,
            Self::Only(origins) => origins.iter().any(|known| known.eq_ignore_ascii_case(origin)),
            Self::SameHost => match (origin.split_once("://"), host) {
                (Some(("http" | "https", authority)), Some(host)) => {
                    authority.eq_ignore_ascii_case(host)
                }
                _ => false,
            },
        }
    }
}

/// Why a text is not an origin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OriginError {
    /// It is more or less than scheme, host and port.
    #[error(
        "`{0}` is not an origin: write scheme://host or scheme://host:port, without path and without final slash"
    )]
    Form(String),
    /// `*` and others.
    #[error("`*` allows every origin: write it alone, or leave it out")]
    AllAndOthers,
}

impl TryFrom<Vec<String>> for AllowedOrigins {
    type Error = OriginError;

    fn try_from(origins: Vec<String>) -> Result<Self, OriginError> {
        if origins.is_empty() {
            return Ok(Self::SameHost);
        }
        if origins.iter().any(|origin| origin == "*") {
            return if origins.len() == 1 { Ok(Self::All) } else { Err(OriginError::AllAndOthers) };
        }
        match origins.iter().find(|origin| !is_origin(origin)) {
            Some(bad) => Err(OriginError::Form(bad.clone())),
            None => Ok(Self::Only(origins)),
        }
    }
}

impl From<AllowedOrigins> for Vec<String> {
    fn from(origins: AllowedOrigins) -> Self {
        match origins {
            AllowedOrigins::SameHost => Self::new(),
            AllowedOrigins::All => vec!["*".to_owned()],
            AllowedOrigins::Only(origins) => origins,
        }
    }
}

/// `null` is what sandboxed pages send; whoever trusts those writes it.
fn is_origin(text: &str) -> bool {
    text == "null"
        || text.split_once("://").is_some_and(|(scheme, authority)| {
            !scheme.is_empty()
                && !authority.is_empty()
                && !authority.contains(['/', '?', '#', '@', '*', ' '])
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(list: &[&str]) -> Result<AllowedOrigins, OriginError> {
        list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>().try_into()
    }

    #[test]
    fn only_the_very_origin_is_allowed() {
        let listed = origins(&["https://app.example", "https://other.example:8443"]).unwrap();
        for (origin, allowed) in [
            (Some("https://app.example"), true),
            (Some("HTTPS://APP.example"), true),
            (Some("https://other.example:8443"), true),
            (None, true),
            (Some("http://app.example"), false),
            (Some("https://app.example:8443"), false),
            (Some("https://app.example.evil.net"), false),
            (Some("https://evil-app.example"), false),
            (Some("null"), false),
            (Some(""), false),
        ] {
            assert_eq!(listed.allow(origin, Some("app.example")), allowed, "{origin:?}");
        }
    }

    #[test]
    fn without_a_list_only_pages_of_the_same_host_may_connect() {
        let same = AllowedOrigins::SameHost;
        assert!(same.allow(Some("http://localhost:8080"), Some("localhost:8080")));
        assert!(same.allow(Some("https://Gate.example"), Some("gate.example")));
        for (origin, host) in [
            ("http://localhost:3000", Some("localhost:8080")),
            ("http://localhost", Some("localhost:8080")),
            ("null", Some("null")),
            ("file://", Some("")),
            ("http://gate.example", None),
        ] {
            assert!(!same.allow(Some(origin), host), "{origin}");
        }
    }

    #[test]
    fn gateways_are_reached_by_host_and_port() {
        for good in ["10.1.2.3:7400", "[2001:db8::1]:7400", "gateway-0.gateways:7400"] {
            assert_eq!(good.parse::<HostPort>().unwrap().as_str(), good);
        }
        for bad in ["", "10.1.2.3", ":7400", "a:0", "a:b", "u@a:7400", "http://a:7400", "a:7400/x"]
        {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_public_url_has_no_more_than_a_host_and_a_path() {
        for (good, websocket) in [
            ("https://Push.example.com/", "wss://push.example.com"),
            ("http://localhost:8080", "ws://localhost:8080"),
            ("https://example.com/http/push/", "wss://example.com/http/push"),
        ] {
            assert_eq!(good.parse::<WebUrl>().unwrap().websocket(), websocket);
        }
        for bad in ["", "push.example.com", "wss://a", "https://", "https://u@a", "https://a/?b"] {
            assert!(bad.parse::<WebUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_when_it_is_configured() {
        assert_eq!(origins(&["*"]).unwrap(), AllowedOrigins::All);
        assert_eq!(origins(&["null"]).unwrap(), AllowedOrigins::Only(vec!["null".to_owned()]));
        for bad in ["app.example", "https://", "https://a/", "https://*.a", "https://u@a", ""] {
            assert!(origins(&[bad]).is_err(), "{bad}");
        }
        assert!(origins(&["*", "https://a"]).is_err());
    }
}

//! Where clients reach this gateway, for those who tell them.

use axum::http::{HeaderMap, Uri, header};

use crate::config::{Http, WebUrl};

/// Where clients reach this gateway.
#[derive(Debug, Clone)]
pub(crate) struct PublicUrl {
    configured: Option<WebUrl>,
    /// Whether the public listeners speak TLS.
    tls: bool,
}

impl PublicUrl {
    pub(crate) fn new(http: &Http) -> Self {
        let configured = http.public_url.as_ref().map(|url| url.value.clone());
        Self { configured, tls: http.tls().is_some() }
    }

    /// What stands before the paths of WebSockets. Where nothing is configured, whoever sent this
    /// request has reached the gateway by a name, and so may others; `None`: it names none.
    pub(crate) fn websocket(&self, headers: &HeaderMap, uri: &Uri) -> Option<String> {
        if let Some(url) = &self.configured {
            return Some(url.websocket());
        }
        let host = uri.authority().map(|authority| authority.as_str());
        let host = host.or_else(|| headers.get(header::HOST)?.to_str().ok())?;
        Some(format!("{}://{host}", if self.tls { "wss" } else { "ws" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_counts_before_what_was_asked() {
        let mut headers = HeaderMap::new();
        let (plain, absolute) = (Uri::from_static("/a"), Uri::from_static("https://b:1/a"));
        let url = |configured: Option<&str>, tls| PublicUrl {
            configured: configured.map(|url| url.parse().unwrap()),
            tls,
        };
        assert_eq!(url(None, false).websocket(&headers, &plain), None);
        headers.insert(header::HOST, "a:8080".parse().unwrap());
        assert_eq!(url(None, false).websocket(&headers, &plain).unwrap(), "ws://a:8080");
        assert_eq!(url(None, true).websocket(&headers, &plain).unwrap(), "wss://a:8080");
        assert_eq!(url(None, true).websocket(&headers, &absolute).unwrap(), "wss://b:1");
        let configured = url(Some("https://push.example/live"), false);
        assert_eq!(configured.websocket(&headers, &plain).unwrap(), "wss://push.example/live");
    }
}

//! What a webhook's answer means.

use broker_core::{Data, JsonText, ports::RequestError};
use broker_protocol::json::{self, MAX_DEPTH};
use bytes::Bytes;
use reqwest::{StatusCode, header::HeaderMap};
use serde::Deserialize;

/// Characters of a service's own words that are passed on.
const MAX_WORDS: usize = 500;
const BYTES: &str = "application/octet-stream";

/// An answer that has come whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A refusal in the service's words.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    code: Option<u32>,
}

impl Answer {
    /// The reply, or why there is none. What a status says of whether something was done is taken
    /// from RFC 9110, and of a gateway in between.
    pub(super) fn read(self) -> Result<Data, RequestError> {
        let refusal = || serde_json::from_slice::<Refusal>(&self.body).ok();
        match self.status {
            status if status.is_success() => self.data(),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Err(RequestError::Overloaded)
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Err(RequestError::Timeout),
            StatusCode::BAD_GATEWAY => Err(RequestError::Lost),
            status => match refusal() {
                Some(Refusal { error, code }) => {
                    let message = error.chars().take(MAX_WORDS).collect();
                    let code = code.unwrap_or_else(|| status.as_u16().into());
                    Err(RequestError::Refused { code: Some(code), message })
                }
                None if status == StatusCode::NOT_FOUND => Err(RequestError::NoService),
                None => Err(refused(format!("the service answered with status {status}"))),
            },
        }
    }

    fn data(self) -> Result<Data, RequestError> {
        let kind = self.headers.get(reqwest::header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(BYTES.as_bytes())) {
            return Ok(Data::Binary(self.body));
        }
        if self.body.is_empty() {
            return Ok(Data::Json(JsonText::from_checked(Bytes::from_static(b"null"))));
        }
        json::checked(self.body).map(Data::Json).ok_or_else(|| {
            refused(format!(
                "the service's answer is no JSON, or nests deeper than {MAX_DEPTH} levels"
            ))
        })
    }
}

/// In the gateway's words: nobody can say more of what the service did.
pub(super) fn refused(message: String) -> RequestError {
    RequestError::Refused { code: None, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, kind: &'static str, body: &'static str) -> Result<Data, RequestError> {
        let mut headers = HeaderMap::new();
        headers.insert(reqwest::header::CONTENT_TYPE, kind.parse().unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers, body: Bytes::from_static(body.as_bytes()) }.read()
    }

    #[test]
    fn a_reply_is_json_or_bytes() {
        let json = |text: &'static str| Ok(Data::Json(JsonText::from_checked(text.into())));
        assert_eq!(read(200, "application/json", " {\"a\":1} "), json("{\"a\":1}"));
        assert_eq!(read(201, "text/plain", "[1.50]"), json("[1.50]"));
        assert_eq!(read(204, "text/plain", ""), json("null"));
        assert_eq!(read(200, BYTES, "\x01"), Ok(Data::Binary("\x01".into())));
        assert_eq!(read(200, BYTES, ""), Ok(Data::Binary(Bytes::new())));
        let page = read(200, "text/html", "<h1>Hello</h1>");
        assert!(matches!(page, Err(RequestError::Refused { code: None, .. })), "{page:?}");
    }

    #[test]
    fn what_is_no_success_says_why() {
        let kind = "application/json";
        let refused = |status, body| match read(status, kind, body) {
            Err(RequestError::Refused { code, message }) => (code, message),
            other => panic!("{other:?}"),
        };
        let words = "{\"error\":\"sold out\",\"code\":7,\"more\":[]}";
        assert_eq!(refused(409, words), (Some(7), "sold out".to_owned()));
        assert_eq!(refused(404, "{\"error\":\"gone\"}"), (Some(404), "gone".to_owned()));
        assert_eq!(
            refused(500, "oh no").1,
            "the service answered with status 500 Internal Server Error"
        );
        assert_eq!(refused(302, "").1, "the service answered with status 302 Found");
        assert_eq!(read(404, kind, "{\"message\":\"no route\"}"), Err(RequestError::NoService));
        for (status, expected) in [
            (429, RequestError::Overloaded),
            (503, RequestError::Overloaded),
            (408, RequestError::Timeout),
            (504, RequestError::Timeout),
            (502, RequestError::Lost),
        ] {
            assert_eq!(read(status, kind, words), Err(expected));
        }
    }
}

//! Why a request was refused: the one map from code to HTTP status, and its two forms, RFC 9457
//! problems over HTTP and error objects over NATS and in batches.

use std::borrow::Cow;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use broker_core::{ErrorCode, MessageId, code::Retry, session::Failure};
use serde::Serialize;
use utoipa::ToSchema;

/// Why an operation was not done, or is not known to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// Stable, for programs.
    pub(crate) code: &'static str,
    /// What was wrong and what to do, for people.
    pub(crate) text: Cow<'static, str>,
    pub(crate) retry: Retry,
    /// The message that it is about, to retry with the same id.
    message: Option<MessageId>,
    header: Option<(header::HeaderName, &'static str)>,
}

impl Problem {
    pub(crate) fn new(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: status_of(code),
            code: code.as_str(),
            text: text.into(),
            retry: code.retry(),
            message: None,
            header: None,
        }
    }

    pub(crate) fn bad_request(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadRequest, text)
    }

    /// An error that only HTTP knows.
    pub(crate) fn http(
        status: StatusCode,
        code: &'static str,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, ..Self::bad_request(text) }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with_header(mut self, name: header::HeaderName, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    /// The same, although its code usually says otherwise, may succeed later.
    pub(crate) fn retryable(mut self) -> Self {
        self.retry = Retry::Later;
        self
    }

    pub(crate) fn body(&self) -> ErrorBody<'_> {
        ErrorBody { code: self.code, text: &self.text, retry: self.retry.into() }
    }

    pub(crate) fn message(&self) -> Option<&str> {
        self.message.as_ref().map(MessageId::as_str)
    }
}

impl<T: Into<Failure>> From<T> for Problem {
    fn from(failure: T) -> Self {
        let Failure { code, text, message } = failure.into();
        Self { message, ..Self::new(code, text) }
    }
}

/// Whether the same request can succeed.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Retry)]
enum RetryBody {
    /// Not until something has changed.
    No,
    /// Later: nothing was done.
    Later,
    /// It may or may not have been done: repeat it, with the same message id.
    Unknown,
}

impl From<Retry> for RetryBody {
    fn from(retry: Retry) -> Self {
        match retry {
            Retry::No => Self::No,
            Retry::Later => Self::Later,
            Retry::Unknown => Self::Unknown,
        }
    }
}

/// An error in a batch's results, and in answers over NATS.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody<'a> {
    /// Stable, for programs.
    #[schema(example = "unknown_namespace")]
    code: &'a str,
    /// What was wrong and what to do, for people.
    text: &'a str,
    retry: RetryBody,
}

/// An error, as RFC 9457 has it, with the members `code`, `retry` and, for a publish, `id`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// `urn:fanfare:problem:` and the code.
    #[schema(example = "urn:fanfare:problem:unknown_namespace")]
    r#type: String,
    /// The status in words.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What was wrong and what to do, for people.
    detail: &'a str,
    /// Stable, for programs.
    #[schema(example = "unknown_namespace")]
    code: &'a str,
    retry: RetryBody,
    /// Of the message that was not published, or perhaps was: to retry with.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let problem = ProblemBody {
            r#type: format!("urn:fanfare:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.text,
            code: self.code,
            retry: self.retry.into(),
            id: self.message(),
        };
        let body = serde_json::to_vec(&problem).expect("text and numbers have a JSON form");
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if self.retry == Retry::Later {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// 400: not of its form. 422: of its form, but it cannot be done. 503: nothing was done. 504: it
/// may have been done.
const fn status_of(code: ErrorCode) -> StatusCode {
    use ErrorCode as Code;
    match code {
        Code::BadRequest | Code::InvalidName => StatusCode::BAD_REQUEST,
        Code::Unauthorized | Code::TokenExpired | Code::SessionLost => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound | Code::UnknownCommand => StatusCode::NOT_FOUND,
        Code::NotConnected
        | Code::AlreadyConnected
        | Code::AlreadySubscribed
        | Code::NotSubscribed
        | Code::TooManySubscriptions
        | Code::PublishBlocked
        | Code::Conflict => StatusCode::CONFLICT,
        Code::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnknownNamespace
        | Code::NoHistory
        | Code::NoQueue
        | Code::SnapshotTooLarge
        | Code::Unanswerable
        | Code::ServiceRefused => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Overloaded | Code::StoreFull | Code::Unavailable | Code::NoService => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::Unknown | Code::ServiceTimeout | Code::ClientTimeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_error_status_that_fits_its_retry_class() {
        for code in ErrorCode::ALL {
            let status = status_of(*code);
            let expected = match code.retry() {
                Retry::No => status.is_client_error(),
                Retry::Later => status.is_server_error(),
                Retry::Unknown => status == StatusCode::GATEWAY_TIMEOUT,
            };
            assert!(expected, "{code}: {status}");
        }
    }
}

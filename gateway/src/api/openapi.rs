//! The OpenAPI document, and the page that shows it.

use axum::{
    body::Bytes,
    http::{HeaderValue, header},
    response::{Html, IntoResponse, Response},
};
use utoipa::{
    IntoResponses, Modify, OpenApi,
    openapi::{
        Components,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::problem::ProblemBody;

/// Everything but the operations.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fanfare",
        description = "What services and operators ask of Fanfare, a realtime message broker.\n\n\
            Errors are RFC 9457 problems. Decide by `code`, which is stable, and by `retry`. \
            Every operation is also served over NATS, as a request to `fanfare.api.<operation>`.",
    ),
    tags(
        (name = "messages", description = "Publishing is for services, with an API key of scope `publish`; \
            reading for operators, with one of scope `admin`, and for clients, with a token."),
        (name = "cluster", description = "For operators, with an API key of scope `admin`, but for tickets. Answers are \
            about the whole cluster; where a part of it could not be asked, `partial` says so."),
    ),
    security(("bearer" = []), ("api_key" = [])),
    components(schemas(ProblemBody<'static>)),
    modifiers(&Schemes),
)]
struct Base;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Components::new);
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
        components.add_security_scheme("api_key", header);
    }
}

pub(super) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

/// What can go wrong with a publish.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum PublishErrors<'a> {
    /// The request, or its only message, is not of its form (`bad_request`, `invalid_name`).
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(ProblemBody<'a>),
    /// No API key, or an unknown one (`unauthorized`).
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(ProblemBody<'a>),
    /// The API key lacks the scope (`forbidden`).
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(ProblemBody<'a>),
    /// The body took longer than 30 s to come (`request_timeout`).
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(ProblemBody<'a>),
    /// A request with this idempotency key is under way (`conflict`): repeat this one later.
    #[response(status = 409, content_type = "application/problem+json")]
    UnderWay(ProblemBody<'a>),
    /// The body, or its only message, is too large (`message_too_large`).
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemBody<'a>),
    /// The body is not declared as JSON (`unsupported_media_type`).
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(ProblemBody<'a>),
    /// The namespace is not declared (`unknown_namespace`), or the idempotency key was used for
    /// another body (`conflict`).
    #[response(status = 422, content_type = "application/problem+json")]
    Refused(ProblemBody<'a>),
    /// The bus or, with an idempotency key, the store is away or overloaded (`unavailable`,
    /// `overloaded`), or the log has no room (`store_full`): nothing was done.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemBody<'a>),
    /// The bus went away before it confirmed (`unknown`): repeat the request with the `id` that
    /// the problem names.
    #[response(status = 504, content_type = "application/problem+json")]
    Unknown(ProblemBody<'a>),
}

/// What can go wrong with reading a channel's past.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum HistoryErrors<'a> {
    /// The request is not of its form (`bad_request`, `invalid_name`).
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(ProblemBody<'a>),
    /// No token or API key, or one that is not good (`unauthorized`, `token_expired`).
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(ProblemBody<'a>),
    /// The token does not allow to subscribe to the channel, or the API key lacks the scope
    /// (`forbidden`).
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(ProblemBody<'a>),
    /// The namespace is not declared (`unknown_namespace`), or keeps nothing (`no_history`).
    #[response(status = 422, content_type = "application/problem+json")]
    NothingKept(ProblemBody<'a>),
    /// The log is away (`unavailable`), or too many read logs (`overloaded`).
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemBody<'a>),
}

/// What can go wrong with reading a snapshot.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum SnapshotErrors<'a> {
    /// The request is not of its form (`bad_request`, `invalid_name`).
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(ProblemBody<'a>),
    /// No token or API key, or one that is not good (`unauthorized`, `token_expired`).
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(ProblemBody<'a>),
    /// The token does not allow to subscribe to the pattern, or the API key lacks the scope
    /// (`forbidden`).
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(ProblemBody<'a>),
    /// The namespace is not declared (`unknown_namespace`) or not retained (`no_history`), or has
    /// more than a gateway retains (`snapshot_too_large`).
    #[response(status = 422, content_type = "application/problem+json")]
    NoSnapshot(ProblemBody<'a>),
    /// The log is away (`unavailable`).
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemBody<'a>),
}

/// What can go wrong with making a ticket.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum TicketErrors<'a> {
    /// The request is not of its form (`bad_request`, `invalid_name`).
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(ProblemBody<'a>),
    /// No API key, or an unknown one (`unauthorized`).
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(ProblemBody<'a>),
    /// The API key lacks the scope (`forbidden`).
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(ProblemBody<'a>),
    /// The store is away, or has no room (`unavailable`).
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemBody<'a>),
}

/// What can go wrong with an operator's request.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum AdminErrors<'a> {
    /// The request is not of its form (`bad_request`, `invalid_name`).
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(ProblemBody<'a>),
    /// No API key, or an unknown one (`unauthorized`).
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(ProblemBody<'a>),
    /// The API key lacks the scope (`forbidden`).
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(ProblemBody<'a>),
    /// There is no such thing (`not_found`).
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemBody<'a>),
    /// The store is away (`unavailable`).
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemBody<'a>),
    /// Not every gateway answered, and the others know no such thing (`unknown`).
    #[response(status = 504, content_type = "application/problem+json")]
    Unknown(ProblemBody<'a>),
}

/// `/openapi.json`
pub(super) fn json(document: Bytes) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], document).into_response()
}

/// `/docs`: a page that needs nothing from elsewhere, and runs nothing that is not in it.
pub(super) async fn page() -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                  connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    let headers = [(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy))];
    (headers, Html(include_str!("docs.html"))).into_response()
}

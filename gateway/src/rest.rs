//! HTTP requests that profiles answer, at paths of the application's own.
//!
//! They do what routes below `/v1` do, with the same checks; only the form is the profile's. Those
//! that clients may ask are for pages, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{
    Router,
    body::HttpBody as _,
    extract::{
        DefaultBodyLimit, FromRequest as _, Query, RawPathParams, Request, State,
        rejection::RawPathParamsRejection,
    },
    http::{HeaderMap, HeaderValue, header},
    middleware,
    response::{IntoResponse as _, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use broker_core::{Data, Identity, JsonText};
use broker_protocol::json::{self, MAX_DEPTH};
use tracing::Instrument as _;

use crate::{
    api::{self, Asked, Asker, Payload},
    clock,
    connection::Admission,
    cors,
    problem::Problem,
    profile::{Action, Caller, Context, Profile, Read, Rest, RestRequest},
};

/// Characters of a reason that the log shows.
const SHOWN: usize = 200;

/// A path has two meanings.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} has two meanings: the gateway itself answers there, or two profiles do")]
pub(crate) struct Taken(pub(crate) String);

/// What serves one kind of request.
#[derive(Debug)]
struct Served {
    api: Arc<api::Deps>,
    rest: Arc<Rest>,
}

/// The routes of all profiles. `None`: they have none.
///
/// # Errors
/// One is at a path that is in `taken`, or is served by another profile too.
pub(crate) fn router(
    api: &Arc<api::Deps>,
    admission: &Arc<Admission>,
    profiles: &[Profile],
    taken: &BTreeSet<String>,
) -> Result<Option<Router>, Taken> {
    let routes = routes(profiles, taken)?;
    if routes.is_empty() {
        return Ok(None);
    }
    let methods = |methods: MethodRouter, rest: Arc<Rest>| {
        let filter = MethodFilter::try_from(rest.method.clone())
            .expect("profiles may use GET, POST, PUT and DELETE");
        let served = Served { api: Arc::clone(api), rest };
        methods.merge(on(filter, answer).with_state(Arc::new(served)))
    };
    let (for_pages, for_services): (Vec<_>, Vec<_>) =
        routes.into_iter().partition(|(_, rests)| rests.iter().any(|rest| is_for_pages(rest)));
    let router = |routes: Vec<(String, Vec<Arc<Rest>>)>| {
        let add = |router: Router, (route, rests): (String, Vec<Arc<Rest>>)| {
            router.route(&route, rests.into_iter().fold(MethodRouter::new(), methods))
        };
        routes.into_iter().fold(Router::new(), add).method_not_allowed_fallback(api::no_method)
    };
    let guard = middleware::from_fn_with_state(Arc::clone(admission), cors::guard);
    let router = router(for_pages)
        .layer(guard)
        .merge(router(for_services))
        .fallback(api::no_route)
        .layer(DefaultBodyLimit::max(api::body_bytes(&api.rules)));
    Ok(Some(router))
}

fn is_for_pages(rest: &Rest) -> bool {
    rest.caller == Caller::Client
}

/// What each route answers, each with another method.
fn routes(
    profiles: &[Profile],
    taken: &BTreeSet<String>,
) -> Result<BTreeMap<String, Vec<Arc<Rest>>>, Taken> {
    let mut routes = BTreeMap::<String, Vec<Arc<Rest>>>::new();
    for rest in profiles.iter().flat_map(|profile| &profile.rest) {
        let route = rest.route();
        let known = routes.entry(route.clone()).or_default();
        if taken.contains(&route) || known.iter().any(|other| other.method == rest.method) {
            return Err(Taken(format!("{} {}", rest.method, rest.path)));
        }
        known.push(Arc::clone(rest));
    }
    Ok(routes)
}

/// One span for each request.
async fn answer(
    State(served): State<Arc<Served>>,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let path = path.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let path: Vec<String> = path.iter().map(|(_, value)| value.to_owned()).collect();
    let Rest { method, path: route, .. } = &*served.rest;
    let span = tracing::info_span!("api", %method, route = %route);
    served.answer(path, request).instrument(span).await
}

impl Served {
    async fn answer(&self, path: Vec<String>, request: Request) -> Result<Response, Problem> {
        let asker = self.asker(request.headers()).await?;
        let query = Query::<Vec<(String, String)>>::try_from_uri(request.uri());
        let Query(query) =
            query.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
        let ws_url = self.api.public_url.websocket(request.headers(), request.uri());
        let trace = request.headers().get("traceparent").and_then(|text| text.to_str().ok());
        let asked = Asked { deps: &self.api, by: &asker, trace: trace.map(Into::into) };
        let body = body(request).await?;
        let nobody = Identity::default();
        let identity = match &asker {
            Asker::Client(identity) => identity,
            Asker::Service(_) => &nobody,
        };
        let context = Context { connection: "", identity, now: clock::wall(), handshake: None };
        let (body, ws_url) = (body.as_ref(), ws_url.as_deref());
        let request = RestRequest { path: &path, query: &query, body, ws_url };
        let reaction = self
            .rest
            .evaluate(&context, request)
            .map_err(|failure| Problem::new(failure.code, failure.text))?;
        let mut results = Vec::new();
        for action in reaction.actions {
            results.extend(act(&asked, action).await?);
        }
        let answer = reaction.response.done(&results).map_err(|error| {
            let text = format!("it is done, but the answer cannot be written: {error}");
            Problem::new(error.code(), text)
        })?;
        Ok(response(answer))
    }

    async fn asker(&self, headers: &HeaderMap) -> Result<Asker, Problem> {
        let scope = self.rest.scope();
        match self.rest.caller {
            Caller::Service => Asker::service(&self.api, headers, scope),
            Caller::Client => Asker::client_or_service(&self.api, headers, scope).await,
        }
    }
}

/// The JSON of a request, where it has a body.
async fn body(request: Request) -> Result<Option<JsonText>, Problem> {
    if request.body().is_end_stream() {
        return Ok(None);
    }
    let Payload(body) = Payload::from_request(request, &()).await?;
    json::checked(body).map(Some).ok_or_else(|| {
        let text = format!("the body is not JSON, or nests deeper than {MAX_DEPTH} levels");
        Problem::bad_request(text)
    })
}

/// What it gives to the response, and by which name.
async fn act(asked: &Asked<'_>, action: Action) -> Result<Option<(&'static str, Data)>, Problem> {
    match action {
        Action::Publish(posting) => {
            asked.publish(posting.publish, posting.exclude_users).await?;
            Ok(None)
        }
        Action::Read(read) => {
            let data = match &read {
                Read::Messages(channel, since) => asked.messages(channel, since.as_deref()).await?,
                Read::Stats => asked.stats().await,
                Read::Queue => asked.queue().await?,
                Read::Connections(user) => asked.connections(user).await?,
            };
            Ok(Some((read.name(), data)))
        }
        Action::Disconnect(user, reason) => {
            let data = asked.disconnect(&user, reason.clone()).await?;
            let reason: Option<String> = reason.map(|it| it.chars().take(SHOWN).collect());
            tracing::info!(%user, reason, by = ?asked.by, "the connections of a user were ended");
            Ok(Some(("disconnected", data)))
        }
        Action::Ticket(user) => Ok(Some(("ticket", asked.ticket(user).await?))),
        // No profile is read that has one of these in a request.
        Action::Join(_)
        | Action::Leave(_)
        | Action::Emit(_)
        | Action::Call(_)
        | Action::Snapshot(_)
        | Action::FlushOffline => Ok(None),
    }
}

/// It may hold what only this caller may see, so no cache may keep it.
fn response(data: Data) -> Response {
    let (kind, body) = match data {
        Data::Json(text) => ("application/json", text.as_bytes().clone()),
        Data::Binary(bytes) => ("application/octet-stream", bytes),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(requests: &[(&str, &str)]) -> Profile {
        let entry = |(method, path): &(&str, &str)| {
            format!("[[rest]]\nmethod = \"{method}\"\npath = \"{path}\"\n")
        };
        let text: String = requests.iter().map(entry).collect();
        Profile::parse(&text, "p.toml").unwrap()
    }

    fn merged(profiles: &[Profile]) -> Result<Vec<(String, usize)>, Taken> {
        let taken = BTreeSet::from(["/".to_owned(), "/ws".to_owned()]);
        let routes = routes(profiles, &taken)?;
        Ok(routes.into_iter().map(|(route, rests)| (route, rests.len())).collect())
    }

    #[test]
    fn requests_of_one_path_share_a_route_whatever_they_call_its_variables() {
        let one = profile(&[("GET", "/a/{one}/b"), ("POST", "/a/{id}/b"), ("GET", "/a/x/b")]);
        let other = profile(&[("DELETE", "/a/{name}/b"), ("GET", "/a/{one}/{item}")]);
        let routes = [("/a/x/b", 1), ("/a/{1}/b", 3), ("/a/{1}/{2}", 1)];
        assert_eq!(merged(&[one, other]), Ok(routes.map(|(it, n)| (it.to_owned(), n)).to_vec()));
    }

    #[test]
    fn no_request_has_two_meanings() {
        let taken = |text: &str| Err(Taken(text.to_owned()));
        assert_eq!(merged(&[profile(&[("GET", "/ws")])]), taken("GET /ws"));
        let again = [profile(&[("GET", "/a/{x}")]), profile(&[("GET", "/a/{y}")])];
        assert_eq!(merged(&again), taken("GET /a/{y}"));
    }
}

//! HTTP requests that a profile answers.

use std::{collections::BTreeMap, sync::Arc};

use axum::http::Method;
use broker_core::{Data, JsonText};
use minijinja::Value;

use super::{
    raw::Caller,
    step::{self, Action, Step, What},
    template::{RenderError, Scope, Tree, Var},
    verb::{Context, Failure},
};
use crate::config;

/// The methods that a request can have.
pub(super) const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::PUT, Method::DELETE];

/// Paths of the gateway itself, with all below them.
const OWN: [&str; 6] = ["/v1", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics"];

/// Whether a path is the gateway's own, so that nothing else can be there.
pub(crate) fn is_own_path(path: &str) -> bool {
    OWN.iter().any(|own| {
        path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// An HTTP request that a profile answers.
#[derive(Debug)]
pub(crate) struct Rest {
    /// One of `GET`, `POST`, `PUT` and `DELETE`.
    pub(crate) method: Method,
    /// The path, with `{name}` for a segment that varies.
    pub(crate) path: String,
    /// Who may ask.
    pub(crate) caller: Caller,
    /// The names of what varies in the path, in their order.
    pub(super) variables: Vec<String>,
    pub(super) steps: Vec<Step>,
    pub(super) response: Arc<Option<Tree>>,
}

/// One such request. Names and values are decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RestRequest<'a> {
    /// What the variables of the path stand for, in their order.
    pub(crate) path: &'a [String],
    /// The parameters of the URL; of those with one name, the last counts.
    pub(crate) query: &'a [(String, String)],
    /// The body.
    pub(crate) body: Option<&'a JsonText>,
    /// Where clients reach WebSockets, without the path.
    pub(crate) ws_url: Option<&'a str>,
}

/// What a request comes to.
#[derive(Debug)]
pub(crate) struct RestReaction {
    /// To be done in this order.
    pub(crate) actions: Vec<Action>,
    /// The answer, once they are done.
    pub(crate) response: Response,
}

/// An answer that awaits what is read.
#[derive(Debug)]
pub(crate) struct Response {
    template: Arc<Option<Tree>>,
    scope: Arc<Scope>,
}

impl Rest {
    /// The path as a router knows it: variables by their place, since requests of one path may
    /// name them differently.
    #[must_use]
    pub(crate) fn route(&self) -> String {
        route(&self.path)
    }

    /// What a service needs for it. Figures and what concerns users' connections are for operators.
    #[must_use]
    pub(crate) fn scope(&self) -> config::Scope {
        let all = |wanted: fn(&What) -> bool| self.steps.iter().all(|step| wanted(&step.what));
        if all(|what| matches!(what, What::Publish(_))) {
            config::Scope::Publish
        } else if all(|what| matches!(what, What::Ticket(_))) {
            config::Scope::Tickets
        } else {
            config::Scope::Admin
        }
    }

    /// Decides what is done.
    ///
    /// # Errors
    /// The request does not fit.
    pub(crate) fn evaluate(
        &self,
        context: &Context<'_>,
        request: RestRequest<'_>,
    ) -> Result<RestReaction, Failure> {
        let mut scope = context.scope();
        let query: BTreeMap<&str, &str> =
            request.query.iter().map(|(name, value)| (&**name, &**value)).collect();
        scope.set("query", Var::Value(Value::from_pairs(query)));
        let body = request.body.map(|body| Data::Json(body.clone()));
        scope.set("data", body.as_ref().map_or(Var::value(()), Var::data));
        if let Some(url) = request.ws_url {
            scope.set("ws_url", Var::value(url));
        }
        for (name, value) in self.variables.iter().zip(request.path) {
            scope.set(name.clone(), Var::value(value.as_str()));
        }
        let scope = Arc::new(scope);
        let actions = step::evaluate(&self.steps, &scope)?;
        let response = Response { template: Arc::clone(&self.response), scope };
        Ok(RestReaction { actions, response })
    }
}

/// The path, with variables by their place.
pub(super) fn route(path: &str) -> String {
    let mut variables = 0;
    let segments = path.split('/').map(|segment| {
        if !segment.starts_with('{') {
            return segment.to_owned();
        }
        variables += 1;
        format!("{{{variables}}}")
    });
    segments.collect::<Vec<_>>().join("/")
}

impl Response {
    /// The answer, with what the actions gave, by name: what was read by
    /// [`Read::name`](super::step::Read::name), `disconnected` and `ticket`.
    ///
    /// # Errors
    /// The template wants what is not there.
    pub(crate) fn done(&self, results: &[(&'static str, Data)]) -> Result<Data, RenderError> {
        let ok = || Data::Json(JsonText::from_checked("{\"ok\":true}".into()));
        let Some(template) = &*self.template else {
            return Ok(results.last().map_or_else(ok, |(_, data)| data.clone()));
        };
        let mut scope = (*self.scope).clone();
        for (name, data) in results {
            scope.set(*name, Var::data(data));
        }
        Ok(template.render(&Arc::new(scope))?.unwrap_or_else(ok))
    }
}

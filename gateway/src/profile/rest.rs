//! HTTP requests that a profile answers.

use std::{collections::BTreeMap, sync::Arc};

use broker_core::{Data, JsonText};
use minijinja::Value;

use super::{
    raw::Caller,
    step::{self, Action, Step},
    template::{RenderError, Scope, Tree, Var},
    verb::{Context, Failure},
};

/// The methods that a request can have.
pub(super) const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];

/// An HTTP request that a profile answers.
#[derive(Debug)]
pub(crate) struct Rest {
    /// One of `GET`, `POST`, `PUT` and `DELETE`.
    pub(crate) method: String,
    /// The path, with `{name}` for a segment that varies.
    pub(crate) path: String,
    /// Who may ask.
    pub(crate) caller: Caller,
    pub(super) variables: Vec<String>,
    pub(super) steps: Vec<Step>,
    pub(super) response: Arc<Option<Tree>>,
}

/// One such request. Names and values are decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RestRequest<'a> {
    /// What the variables of the path stand for.
    pub(crate) path: &'a [(String, String)],
    /// The parameters of the URL; of those with one name, the last counts.
    pub(crate) query: &'a [(String, String)],
    /// The body.
    pub(crate) body: Option<&'a JsonText>,
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
        for (name, value) in request.path {
            if self.variables.contains(name) {
                scope.set(name.clone(), Var::value(value.as_str()));
            }
        }
        let scope = Arc::new(scope);
        let actions = step::evaluate(&self.steps, &scope)?;
        let response = Response { template: Arc::clone(&self.response), scope };
        Ok(RestReaction { actions, response })
    }
}

impl Response {
    /// The answer, with what the actions gave, by name: what was read by
    /// [`Read::name`](super::step::Read::name), `ticket`, `disconnected`, and a service's `reply`.
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

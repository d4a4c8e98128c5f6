//! What happens when a client sends an event.

use std::{collections::BTreeMap, sync::Arc};

use broker_core::{Data, ErrorCode, Identity, JsonText, Timestamp};
use bytes::{BufMut as _, BytesMut};
use minijinja::Value;

use super::{
    rate::Rate,
    require::Require,
    step::{self, Action, Step, error},
    template::{Node, RenderError, Scope, Tree, Var, quote},
};

/// Who speaks, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The connection's public id, as its dialect writes it.
    pub(crate) connection: &'a str,
    /// What its token says.
    pub(crate) identity: &'a Identity,
    /// The time.
    pub(crate) now: Timestamp,
    /// What its first request said, where the face asks for it: `{"query": {…}, "auth": …}`.
    pub(crate) handshake: Option<&'a JsonText>,
}

impl Context<'_> {
    /// The variables that this makes.
    pub(super) fn scope(&self) -> Scope {
        let Self { connection, identity, now, handshake } = self;
        let mut scope = Scope::default();
        scope.set_now(*now);
        scope.set("connection", Var::value(*connection));
        let user = identity.user.as_ref();
        scope.set("user", user.map_or(Var::value(()), |user| Var::value(user.as_str())));
        let roles: Vec<Value> = identity.roles.iter().map(|it| it.as_str().into()).collect();
        scope.set("role", Var::value(roles.first().cloned().unwrap_or_else(|| ().into())));
        scope.set("roles", Var::value(roles));
        let claims: BTreeMap<&str, &[String]> =
            identity.claims.iter().map(|(name, held)| (&**name, &**held)).collect();
        scope.set("claims", Var::claims(&claims));
        if let Some(handshake) = handshake {
            scope.set("handshake", Var::data(&Data::Json((*handshake).clone())));
        }
        scope
    }
}

/// What happens when a client sends an event.
#[derive(Debug)]
pub(crate) struct Verb {
    /// The event; `None` for what holds for all others.
    pub(crate) event: Option<Box<str>>,
    /// The verb's number among those of its face, for counters by connection.
    pub(crate) number: usize,
    /// How often one connection may do it.
    pub(crate) rate: Option<Rate>,
    pub(super) require: Require,
    pub(super) steps: Vec<Step>,
    pub(super) acks: Arc<AckTemplates>,
}

/// What a verb comes to.
#[derive(Debug)]
pub(crate) struct Reaction {
    /// To be done in this order.
    pub(crate) actions: Vec<Action>,
    /// What the client is told afterwards, if it wants to know.
    pub(crate) ack: Ack,
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The kind.
    pub(crate) code: ErrorCode,
    /// The reason, for the client's developer.
    pub(crate) text: String,
    /// What the client is told, if it wants to know.
    pub(crate) ack: Vec<Data>,
}

/// The acknowledgements with holes.
#[derive(Debug, Default)]
pub(super) struct AckTemplates {
    pub(super) ok: Option<Tree>,
    pub(super) error: Option<Tree>,
}

/// An acknowledgement that awaits the outcome.
#[derive(Debug, Clone)]
pub(crate) struct Ack {
    templates: Arc<AckTemplates>,
    scope: Arc<Scope>,
}

impl Failure {
    /// Nothing is known of the event.
    #[must_use]
    pub(crate) fn unknown_event(event: &str) -> Self {
        let text = format!("nothing is known of an event `{event}`");
        let ack = Ack { templates: Arc::default(), scope: Arc::default() };
        ack.failure(ErrorCode::UnknownCommand, text)
    }
}

impl Verb {
    /// Decides what is done. Nothing of it has happened yet, and nothing of it is checked against
    /// the rules of namespaces.
    ///
    /// # Errors
    /// The client may not do this, or what it sent does not fit.
    pub(crate) fn evaluate(
        &self,
        context: &Context<'_>,
        event: &str,
        args: &[Data],
    ) -> Result<Reaction, Failure> {
        let mut scope = context.scope();
        scope.set("event", Var::value(event));
        scope.set("data", args.first().map_or(Var::value(()), Var::data));
        scope.set("args", Var::args(args));
        let ack = Ack { templates: Arc::clone(&self.acks), scope: Arc::new(scope) };
        if let Err(unmet) = self.require.check(context.identity) {
            return Err(ack.failure(ErrorCode::Forbidden, unmet.to_string()));
        }
        match step::evaluate(&self.steps, &ack.scope) {
            Ok(actions) => Ok(Reaction { actions, ack }),
            Err(error) => Err(ack.failure(error.code(), error.to_string())),
        }
    }

    /// The failure of a client that did it too often.
    #[must_use]
    pub(crate) fn too_often(&self, context: &Context<'_>, event: &str) -> Failure {
        let mut scope = context.scope();
        scope.set("event", Var::value(event));
        scope.set("data", Var::value(()));
        scope.set("args", Var::args(&[]));
        let ack = Ack { templates: Arc::clone(&self.acks), scope: Arc::new(scope) };
        ack.failure(ErrorCode::Overloaded, format!("`{event}` is sent too often"))
    }
}

impl Ack {
    /// What the client is told when all is done. `reply` is that of the service, where one was
    /// asked; else what the last publish came to, as `{ok, id, position}`.
    #[must_use]
    pub(crate) fn done(&self, reply: Option<&Data>) -> Vec<Data> {
        let Some(template) = &self.templates.ok else {
            let ok = || Data::Json(JsonText::from_checked("{\"ok\":true}".into()));
            return vec![reply.cloned().unwrap_or_else(ok)];
        };
        let rendered = match reply {
            Some(reply) => template.render(&self.scope.with("reply", Var::data(reply))),
            None => template.render(&self.scope),
        };
        match rendered {
            Ok(data) => data.into_iter().collect(),
            Err(error) => self.failed(error.code(), &error.to_string()),
        }
    }

    /// Whether more is to be told than that all is done.
    #[must_use]
    pub(crate) fn has_more_to_say(&self, reply: Option<&Data>) -> bool {
        self.templates.ok.is_some() || reply.is_some()
    }

    /// What the client is told when something of it failed.
    #[must_use]
    pub(crate) fn failed(&self, code: ErrorCode, text: &str) -> Vec<Data> {
        if let Some(template) = &self.templates.error {
            let rendered = template.render(&self.scope.with("error", error(code, text)));
            if let Ok(data) = rendered {
                return data.into_iter().collect();
            }
        }
        let json = format!("{{\"error\":{},\"code\":\"{code}\"}}", quote(text));
        vec![Data::Json(JsonText::from_checked(json.into()))]
    }

    fn failure(&self, code: ErrorCode, text: String) -> Failure {
        Failure { code, ack: self.failed(code, &text), text }
    }
}

impl From<RenderError> for Failure {
    fn from(error: RenderError) -> Self {
        Self { code: error.code(), text: error.to_string(), ack: Vec::new() }
    }
}

impl Var {
    /// All arguments of an event.
    pub(super) fn args(args: &[Data]) -> Self {
        let mut list = BytesMut::from(&b"["[..]);
        for (index, arg) in args.iter().enumerate() {
            if index > 0 {
                list.put_u8(b',');
            }
            match arg {
                Data::Json(text) => list.put_slice(text.as_bytes()),
                Data::Binary(_) => list.put_slice(b"null"),
            }
        }
        list.put_u8(b']');
        Self::List(args.iter().map(Self::data).collect(), Node::new(list.freeze()))
    }

    /// Claims: those with one value as this value, the others as lists.
    fn claims(claims: &BTreeMap<&str, &[String]>) -> Self {
        let value = |held: &[String]| match held {
            [one] => Value::from(one.as_str()),
            several => Value::from(several.to_vec()),
        };
        Self::Value(Value::from_pairs(claims.iter().map(|(name, held)| (*name, value(held)))))
    }
}

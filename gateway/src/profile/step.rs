//! What verbs and requests consist of.

use std::{sync::Arc, time::Duration};

use broker_core::{
    ChannelName, Data, ErrorCode, Interest, JsonText, MessageId, UserId,
    session::{Publish, ServiceCall},
};
use broker_protocol::json;
use bytes::{BufMut as _, BytesMut};

use super::{
    emission::{Emission, EmissionTemplate},
    pattern::Pattern,
    template::{ChannelTemplate, Expression, RenderError, Scope, Text, Tree, Var, quote},
};

/// Something to be done, in order, by whoever serves the client or the request.
#[derive(Debug)]
pub(crate) enum Action {
    /// Subscribe the client.
    Join(Interest),
    /// End that.
    Leave(Interest),
    /// Tell the client.
    Emit(Emission),
    /// Publish on behalf of the client or service.
    Publish(Box<Posting>),
    /// Ask a service.
    Call(Box<Call>),
    /// Tell the client the last messages of many channels.
    Snapshot(Box<Snapshot>),
    /// Tell the client what waited for its user.
    FlushOffline,
    /// Read something.
    Read(Read),
    /// End the connections of the user, for this reason.
    Disconnect(UserId, Option<String>),
    /// Make a ticket for the user.
    Ticket(UserId),
}

/// A message that is to be published.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Posting {
    /// As a client publishes it.
    pub(crate) publish: Publish,
    /// Users who must not get it; only requests can say so.
    pub(crate) exclude_users: Vec<UserId>,
}

/// What a request wants to read. The answer goes to the response template by [`Read::name`], in
/// the form that the HTTP API has for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Recent messages of the channel, from this place on (a time, a cursor or a position).
    Messages(ChannelName, Option<String>),
    /// The figures of the cluster.
    Stats,
    /// The figures of the offline queues.
    Queue,
    /// The connections of a user.
    Connections(UserId),
}

impl Read {
    /// What the answer is called in a response template.
    #[must_use]
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Messages(..) => "messages",
            Self::Stats => "stats",
            Self::Queue => "queue",
            Self::Connections(_) => "connections",
        }
    }
}

/// A request to a service, and what the client is told of its outcome.
#[derive(Debug)]
pub(crate) struct Call {
    /// The request.
    pub(crate) request: ServiceCall,
    template: Arc<CallTemplate>,
    scope: Arc<Scope>,
}

impl Call {
    /// What the client is told of the reply, beside the acknowledgement.
    ///
    /// # Errors
    /// The reply is not of the form that the template expects.
    pub(crate) fn replied(&self, reply: &Data) -> Result<Option<Emission>, RenderError> {
        let scope = || self.scope.with("reply", Var::data(reply));
        self.template.on_reply.as_ref().map(|it| it.render(&scope())).transpose()
    }

    /// What the client is told where there is none.
    ///
    /// # Errors
    /// The template wants what is not there.
    pub(crate) fn failed(
        &self,
        code: ErrorCode,
        text: &str,
    ) -> Result<Option<Emission>, RenderError> {
        let scope = || self.scope.with("error", error(code, text));
        self.template.on_error.as_ref().map(|it| it.render(&scope())).transpose()
    }
}

/// The last messages of channels, and what the client is told of them.
#[derive(Debug)]
pub(crate) struct Snapshot {
    template: Arc<SnapshotTemplate>,
    scope: Arc<Scope>,
}

impl Snapshot {
    /// Which channels.
    #[must_use]
    pub(crate) fn interest(&self) -> &Interest {
        self.template.pattern.interest()
    }

    /// What the client is told, of the data of each channel's last message. Data that is not JSON
    /// is left out.
    ///
    /// # Errors
    /// The template wants what is not there, or the data is more than `room` bytes.
    pub(crate) fn found<'d>(
        &self,
        last: impl IntoIterator<Item = (&'d ChannelName, &'d Data)>,
        room: usize,
    ) -> Result<Emission, RenderError> {
        let mut object = BytesMut::from(&b"{"[..]);
        for (channel, data) in last {
            let Data::Json(text) = data else { continue };
            if object.len() + text.as_bytes().len() > room {
                return Err(RenderError::TooLarge);
            }
            let found = self.template.pattern.find(channel);
            let name = found.and_then(|names| names.into_iter().next());
            let name = name.map_or_else(|| channel.to_string(), |(_, value)| value);
            if object.len() > 1 {
                object.put_u8(b',');
            }
            object.put_slice(quote(&name).as_bytes());
            object.put_u8(b':');
            object.put_slice(text.as_bytes());
        }
        object.put_u8(b'}');
        let object = Data::Json(JsonText::from_checked(object.freeze()));
        self.template.emit.render(&self.scope.with("snapshot", Var::data(&object)))
    }

    /// What the client is told where they cannot be read.
    ///
    /// # Errors
    /// The template wants what is not there.
    pub(crate) fn failed(
        &self,
        code: ErrorCode,
        text: &str,
    ) -> Result<Option<Emission>, RenderError> {
        let scope = || self.scope.with("error", error(code, text));
        self.template.on_error.as_ref().map(|it| it.render(&scope())).transpose()
    }
}

/// The variable `error`.
#[must_use]
pub(super) fn error(code: ErrorCode, text: &str) -> Var {
    let json = format!("{{\"code\":{},\"text\":{}}}", quote(code.as_str()), quote(text));
    Var::data(&Data::Json(JsonText::from_checked(json.into())))
}

/// A step with holes.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) when: Option<Expression>,
    pub(super) what: What,
}

/// What a step does.
#[derive(Debug)]
pub(super) enum What {
    Emit(EmissionTemplate),
    Join(ChannelTemplate),
    Leave(ChannelTemplate),
    Publish(Box<PublishTemplate>),
    Call(Arc<CallTemplate>),
    Snapshot(Arc<SnapshotTemplate>),
    FlushOffline,
    Messages(ChannelTemplate, Option<Text>),
    Stats,
    Queue,
    Connections(Text),
    Disconnect(Text, Option<Text>),
    Ticket(Text),
}

#[derive(Debug)]
pub(super) struct PublishTemplate {
    pub(super) channel: ChannelTemplate,
    pub(super) event: Option<Text>,
    pub(super) data: Tree,
    pub(super) id: Option<Text>,
    pub(super) echo: bool,
    pub(super) exclude_users: Option<Expression>,
}

#[derive(Debug)]
pub(super) struct CallTemplate {
    pub(super) address: ChannelTemplate,
    pub(super) event: Option<Text>,
    pub(super) data: Tree,
    pub(super) timeout: Option<Duration>,
    pub(super) on_reply: Option<EmissionTemplate>,
    pub(super) on_error: Option<EmissionTemplate>,
}

#[derive(Debug)]
pub(super) struct SnapshotTemplate {
    pub(super) pattern: Pattern,
    pub(super) emit: EmissionTemplate,
    pub(super) on_error: Option<EmissionTemplate>,
}

/// What the steps come to. With one that cannot be done, none is.
///
/// # Errors
/// A hole has no value, or none for its place.
pub(super) fn evaluate(steps: &[Step], scope: &Arc<Scope>) -> Result<Vec<Action>, RenderError> {
    let mut actions = Vec::with_capacity(steps.len());
    for step in steps {
        let wanted = step.when.as_ref().map_or(Ok(true), |when| when.holds(scope))?;
        if wanted {
            actions.push(step.what.evaluate(scope)?);
        }
    }
    Ok(actions)
}

impl What {
    fn evaluate(&self, scope: &Arc<Scope>) -> Result<Action, RenderError> {
        let text = |text: &Option<Text>| match text {
            Some(text) => text.render(scope),
            None => Ok(None),
        };
        Ok(match self {
            Self::Emit(emission) => Action::Emit(emission.render(scope)?),
            Self::Join(channel) => Action::Join(channel.interest(scope)?),
            Self::Leave(channel) => Action::Leave(channel.interest(scope)?),
            Self::Publish(template) => Action::Publish(Box::new(template.evaluate(scope)?)),
            Self::Call(template) => Action::Call(Box::new(Call {
                request: template.evaluate(scope)?,
                template: Arc::clone(template),
                scope: Arc::clone(scope),
            })),
            Self::Snapshot(template) => Action::Snapshot(Box::new(Snapshot {
                template: Arc::clone(template),
                scope: Arc::clone(scope),
            })),
            Self::FlushOffline => Action::FlushOffline,
            Self::Messages(channel, since) => {
                Action::Read(Read::Messages(channel.channel(scope)?, text(since)?))
            }
            Self::Stats => Action::Read(Read::Stats),
            Self::Queue => Action::Read(Read::Queue),
            Self::Connections(user) => Action::Read(Read::Connections(name(user, scope)?)),
            Self::Disconnect(user, reason) => Action::Disconnect(name(user, scope)?, text(reason)?),
            Self::Ticket(user) => Action::Ticket(name(user, scope)?),
        })
    }
}

impl PublishTemplate {
    fn evaluate(&self, scope: &Arc<Scope>) -> Result<Posting, RenderError> {
        let id = match &self.id {
            Some(id) => optional_name::<MessageId>(id, scope)?,
            None => None,
        };
        let mut exclude_users = Vec::new();
        if let Some(users) = &self.exclude_users {
            for user in users.list(scope)? {
                let user = user.text().unwrap_or_default();
                let user = user.parse().map_err(|error| RenderError::Name(user.into(), error))?;
                exclude_users.push(user);
            }
        }
        let publish = Publish {
            channel: self.channel.channel(scope)?,
            event: self.event.as_ref().map_or(Ok(None), |it| optional_name(it, scope))?,
            data: body(&self.data, scope)?,
            id,
            echo: self.echo,
            trace: None,
        };
        Ok(Posting { publish, exclude_users })
    }
}

impl CallTemplate {
    fn evaluate(&self, scope: &Arc<Scope>) -> Result<ServiceCall, RenderError> {
        Ok(ServiceCall {
            address: self.address.channel(scope)?,
            event: self.event.as_ref().map_or(Ok(None), |it| optional_name(it, scope))?,
            data: body(&self.data, scope)?,
            timeout: self.timeout,
            trace: None,
        })
    }
}

/// A body for others: what was made around a client's data nests no deeper than that may.
fn body(tree: &Tree, scope: &Arc<Scope>) -> Result<Data, RenderError> {
    let null = || Data::Json(JsonText::from_checked("null".into()));
    let data = tree.render(scope)?.unwrap_or_else(null);
    match (tree, data) {
        (Tree::Object(_) | Tree::Array(_) | Tree::ForEach(..), Data::Json(text)) => {
            let checked = json::checked(text.as_bytes().clone());
            checked.map(Data::Json).ok_or(RenderError::TooLarge)
        }
        (_, data) => Ok(data),
    }
}

fn name<T: std::str::FromStr<Err = broker_core::name::NameError>>(
    text: &Text,
    scope: &Arc<Scope>,
) -> Result<T, RenderError> {
    let text = text.render(scope)?.unwrap_or_default();
    text.parse().map_err(|error| RenderError::Name(text.into(), error))
}

fn optional_name<T: std::str::FromStr<Err = broker_core::name::NameError>>(
    text: &Text,
    scope: &Arc<Scope>,
) -> Result<Option<T>, RenderError> {
    let Some(text) = text.render(scope)? else { return Ok(None) };
    text.parse().map(Some).map_err(|error| RenderError::Name(text.into(), error))
}

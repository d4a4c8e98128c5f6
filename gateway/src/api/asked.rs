//! The same for HTTP requests that profiles answer: each does what a route below `/v1` does, and
//! gives what that answers.

use std::sync::Arc;

use broker_core::{
    Action, ChannelName, Data, ErrorCode, Interest, JsonText, UserId, message, session::Publish,
};
use serde::Serialize;

use super::{
    Asker, Deps,
    connections::{self, CloseQuery, ConnectionsQuery},
    history::{self, MessagesQuery, Reader},
    publish::{self, Command, Draft, Ids},
    queue, stats, tickets,
};
use crate::{problem::Problem, telemetry::Source};

/// What a service or client asks, by whichever path.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) deps: &'a Deps,
    pub(crate) by: &'a Asker,
    /// Its `traceparent`, not checked yet.
    pub(crate) trace: Option<Arc<str>>,
}

impl Asked<'_> {
    /// Publishes; a client, where it may.
    ///
    /// # Errors
    /// The message is not published, or perhaps is.
    pub(crate) async fn publish(
        &self,
        publish: Publish,
        exclude_users: Vec<UserId>,
    ) -> Result<(), Problem> {
        let name = self.publisher(&publish.channel)?;
        let publisher = self.deps.publisher(name, Source::Http, self.trace.clone());
        let draft = Draft::new(publish, exclude_users, &self.deps.rules)?;
        publish::publish(&publisher, Command::One(draft), &Ids::Random).await?;
        Ok(())
    }

    fn publisher(&self, channel: &ChannelName) -> Result<message::Publisher, Problem> {
        let identity = match self.by {
            Asker::Service(key) => return Ok(message::Publisher::Service(key.as_str().into())),
            Asker::Client(identity) => identity,
        };
        let interest = Interest::Channel(channel.clone());
        self.deps.rules.namespaces.authorize(identity, Action::Publish, &interest)?;
        let user = identity.user.clone().ok_or_else(|| {
            let text = "to publish without a connection, a token with a user is needed";
            Problem::new(ErrorCode::Unauthorized, text)
        })?;
        Ok(message::Publisher::User(user))
    }

    /// Messages of a channel from this place on, or the last ones; for a client, where it may
    /// subscribe.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) async fn messages(
        &self,
        channel: &ChannelName,
        since: Option<&str>,
    ) -> Result<Data, Problem> {
        let query = since.map(MessagesQuery::since).transpose()?.unwrap_or_default();
        let reader = match self.by {
            Asker::Service(_) => Reader::Operator,
            Asker::Client(identity) => Reader::Client(identity.clone()),
        };
        Ok(json(&history::read(self.deps, &reader, channel.as_str(), query).await?))
    }

    /// The figures of the cluster.
    pub(crate) async fn stats(&self) -> Data {
        json(&stats::read(self.deps).await)
    }

    /// The figures of the offline queues.
    ///
    /// # Errors
    /// There are none, or they cannot be read.
    pub(crate) async fn queue(&self) -> Result<Data, Problem> {
        Ok(json(&queue::stats(self.deps).await?))
    }

    /// The connections of a user.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) async fn connections(&self, user: &UserId) -> Result<Data, Problem> {
        let query = ConnectionsQuery { user: Some(user.to_string()), cursor: None, limit: None };
        Ok(json(&connections::list(self.deps, query).await?))
    }

    /// A ticket with which the user can connect once.
    ///
    /// # Errors
    /// It cannot be kept.
    pub(crate) async fn ticket(&self, user: UserId) -> Result<Data, Problem> {
        Ok(json(&tickets::make_for(self.deps, user).await?))
    }

    /// Ends the connections of a user, who is told the reason, and should not come back by itself.
    ///
    /// # Errors
    /// They cannot be ended.
    pub(crate) async fn disconnect(
        &self,
        user: &UserId,
        reason: Option<String>,
    ) -> Result<Data, Problem> {
        let query = CloseQuery { reconnect: false, reason };
        Ok(json(&connections::close_user(self.deps, user.as_str(), &query).await?))
    }
}

fn json(value: &impl Serialize) -> Data {
    Data::Json(JsonText::from_checked(super::json(value).into()))
}

//! A service's connection, as applications have it: it publishes plain bodies, and reads nothing.

use std::sync::Arc;

use async_nats::{StatusCode, message::OutboundMessage};
use broker_core::{ChannelName, ports::PublishError};
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{
    connect::{dial, nats_error, wrong_prefix},
    lanes::read_ack,
    link::{Link, NotSent},
    returns::Returns,
    subject::Subjects,
};
use crate::options::{ConnectError, NatsOptions};

/// Publishes to channels without a gateway.
#[derive(Debug)]
pub struct ServiceLink {
    link: Link,
    subjects: Subjects,
}

impl ServiceLink {
    /// Connects. Of the options, those count that say where, as whom and how patiently.
    ///
    /// # Errors
    /// When NATS is out of reach (unless [`NatsOptions::wait`]) or too old, or an option is wrong.
    pub async fn connect(options: &NatsOptions) -> Result<Self, ConnectError> {
        let subjects = Subjects::new(&options.prefix).ok_or_else(|| wrong_prefix("prefix"))?;
        let returns = Returns::new(format!("{}.{}", options.inbox_prefix, options.node));
        let link = Link::new(options.deadline, returns, Vec::new(), Arc::default());
        let client = dial(options, &link).await?;
        link.set_client(client.clone());
        // The first of its subscriptions: the link knows it by its number.
        let returned = client.subscribe(link.shared.returns.pattern()).await.map_err(nats_error)?;
        link.spawn(Arc::clone(&link.shared.returns).run(returned));
        if !options.wait {
            let silent = |_| nats_error("the server does not confirm in time");
            link.arrived(link.probe().await.map_err(silent)?);
        }
        link.spawn(link.clone().watch());
        Ok(Self { link, subjects })
    }

    /// Publishes a body. With `stored`, which is for channels with history, the store confirms it;
    /// without, the server that it was handed to, which promises nothing of others.
    ///
    /// # Errors
    /// As [`Bus::publish`](broker_core::ports::Bus::publish) has them.
    pub async fn publish(
        &self,
        channel: &ChannelName,
        body: Bytes,
        stored: bool,
    ) -> Result<(), PublishError> {
        let end = Instant::now() + self.link.shared.deadline;
        let mut outbound = OutboundMessage {
            subject: self.subjects.of_channel(channel).into(),
            reply: None,
            payload: body,
            headers: None,
        };
        let stamp = self.link.stamp().ok_or(PublishError::Unavailable)?;
        if !stored {
            self.send(outbound, end).await?;
            let unknown = |_| PublishError::Unknown;
            let barrier = self.link.barrier(stamp, end).await.map_err(unknown)?;
            return self.link.confirmed(barrier, end).await.map_err(unknown);
        }
        let mut ticket = self.link.shared.returns.one();
        outbound.reply = Some(ticket.subject().into());
        self.send(outbound, end).await?;
        let Ok(Ok(answer)) = timeout_at(end, &mut ticket.answers).await else {
            self.link.doubt();
            return Err(PublishError::Unknown);
        };
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(PublishError::Unavailable);
        }
        read_ack(channel.namespace(), &answer.payload).map(drop)
    }

    async fn send(&self, message: OutboundMessage, end: Instant) -> Result<(), PublishError> {
        self.link.send(message, end).await.map_err(|error| match error {
            NotSent::TooLarge => PublishError::TooLarge,
            NotSent::Unavailable => PublishError::Unavailable,
        })
    }

    /// Ends the connection; what was confirmed is safe.
    pub async fn close(self) {
        self.link.close().await;
    }
}

use std::sync::Arc;

use broker_core::{
    Data, JsonText, Message, MessageId, Timestamp,
    message::Publisher,
    name::{PRESENCE_NAMESPACE, USER_NAMESPACE},
    ports::{BoxFuture, Bus, MemberEvent, MemberEventKind},
};
use futures_util::future::join_all;
use serde::Serialize;

use crate::{clock, telemetry::Metrics};

/// Tells who joined and left, on the channels of `presence`.
#[derive(Debug)]
pub(super) struct Herald {
    pub(super) bus: Arc<dyn Bus>,
    pub(super) metrics: Arc<Metrics>,
}

#[derive(Serialize)]
struct Body<'a> {
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<u64>,
}

impl Herald {
    /// Resolves when the bus has taken all, or not.
    pub(super) fn tell(self: Arc<Self>, events: &[MemberEvent]) -> BoxFuture<'static, ()> {
        let publishes: Vec<_> = events
            .iter()
            .map(|event| {
                (event_name(event), message(event).map(|it| self.bus.publish(it, server())))
            })
            .collect();
        Box::pin(async move {
            join_all(publishes.into_iter().map(async |(name, publish)| {
                let taken = match publish {
                    Some(publish) => publish.await.is_ok(),
                    None => false,
                };
                self.metrics.presence.event(name, taken);
            }))
            .await;
        })
    }
}

fn server() -> Publisher {
    Publisher::Service(PRESENCE_NAMESPACE.into())
}

/// Users' own channels tell whether they are connected at all.
fn event_name(event: &MemberEvent) -> &'static str {
    match (event.channel.namespace() == USER_NAMESPACE, event.kind) {
        (false, MemberEventKind::Joined) => "join",
        (false, MemberEventKind::Left(_)) => "leave",
        (true, MemberEventKind::Joined) => "user:online",
        (true, MemberEventKind::Left(_)) => "user:offline",
    }
}

/// `None` where the channel's name is too long to tell of it.
fn message(event: &MemberEvent) -> Option<Message> {
    let is_personal = event.channel.namespace() == USER_NAMESPACE;
    let last_seen = match event.kind {
        MemberEventKind::Left(Timestamp(at)) if is_personal => Some(at),
        _ => None,
    };
    let body = Body { user: event.user.as_str(), last_seen };
    let json = serde_json::to_vec(&body).expect("text and a number have a JSON form");
    Some(Message {
        id: MessageId::random(rand::random()),
        channel: event.channel.presence()?,
        event: event_name(event).parse().ok(),
        data: Data::Json(JsonText::from_checked(json.into())),
        time: clock::wall(),
        stored: None,
        options: None,
    })
}

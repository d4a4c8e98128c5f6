//! A bus on which gateways only ask for doors.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use broker_backends::EmbeddedOptions;
use broker_core::{
    Data, Interest, Message, NodeId, NodeMark, Timestamp,
    message::Publisher,
    ports::{
        Accepted, BoxFuture, Bus, BusError, Lease, Presence, PublishError, RequestError,
        ServiceRequest,
    },
};
use bytes::Bytes;
use futures_util::{FutureExt as _, future::ready};
use parking_lot::Mutex;
use serde_json::json;

use crate::api::Door;

#[derive(Debug, Default)]
pub(super) struct FakeBus {
    /// What each gateway answers.
    doors: Mutex<Vec<(NodeId, Result<Door, BusError>)>>,
    pub(super) asked: AtomicUsize,
}

impl FakeBus {
    pub(super) fn answers(&self, node: &str, door: Result<Door, BusError>) {
        let node: NodeId = node.parse().unwrap();
        let mut doors = self.doors.lock();
        doors.retain(|(known, _)| *known != node);
        doors.push((node, door));
    }

    pub(super) fn is_gone(&self, node: &str) {
        self.doors.lock().retain(|(known, _)| known.as_str() != node);
    }
}

impl Bus for FakeBus {
    fn publish(
        &self,
        _: Message,
        _: Publisher,
    ) -> BoxFuture<'static, Result<Accepted, PublishError>> {
        ready(Err(PublishError::Unavailable)).boxed()
    }

    fn subscribe(&self, _: Interest) -> BoxFuture<'static, Result<(), BusError>> {
        ready(Err(BusError::Unavailable)).boxed()
    }

    fn unsubscribe(&self, _: &Interest) {}

    fn request(&self, _: ServiceRequest) -> BoxFuture<'static, Result<Data, RequestError>> {
        ready(Err(RequestError::NoService)).boxed()
    }

    fn ask_gateways(
        &self,
        _: Bytes,
        _: usize,
        _: Duration,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, BusError>> {
        ready(Err(BusError::Unavailable)).boxed()
    }

    fn ask_gateway(
        &self,
        node: NodeMark,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Option<Bytes>, BusError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let doors = self.doors.lock();
        let answer = match doors.iter().find(|(known, _)| known.mark() == node) {
            Some((node, Ok(door))) => {
                let reply = json!({ "v": 1, "node": node.as_str(), "answer": { "door": door } });
                Ok(Some(reply.to_string().into()))
            }
            Some((_, Err(error))) => Err(*error),
            None => Ok(None),
        };
        ready(answer).boxed()
    }

    fn is_connected(&self) -> bool {
        true
    }
}

pub(super) async fn store() -> Arc<dyn Presence> {
    broker_backends::embedded(&EmbeddedOptions::default()).await.presence
}

pub(super) async fn lease(store: &dyn Presence, node: &str) {
    let lease = Lease {
        node: node.parse().unwrap(),
        ttl: Duration::from_secs(15),
        started: Timestamp(0),
        version: String::new(),
        connections: 0,
        users: 0,
        channels: 0,
        subscriptions: 0,
        bus_ok: true,
    };
    store.renew(lease).await.unwrap();
}

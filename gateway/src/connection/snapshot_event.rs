//! The last messages of many channels, told as one event.

use std::sync::Arc;

use broker_core::{ChannelPattern, ErrorCode, Interest, retained::Readiness, session::Failure};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;

use super::Conversation;
use crate::{
    clock,
    dialect::{Dialect, Framing},
    hub::{
        Hub,
        retained::{Refusal, Watched, too_much},
    },
    outbox::Outbox,
    profile::{RenderError, Snapshot},
};

impl Conversation {
    /// Reads the last messages, and tells the client of them once they are known.
    pub(super) fn tell_snapshot(&mut self, snapshot: Box<Snapshot>) {
        let Dialect::Faced(faced) = &self.dialect else { return };
        let framing = Arc::clone(faced.framing());
        let (hub, outbox) = (Arc::clone(&self.deps.hub), Arc::clone(&self.outbox));
        let metrics = Arc::clone(&self.deps.metrics);
        self.say_later(
            async move {
                match found(&hub, &snapshot, (&framing, &outbox)).await {
                    Ok(told) => told,
                    Err(failure) => {
                        metrics.errors.with_label_values(&[failure.code.as_str()]).inc();
                        refusal(&snapshot, &framing, &failure)
                    }
                }
            }
            .boxed(),
        );
    }
}

async fn found(
    hub: &Hub,
    snapshot: &Snapshot,
    client: (&Framing, &Outbox),
) -> Result<Bytes, Failure> {
    let interest = snapshot.interest();
    let (Some(watched), Interest::Pattern(pattern)) = (hub.watched(interest.namespace()), interest)
    else {
        return Err(Failure::new(ErrorCode::NoHistory, "its namespace is not `retained`"));
    };
    if watched.ready(true).await.is_err() {
        return Err(Failure::new(ErrorCode::Unavailable, "the log could not be read"));
    }
    told((watched, pattern), snapshot, client)
}

/// The event, of no more bytes than the client can be sent now.
fn told(
    (watched, pattern): (&Watched, &ChannelPattern),
    snapshot: &Snapshot,
    (framing, outbox): (&Framing, &Outbox),
) -> Result<Bytes, Failure> {
    let room = outbox.room();
    let values = watched.lock();
    if values.readiness() == Readiness::TooMuch {
        watched.refused(Refusal::Bounds);
        return Err(too_much(pattern));
    }
    let last = values.matching(pattern, None, clock::wall());
    let emission = snapshot.found(last.map(|it| (&it.channel, &it.data)), room);
    drop(values);
    let encoded = emission.map(|emission| {
        let mut out = BytesMut::new();
        framing.encode_emission(&emission, &mut out);
        out.freeze()
    });
    match encoded {
        Ok(bytes) if bytes.len() <= room => Ok(bytes),
        Ok(_) | Err(RenderError::TooLarge) => {
            watched.refused(Refusal::Queue);
            let text = "the snapshot is larger than what is queued for one connection";
            Err(Failure::new(ErrorCode::SnapshotTooLarge, text))
        }
        Err(error) => Err(Failure::new(error.code(), error.to_string())),
    }
}

/// In the words of the profile, or else as with everything that has no acknowledgement.
fn refusal(snapshot: &Snapshot, framing: &Framing, failure: &Failure) -> Bytes {
    let mut out = BytesMut::new();
    match snapshot.failed(failure.code, &failure.text) {
        Ok(Some(emission)) => framing.encode_emission(&emission, &mut out),
        Ok(None) => framing.encode_error(None, (failure.code, &failure.text), &mut out),
        Err(error) => {
            tracing::warn!(%error, "a failure does not fit the profile's template");
            framing.encode_error(None, (failure.code, &failure.text), &mut out);
        }
    }
    out.freeze()
}

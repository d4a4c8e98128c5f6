//! The last messages of many channels, told as one event.

use std::sync::Arc;

use broker_core::{ErrorCode, Interest, retained::Readiness};
use bytes::BytesMut;
use futures_util::FutureExt as _;

use crate::{
    clock,
    connection::Conversation,
    dialect::Dialect,
    hub::Hub,
    profile::{Emission, RenderError, Snapshot},
};

/// Reads the last messages, and tells the client of them once they are known.
pub(super) fn read(space: &mut Conversation, snapshot: Box<Snapshot>) {
    let Dialect::SocketIo(socket) = space.dialect() else { return };
    let framing = Arc::clone(socket.framing());
    let hub = Arc::clone(space.hub());
    space.say_later(
        async move {
            let mut out = BytesMut::new();
            match found(&hub, &snapshot).await {
                Ok(Some(emission)) => framing.encode_emission(&emission, &mut out),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a snapshot does not fit its template"),
            }
            out.freeze()
        }
        .boxed(),
    );
}

async fn found(hub: &Hub, snapshot: &Snapshot) -> Result<Option<Emission>, RenderError> {
    let interest = snapshot.interest();
    let (Some(watched), Interest::Pattern(pattern)) = (hub.watched(interest.namespace()), interest)
    else {
        let text = "its namespace is not `retained`";
        return snapshot.failed(ErrorCode::NoHistory, text);
    };
    if watched.ready(true).await.is_err() {
        return snapshot.failed(ErrorCode::Unavailable, "the log could not be read");
    }
    let values = watched.lock();
    if values.readiness() == Readiness::TooMuch {
        return snapshot.failed(ErrorCode::SnapshotTooLarge, "there is more than is kept at hand");
    }
    let last = values.matching(pattern, None, clock::wall());
    snapshot.found(last.map(|message| (&message.channel, &message.data))).map(Some)
}

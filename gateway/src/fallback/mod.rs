//! Ways in for clients to whom WebSocket is barred: server-sent events with POST, and long polling.
//!
//! Both drive an ordinary connection through a [pipe](crate::socket::pipe): its session, queue and
//! limits are those of every other. Any gateway will do for any request.
//!
//! 1. [`mod@line`]: the client's end of a connection, read as [objects](object); [`repeats`]: which of
//!    them it has got before.
//! 2. [`wanted`]: what a request subscribes it to.
//! 3. [`sse`] and [`poll`]: how they are told; [`cursor`]: how a client that comes back says what
//!    it has got. What pages of other origins may ask, [`cors`] says.

mod cursor;
mod line;
mod object;
mod poll;
mod repeats;
mod sse;
mod wanted;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use broker_core::NodeId;

use crate::{api, connection::Admission, cors};

/// What a poll may hold beside its commands, in bytes: the token, and what to subscribe to.
const POLL_BYTES: usize = 64 * 1024;

/// What these ways in work with.
#[derive(Debug)]
struct Deps {
    admission: Arc<Admission>,
    node: NodeId,
}

/// Their routes.
pub(crate) fn router(admission: &Arc<Admission>, api: &Arc<api::Deps>) -> Router {
    let deps = Deps { admission: Arc::clone(admission), node: api.node.clone() };
    let frame_bytes = admission.deps.wire.frame_bytes;
    Router::new()
        .route("/v1/sse", get(sse::open))
        .route("/v1/poll", post(poll::poll))
        .layer(DefaultBodyLimit::max(frame_bytes.saturating_add(POLL_BYTES)))
        .with_state(Arc::new(deps))
        .merge(api::commands_router(Arc::clone(api), frame_bytes))
        .layer(middleware::from_fn_with_state(Arc::clone(admission), cors::guard))
}

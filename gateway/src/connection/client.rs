//! What a connection knows of the other side before it has spoken.

use axum::http::{HeaderMap, header};

/// What is kept of a client's name for itself, in bytes.
const USER_AGENT_BYTES: usize = 120;

/// The other side.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    pub(super) transport: Transport,
    /// What it calls itself, until the directory knows.
    pub(super) user_agent: Option<Box<str>>,
}

/// What carries the frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Transport {
    /// The native protocol.
    #[default]
    WebSocket,
    /// Envelopes.
    Envelope,
    /// Server-sent events, and POST.
    Sse,
    /// HTTP long polling: for one request.
    Poll,
    /// Socket.IO, from the beginning over WebSocket.
    SocketIo,
    /// Socket.IO that began with HTTP long polling, and may have changed to WebSocket since.
    SocketIoPolling,
}

impl Transport {
    /// As operators and metrics name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Envelope => "envelope",
            Self::Sse => "sse",
            Self::Poll => "poll",
            Self::SocketIo => "socketio",
            Self::SocketIoPolling => "socketio_polling",
        }
    }
}

impl Client {
    /// Who comes with a request.
    pub(crate) fn of(headers: &HeaderMap, transport: Transport) -> Self {
        let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        Self { transport, user_agent: user_agent.map(|text| cut(text).into()) }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(USER_AGENT_BYTES)]
}

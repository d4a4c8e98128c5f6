//! One connection to a gateway.

use std::{collections::VecDeque, time::Duration};

use broker_core::{
    CloseCode,
    code::Retry,
    session::{Acks, Command, Request, Resumption, Token},
};
use broker_protocol::{
    native::{
        SUBPROTOCOL,
        client::{ServerError, ServerFrame, encode_request, parse_binary, parse_text},
    },
    ws::Opcode,
};
use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        self,
        client::IntoClientRequest,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::{CloseFrame, Message},
    },
};

use super::Exit;

/// Longest wait for a connection, and for each answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ClientError {
    /// The token's file cannot be read; that was said already.
    #[error("without its token, nothing was tried")]
    NoToken,
    /// The URL is none.
    #[error("the server's URL is not one: write ws://host:port/path or wss://host/path")]
    Url,
    /// The server refused before it listened.
    #[error("the server refuses the connection: HTTP {0}")]
    Http(u16),
    /// No connection.
    #[error("cannot reach the server: {0}")]
    Unreachable(tungstenite::Error),
    /// The connection ended.
    #[error("the server has closed the connection: {0}")]
    Closed(String, Exit),
    /// No answer.
    #[error("the server has not answered within {}", humantime::format_duration(PATIENCE))]
    Timeout,
    /// The server refused a command.
    #[error("{}: {}", .0.code, .0.text)]
    Server(ServerError),
    /// Nothing comes, though something should.
    #[error("nothing comes any more")]
    Silent,
    /// What came is not the protocol.
    #[error("the server does not speak {SUBPROTOCOL}: {0}")]
    Protocol(String),
}

impl ClientError {
    /// How the process ends for it.
    pub(in crate::cli) fn exit(&self) -> Exit {
        match self {
            Self::Url => Exit::Usage,
            Self::NoToken | Self::Protocol(_) => Exit::Failure,
            Self::Http(401 | 403) => Exit::Refused,
            Self::Http(_) | Self::Unreachable(_) | Self::Timeout | Self::Silent => {
                Exit::Unavailable
            }
            Self::Closed(_, exit) => *exit,
            Self::Server(error) => match (error.code.as_str(), error.retry) {
                ("unauthorized" | "token_expired" | "forbidden" | "unknown_namespace", _) => {
                    Exit::Refused
                }
                (_, Retry::Later) => Exit::Unavailable,
                _ => Exit::Failure,
            },
        }
    }
}

/// A connection that is open and authenticated.
#[derive(Debug)]
pub(in crate::cli) struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
    /// What came while an answer was waited for.
    early: VecDeque<ServerFrame>,
}

impl Connection {
    /// Opens a connection and says who it is.
    pub(in crate::cli) async fn open(url: &str, token: Option<Token>) -> Result<Self, ClientError> {
        crate::auth::ensure_tls_provider();
        let mut request = url.into_client_request().map_err(|_| ClientError::Url)?;
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        let opening = timeout(PATIENCE, connect_async(request));
        let (socket, _) =
            opening.await.map_err(|_| ClientError::Timeout)?.map_err(opening_error)?;
        let mut connection = Self { socket, next_id: 1, early: VecDeque::new() };
        connection
            .ask(Command::Connect { token, acks: Acks::default(), session: Resumption::Never })
            .await?;
        Ok(connection)
    }

    /// Sends a command and waits for its answer; what comes meanwhile is kept for [`Self::next`].
    pub(in crate::cli) async fn ask(
        &mut self,
        command: Command,
    ) -> Result<ServerFrame, ClientError> {
        let id = Some(self.next_id);
        self.next_id += 1;
        let (opcode, payload) = encode_request(&Request { id, command });
        let message = match (opcode, std::str::from_utf8(&payload)) {
            (Opcode::Text, Ok(text)) => Message::text(text),
            _ => Message::binary(payload),
        };
        self.socket.send(message).await.map_err(ClientError::Unreachable)?;
        timeout(PATIENCE, self.answer(id)).await.map_err(|_| ClientError::Timeout)?
    }

    /// The next thing that the server says.
    pub(in crate::cli) async fn next(&mut self) -> Result<ServerFrame, ClientError> {
        match self.early.pop_front() {
            Some(frame) => Ok(frame),
            None => self.read().await,
        }
    }

    async fn answer(&mut self, id: Option<u64>) -> Result<ServerFrame, ClientError> {
        loop {
            match self.read().await? {
                ServerFrame::Error(error) if error.id == id || error.id.is_none() => {
                    return Err(ClientError::Server(error));
                }
                frame if frame.id() == id => return Ok(frame),
                frame => self.early.push_back(frame),
            }
        }
    }

    async fn read(&mut self) -> Result<ServerFrame, ClientError> {
        loop {
            let frame = match self.socket.next().await {
                Some(Ok(Message::Text(text))) => parse_text(&text),
                Some(Ok(Message::Binary(bytes))) => parse_binary(&bytes),
                Some(Ok(Message::Close(frame))) => return Err(closed(frame)),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(ClientError::Unreachable(error)),
                None => return Err(closed(None)),
            };
            return frame.map_err(|error| ClientError::Protocol(error.to_string()));
        }
    }
}

fn opening_error(error: tungstenite::Error) -> ClientError {
    match error {
        tungstenite::Error::Http(response) => ClientError::Http(response.status().as_u16()),
        tungstenite::Error::Url(_) => ClientError::Url,
        tungstenite::Error::Protocol(error) => ClientError::Protocol(error.to_string()),
        error => ClientError::Unreachable(error),
    }
}

fn closed(frame: Option<CloseFrame>) -> ClientError {
    let Some(frame) = frame else {
        return ClientError::Closed("without a reason".to_owned(), Exit::Unavailable);
    };
    let number = u16::from(frame.code);
    let refused = [CloseCode::Unauthorized, CloseCode::TokenExpired, CloseCode::Disconnected];
    let refused = refused.iter().any(|code| code.number() == number);
    let exit = if refused { Exit::Refused } else { Exit::Unavailable };
    ClientError::Closed(format!("{number} {}", frame.reason), exit)
}

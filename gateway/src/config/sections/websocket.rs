//! `[websocket]`

use broker_protocol::ws::deflate::Policy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{problems::Checks, text};

/// How messages go over WebSockets.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WebSocket {
    /// Whether clients that offer permessage-deflate (RFC 7692; all browsers do) get it. It saves
    /// bandwidth and costs CPU: a message is compressed once, for all of its subscribers that have
    /// negotiated it, and what such clients send is inflated. It costs no memory per connection.
    /// Do not put a secret and what a stranger has written into one message then: how well they
    /// compress together tells about both.
    pub(crate) compression: bool,
    /// Messages of fewer bytes are not compressed.
    #[serde(with = "text::size")]
    #[schemars(with = "String")]
    pub(crate) compression_min_bytes: usize,
    /// From 1, the fastest, to 9, the smallest.
    pub(crate) compression_level: u8,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self { compression: false, compression_min_bytes: 256, compression_level: 3 }
    }
}

impl WebSocket {
    /// What is compressed; `None` if nothing is.
    #[must_use]
    pub(crate) fn compression(&self) -> Option<Policy> {
        self.compression.then_some(Policy {
            min_bytes: self.compression_min_bytes,
            level: self.compression_level,
        })
    }

    pub(in crate::config) fn check(&self, checks: &mut Checks<'_>) {
        if !(1..=9).contains(&self.compression_level) {
            checks.fail("websocket.compression_level", "write a level from 1 to 9");
        }
    }
}

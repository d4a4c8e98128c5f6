//! `[history]`

use broker_backends::{Storage, StreamOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{problems::Checks, text};

/// Most servers that JetStream keeps a message on.
const MAX_REPLICAS: usize = 5;
/// Most channels of a namespace: NATS lists 100,000 at once, and more than the bound must show.
const MAX_RETAINED: usize = 50_000;

/// How the messages of namespaces with `history`, or with a `queue`, are stored. In a cluster, each
/// such namespace has a JetStream stream, which the gateways make, and change when these options
/// change.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HistoryStorage {
    /// NATS servers that store each message: 1 to 5. With 3, any one of them may be lost.
    pub(crate) replicas: usize,
    /// Where NATS keeps the messages: `file` or `memory`.
    pub(crate) storage: StorageKind,
    /// Bytes that each stream may take; 0: as many as the NATS server allows. When it is full,
    /// publishes are refused with `store_full`.
    #[serde(with = "text::size")]
    #[schemars(with = "String")]
    pub(crate) max_bytes: usize,
    /// Without a cluster: bytes of messages in this process's memory. When they are used up,
    /// publishes are refused with `store_full`.
    #[serde(with = "text::size")]
    #[schemars(with = "String")]
    pub(crate) memory_bytes: usize,
    /// Channels of a namespace with `history.retained` whose newest message each gateway has at
    /// hand: 1 to 50000. With more, there are no snapshots of it.
    pub(crate) retained_channels: usize,
    /// The same in bytes, with 256 for each channel. Take several such namespaces times this into
    /// account for the memory of a gateway.
    #[serde(with = "text::size")]
    #[schemars(with = "String")]
    pub(crate) retained_bytes: usize,
}

/// Where NATS keeps messages.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StorageKind {
    File,
    Memory,
}

impl Default for HistoryStorage {
    fn default() -> Self {
        Self {
            replicas: 1,
            storage: StorageKind::File,
            max_bytes: 0,
            memory_bytes: 256 << 20,
            retained_channels: 10_000,
            retained_bytes: 64 << 20,
        }
    }
}

impl HistoryStorage {
    /// What the streams are made with.
    #[must_use]
    pub(crate) fn streams(&self) -> StreamOptions {
        StreamOptions {
            replicas: self.replicas,
            storage: match self.storage {
                StorageKind::File => Storage::File,
                StorageKind::Memory => Storage::Memory,
            },
            max_bytes: (self.max_bytes > 0).then_some(self.max_bytes as u64),
            ..StreamOptions::default()
        }
    }

    pub(in crate::config) fn check(&self, checks: &mut Checks<'_>) {
        if !(1..=MAX_REPLICAS).contains(&self.replicas) {
            checks.fail("history.replicas", format!("write a number from 1 to {MAX_REPLICAS}"));
        }
        if !(1..=MAX_RETAINED).contains(&self.retained_channels) {
            checks.fail("history.retained_channels", format!("write 1 to {MAX_RETAINED}"));
        }
        if self.retained_bytes == 0 {
            checks.fail("history.retained_bytes", "write a size such as \"64MiB\"");
        }
        if self.memory_bytes == 0 {
            checks.fail("history.memory_bytes", "write a size such as \"256MiB\"");
        }
    }
}

//! Where other gateways hand over requests to this one, and by what it knows them.

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::config::Secret;

/// A gateway's listener for the other gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Door {
    /// `host:port`.
    pub(crate) address: String,
    /// What it lets in. A new one with each start of the process.
    pub(crate) key: DoorKey,
}

/// 256 random bits as text, told over the bus and nowhere else. Debug output does not show it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct DoorKey(String);

impl DoorKey {
    pub(crate) fn random() -> Self {
        Self(Secret::random().reveal().to_owned())
    }

    /// Whether a request that shows this comes from a gateway.
    pub(crate) fn admits(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }

    /// The key itself, for the one header that carries it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl PartialEq for DoorKey {
    fn eq(&self, other: &Self) -> bool {
        self.admits(other.0.as_bytes())
    }
}

impl Eq for DoorKey {}

impl fmt::Debug for DoorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DoorKey(…)")
    }
}

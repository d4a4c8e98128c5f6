//! The embedded backends, and the reference for every law.

mod bus;
mod kept;
mod log;
mod presence;
mod queue;
mod roster;
mod sessions;

pub(crate) use bus::bus;
pub(crate) use log::MemoryLog;
pub(crate) use presence::MemoryPresence;
pub(crate) use queue::MemoryQueue;
pub(crate) use roster::MemoryRoster;
pub(crate) use sessions::MemorySessions;

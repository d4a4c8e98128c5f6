//! The embedded backends, and the reference for every law.

mod bus;
mod presence;
mod sessions;

pub(crate) use bus::bus;
pub(crate) use presence::MemoryPresence;
pub(crate) use sessions::MemorySessions;

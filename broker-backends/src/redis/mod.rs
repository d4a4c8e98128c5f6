//! Presence and sessions of a cluster, in Redis or Valkey.
//!
//! - [`store`] is the connection and its deadlines, [`keys`] says where things are, [`record`]
//!   what they look like; [`presence`] and [`sessions`] keep the laws.

mod keys;
mod presence;
mod record;
mod sessions;
mod store;

pub(crate) use presence::RedisPresence;
pub(crate) use sessions::RedisSessions;
pub(crate) use store::Store;

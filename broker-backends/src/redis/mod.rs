//! Presence, sessions and offline queues of a cluster, in Redis or Valkey.
//!
//! - [`store`] is the connection and its deadlines, [`keys`] says where things are, [`record`]
//!   what they look like; [`presence`], [`roster`], [`sessions`], [`kept`] and [`queue`]
//!   keep the laws.
//! - [`script`] is how several steps become one, [`calm`] what holds after the store was away,
//!   [`fed`] how much of the stream the queues have.

mod calm;
mod fed;
mod kept;
mod keys;
mod presence;
mod queue;
mod record;
mod roster;
mod script;
mod sessions;
mod store;

pub(crate) use presence::RedisPresence;
pub(crate) use queue::RedisQueue;
pub(crate) use roster::RedisRoster;
pub(crate) use sessions::RedisSessions;
pub(crate) use store::{Reconnects, Store};

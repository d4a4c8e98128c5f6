//! What Fanfare's tests share; a dev-dependency only.
//!
//! - [`mod@eventually`]: a condition with a deadline, in place of sleeping.
//! - [`server`]: real NATS and Redis servers as child processes.
//! - [`contract`]: the laws of `broker_core::ports` as suites for any implementation.

pub mod contract;
pub mod eventually;
pub mod server;

pub use eventually::eventually;
pub use server::{NatsServer, RedisServer};

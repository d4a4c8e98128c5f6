//! Real servers for tests: child processes on a free port, ended when dropped.
//!
//! A missing binary fails the test that asked for it, with where it was looked for: tests are
//! never skipped.

mod child;
mod nats;
mod redis;

pub use nats::NatsServer;
pub use redis::RedisServer;

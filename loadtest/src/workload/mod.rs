//! The workloads. Each is a shape, a pace, and what it does to the connections meanwhile.

mod connect;
mod traffic;

pub(crate) use connect::connect;
pub(crate) use traffic::{fanout, pairs};

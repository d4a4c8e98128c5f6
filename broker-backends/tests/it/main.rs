//! The contract suites against every backend, and what only one of them can do.
//!
//! Real servers are child processes of the tests; without their binaries the tests fail.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod memory;
mod nats;
mod nats_cluster;
mod nats_history;
mod nats_order;
mod nats_paging;
mod nats_reader;
mod nats_restored;
mod nats_service;
mod nats_streams;
mod pipelines;
mod redis;
mod redis_queue;
mod redis_roster;
mod support;

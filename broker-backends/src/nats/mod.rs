//! The bus between gateways, on NATS.
//!
//! - [`subject`] and [`envelope`] say what a channel and a message look like on the wire;
//! - [`link`] is the one connection: what it confirms (the barrier), when it was lost, who waits;
//! - [`publisher`] and [`interests`] are the two tasks that send; [`receiver`] is what a fan-out
//!   worker polls; [`questions`] is the inbox; [`bus`] puts the trait in front of them.

mod bus;
mod connect;
mod envelope;
mod feed;
mod interests;
mod link;
mod mailbox;
mod publisher;
mod questions;
mod receiver;
mod returns;
mod subject;

pub(crate) use connect::{Parts, connect};
pub(crate) use link::Link;

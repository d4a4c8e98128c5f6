//! The bus between gateways, on NATS.
//!
//! - [`subject`] and [`envelope`] say what a channel and a message look like on the wire;
//! - [`link`] is the connection that publishes and asks: what it confirms (the barrier), when it
//!   was lost, who waits;
//! - [`reader`] is the connection that reads what clients are subscribed to: [`dial`] makes it,
//!   [`wire`] takes it apart, [`subscriptions`] knows what was asked for on it;
//! - [`publisher`] is the task that publishes; a [`mailbox`] is where messages wait for a fan-out
//!   worker, [`receiver`] what it polls; [`questions`] is the inbox; [`bus`] puts the trait in front
//!   of them.

mod bus;
mod connect;
mod dial;
mod envelope;
mod link;
mod mailbox;
mod orders;
mod publisher;
mod questions;
mod reader;
mod receiver;
mod returns;
mod subject;
mod subscriptions;
mod tls;
mod wire;

pub(crate) use connect::{Parts, connect};
pub(crate) use link::Link;

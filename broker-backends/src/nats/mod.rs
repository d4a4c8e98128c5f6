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
//!
//! Namespaces with history have a stream each in JetStream: [`reconcile`] makes it as configured,
//! [`streams`] knows which there are. [`lanes`] publishes to them in order, [`log`]
//! reads them, with [`lookup`], [`reading`] and [`newest`]; [`api`] asks JetStream, [`place`] is what
//! it says of a message, [`rounds`] makes one question of many.
//!
//! [`service`] is the other side: what an application has that publishes.

mod api;
mod bus;
mod connect;
mod consumer;
mod dial;
mod envelope;
mod lanes;
mod link;
mod log;
mod lookup;
mod mailbox;
mod newest;
mod orders;
mod place;
mod publisher;
mod questions;
mod reader;
mod reading;
mod receiver;
mod reconcile;
mod returns;
mod rounds;
mod service;
mod streams;
mod subject;
mod subscriptions;
mod tls;
mod wire;

pub(crate) use api::ApiError;
pub(crate) use connect::{Parts, connect};
pub(crate) use consumer::{Consumer, Given};
pub(crate) use dial::pause_before;
pub(crate) use link::Link;
pub use service::ServiceLink;

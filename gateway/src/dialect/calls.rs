//! What a client's events ask for, step by step.

use std::collections::VecDeque;

use broker_core::{Data, ErrorCode, session::Outgoing};
use serde_json::json;

use super::framing::{ReplyTo, text_of};
use crate::profile::{Ack, Action, Call, Emission};

/// The events under way. Mostly there are none, and then this is small.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    next: u64,
    /// Each with the number of the command that it waits for.
    waiting: Vec<(u64, Event)>,
    /// Those whose command has succeeded.
    ready: VecDeque<Event>,
}

/// An event of a client's, or its coming.
#[derive(Debug)]
pub(crate) struct Event {
    /// Who wants to know what comes of it, and how that is told.
    pub(crate) ack: Option<(ReplyTo, Ack)>,
    /// What is still to be done, in this order.
    pub(crate) actions: VecDeque<Action>,
    /// What a service replied, or what the last publish came to.
    pub(crate) reply: Option<Data>,
    /// Whether the server, or a service, has decided on what is done: then joins are its own.
    pub(crate) decided: bool,
    /// The request that is under way.
    call: Option<Box<Call>>,
}

/// What the client is to be told.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) emission: Option<Emission>,
    /// What came of an event that failed.
    pub(crate) failed: Option<(ReplyTo, Vec<Data>)>,
    /// What went wrong, where nobody waits for an acknowledgement, nor was told otherwise.
    pub(crate) error: Option<(ErrorCode, String)>,
}

impl Event {
    pub(crate) fn new(ack: Option<(ReplyTo, Ack)>, actions: Vec<Action>) -> Self {
        Self { ack, actions: actions.into(), reply: None, decided: false, call: None }
    }

    /// What the server itself does for a client that has connected.
    pub(crate) fn welcome(actions: Vec<Action>) -> Self {
        Self { decided: true, ..Self::new(None, actions) }
    }
}

impl Calls {
    /// The event waits for a command: the number that this is to have.
    pub(crate) fn wait(&mut self, mut event: Event, call: Option<Box<Call>>) -> u64 {
        self.next += 1;
        event.call = call;
        self.waiting.push((self.next, event));
        self.next
    }

    /// An event that goes on.
    pub(crate) fn take_ready(&mut self) -> Option<Event> {
        let event = self.ready.pop_front();
        if event.is_none() {
            self.ready = VecDeque::new();
        }
        event
    }

    /// A command has come to this. With the first that fails, its event ends.
    pub(crate) fn settle(&mut self, number: u64, body: &Outgoing) -> Settled {
        let Some(index) = self.waiting.iter().position(|(it, _)| *it == number) else {
            return Settled::default();
        };
        let (_, mut event) = self.waiting.swap_remove(index);
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        let call = event.call.take();
        match outcome(body) {
            Ok(reply) => {
                event.decided |= call.is_some();
                let emission = call.zip(reply.as_ref()).map(|(call, reply)| call.replied(reply));
                event.reply = reply.or(event.reply);
                self.ready.push_back(event);
                Settled { emission: fitting(emission), ..Settled::default() }
            }
            Err((code, text)) => {
                let emission = call.map(|call| call.failed(code, &text));
                let failed = event.ack.map(|(id, ack)| (id, ack.failed(code, &text)));
                let emission = fitting(emission);
                let error = (failed.is_none() && emission.is_none()).then_some((code, text));
                Settled { emission, failed, error }
            }
        }
    }
}

fn fitting<E: std::fmt::Display>(
    emission: Option<Result<Option<Emission>, E>>,
) -> Option<Emission> {
    emission?.unwrap_or_else(|error| {
        tracing::warn!(%error, "a reply does not fit the profile's template");
        None
    })
}

fn outcome(body: &Outgoing) -> Result<Option<Data>, (ErrorCode, String)> {
    match body {
        Outgoing::Error(failure) => Err((failure.code, failure.text.to_string())),
        Outgoing::Answer { data } => Ok(Some(data.clone())),
        Outgoing::Published { message, accepted } => {
            let mut reply = json!({ "ok": true, "id": message.as_str() });
            if let Some(position) = &accepted.position {
                reply["position"] = position.to_string().into();
            }
            if accepted.duplicate {
                reply["duplicate"] = true.into();
            }
            Ok(Some(Data::Json(text_of(&reply))))
        }
        _ => Ok(None),
    }
}

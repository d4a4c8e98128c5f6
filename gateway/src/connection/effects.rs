//! What the session wants done.

use std::sync::Arc;

use broker_core::{
    Identity, Interest, Message,
    ports::{BoxFuture, ServiceRequest},
    session::{Effect, OpId, Outgoing, Reply, Token},
};
use broker_protocol::{native, ws};
use bytes::BytesMut;
use futures_util::FutureExt;

use super::{Connection, End, Outcome, queue};
use crate::telemetry::{ActiveSpan, Source};

impl Connection {
    pub(super) fn perform_effects(&mut self) {
        let mut replies = BytesMut::new();
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Send(reply) => self.encode(&reply, &mut replies),
                Effect::Ping => replies.extend_from_slice(&ws::frame::ping_frame(b"")),
                Effect::Verify { op, token } => self.verify(op, token),
                Effect::Admit { op } => self.finish(Outcome::Verified(op, Ok(Identity::default()))),
                Effect::Opened => self.opened(),
                Effect::Join { op, interest } => self.join(op, &interest),
                Effect::Deliver { interest } => {
                    // The answer goes into the queue before the first message can.
                    self.push(&mut replies);
                    self.deps.hub.deliver(interest, Arc::clone(&self.outbox));
                }
                Effect::Leave { interest } => self.leave(&interest),
                Effect::Publish { op, message } => self.publish(op, message),
                Effect::Call { op, request } => self.call(op, request),
                Effect::Close(code) => {
                    self.push(&mut replies);
                    self.outbox.seal(ws::frame::close_frame(code.number(), code.reason()));
                    self.end.get_or_insert(End::Closing(code));
                }
            }
        }
        self.push(&mut replies);
    }

    fn encode(&self, reply: &Reply, out: &mut BytesMut) {
        if let Outgoing::Error(failure) = &reply.body {
            self.deps.metrics.errors.with_label_values(&[failure.code.as_str()]).inc();
        }
        native::encode_reply(reply, out);
    }

    fn push(&self, replies: &mut BytesMut) {
        if !replies.is_empty() {
            queue(&self.outbox, &self.deps.metrics, &replies.split().freeze());
        }
    }

    fn verify(&mut self, op: OpId, token: Token) {
        if let Some(outcome) = self.deps.verifier.verify_now(&token) {
            return self.finish(Outcome::Verified(op, outcome));
        }
        let verifier = Arc::clone(&self.deps.verifier);
        self.wait_for(async move { Outcome::Verified(op, verifier.verify(&token).await) }.boxed());
    }

    fn opened(&mut self) {
        self.decoder.set_max_message(self.deps.wire.frame_bytes);
        let user = self.session.identity().user.clone();
        let info = self.deps.directory.describe(self.outbox.id(), user, self.user_agent.take());
        self.outbox.set_info(Arc::clone(&info));
        self.deps.directory.connected(info);
        self.deps.metrics.handshake("ok");
    }

    fn join(&mut self, op: OpId, interest: &Interest) {
        if self.session.interests().any(|other| may_overlap(interest, other)) {
            self.outbox.watch_overlap();
        }
        let mut joined = self.deps.hub.join(interest);
        match joined.as_mut().now_or_never() {
            Some(outcome) => self.finish(Outcome::Joined(op, outcome)),
            None => self.wait_for(async move { Outcome::Joined(op, joined.await) }.boxed()),
        }
    }

    fn leave(&self, interest: &Interest) {
        self.deps.hub.leave(interest, self.outbox.id());
        self.outbox.forget_copies(interest);
    }

    fn publish(&mut self, op: OpId, mut message: Message) {
        let span = self.deps.tracing.publish_message(&mut message, Source::Client);
        let accepted = self.deps.bus.publish(message);
        let mut published = async move {
            let outcome = accepted.await;
            ActiveSpan::finish(span, &outcome);
            Outcome::Published(op, outcome)
        }
        .boxed();
        // What is refused at once must be known before the next publish is handed over.
        match published.as_mut().now_or_never() {
            Some(outcome) => self.finish(outcome),
            None => self.wait_for(published),
        }
    }

    fn call(&mut self, op: OpId, mut request: ServiceRequest) {
        let span = self.deps.tracing.request(&mut request);
        let answer = self.deps.bus.request(request);
        self.wait_for(
            async move {
                let outcome = answer.await;
                ActiveSpan::finish(span, &outcome);
                Outcome::Answered(op, outcome)
            }
            .boxed(),
        );
    }

    fn wait_for(&mut self, operation: BoxFuture<'static, Outcome>) {
        self.under_way.get_or_insert_default().push(operation);
    }
}

/// Whether some message may match both; cheap, and never wrongly no.
fn may_overlap(a: &Interest, b: &Interest) -> bool {
    let wild = matches!(a, Interest::Pattern(_)) || matches!(b, Interest::Pattern(_));
    wild && a != b && a.namespace() == b.namespace()
}

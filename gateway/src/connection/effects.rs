//! What the session wants done.

use std::sync::Arc;

use broker_core::{
    ChannelName, ErrorCode, Identity, Interest, Message, Position,
    feed::{Replay, Wanted},
    message::Publisher,
    ports::{Backlog, ServiceRequest},
    session::{Acks, Effect, Failure, OpId, Outgoing, Reply, RequestId, Since, Token},
};
use bytes::BytesMut;
use futures_util::FutureExt;

use super::{
    Client,
    conversation::{Conversation, End, Outcome, queue},
};
use crate::{
    clock,
    hub::feeds::{ChannelFeed, NotGiven},
    keeper::ToKeep,
    profile::RenderError,
    telemetry::{ActiveSpan, Source},
};

impl Conversation {
    pub(super) fn perform_effects(&mut self) {
        let mut replies = BytesMut::new();
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                Effect::Send(reply) => self.encode(&reply, &mut replies),
                Effect::Ping => self.dialect.ping(&mut replies),
                Effect::Verify { op, token } => self.verify(op, token),
                Effect::Admit { op } => self.finish(Outcome::Verified(op, Ok(Identity::default()))),
                Effect::Resume { op, secret } => self.resume(op, secret),
                Effect::Keep { op } => self.keep(op),
                Effect::KeepAnew => {
                    self.deps.keeper.changed(self.outbox.id(), self.session.identity());
                }
                Effect::Recover { op, secret } => self.recover(op, secret),
                Effect::CatchUp { op, subscriptions } => {
                    self.push(&mut replies);
                    self.catch_up(op, &subscriptions);
                }
                Effect::BeginAnew => self.begin_anew(),
                Effect::Opened => self.opened(),
                Effect::Join { op, interest, since } => self.join(op, &interest, since),
                Effect::Deliver { interest, answers, since } => {
                    self.deliver(interest, answers, since.as_deref(), &mut replies);
                }
                Effect::Leave { interest } => self.leave(&interest),
                Effect::Publish { op, message, publisher } => self.publish(op, message, publisher),
                Effect::Acknowledge { answers, position } => {
                    let answer = self.acknowledge(answers, position);
                    if let Some(reply) = answer {
                        self.encode(&reply, &mut replies);
                    }
                }
                Effect::Call { op, request } => self.call(op, request),
                Effect::Members { op, query } => self.look_up_members(op, query),
                Effect::Close(code) => {
                    self.push(&mut replies);
                    let reason = self.outbox.take_reason();
                    self.outbox.seal(self.dialect.last_frame(code, reason.as_deref()));
                    self.end.get_or_insert(End::Closing(code));
                }
            }
        }
        self.push(&mut replies);
    }

    pub(super) fn encode(&mut self, reply: &Reply, out: &mut BytesMut) {
        if let Outgoing::Error(failure) = &reply.body {
            self.deps.metrics.errors.with_label_values(&[failure.code.as_str()]).inc();
        }
        self.dialect.encode_reply(reply, self.session.identity(), out);
    }

    pub(super) fn encode_message(&self, message: &Message, out: &mut BytesMut) {
        let encoded = self.dialect.encode_message(message, (self.session.identity(), None), out);
        self.count_unfit(message, encoded);
    }

    pub(super) fn count_unfit(&self, message: &Message, encoded: Result<(), RenderError>) {
        if let Err(error) = encoded {
            self.deps.metrics.dropped("unfit", 1);
            tracing::warn!(channel = %message.channel, %error, "a message does not fit its template");
        }
    }

    pub(super) fn push(&self, replies: &mut BytesMut) {
        self.push_messages(replies, 0);
    }

    pub(super) fn push_messages(&self, replies: &mut BytesMut, count: u32) {
        if !replies.is_empty() {
            queue(&self.outbox, &self.deps.metrics, (&replies.split().freeze(), count));
        }
    }

    fn verify(&mut self, op: OpId, token: Token) {
        if let Some(outcome) = self.deps.authenticator.identify_now(&token) {
            return self.finish(Outcome::Verified(op, outcome));
        }
        let deps = Arc::clone(&self.deps);
        self.wait_for(
            async move { Outcome::Verified(op, deps.authenticator.identify(&token).await) }.boxed(),
        );
    }

    fn resume(&mut self, op: OpId, secret: Token) {
        let keeper = Arc::clone(&self.deps.keeper);
        self.wait_for(async move { Outcome::Resumed(op, keeper.resume(&secret).await) }.boxed());
    }

    fn keep(&mut self, op: OpId) {
        let keeper = Arc::clone(&self.deps.keeper);
        let what = ToKeep {
            connection: self.outbox.id(),
            origin: self.session.origin(),
            identity: Arc::clone(self.session.identity()),
            secret: self.known_secret(),
            recoverable: self.dialect.recovers(),
        };
        self.wait_for(async move { Outcome::Kept(op, keeper.keep(what).await) }.boxed());
    }

    fn opened(&mut self) {
        let user = self.session.identity().user.clone();
        let Client { transport, user_agent } = &mut self.client;
        let (agent, transport) = (user_agent.take(), transport.name());
        let info = self.deps.directory.describe(self.outbox.id(), user, agent, transport);
        self.outbox.set_info(Arc::clone(&info));
        self.outbox.set_origin(self.session.origin());
        tracing::debug!(connection = %self.outbox.id(), transport, "a client has connected");
        self.deps.directory.connected(info);
        self.deps.metrics.handshake("ok");
    }

    fn join(&mut self, op: OpId, interest: &Interest, since: Option<Box<Since>>) {
        if self.session.interests().any(|other| may_overlap(interest, other)) {
            self.outbox.watch_overlap();
        }
        let mut joined = self.begin_tracked(interest, self.deps.hub.join(interest, since));
        match joined.as_mut().now_or_never() {
            Some(outcome) => self.finish(Outcome::Joined(op, outcome)),
            None => self.wait_for(async move { Outcome::Joined(op, joined.await) }.boxed()),
        }
    }

    /// The answer goes into the queue before the first message can, the past before what comes
    /// live.
    fn deliver(
        &mut self,
        interest: Interest,
        answers: Option<RequestId>,
        since: Option<&Since>,
        replies: &mut BytesMut,
    ) {
        let noted = self.go_live(&interest).filter(|_| since.is_none());
        let since = since.or(noted.as_ref());
        if let Interest::Pattern(pattern) = &interest
            && let Some(watched) = self.deps.hub.watched(pattern.namespace()).cloned()
        {
            let asked = (answers.flatten(), since);
            return self.deliver_retained((&interest, pattern), &watched, asked, replies);
        }
        let channel = self.deps.hub.feed(&interest);
        let mut feed = channel.as_ref().map(|channel| channel.lock());
        let backlog = channel
            .as_ref()
            .zip(feed.as_ref())
            .and_then(|(channel, feed)| channel.give_backlog(feed));
        let wanted = match (since, &backlog) {
            (Some(since), _) => Wanted::Since(since),
            (None, Some(backlog)) => Wanted::Pending(backlog),
            (None, None) => Wanted::Nothing,
        };
        let now = clock::now();
        let replay = channel.as_ref().zip(feed.as_mut()).and_then(|(channel, feed)| {
            feed.replay((now.instant, now.wall), &channel.history, wanted)
        });
        let lost = backlog.filter(|it| it.evicted + it.expired > 0);
        let before = replay.as_ref().and_then(Replay::before);
        if let Some((Backlog { evicted, expired, .. }, position)) = lost.zip(before) {
            let body = Outgoing::Evicted { evicted, expired, position };
            self.encode(&Reply { id: None, body }, replies);
        }
        if let Some(start) = replay.as_ref().map(|replay| replay.start) {
            self.note_start((&interest, start), noted.is_some());
        }
        let past = replay.map(|mut replay| {
            replay.start.recovered = replay.start.recovered.filter(|_| noted.is_none());
            let is_due = |message: &Message| {
                channel.as_ref().is_some_and(|channel| channel.has_waited_out(message, now.wall))
            };
            replay.messages.retain(|message| !is_due(message));
            self.select(replay)
        });
        if let Some(id) = answers {
            let start = past.as_ref().map(|past| past.start);
            let body = Outgoing::Subscribed { interest: interest.clone(), start };
            self.encode(&Reply { id, body }, replies);
        }
        let messages = past.map_or(Vec::new(), |past| past.messages);
        if self.outbox.is_tracked() && !messages.is_empty() {
            self.push(replies);
            messages.iter().for_each(|message| self.push_marked(&interest, message));
        } else {
            messages.iter().for_each(|message| self.encode_message(message, replies));
        }
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        self.deps.metrics.history.replayed.inc_by(count.into());
        self.push_messages(replies, count);
        self.deps.hub.deliver(interest, Arc::clone(&self.outbox));
        drop(feed);
    }

    /// Asks the transport what the client has taken in, unless the client says so itself.
    pub(super) fn probe(&mut self) {
        if self.session.acks() == Acks::Client || self.probed.is_some() {
            return;
        }
        let Some(channel) = self.own_channel() else { return };
        // Before the ping is queued: what is given out meanwhile comes behind it.
        self.probed = channel.lock().position().map(Box::new);
        if let Some(probe) = self.dialect.probe() {
            queue(&self.outbox, &self.deps.metrics, (&probe, 0));
        }
    }

    fn own_channel(&self) -> Option<Arc<ChannelFeed>> {
        let user = self.session.identity().user.as_ref()?;
        self.deps.hub.feed(&Interest::Channel(ChannelName::of_user(user)))
    }

    /// The transport says that the client has taken in what was written before the probe.
    pub(crate) fn probe_answered(&mut self) {
        if let Some(position) = self.probed.take() {
            drop(self.acknowledge(None, *position));
        }
    }

    /// Takes note of what the user has taken in. Only who wants an answer gets one.
    fn acknowledge(&self, answers: RequestId, position: Position) -> Option<Reply> {
        let user = self.session.identity().user.as_ref()?;
        let outcome = match (self.own_channel(), &self.deps.acknowledgements) {
            (Some(channel), Some(acknowledgements)) => {
                channel.acknowledge(position).map(|()| acknowledgements.note(user, position))
            }
            _ => Err(NotGiven::NoQueue),
        };
        let failure = |code, text: &'static str| Outgoing::Error(Failure::new(code, text));
        let body = match outcome {
            Ok(()) => return answers.map(|_| Reply { id: answers, body: Outgoing::Acknowledged }),
            Err(NotGiven::NoQueue) => {
                failure(ErrorCode::NoQueue, "there is no offline queue for this connection's user")
            }
            Err(NotGiven::Unreachable) => failure(
                ErrorCode::Unavailable,
                "the offline queue is not in reach: its messages come again once it is",
            ),
            Err(NotGiven::Unknown) => {
                failure(ErrorCode::BadRequest, "no message with this position was given")
            }
        };
        Some(Reply { id: answers, body })
    }

    /// What of the past is for this client.
    pub(super) fn select<'a>(&self, replay: Replay<'a>) -> Replay<'a> {
        let Replay { mut start, mut messages } = replay;
        if let Some(recovered) = start.recovered {
            self.deps.metrics.history.recovery(recovered);
        }
        let (now, all) = (clock::wall(), messages.len());
        messages.retain(|message| !message.has_expired(now));
        self.deps.metrics.dropped("expired", (all - messages.len()) as u64);
        messages.retain(|message| !self.is_excluded(message) && !self.has_elsewhere(message));
        start.replayed = messages.len();
        Replay { start, messages }
    }

    pub(super) fn is_excluded(&self, message: &Message) -> bool {
        let exclude = message.options.as_ref().map(|options| &options.exclude);
        // The outbox knows who it is for only once the session is open.
        let user = self.session.identity().user.as_ref();
        exclude.is_some_and(|exclude| {
            self.outbox.is_excluded(exclude) || exclude.covers(self.session.origin(), user)
        })
    }

    /// Whether another copy of the message comes by a channel that is recovered as well.
    fn has_elsewhere(&self, message: &Message) -> bool {
        let namespaces = &self.deps.rules.namespaces;
        message.earlier_targets().iter().any(|target| {
            namespaces.history(target.namespace()).is_some()
                && self.session.interests().any(|interest| interest.matches(target))
        })
    }

    fn leave(&self, interest: &Interest) {
        self.deps.hub.leave(interest, self.outbox.id());
        self.end_tracked(interest);
        self.outbox.forget_copies(interest);
    }

    fn publish(&mut self, op: OpId, mut message: Message, publisher: Publisher) {
        let span = self.deps.tracing.publish_message(&mut message, Source::Client);
        let accepted = self.deps.bus.publish(message, publisher);
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
        let answer = self.deps.services.ask(request);
        self.wait_for(
            async move {
                let outcome = answer.await;
                ActiveSpan::finish(span, &outcome);
                Outcome::Answered(op, outcome)
            }
            .boxed(),
        );
    }
}

/// Whether some message may match both; cheap, and never wrongly no.
fn may_overlap(a: &Interest, b: &Interest) -> bool {
    let wild = matches!(a, Interest::Pattern(_)) || matches!(b, Interest::Pattern(_));
    wild && a != b && a.namespace() == b.namespace()
}

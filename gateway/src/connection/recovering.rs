//! Clients whose subscriptions and positions the server sees to, so that they can be recovered.

use std::{collections::VecDeque, mem, sync::Arc};

use broker_core::{
    Interest, Message, Position, Timestamp,
    feed::Wanted,
    history::Start,
    ports::{BoxFuture, BusError, GapReason},
    recovery::Progress,
    session::{OpId, Since, Token},
};
use bytes::BytesMut;
use futures_util::FutureExt as _;

use super::conversation::{Conversation, Outcome, queue};
use crate::{
    clock,
    dialect::{Dialect, Faced},
    keeper::{Comeback, Recovery},
    outbox::{Given, Pushed},
};

/// What was missed of one channel, and where that ends.
struct Missed<'a> {
    interest: &'a Interest,
    messages: VecDeque<Message>,
    end: Position,
}

/// What most frames hold beside the data, in bytes, with a mark.
const ENVELOPE: usize = 512;

impl Conversation {
    /// Takes over what is kept of the session, if there is such a thing.
    pub(super) fn recover(&mut self, op: OpId, secret: Token) {
        let identity = Arc::clone(self.session.identity());
        let Some(faced) = self.faced() else { return self.recovered(op, Err("lost")) };
        let silence = faced.framing().recovery();
        let offset = faced.returning().as_ref().map(|it| it.offset.clone());
        let (Some(silence), Some(offset)) = (silence, offset) else {
            return self.recovered(op, Err("lost"));
        };
        let user = identity.user.clone();
        let (keeper, connection) = (Arc::clone(&self.deps.keeper), self.outbox.id());
        let comeback = Comeback { connection, user, secret, offset, silence };
        self.wait_for(
            async move { Outcome::Recovered(op, keeper.recover(&comeback).await.map(Box::new)) }
                .boxed(),
        );
    }

    pub(super) fn recovered(&mut self, op: OpId, outcome: Result<Box<Recovery>, &'static str>) {
        let recovered = match outcome {
            Ok(recovery) => {
                let Recovery { recovered, progress } = *recovery;
                self.outbox.track(progress);
                Some(recovered)
            }
            Err(why) => {
                self.count_recovery(why);
                self.forget_secret();
                None
            }
        };
        self.session.handle_recovered(clock::now(), op, recovered);
    }

    /// The secret that the client has already, and goes on with.
    pub(super) fn known_secret(&mut self) -> Option<Token> {
        Some(self.faced()?.returning().as_ref()?.secret.clone())
    }

    /// What cannot be recovered needs no marks.
    pub(super) fn not_kept(&mut self) {
        self.count_recovery("unavailable");
        self.outbox.forget_progress();
    }

    /// Writes what the client missed, in the order in which it was published as far as that can be
    /// told, if all of it is at hand.
    pub(super) fn catch_up(&mut self, op: OpId, subscriptions: &[(Interest, Box<Since>)]) {
        let missed = self.collect_missed(subscriptions);
        self.count_recovery(missed.as_ref().map_or_else(|why| *why, |_| "recovered"));
        let all = missed.map(|missed| self.push_missed(missed)).is_ok();
        if all {
            let origin = self.session.origin();
            if let Some(faced) = self.faced() {
                faced.go_on_as(origin);
            }
        }
        self.session.handle_caught_up(clock::now(), op, all);
    }

    fn collect_missed<'a>(
        &self,
        subscriptions: &'a [(Interest, Box<Since>)],
    ) -> Result<Vec<Missed<'a>>, &'static str> {
        let (now, mut room) = (clock::now(), self.outbox.room());
        let mut all = Vec::with_capacity(subscriptions.len());
        for (interest, since) in subscriptions {
            let channel = self.deps.hub.feed(interest).ok_or("incomplete")?;
            let mut feed = channel.lock();
            let end = feed.position().ok_or("incomplete")?;
            let wanted = Wanted::Since(since);
            let replay = feed.replay((now.instant, now.wall), &channel.history, wanted);
            let mut replay = replay.ok_or("incomplete")?;
            if replay.start.recovered != Some(true) {
                self.deps.metrics.history.recovery(false);
                return Err("incomplete");
            }
            replay.messages.retain(|message| !channel.has_waited_out(message, now.wall));
            let selected = self.select(replay).messages;
            let messages: VecDeque<Message> = selected.into_iter().cloned().collect();
            let bytes: usize = messages.iter().map(|it| it.data.len() + ENVELOPE).sum();
            room = room.checked_sub(bytes).ok_or("too_much")?;
            all.push(Missed { interest, messages, end });
        }
        Ok(all)
    }

    fn push_missed(&self, mut missed: Vec<Missed<'_>>) {
        let count: usize = missed.iter().map(|it| it.messages.len()).sum();
        self.deps.metrics.history.replayed.inc_by(count as u64);
        let time = |it: &&mut Missed<'_>| it.messages.front().map(|message| message.time);
        while let Some(next) =
            missed.iter_mut().filter(|it| !it.messages.is_empty()).min_by_key(time)
        {
            if let Some(message) = next.messages.pop_front() {
                self.push_marked(next.interest, &message);
            }
        }
        for Missed { interest, end, .. } in missed {
            self.outbox.with_progress(|progress| progress.stand(interest, end));
        }
        let Dialect::Faced(faced) = &self.dialect else { return };
        let silence = faced.framing().recovery().unwrap_or_default();
        let silence = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
        let shown_at = Timestamp(clock::wall().0.saturating_add(silence));
        self.outbox.with_progress(|progress| progress.caught_up(shown_at));
    }

    /// Begins where one begins who has never been here.
    pub(super) fn begin_anew(&mut self) {
        self.count_recovery("denied");
        self.forget_secret();
        if !self.outbox.is_tracked() {
            // It is not kept: nobody could make use of its marks.
            return;
        }
        let mut progress = Progress::new(self.outbox.id());
        for interest in self.session.interests() {
            let channel = self.deps.hub.feed(interest);
            progress.begin(interest, channel.and_then(|channel| channel.beginning()));
        }
        self.outbox.track(progress);
    }

    /// A subscription is kept before it begins.
    pub(super) fn begin_tracked(
        &self,
        interest: &Interest,
        joined: BoxFuture<'static, Result<(), BusError>>,
    ) -> BoxFuture<'static, Result<(), BusError>> {
        if !self.outbox.is_tracked() {
            return joined;
        }
        let (hub, keeper) = (Arc::clone(&self.deps.hub), Arc::clone(&self.deps.keeper));
        let (outbox, interest) = (Arc::clone(&self.outbox), interest.clone());
        async move {
            joined.await?;
            let from = hub.feed(&interest).and_then(|channel| channel.beginning());
            outbox.with_progress(|progress| progress.begin(&interest, from));
            keeper.keep_subscriptions(outbox.id()).await;
            Ok(())
        }
        .boxed()
    }

    /// What the subscription goes on from, now that it begins.
    pub(super) fn go_live(&self, interest: &Interest) -> Option<Since> {
        let position = self.outbox.with_progress(|progress| progress.go_live(interest))?;
        if let Dialect::Faced(faced) = &self.dialect {
            let framing = faced.framing();
            let pushed =
                self.outbox.push_doubt(|mark, out| framing.encode_unkept(interest, mark, out));
            self.note_pushed(pushed);
        }
        Some(Since { position: Some(position?), ..Since::default() })
    }

    /// Where the subscription began in fact. `known`: it was to go on from somewhere.
    pub(super) fn note_start(&self, (interest, start): (&Interest, Start), known: bool) {
        let Some(position) = start.position else { return };
        let lost = known && start.recovered == Some(false);
        if start.replayed == 0 {
            self.outbox.with_progress(|progress| progress.stand(interest, position));
        }
        // Of what came before it was subscribed, nothing was promised.
        if lost
            && self.session.origin() != self.outbox.id()
            && let Dialect::Faced(faced) = &self.dialect
        {
            self.deps.metrics.gap(GapReason::Lost);
            let frames = faced.framing().gap(Some(interest), GapReason::Lost);
            queue(&self.outbox, &self.deps.metrics, (&frames, 0));
        }
    }

    pub(super) fn push_marked(&self, via: &Interest, message: &Message) {
        let Some(position) = message.position() else { return };
        let identity = self.session.identity();
        let pushed = self.outbox.push_marked(
            Given { via, position, print: None },
            |mark, out: &mut BytesMut| {
                let encoded = self.dialect.encode_message(message, (identity, mark), out);
                self.count_unfit(message, encoded);
            },
        );
        self.note_pushed(pushed.map(|(pushed, _)| pushed));
    }

    fn note_pushed(&self, pushed: Option<Pushed>) {
        if let Some(Pushed::Overflow { lost }) = pushed {
            self.deps.metrics.slow_client(lost);
        }
    }

    pub(super) fn end_tracked(&self, interest: &Interest) {
        if self.outbox.with_progress(|progress| progress.end(interest)).is_some() {
            self.deps.keeper.subscriptions_changed(self.outbox.id());
        }
    }

    /// Says once what became of a client that came back.
    fn count_recovery(&mut self, result: &'static str) {
        let returning = self.faced().and_then(|faced| faced.returning().as_mut());
        if returning.is_some_and(|it| mem::take(&mut it.undecided)) {
            self.deps.metrics.sessions.recovered(result);
        }
    }

    fn forget_secret(&mut self) {
        if let Some(faced) = self.faced() {
            *faced.returning() = None;
        }
    }

    fn faced(&mut self) -> Option<&mut Faced> {
        match &mut self.dialect {
            Dialect::Faced(faced) => Some(faced),
            Dialect::Native { .. } => None,
        }
    }
}

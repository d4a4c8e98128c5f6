//! Whatever comes in whatever order, some things hold.

use std::collections::{HashMap, HashSet};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{name::ChannelName, ports::StoreError, resume::Resumed};

#[derive(Debug, Clone, Copy)]
enum Event {
    Request(Kind, u8, Option<u8>),
    /// The outcome of some open operation; the number says how it ended.
    Outcome(prop::sample::Index, u8),
    /// An outcome for no operation, or for one that has ended.
    Bogus(u32),
    /// Carries out what is asked for; until then, effects pile up.
    Perform,
    Activity,
    Time(u64),
    Timeout,
    Malformed,
    Drain,
    Close,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Connect,
    ConnectAsNobody,
    Resume,
    Recover,
    Refresh,
    Subscribe,
    Admit,
    Unsubscribe,
    Publish,
    Abandon,
    Call,
    Members,
    Ping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Verify,
    Admit,
    Resume,
    Recover,
    CatchUp,
    Keep,
    Join,
    Publish,
    Call,
    Members,
}

/// What a driver would hold, and what must hold of it.
struct Driver {
    script: Script,
    open: Vec<(OpId, Op)>,
    asked: HashSet<u64>,
    answered: HashSet<u64>,
    joined: HashSet<Interest>,
    delivered: HashSet<Interest>,
    /// Messages that failed and are neither retried nor given up.
    failed: HashMap<ChannelName, Vec<MessageId>>,
    abandons: HashMap<u64, ChannelName>,
    handed: HashMap<OpId, (ChannelName, MessageId)>,
    closed: bool,
}

const NAMES: [&str; 5] = ["venue:1", "venue:2", "venue:*", "staff:1", "void:1"];

fn event() -> impl Strategy<Value = Event> {
    use Kind::*;
    let kind = prop::sample::select(vec![
        Connect,
        ConnectAsNobody,
        Resume,
        Recover,
        Refresh,
        Subscribe,
        Subscribe,
        Admit,
        Admit,
        Unsubscribe,
        Unsubscribe,
        Publish,
        Publish,
        Publish,
        Abandon,
        Call,
        Members,
        Ping,
    ]);
    prop_oneof![
        20 => (kind, 0..5u8, prop::option::of(0..3u8)).prop_map(|(k, n, m)| Event::Request(k, n, m)),
        20 => (any::<prop::sample::Index>(), 0..6u8).prop_map(|(i, how)| Event::Outcome(i, how)),
        1 => any::<u32>().prop_map(Event::Bogus),
        10 => Just(Event::Perform),
        2 => Just(Event::Activity),
        2 => (0..8_000u64).prop_map(Event::Time),
        2 => Just(Event::Timeout),
        1 => Just(Event::Malformed),
        1 => prop::bool::weighted(0.2).prop_map(|drain| if drain { Event::Drain } else { Event::Perform }),
        1 => prop::bool::weighted(0.1).prop_map(|close| if close { Event::Close } else { Event::Perform }),
    ]
}

impl Driver {
    fn new() -> Self {
        Self {
            script: Script::with(rules()),
            open: Vec::new(),
            asked: HashSet::new(),
            answered: HashSet::new(),
            joined: HashSet::new(),
            delivered: HashSet::new(),
            failed: HashMap::new(),
            abandons: HashMap::new(),
            handed: HashMap::new(),
            closed: false,
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.script.now;
        match event {
            Event::Request(kind, name, message) => self.ask(kind, name, message),
            Event::Outcome(_, _) if self.open.is_empty() => {}
            Event::Outcome(index, how) => {
                let (op, kind) = self.open.swap_remove(index.index(self.open.len()));
                self.end(op, kind, how);
            }
            Event::Bogus(op) => {
                // Far from those that are handed out, or handed out and ended.
                let op = OpId(if self.handed.contains_key(&OpId(op % 64)) {
                    op % 64
                } else {
                    op | 1 << 31
                });
                if !self.open.iter().any(|(open, _)| *open == op) && !self.queued(op) {
                    for kind in [
                        Op::Verify,
                        Op::Resume,
                        Op::Recover,
                        Op::CatchUp,
                        Op::Keep,
                        Op::Join,
                        Op::Publish,
                        Op::Call,
                    ] {
                        self.outcome(op, kind, 0);
                    }
                }
            }
            Event::Perform => {}
            Event::Activity => self.script.activity(),
            Event::Time(millis) => {
                self.script.now.instant += Duration::from_millis(millis);
                self.script.now.wall.0 += millis;
            }
            Event::Timeout => {
                let due = self.script.session.poll_timeout();
                let at = due.map_or(now.instant, |due| due.max(now.instant));
                self.script.now.instant = at;
                self.script.session.handle_timeout(self.script.now);
                let next = self.script.session.poll_timeout();
                assert!(next.is_none_or(|next| next > at), "a timer that spins");
            }
            Event::Malformed => {
                let failure = Failure::new(ErrorCode::BadRequest, "what?");
                self.script.session.handle_malformed(None, failure);
            }
            Event::Drain => self.script.session.handle_drain(SECOND),
            Event::Close => self.script.session.handle_close(CloseCode::Disconnected),
        }
    }

    fn ask(&mut self, kind: Kind, name: u8, message: Option<u8>) {
        let session = &self.script.session;
        if !session.has_room() {
            return;
        }
        let (name, id) = (NAMES[usize::from(name)], self.asked.len() as u64);
        let channel = if name == "venue:*" { "venue:3" } else { name };
        let message = message.map_or(String::new(), |n| format!("m{n}"));
        let command = match kind {
            Kind::Connect => connect(Some("token")),
            Kind::ConnectAsNobody => connect(None),
            Kind::Resume => Command::Connect {
                token: None,
                acks: Acks::default(),
                session: Resumption::From(Token::new("old".to_owned())),
            },
            Kind::Recover => recovering::recoverable(Some("pid")),
            Kind::Refresh => refresh(),
            Kind::Subscribe => subscribe(name),
            Kind::Admit => {
                self.asked.insert(id);
                return self.script.session.handle_admission(Some(id), interest(name));
            }
            Kind::Unsubscribe => unsubscribe(name),
            Kind::Publish => publish(channel, &message),
            Kind::Abandon => {
                self.abandons.insert(id, channel.parse().unwrap());
                abandon(channel)
            }
            Kind::Call => call(channel, None),
            Kind::Members => present::members(channel),
            Kind::Ping => Command::Ping,
        };
        let request = Request { id: Some(id), command };
        self.asked.insert(id);
        self.script.session.handle_request(self.script.now, request, u128::from(id) << 64);
    }

    fn queued(&self, op: OpId) -> bool {
        self.script.session.pending.iter().any(|(pending, _)| *pending == op)
    }

    fn end(&mut self, op: OpId, kind: Op, how: u8) {
        if let (Op::Publish, 1..=3, false) = (kind, how, self.closed) {
            let (channel, message) = self.handed[&op].clone();
            self.failed.entry(channel).or_default().push(message);
        }
        if let (Op::Publish, 0 | 5.., false) = (kind, how, self.closed) {
            let (channel, message) = &self.handed[&op];
            if let Some(failed) = self.failed.get_mut(channel) {
                failed.retain(|failed| failed != message);
            }
        }
        self.outcome(op, kind, how);
    }

    fn outcome(&mut self, op: OpId, kind: Op, how: u8) {
        let (session, now) = (&mut self.script.session, self.script.now);
        let expires = Some(Timestamp(now.wall.0 + 40_000));
        match kind {
            Op::Admit => session.handle_verified(now, op, Ok(nobody())),
            Op::Verify => session.handle_verified(
                now,
                op,
                match how {
                    0 => Err(Failure::new(ErrorCode::Unavailable, "no")),
                    1 => Ok(nobody()),
                    2 | 3 => Ok(Identity { expires, ..ann() }),
                    _ => Ok(Identity { expires, ..ann_of_staff() }),
                },
            ),
            Op::Resume => {
                let resumed = Resumed { origin: ConnectionId(3), identity: ann_of_staff() };
                let lost = Failure::new(ErrorCode::SessionLost, "no");
                session.handle_resumed(now, op, if how < 2 { Err(lost) } else { Ok(resumed) });
            }
            Op::Recover => {
                let names = ["venue:1", "user:ann", "staff:1"].iter().take(how.into());
                let recovered = recovering::recovered(names.copied());
                session.handle_recovered(now, op, (how != 1).then_some(recovered));
            }
            Op::CatchUp => session.handle_caught_up(now, op, how != 1),
            Op::Keep => {
                let secret = (how != 1).then(|| Token::new("new".to_owned()));
                session.handle_kept(now, op, secret);
            }
            Op::Join => {
                let outcome = if how == 1 { Err(BusError::Timeout) } else { Ok(()) };
                session.handle_joined(now, op, outcome);
            }
            Op::Publish => session.handle_published(
                op,
                match how {
                    1 => Err(PublishError::Unknown),
                    2 => Err(PublishError::Unavailable),
                    3 => Err(PublishError::Overloaded),
                    4 => Err(PublishError::TooLarge),
                    _ => Ok(Accepted::default()),
                },
            ),
            Op::Call => {
                let outcome = if how == 1 { Err(RequestError::Timeout) } else { Ok(data(1)) };
                session.handle_answered(op, outcome);
            }
            Op::Members => {
                let outcome = if how == 1 {
                    Err(StoreError::Unavailable.into())
                } else {
                    Ok(present::nobody_in("venue:1"))
                };
                session.handle_members(op, outcome);
            }
        }
    }

    fn perform(&mut self) {
        while let Some(effect) = self.script.session.poll_effect() {
            assert!(!self.closed, "after the close: {effect:?}");
            match effect {
                Effect::Send(Reply { id: Some(id), body }) => {
                    assert!(self.asked.contains(&id), "nobody asked {id}");
                    assert!(self.answered.insert(id), "{id} is answered twice");
                    if let (Outgoing::Abandoned, Some(channel)) = (body, self.abandons.get(&id)) {
                        self.failed.remove(channel);
                    }
                }
                Effect::Send(_)
                | Effect::Ping
                | Effect::Opened
                | Effect::KeepAnew
                | Effect::BeginAnew
                | Effect::Acknowledge { .. } => {}
                Effect::Verify { op, .. } => self.open.push((op, Op::Verify)),
                Effect::Admit { op } => self.open.push((op, Op::Admit)),
                Effect::Resume { op, .. } => self.open.push((op, Op::Resume)),
                Effect::Recover { op, .. } => self.open.push((op, Op::Recover)),
                Effect::CatchUp { op, subscriptions } => {
                    let are_joined = subscriptions.iter().all(|(it, _)| self.joined.contains(it));
                    assert!(are_joined, "caught up with what is not joined");
                    self.open.push((op, Op::CatchUp));
                }
                Effect::Keep { op } => self.open.push((op, Op::Keep)),
                Effect::Call { op, .. } => self.open.push((op, Op::Call)),
                Effect::Join { op, interest, .. } => {
                    assert!(self.joined.insert(interest), "joined twice");
                    self.open.push((op, Op::Join));
                }
                Effect::Deliver { interest, answers, .. } => {
                    if let Some(Some(id)) = answers {
                        assert!(self.answered.insert(id), "{id} is answered twice");
                    }
                    assert!(self.joined.contains(&interest), "delivered without join");
                    assert!(self.delivered.insert(interest), "delivered twice");
                }
                Effect::Leave { interest } => {
                    assert!(self.joined.remove(&interest), "left without join");
                    self.delivered.remove(&interest);
                }
                Effect::Publish { op, message, .. } => {
                    let failed = self.failed.entry(message.channel.clone()).or_default();
                    let retry = failed.contains(&message.id);
                    assert!(retry || failed.is_empty(), "{} overtakes {failed:?}", message.id);
                    failed.retain(|known| *known != message.id);
                    self.handed.insert(op, (message.channel, message.id));
                    self.open.push((op, Op::Publish));
                }
                Effect::Members { op, .. } => self.open.push((op, Op::Members)),
                Effect::Close(_) => self.closed = true,
            }
        }
    }

    fn check(&self) {
        let session = &self.script.session;
        assert_eq!(session.poll_timeout().is_none(), self.closed);
        let interests: HashSet<Interest> = session.interests().cloned().collect();
        assert_eq!(interests, self.joined);
        assert!(interests.len() <= 5);
        assert!(session.pending.len() <= 4 + 5, "{:?}", session.pending);
        if session.pending.is_empty() {
            assert_eq!((session.pending.capacity(), session.effects.capacity()), (0, 0));
        }
        if self.closed {
            assert!(!session.is_open());
        } else if self.open.is_empty() {
            assert_eq!(session.pending.len(), 0, "{:?} wait for nothing", session.pending);
            assert_eq!(self.answered.len(), self.asked.len(), "an answer is missing");
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens(start in 0..5_usize, events in vec(event(), 0..80), ends in vec(0..6u8, 64)) {
        let mut driver = Driver::new();
        if start > 0 {
            let connect = [Kind::Connect, Kind::ConnectAsNobody, Kind::Resume, Kind::Recover][start - 1];
            driver.ask(connect, 0, None);
        }
        for event in events {
            let performs = !matches!(event, Event::Request(..) | Event::Time(_));
            driver.happen(event);
            if performs {
                driver.perform();
                driver.check();
            }
        }
        // Every operation ends; then every request has its answer.
        driver.perform();
        for how in ends.into_iter().chain(std::iter::repeat(5)) {
            let Some((op, kind)) = driver.open.pop() else { break };
            driver.end(op, kind, how);
            driver.perform();
            driver.check();
        }
        driver.check();
    }
}

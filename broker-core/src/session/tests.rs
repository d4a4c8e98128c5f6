//! Scripts: what goes in, and exactly what comes out, each effect as one line of text.

mod admission;
mod connecting;
mod present;
mod publishing;
mod random;
mod recovering;
mod resuming;
mod rules;
mod subscriptions;
mod timers;

use bytes::Bytes;

use super::*;
use crate::{
    access::{NamespaceRules, Namespaces, Rule},
    history::History,
    id::MessageId,
    message::Timestamp,
};

const SECOND: Duration = Duration::from_secs(1);

/// A session, its clock, and the way to talk to it.
struct Script {
    session: Session,
    now: Now,
    entropy: u128,
}

/// Anyone may do anything in `venue`; `staff` is for a role; `feed` is for reading.
fn rules() -> Rules {
    let rule = |text: &str| Rule(vec![text.parse().unwrap()]);
    let every = |text| NamespaceRules {
        subscribe: rule(text),
        wildcard: rule(text),
        publish: rule(text),
        request: rule(text),
        presence: true,
        ..NamespaceRules::default()
    };
    let history = History { size: 1, ttl: 60 * SECOND };
    let screen = NamespaceRules { history: Some(history), retained: true, ..every("anyone") };
    let feed = NamespaceRules { subscribe: rule("anyone"), ..NamespaceRules::default() };
    let declared = [
        ("venue", every("anyone")),
        ("staff", every("role:staff")),
        ("feed", feed),
        ("screen", screen),
    ];
    Rules {
        namespaces: Namespaces {
            declared: declared.map(|(name, rules)| (name.parse().unwrap(), rules)).into(),
            fallback: None,
            on_connect: Vec::new(),
        },
        limits: Limits {
            subscriptions: 5,
            message_bytes: 100,
            in_flight: 4,
            connect_timeout: 10 * SECOND,
            ping_interval: 25 * SECOND,
            pong_timeout: 10 * SECOND,
            expiry_warning: 30 * SECOND,
            request_timeout: 5 * SECOND,
        },
        anonymous: true,
    }
}

#[expect(clippy::disallowed_methods, reason = "a starting point for made-up times")]
fn start() -> Now {
    Now { instant: Instant::now(), wall: Timestamp(1_000_000) }
}

impl Script {
    fn with(rules: Rules) -> Self {
        let now = start();
        Self { session: Session::new(ConnectionId(7), Arc::new(rules), now), now, entropy: 0 }
    }

    /// A connection of nobody's, open, without subscriptions.
    fn open() -> Self {
        let mut script = Self::with(rules());
        assert_eq!(script.send(0, connect(None)), ["admit #0"]);
        assert_eq!(script.verified(0, nobody()), ["opened", "0: connected"]);
        script
    }

    /// The same of this user, with its own channel.
    fn open_as(identity: Identity) -> Self {
        let mut script = Self::with(rules());
        script.send(0, connect(Some("token")));
        let joins = script.verified(0, identity);
        for op in 1..=joins.len() {
            script.joined(op);
        }
        assert!(script.session.is_open());
        script
    }

    fn send(&mut self, id: u64, command: Command) -> Vec<String> {
        self.entropy += 1;
        let request = Request { id: Some(id), command };
        self.session.handle_request(self.now, request, self.entropy);
        self.effects()
    }

    fn admit(&mut self, id: u64, name: &str) -> Vec<String> {
        self.session.handle_admission(Some(id), interest(name));
        self.effects()
    }

    /// Hands several commands in before any effect is taken, as one frame may.
    fn send_all(&mut self, commands: impl IntoIterator<Item = (u64, Command)>) {
        for (id, command) in commands {
            self.entropy += 1;
            let request = Request { id: Some(id), command };
            self.session.handle_request(self.now, request, self.entropy);
        }
    }

    fn verified(&mut self, op: u32, identity: Identity) -> Vec<String> {
        self.session.handle_verified(self.now, OpId(op), Ok(identity));
        self.effects()
    }

    fn refused(&mut self, op: u32, code: ErrorCode) -> Vec<String> {
        let failure = Failure::new(code, "no");
        self.session.handle_verified(self.now, OpId(op), Err(failure));
        self.effects()
    }

    fn joined(&mut self, op: impl TryInto<u32>) -> Vec<String> {
        self.join_outcome(op, Ok(()))
    }

    fn join_outcome(
        &mut self,
        op: impl TryInto<u32>,
        outcome: Result<(), BusError>,
    ) -> Vec<String> {
        let op = OpId(op.try_into().unwrap_or(u32::MAX));
        self.session.handle_joined(self.now, op, outcome);
        self.effects()
    }

    fn published(&mut self, op: u32, outcome: Result<(), PublishError>) -> Vec<String> {
        self.session.handle_published(OpId(op), outcome.map(|()| Accepted::default()));
        self.effects()
    }

    fn answered(&mut self, op: u32, outcome: Result<Data, RequestError>) -> Vec<String> {
        self.session.handle_answered(OpId(op), outcome);
        self.effects()
    }

    fn after(&mut self, time: Duration) -> Vec<String> {
        self.now.instant += time;
        self.now.wall.0 += u64::try_from(time.as_millis()).unwrap();
        self.session.handle_timeout(self.now);
        self.effects()
    }

    fn activity(&mut self) {
        self.session.handle_activity(self.now);
    }

    fn drain(&mut self) -> Vec<String> {
        self.session.handle_drain(2 * SECOND);
        self.effects()
    }

    fn close(&mut self, code: CloseCode) -> Vec<String> {
        self.session.handle_close(code);
        self.effects()
    }

    fn effects(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.session.poll_effect()).map(|effect| render(&effect)).collect()
    }

    fn interests(&self) -> Vec<&str> {
        self.session.interests().map(Interest::as_str).collect()
    }

    /// How long until the next timeout.
    fn sleeps(&self) -> Option<Duration> {
        self.session.poll_timeout().map(|at| at.saturating_duration_since(self.now.instant))
    }
}

fn render(effect: &Effect) -> String {
    match effect {
        Effect::Send(reply) => {
            let id = reply.id.map_or("-".to_owned(), |id| id.to_string());
            format!("{id}: {}", render_outgoing(&reply.body))
        }
        Effect::Ping => "ping".to_owned(),
        Effect::Verify { op, token } => format!("verify #{} {}", op.0, token.reveal()),
        Effect::Admit { op } => format!("admit #{}", op.0),
        Effect::Resume { op, secret } => format!("resume #{} {}", op.0, secret.reveal()),
        Effect::Keep { op } => format!("keep #{}", op.0),
        Effect::KeepAnew => "keep anew".to_owned(),
        Effect::Recover { op, secret } => format!("recover #{} {}", op.0, secret.reveal()),
        Effect::CatchUp { op, subscriptions } => {
            let names: String = subscriptions.iter().map(|(it, _)| format!(" {it}")).collect();
            format!("catch up #{}{names}", op.0)
        }
        Effect::BeginAnew => "begin anew".to_owned(),
        Effect::Opened => "opened".to_owned(),
        Effect::Join { op, interest, .. } => format!("join #{} {interest}", op.0),
        Effect::Deliver { interest, answers: None, .. } => format!("deliver {interest}"),
        Effect::Deliver { interest, answers: Some(id), since } => {
            let id = id.map_or("-".to_owned(), |id| id.to_string());
            let since = since.as_ref().map_or("", |_| " since");
            format!("{id}: subscribed and deliver {interest}{since}")
        }
        Effect::Acknowledge { position, .. } => format!("acknowledge {position}"),
        Effect::Leave { interest } => format!("leave {interest}"),
        Effect::Publish { op, message, .. } => {
            format!("publish #{} {} {}", op.0, message.channel, message.id)
        }
        Effect::Call { op, request } => format!("call #{} {}", op.0, request.address),
        Effect::Members { op, query } => format!("members #{} {}", op.0, query.channel),
        Effect::Close(code) => format!("close {}", code.number()),
    }
}

fn render_outgoing(body: &Outgoing) -> String {
    match body {
        Outgoing::Connected(connected) => {
            let channels: String =
                connected.channels.iter().map(|channel| format!(" {channel}")).collect();
            let session =
                connected.session.as_ref().map(|secret| format!(" session {}", secret.reveal()));
            let resumed = if connected.resumed { "resumed" } else { "connected" };
            format!("{resumed}{channels}{}", session.unwrap_or_default())
        }
        Outgoing::Refreshed { .. } => "refreshed".to_owned(),
        Outgoing::Subscribed { interest, .. } => format!("subscribed {interest}"),
        Outgoing::Unsubscribed { interest } => format!("unsubscribed {interest}"),
        Outgoing::Published { message, .. } => format!("published {message}"),
        Outgoing::Abandoned => "abandoned".to_owned(),
        Outgoing::Acknowledged => "acknowledged".to_owned(),
        Outgoing::Evicted { evicted, expired, .. } => {
            format!("evicted {evicted}, expired {expired}")
        }
        Outgoing::Answer { .. } => "answer".to_owned(),
        Outgoing::Present(present) => format!("present {}", present.channel),
        Outgoing::Pong => "pong".to_owned(),
        Outgoing::Expiring { left } => format!("expiring in {left:?}"),
        Outgoing::Reconnect { after } => format!("reconnect after {after:?}"),
        Outgoing::Error(Failure { code, message: Some(message), .. }) => {
            format!("{code} {message}")
        }
        Outgoing::Error(Failure { code, .. }) => code.to_string(),
    }
}

fn nobody() -> Identity {
    Identity::default()
}

fn ann() -> Identity {
    Identity { user: Some("ann".parse().unwrap()), ..Identity::default() }
}

fn ann_of_staff() -> Identity {
    Identity { roles: vec!["staff".parse().unwrap()], ..ann() }
}

fn connect(token: Option<&str>) -> Command {
    let token = token.map(|text| Token::new(text.to_owned()));
    Command::Connect { token, acks: Acks::default(), session: Resumption::Never }
}

fn refresh() -> Command {
    Command::Refresh { token: Token::new("fresh".to_owned()) }
}

fn interest(name: &str) -> Interest {
    name.parse().map(Interest::Pattern).or_else(|_| name.parse().map(Interest::Channel)).unwrap()
}

fn subscribe(name: &str) -> Command {
    Command::Subscribe { interest: interest(name), since: None }
}

fn unsubscribe(name: &str) -> Command {
    Command::Unsubscribe { interest: interest(name) }
}

fn abandon(channel: &str) -> Command {
    Command::Abandon { channel: channel.parse().unwrap() }
}

fn publish(channel: &str, id: &str) -> Command {
    Command::Publish(publish_of(channel, id))
}

fn publish_of(channel: &str, id: &str) -> Publish {
    Publish {
        channel: channel.parse().unwrap(),
        event: None,
        data: data(3),
        id: (!id.is_empty()).then(|| id.parse().unwrap()),
        echo: true,
        trace: None,
    }
}

fn call(address: &str, timeout: Option<Duration>) -> Command {
    Command::Call(ServiceCall {
        address: address.parse().unwrap(),
        event: None,
        data: data(3),
        timeout,
        trace: None,
    })
}

fn data(bytes: usize) -> Data {
    Data::Binary(Bytes::from(vec![0; bytes]))
}

#[test]
fn commands_have_the_names_of_the_wire() {
    let commands = [
        connect(None),
        refresh(),
        subscribe("venue:1"),
        unsubscribe("venue:1"),
        publish("venue:1", ""),
        abandon("venue:1"),
        call("venue:1", None),
        Command::Ping,
    ];
    assert_eq!(
        commands.map(|command| command.name()),
        ["connect", "refresh", "subscribe", "unsubscribe", "publish", "abandon", "request", "ping"]
    );
}

#[test]
fn an_idle_session_is_small() {
    println!("Session: {} bytes", size_of::<Session>());
    println!("a subscription: {} bytes", size_of::<(Interest, Subscription)>());
    println!("Identity: {} bytes", size_of::<Identity>());
    assert!(size_of::<Session>() <= 256);

    let mut script = Script::open_as(ann());
    script.send(1, subscribe("venue:1"));
    script.joined(2);
    script.send(2, publish("venue:1", "m"));
    script.published(3, Err(PublishError::Unknown));
    script.send(3, publish("venue:1", "m"));
    script.published(4, Ok(()));
    let session = &script.session;
    assert_eq!(session.subscriptions.capacity(), 2);
    assert_eq!((session.pending.capacity(), session.effects.capacity()), (0, 0));
    assert_eq!(session.failed.capacity(), 0);
}

#[test]
fn a_request_ends_with_its_answer_and_in_time() {
    let mut script = Script::open_as(ann());
    script.send_all([(1, call("venue:1", Some(60 * SECOND))), (2, call("venue:1", Some(SECOND)))]);
    for timeout in [5 * SECOND, SECOND] {
        let Some(Effect::Call { request, .. }) = script.session.poll_effect() else { panic!() };
        assert_eq!(request.timeout, timeout);
        assert_eq!(request.caller.user, ann().user);
    }
    assert_eq!(script.answered(3, Ok(data(1))), ["2: answer"]);
    assert_eq!(script.answered(2, Err(RequestError::NoService)), ["1: no_service"]);
    assert_eq!(script.send(3, call("feed:1", None)), ["3: forbidden"]);
    assert_eq!(script.send(4, call("void:1", None)), ["4: unknown_namespace"]);
}

#[test]
fn what_cannot_be_read_is_answered_and_harms_nothing() {
    let mut script = Script::open();
    script.session.handle_malformed(Some(1), Failure::new(ErrorCode::BadRequest, "what?"));
    assert_eq!(script.effects(), ["1: bad_request"]);
    assert!(script.session.is_open());
}

#[test]
fn a_drain_finishes_what_is_under_way_and_takes_nothing_new() {
    let mut script = Script::open();
    script.send_all([(1, publish("venue:1", "a")), (2, subscribe("venue:1"))]);
    script.effects();
    script.send(3, unsubscribe("venue:1"));
    assert_eq!(script.drain(), ["-: reconnect after 2s"]);
    assert_eq!(script.drain(), [""; 0]);
    assert_eq!(script.send(4, publish("venue:2", "b")), ["4: unavailable"]);
    assert_eq!(script.send(5, subscribe("venue:2")), ["5: unavailable"]);
    assert_eq!(script.send(6, call("venue:2", None)), ["6: unavailable"]);
    assert_eq!(script.send(7, refresh()), ["7: unavailable"]);
    assert_eq!(script.send(8, Command::Ping), ["8: pong"]);
    assert_eq!(script.published(1, Ok(())), ["1: published a"]);
    assert_eq!(
        script.joined(2),
        [
            "2: subscribed and deliver venue:1",
            "leave venue:1",
            "3: unsubscribed venue:1",
            "close 1012"
        ]
    );
}

#[test]
fn a_drain_ends_what_is_idle_at_once_and_what_connects_once_it_has() {
    let closed = ["-: reconnect after 2s", "close 1012"];
    assert_eq!(Script::open().drain(), closed);
    assert_eq!(Script::with(rules()).drain(), closed);

    let mut script = Script::with(rules());
    script.send(1, connect(Some("token")));
    script.send(2, publish("venue:1", "a"));
    assert_eq!(script.drain(), closed[..1]);
    assert_eq!(script.verified(0, ann()), ["join #1 user:ann"]);
    assert_eq!(
        script.joined(1),
        ["opened", "1: connected user:ann", "deliver user:ann", "2: unavailable", "close 1012"]
    );
}

#[test]
fn after_the_close_nothing_happens() {
    let mut script = Script::open_as(ann());
    script.send_all([(1, subscribe("venue:1")), (2, publish("venue:1", "a")), (3, refresh())]);
    script.effects();
    assert_eq!(script.close(CloseCode::Slow), ["close 4000"]);
    let none = [""; 0];
    assert_eq!(script.close(CloseCode::Normal), none);
    assert_eq!(script.joined(2), none);
    assert_eq!(script.published(3, Ok(())), none);
    assert_eq!(script.verified(4, ann()), none);
    assert_eq!(script.send(4, Command::Ping), none);
    assert_eq!(script.drain(), none);
    script.session.handle_malformed(None, Failure::new(ErrorCode::BadRequest, "what?"));
    script.activity();
    assert_eq!(script.after(1000 * SECOND), none);
    assert_eq!(script.sleeps(), None);
    assert_eq!(script.interests(), ["user:ann", "venue:1"]);
    assert!(script.session.was_opened() && !script.session.is_open());
}

#[test]
fn there_is_room_for_so_many_commands() {
    let mut script = Script::with(rules());
    script.send(0, connect(Some("token")));
    for id in 1..4 {
        assert!(script.session.has_room());
        script.send(id, publish("venue:1", ""));
    }
    assert!(!script.session.has_room());
    assert_eq!(script.verified(0, ann()), ["join #1 user:ann"]);
    assert!(!script.session.has_room());
    script.joined(1);
    assert!(script.session.has_room());
    script.send(4, publish("venue:1", ""));
    assert!(!script.session.has_room());
    script.published(2, Ok(()));
    assert!(script.session.has_room());
}

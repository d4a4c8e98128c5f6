use tokio::sync::oneshot;

use super::*;

const DEADLINE: Duration = Duration::from_secs(2);

type Outcome = oneshot::Receiver<Result<(), BusError>>;

fn subscriptions() -> Subscriptions {
    let subjects = Arc::new(Subjects::new("fanfare").unwrap());
    let mut new = Subscriptions::new(subjects, Arc::default(), DEADLINE, 2);
    new.restore(Instant::now());
    assert_eq!(lines(&mut new), ["PING"]);
    assert!(new.handle_pong());
    new
}

fn interest(channel: &str) -> Interest {
    Interest::Channel(channel.parse().unwrap())
}

/// Takes what is to be written.
fn lines(subscriptions: &mut Subscriptions) -> Vec<String> {
    let output = String::from_utf8(std::mem::take(&mut subscriptions.output)).unwrap();
    output.split_terminator("\r\n").map(str::to_owned).collect()
}

fn subscribe(subscriptions: &mut Subscriptions, channels: &[&str], now: Instant) -> Vec<Outcome> {
    let (mut orders, mut outcomes) = (Vec::new(), Vec::new());
    for channel in channels {
        let (done, outcome) = oneshot::channel();
        orders.push(Order::Subscribe(interest(channel), done, now));
        outcomes.push(outcome);
    }
    subscriptions.carry_out(orders, now, true);
    outcomes
}

fn told(outcomes: &mut [Outcome]) -> Vec<Option<Result<(), BusError>>> {
    outcomes.iter_mut().map(|outcome| outcome.try_recv().ok()).collect()
}

fn known(subscriptions: &Subscriptions) -> usize {
    assert_eq!(subscriptions.by_number.len(), subscriptions.numbers.len());
    let noted = subscriptions.stats.subscriptions.load(Ordering::Relaxed);
    assert_eq!(noted, subscriptions.by_number.len() as u64);
    subscriptions.by_number.len()
}

#[tokio::test]
async fn a_pong_confirms_what_came_before_its_ping() {
    let mut new = subscriptions();
    let now = Instant::now();
    let mut first = subscribe(&mut new, &["a:1", "a:2", "a:1"], now);
    let mut second = subscribe(&mut new, &["a:2", "a:3"], now);
    let sent = lines(&mut new);
    assert_eq!(
        sent,
        ["SUB fanfare.ch.a.1 1", "SUB fanfare.ch.a.2 2", "PING", "SUB fanfare.ch.a.3 3", "PING"]
    );
    assert!(!new.handle_pong());
    assert_eq!(told(&mut first), [Some(Ok(())); 3]);
    assert_eq!(told(&mut second), [None; 2]);
    assert!(!new.handle_pong());
    assert_eq!(told(&mut second), [Some(Ok(())); 2]);
    assert_eq!(new.get(2).map(|it| it.interest.clone()), Some(interest("a:2")));
    assert!(!new.handle_pong(), "an answer to no question is nothing");
}

#[tokio::test]
async fn a_number_is_never_given_twice() {
    let mut new = subscriptions();
    let now = Instant::now();
    subscribe(&mut new, &["a:1"], now);
    new.carry_out(vec![Order::Unsubscribe(interest("a:1"))], now, true);
    new.carry_out(vec![Order::Unsubscribe(interest("a:1"))], now, true);
    subscribe(&mut new, &["a:1"], now);
    let sent = lines(&mut new);
    let expected = ["SUB fanfare.ch.a.1 1", "PING", "UNSUB 1", "SUB fanfare.ch.a.1 2", "PING"];
    assert_eq!(sent, expected);
    assert!(new.get(1).is_none());
    assert_eq!(known(&new), 1);
}

#[tokio::test]
async fn what_is_not_confirmed_in_time_is_ended() {
    let mut new = subscriptions();
    let start = Instant::now();
    let mut kept = subscribe(&mut new, &["a:1"], start);
    new.handle_pong();
    let mut late = subscribe(&mut new, &["a:1", "a:2", "a:3"], start);
    let mut later = subscribe(&mut new, &["a:3"], start + DEADLINE / 2);
    lines(&mut new);
    new.expire(start + DEADLINE);
    assert_eq!(told(&mut kept), [Some(Ok(()))]);
    assert_eq!(told(&mut late), [Some(Err(BusError::Timeout)); 3]);
    assert_eq!(lines(&mut new), ["UNSUB 2"], "of the others, one was confirmed and one may be");
    assert_eq!(new.oldest_ping(), Some(start), "the answer is still owed");
    new.handle_pong();
    new.handle_pong();
    assert_eq!(told(&mut later), [Some(Ok(()))]);
    assert_eq!(known(&new), 2);
}

#[tokio::test]
async fn a_new_connection_asks_for_all_that_was_confirmed() {
    let mut new = subscriptions();
    let now = Instant::now();
    let channels: Vec<String> = (0..5000).map(|n| format!("a:{n}")).collect();
    let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
    subscribe(&mut new, &channels, now);
    new.handle_pong();
    let mut waiting = subscribe(&mut new, &["b"], now);
    new.forget_connection();
    assert_eq!(told(&mut waiting), [Some(Err(BusError::Unavailable))]);
    new.carry_out(vec![Order::Unsubscribe(interest("a:7"))], now, false);
    assert_eq!((lines(&mut new).len(), known(&new)), (0, 4999));

    new.restore(now);
    let mut sent = Vec::new();
    while !new.output.is_empty() {
        assert!(new.output.len() < MAX_WRITE + 100, "in chunks");
        assert!(sent.len() > 4000 || !new.has_room(), "nothing new before");
        sent.extend(lines(&mut new));
        new.write_more(now);
    }
    assert_eq!(sent.pop().as_deref(), Some("PING"));
    assert_eq!(sent.len(), 4999);
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), 4999);
    assert!(new.handle_pong());
}

#[tokio::test]
async fn what_is_denied_is_not_subscribed() {
    let mut new = subscriptions();
    let now = Instant::now();
    let mut asked = subscribe(&mut new, &["a:1", "a:2"], now);
    let denied = r#"Permissions Violation for Subscription to "fanfare.ch.a.2""#;
    assert_eq!(new.handle_refusal(denied), Refusal::Handled);
    new.handle_pong();
    assert_eq!(told(&mut asked), [Some(Ok(())), Some(Err(BusError::Unavailable))]);
    assert_eq!(known(&new), 1);

    let revoked = r#"Permissions Violation for Subscription to "fanfare.ch.a.1" (sid "1")"#;
    let silenced = new.handle_refusal(revoked);
    let worker = worker_of(&interest("a:1"), 2);
    assert_eq!(silenced, Refusal::Silenced { interest: interest("a:1"), worker });
    assert_eq!(new.stats.subscribes_denied.load(Ordering::Relaxed), 2);
    assert_eq!(known(&new), 1, "the next connection may be allowed again");
}

#[tokio::test]
async fn what_was_revoked_is_asked_for_again() {
    let mut new = subscriptions();
    let now = Instant::now();
    let revoked = r#"Permissions Violation for Subscription to "fanfare.ch.a.1""#;
    subscribe(&mut new, &["a:1"], now);
    new.handle_pong();
    let mut meanwhile = subscribe(&mut new, &["a:1"], now);
    assert!(matches!(new.handle_refusal(revoked), Refusal::Silenced { .. }));
    new.handle_pong();
    assert_eq!(told(&mut meanwhile), [Some(Err(BusError::Unavailable))]);
    lines(&mut new);

    let mut denied = subscribe(&mut new, &["a:1"], now);
    assert_eq!(lines(&mut new), ["SUB fanfare.ch.a.1 2", "PING"]);
    assert_eq!(new.handle_refusal(revoked), Refusal::Handled);
    new.handle_pong();
    assert_eq!(told(&mut denied), [Some(Err(BusError::Unavailable))]);
    let mut permitted = subscribe(&mut new, &["a:1"], now);
    assert_eq!(lines(&mut new), ["SUB fanfare.ch.a.1 3", "PING"]);
    new.handle_pong();
    assert_eq!(told(&mut permitted), [Some(Ok(()))]);
    assert_eq!(known(&new), 1);

    assert!(matches!(new.handle_refusal(revoked), Refusal::Silenced { .. }));
    new.forget_connection();
    new.restore(now);
    assert!(new.handle_pong());
    lines(&mut new);
    subscribe(&mut new, &["a:1"], now);
    assert_eq!(lines(&mut new), ["PING"], "the new connection has it");
}

#[tokio::test]
async fn a_refusal_that_comes_late_fails_those_who_still_wait() {
    let mut new = subscriptions();
    let start = Instant::now();
    let mut late = subscribe(&mut new, &["a:1"], start);
    let mut later = subscribe(&mut new, &["a:1"], start + DEADLINE / 2);
    new.expire(start + DEADLINE);
    assert_eq!(told(&mut late), [Some(Err(BusError::Timeout))]);
    assert_eq!(new.handle_refusal("maximum subscriptions exceeded"), Refusal::Handled);
    new.handle_pong();
    new.handle_pong();
    assert_eq!(told(&mut later), [Some(Err(BusError::Unavailable))]);
    assert_eq!(known(&new), 0);
}

#[tokio::test]
async fn a_refusal_of_who_knows_what_fails_all_that_are_asked_for() {
    let mut new = subscriptions();
    let now = Instant::now();
    subscribe(&mut new, &["a:1"], now);
    new.handle_pong();
    let mut asked = subscribe(&mut new, &["a:1", "a:2", "a:3"], now);
    lines(&mut new);
    assert_eq!(new.handle_refusal("maximum subscriptions exceeded"), Refusal::Handled);
    assert_eq!(lines(&mut new), ["UNSUB 2", "UNSUB 3"]);
    new.handle_pong();
    let refused = Some(Err(BusError::Unavailable));
    assert_eq!(told(&mut asked), [Some(Ok(())), refused, refused]);

    new.forget_connection();
    new.restore(now);
    assert_eq!(new.handle_refusal("maximum subscriptions exceeded"), Refusal::Fatal);
}

#[tokio::test]
async fn who_waited_too_long_is_refused() {
    let mut new = subscriptions();
    let (done, outcome) = oneshot::channel();
    let called = Instant::now();
    let order = Order::Subscribe(interest("a"), done, called);
    new.carry_out(vec![order], called + DEADLINE, true);
    assert_eq!(told(&mut [outcome]), [Some(Err(BusError::Unavailable))]);
    assert_eq!((known(&new), lines(&mut new).len()), (0, 0));
}

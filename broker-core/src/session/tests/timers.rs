use super::*;

fn open_until(seconds: u64) -> Script {
    let mut script = Script::open_as(ann());
    let expires = Some(Timestamp(script.now.wall.0 + seconds * 1000));
    script.send(1, refresh());
    script.verified(2, Identity { expires, ..ann() });
    script
}

#[test]
fn silence_is_pinged_and_then_ended() {
    let mut script = Script::open();
    assert_eq!(script.sleeps(), Some(25 * SECOND));
    assert_eq!(script.after(24 * SECOND), [""; 0]);
    assert_eq!(script.after(SECOND), ["ping"]);
    assert_eq!(script.sleeps(), Some(10 * SECOND));
    assert_eq!(script.after(9 * SECOND), [""; 0]);
    assert_eq!(script.after(SECOND), ["close 4001"]);
}

#[test]
fn any_activity_is_a_sign_of_life() {
    let mut script = Script::open();
    script.after(20 * SECOND);
    script.activity();
    assert_eq!(script.after(20 * SECOND), [""; 0]);
    assert_eq!(script.after(5 * SECOND), ["ping"]);
    script.after(9 * SECOND);
    script.activity();
    assert_eq!(script.sleeps(), Some(25 * SECOND));
    assert_eq!(script.after(24 * SECOND), [""; 0]);
    assert_eq!(script.after(SECOND), ["ping"]);
}

#[test]
fn a_client_is_warned_before_its_token_expires() {
    let mut script = open_until(40);
    assert_eq!(script.sleeps(), Some(10 * SECOND));
    assert_eq!(script.after(10 * SECOND), ["-: expiring in 30s"]);
    script.activity();
    assert_eq!(script.after(20 * SECOND), [""; 0]);
    assert_eq!(script.sleeps(), Some(5 * SECOND));
    script.activity();
    assert_eq!(script.after(10 * SECOND), ["-: token_expired", "close 4003"]);
}

#[test]
fn a_fresh_token_moves_the_end() {
    let mut script = open_until(10);
    assert_eq!(script.after(Duration::ZERO), ["-: expiring in 10s"]);
    script.send(1, refresh());
    let expires = Some(Timestamp(script.now.wall.0 + 40_000));
    script.verified(3, Identity { expires, ..ann() });
    assert_eq!(script.sleeps(), Some(10 * SECOND));
    assert_eq!(script.after(10 * SECOND), ["-: expiring in 30s"]);
}

#[test]
fn a_timer_that_comes_late_does_not_close_what_it_could_not_ping() {
    let mut script = Script::open();
    assert_eq!(script.after(3600 * SECOND), ["ping"]);
    let mut script = open_until(10);
    assert_eq!(script.after(3600 * SECOND), ["-: token_expired", "close 4003"]);
}

#[test]
fn a_token_may_be_valid_for_ever() {
    let mut script = Script::open_as(ann());
    script.send(1, refresh());
    script.verified(2, Identity { expires: Some(Timestamp(u64::MAX)), ..ann() });
    assert_eq!(script.sleeps(), Some(25 * SECOND));
}

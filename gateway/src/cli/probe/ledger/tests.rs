use super::*;

const INTERVAL: Duration = Duration::from_millis(10);
const PATIENCE: Patience = Patience { late: Duration::from_secs(1), lost: Duration::from_secs(30) };

/// A ledger, and a clock that a test winds by hand.
struct Bench {
    ledger: Ledger,
    now: Instant,
}

impl Bench {
    fn subscribed(has_history: bool) -> Self {
        let mut bench = Self { ledger: Ledger::new(PATIENCE, INTERVAL), now: Instant::now() };
        bench.ledger.subscribed(bench.now, has_history);
        bench
    }

    fn after(&mut self, seconds: u64) -> &mut Ledger {
        self.now += Duration::from_secs(seconds);
        &mut self.ledger
    }

    fn publish(&mut self, count: usize) {
        for _ in 0..count {
            assert!(!self.ledger.publish(self.now));
        }
    }

    fn arrive(&mut self, number: u64) -> Option<Outcome> {
        self.ledger.arrive(number, self.now).map(|(outcome, _)| outcome)
    }

    fn give_up(&mut self) -> u64 {
        self.ledger.give_up(self.now)
    }

    fn is_up(&self) -> bool {
        self.ledger.is_up(self.now)
    }
}

#[tokio::test(start_paused = true)]
async fn each_message_is_judged_when_it_comes() {
    let mut bench = Bench::subscribed(false);
    assert!(!bench.is_up(), "nothing has come yet");
    bench.publish(5);
    let took = bench.ledger.arrive(0, bench.now + PATIENCE.late);
    assert_eq!(took, Some((Outcome::Ok, Some(PATIENCE.late))));
    assert_eq!(bench.arrive(2), Some(Outcome::Ok));
    assert_eq!(bench.arrive(1), Some(Outcome::Reordered));
    assert_eq!(bench.arrive(1), Some(Outcome::Duplicate));
    assert_eq!(bench.arrive(5), None, "nobody has published it");
    bench.after(2);
    assert_eq!(bench.arrive(3), Some(Outcome::Late));
    assert_eq!(bench.arrive(4), Some(Outcome::Late));
    assert!(bench.is_up());
    assert_eq!(bench.ledger.longest_wait(bench.now), None);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_is_lost_and_may_be_late_after_that() {
    let mut bench = Bench::subscribed(false);
    bench.publish(2);
    assert_eq!(bench.arrive(1), Some(Outcome::Ok));
    assert!(bench.is_up());
    bench.after(10);
    assert!(!bench.is_up(), "that is too long");
    bench.after(19);
    assert_eq!(bench.give_up(), 0);
    bench.after(1);
    assert_eq!(bench.give_up(), 1);
    assert_eq!(bench.give_up(), 0, "once");
    assert_eq!(bench.arrive(0), Some(Outcome::Late));
    bench.publish(3);
    assert_eq!(bench.arrive(2), Some(Outcome::Ok));
    assert_eq!(bench.ledger.give_up_all(bench.now), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_awaited() {
    let mut bench = Bench::subscribed(true);
    bench.publish(1);
    bench.ledger.refuse();
    assert!(!bench.is_up());
    assert_eq!(bench.after(60).longest_wait(Instant::now()), None);
    assert_eq!(bench.give_up(), 0);
    assert_eq!(bench.arrive(0), None, "its fate was not known");
    assert_eq!(bench.arrive(0), Some(Outcome::Duplicate));
}

#[tokio::test(start_paused = true)]
async fn who_is_away_is_owed_what_the_store_keeps() {
    let mut bench = Bench::subscribed(true);
    bench.publish(1);
    bench.ledger.disconnected(bench.now);
    bench.after(29);
    assert!(bench.ledger.is_owed(bench.now) && !bench.is_up());
    bench.publish(1);
    bench.after(1);
    assert!(!bench.ledger.is_owed(bench.now), "the store may keep less than this");
    bench.publish(1);
    bench.after(3600);
    assert_eq!(bench.give_up(), 0, "it may still come back");

    bench.ledger.subscribed(bench.now, true);
    assert_eq!(bench.arrive(0), Some(Outcome::Late));
    assert_eq!(bench.give_up(), 0);
    bench.after(10);
    assert_eq!(bench.give_up(), 1, "the fresh connection had its time");
    assert_eq!(bench.arrive(2), None, "it was not owed");
}

#[tokio::test(start_paused = true)]
async fn who_is_away_is_owed_nothing_without_history() {
    let mut bench = Bench::subscribed(false);
    assert!(!Ledger::new(PATIENCE, INTERVAL).is_owed(bench.now));
    bench.ledger.disconnected(bench.now);
    assert!(!bench.ledger.is_owed(bench.now));
}

#[tokio::test(start_paused = true)]
async fn who_is_away_long_gets_what_it_is_owed_all_the_same() {
    let mut bench = Bench::subscribed(true);
    let publish = |bench: &mut Bench, seconds: u64| {
        for _ in 0..seconds * 100 {
            bench.now += INTERVAL;
            bench.publish(1);
        }
    };
    publish(&mut bench, 30);
    bench.ledger.disconnected(bench.now);
    // For others; of this, it is owed the first half minute.
    publish(&mut bench, 600);
    bench.ledger.refuse();
    bench.ledger.subscribed(bench.now, true);
    let owed = 2 * 30 * 100 - 1;
    for number in 0..owed {
        assert_eq!(bench.arrive(number), Some(Outcome::Late), "{number}");
    }
    assert_eq!(bench.arrive(owed + 1), None, "it was not owed");
    bench.after(30);
    assert_eq!(bench.give_up(), 0, "all came");
    assert_eq!(bench.arrive(0), Some(Outcome::Duplicate));
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_has_a_bound() {
    let mut bench = Bench::subscribed(false);
    let window = bench.ledger.window;
    assert_eq!(window, 4 * 30 * 100);
    bench.publish(window);
    assert_eq!(bench.arrive(1), Some(Outcome::Ok));
    assert!(bench.ledger.publish(bench.now), "the first never came");
    assert!(!bench.ledger.publish(bench.now));
    assert_eq!(bench.arrive(0), None, "whether it came before is forgotten");
    assert_eq!(bench.arrive(1), None);
    assert_eq!(bench.arrive(2), Some(Outcome::Ok));
    assert_eq!(bench.arrive(2), Some(Outcome::Duplicate));
    assert_eq!(bench.arrive(window as u64 + 1), Some(Outcome::Ok));
    assert_eq!(Ledger::new(PATIENCE, Duration::from_secs(1)).window, WINDOW);
}

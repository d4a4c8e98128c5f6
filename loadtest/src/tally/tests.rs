use super::*;
use Verdict::{Duplicated, InOrder, Reordered};

fn tally(first: u64) -> Tally {
    let mut tally = Tally::new();
    tally.owe_from(first);
    tally
}

fn receive(tally: &mut Tally, sequences: &[u64]) -> Vec<Verdict> {
    sequences.iter().map(|sequence| tally.receive(*sequence)).collect()
}

#[test]
fn in_order_nothing_is_missing() {
    let mut it = tally(0);
    assert_eq!(receive(&mut it, &[0, 1, 2]), [InOrder; 3]);
    assert_eq!(it.missing(3), 0);
    assert!(it.is_complete(3));
    assert_eq!(it.missing(5), 2);
}

#[test]
fn a_dropped_message_is_lost() {
    let mut it = tally(0);
    assert_eq!(receive(&mut it, &[0, 2, 3]), [InOrder; 3]);
    assert_eq!(it.missing(4), 1);
}

#[test]
fn the_first_message_can_be_lost() {
    let mut it = tally(5);
    assert_eq!(receive(&mut it, &[7]), [InOrder]);
    assert_eq!(it.missing(8), 2);
}

#[test]
fn nothing_received_is_all_lost() {
    assert_eq!(tally(2).missing(10), 8);
    assert_eq!(Tally::new().missing(10), 0, "before the subscription nothing is owed");
}

#[test]
fn a_doubled_message_is_duplicated() {
    let mut it = tally(0);
    assert_eq!(receive(&mut it, &[0, 0, 1, 0]), [InOrder, Duplicated, InOrder, Duplicated]);
    assert_eq!(it.missing(2), 0);
}

#[test]
fn swapped_messages_are_reordered_and_not_lost() {
    let mut it = tally(0);
    assert_eq!(receive(&mut it, &[1, 0, 2]), [InOrder, Reordered, InOrder]);
    assert_eq!(it.missing(3), 0);
}

#[test]
fn a_late_message_that_comes_twice_is_reordered_and_duplicated() {
    let mut it = tally(0);
    let verdicts = receive(&mut it, &[0, 4, 2, 2, 1, 3]);
    assert_eq!(verdicts, [InOrder, InOrder, Reordered, Duplicated, Reordered, Reordered]);
    assert!(it.is_complete(5));
}

#[test]
fn what_was_published_before_the_subscription_stood_may_come() {
    let mut it = Tally::new();
    assert_eq!(it.receive(8), InOrder);
    it.owe_from(10);
    assert_eq!(receive(&mut it, &[9, 10]), [InOrder, InOrder]);
    assert_eq!(it.missing(11), 0);

    let mut late = tally(10);
    assert_eq!(receive(&mut late, &[8, 10]), [InOrder, InOrder]);
    assert_eq!(late.missing(11), 1, "who gets 8 must get 9");
}

#[test]
fn holes_are_bounded_and_the_oldest_are_lost() {
    let mut it = tally(0);
    for sequence in 0..=MAX_HOLES as u64 {
        assert_eq!(it.receive(2 * sequence + 1), InOrder);
    }
    assert_eq!(it.holes.len(), MAX_HOLES);
    assert_eq!(it.missing(2 * MAX_HOLES as u64 + 2), MAX_HOLES as u64 + 1);
    assert_eq!(it.receive(0), Duplicated, "it was given up");
    assert_eq!(it.receive(2), Reordered);
}

#[test]
fn an_outage_is_counted_apart() {
    let mut it = tally(0);
    receive(&mut it, &[0, 1]);
    it.broke();
    assert_eq!(it.missing(10), 0);
    it.owe_from(6);
    assert_eq!(it.outage(10), 4, "2 to 5");
    assert_eq!(receive(&mut it, &[5, 6]), [InOrder, InOrder]);
    assert_eq!((it.outage(7), it.missing(7)), (3, 0), "5 came after all");
}

#[test]
fn what_is_owed_after_an_outage_is_lost_if_it_does_not_come() {
    let mut it = tally(0);
    receive(&mut it, &[0]);
    it.broke();
    it.owe_from(3);
    assert_eq!(receive(&mut it, &[5]), [InOrder]);
    assert_eq!((it.outage(6), it.missing(6)), (2, 2));
}

#[test]
fn who_never_came_back_missed_all_by_the_outage() {
    let mut it = tally(0);
    receive(&mut it, &[0]);
    it.broke();
    it.broke();
    assert_eq!((it.outage(6), it.missing(6)), (5, 0));
}

#[test]
fn what_comes_again_after_an_outage_is_duplicated() {
    let mut it = tally(0);
    receive(&mut it, &[0, 1, 2]);
    it.broke();
    it.owe_from(3);
    assert_eq!(receive(&mut it, &[1, 2, 3]), [Duplicated, Duplicated, InOrder]);
    assert_eq!((it.outage(4), it.missing(4)), (0, 0));
}

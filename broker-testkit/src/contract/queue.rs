//! The laws of [`OfflineQueue`].

mod model;

use std::sync::Arc;

use broker_core::{
    Epoch, Offset, Timestamp, UserId,
    ports::{Backlog, OfflineQueue, QueueFigures, Queued},
};

pub use model::any_calls_do_as_the_model;

/// Makes a test of each law; `$make` is a future that gives `(Arc<dyn OfflineQueue>, anything)`,
/// where the queue takes [`SIZE`] messages of a user.
#[macro_export]
macro_rules! queue_contract {
    ($make:expr) => {
        $crate::__laws! { $crate::contract::queue, $make;
            what_is_enqueued_is_pending
            an_acknowledgement_covers_all_before_it
            repeating_changes_nothing
            an_acknowledgement_may_come_first
            the_order_does_not_matter
            of_too_many_the_oldest_are_evicted
            what_is_late_for_eviction_is_evicted
            what_is_due_expires
            an_expired_message_makes_room_for_none_before_it
            what_was_lost_is_said_until_the_next_acknowledgement
            a_purge_evicts_all
            another_epoch_begins_anew
            an_old_acknowledgement_leaves_a_new_epoch_alone
            what_nobody_needs_is_forgotten
            any_user_has_a_queue
            many_users_share_a_batch
            many_writers_count_each_message_once
            any_calls_do_as_the_model
        }
    };
}

/// The store under test, and what must live as long.
pub type Fixture<K> = (Arc<dyn OfflineQueue>, K);

/// Most pending messages of one user.
pub const SIZE: usize = 5;

const EPOCH: Epoch = Epoch(0x18a3_f2c4_11aa_9d0c);
const NEXT_EPOCH: Epoch = Epoch(u64::MAX);
/// A day in the far future: nothing expires on its own.
const LATER: Timestamp = Timestamp(9_000_000_000_000);

/// One user of a queue.
struct User<'a> {
    queue: &'a dyn OfflineQueue,
    id: UserId,
}

impl<'a> User<'a> {
    fn new(queue: &'a Arc<dyn OfflineQueue>, id: &str) -> Self {
        Self { queue: &**queue, id: id.parse().expect("a user id") }
    }

    fn message(&self, epoch: Epoch, offset: u64, expires: Timestamp) -> Queued {
        Queued { user: self.id.clone(), epoch, offset: Offset(offset), expires }
    }

    async fn enqueue(&self, offsets: impl IntoIterator<Item = u64>) {
        let message = |offset| self.message(EPOCH, offset, LATER);
        self.queue.enqueue(offsets.into_iter().map(message).collect()).await.expect("enqueues");
    }

    async fn enqueue_until(&self, offset: u64, expires: Timestamp) {
        let message = self.message(EPOCH, offset, expires);
        self.queue.enqueue(vec![message]).await.expect("enqueues");
    }

    async fn acknowledge(&self, offset: u64) {
        self.acknowledge_in(EPOCH, offset).await;
    }

    async fn acknowledge_in(&self, epoch: Epoch, offset: u64) {
        let acknowledged = vec![(self.id.clone(), epoch, Offset(offset))];
        self.queue.acknowledge(acknowledged).await.expect("acknowledges");
    }

    async fn pending(&self) -> Vec<u64> {
        let pending = self.queue.pending(self.id.clone(), 1000).await.expect("answers");
        assert!(pending.iter().all(|(epoch, _)| *epoch == EPOCH));
        pending.into_iter().map(|(_, offset)| offset.0).collect()
    }

    async fn backlog(&self) -> Backlog {
        self.queue.backlog(self.id.clone()).await.expect("answers")
    }

    async fn purge(&self) -> u64 {
        self.queue.purge(self.id.clone()).await.expect("purges")
    }
}

fn after(offset: u64) -> Backlog {
    Backlog { after: Some((EPOCH, Offset(offset))), ..Backlog::default() }
}

async fn sweep(queue: &Arc<dyn OfflineQueue>, now: u64) -> u64 {
    queue.sweep(Timestamp(now)).await.expect("sweeps")
}

async fn figures(queue: &Arc<dyn OfflineQueue>) -> [u64; 4] {
    let QueueFigures { pending, delivered, evicted, expired } =
        queue.figures().await.expect("answers");
    [pending, delivered, evicted, expired]
}

/// It is listed, oldest first, and nothing is known to be before it.
pub async fn what_is_enqueued_is_pending<K>((queue, _): &Fixture<K>) {
    let ann = User::new(queue, "ann");
    assert_eq!((ann.pending().await, ann.backlog().await), (vec![], Backlog::default()));
    assert_eq!(figures(queue).await, [0; 4]);
    ann.enqueue([3, 7, 1 << 52]).await;
    assert_eq!(ann.pending().await, [3, 7, 1 << 52]);
    assert_eq!(queue.pending(ann.id.clone(), 2).await.expect("answers").len(), 2);
    assert_eq!(ann.backlog().await, Backlog::default());
    assert_eq!(User::new(queue, "bob").pending().await, []);
    assert_eq!(figures(queue).await, [3, 0, 0, 0]);
}

/// Acknowledgements are cumulative, whether there is a message at the offset or not.
pub async fn an_acknowledgement_covers_all_before_it<K>((queue, _): &Fixture<K>) {
    let ann = User::new(queue, "ann");
    ann.enqueue([3, 7, 9]).await;
    ann.acknowledge(7).await;
    assert_eq!((ann.pending().await, ann.backlog().await), (vec![9], after(7)));
    ann.acknowledge(8).await;
    ann.acknowledge(5).await;
    assert_eq!((ann.pending().await, ann.backlog().await), (vec![9], after(8)));
    assert_eq!(figures(queue).await, [1, 2, 0, 0]);
}

/// Neither messages nor acknowledgements count twice, nor does what was settled come back.
pub async fn repeating_changes_nothing<K>((queue, _): &Fixture<K>) {
    let ann = User::new(queue, "ann");
    for _ in 0..2 {
        ann.enqueue([1, 2, 2, 3, 4]).await;
        ann.acknowledge(1).await;
        ann.enqueue_until(6, Timestamp(1000)).await;
        sweep(queue, 1000).await;
        assert_eq!(
            (ann.pending().await, ann.backlog().await.after),
            (vec![2, 3, 4], after(1).after)
        );
        assert_eq!(figures(queue).await, [3, 1, 0, 1]);
    }
    for _ in 0..2 {
        assert_eq!(sweep(queue, 1000).await, 0);
        ann.acknowledge(3).await;
        ann.enqueue([1, 2, 3, 4]).await;
        assert_eq!((ann.pending().await, ann.backlog().await), (vec![4], after(3)));
        assert_eq!(figures(queue).await, [1, 3, 0, 1]);
    }
}

/// A user who is connected acknowledges before the queue knows of the message.
pub async fn an_acknowledgement_may_come_first<K>((queue, _): &Fixture<K>) {
    let ann = User::new(queue, "ann");
    ann.acknowledge(4).await;
    assert_eq!(ann.backlog().await, after(4));
    ann.enqueue([2, 4, 5]).await;
    ann.enqueue([4, 2, 5]).await;
    assert_eq!(ann.pending().await, [5]);
    assert_eq!(figures(queue).await, [1, 2, 0, 0]);
}

/// Late messages are pending like the others.
pub async fn the_order_does_not_matter<K>((queue, _): &Fixture<K>) {
    let ann = User::new(queue, "ann");
    for offset in [8, 3, 9, 1] {
        ann.enqueue([offset]).await;
    }
    assert_eq!(ann.pending().await, [1, 3, 8, 9]);
    ann.acknowledge(3).await;
    ann.enqueue([5, 2]).await;
    assert_eq!(ann.pending().await, [5, 8, 9]);
    assert_eq!(figures(queue).await, [3, 3, 0, 0]);
}

/// Drop-oldest; the log is then read from behind the last that was dropped.
pub async fn of_too_many_the_oldest_are_evicted<K>((queue, _): &Fixture<K>) {
    let ann = User::new(queue, "ann");
    ann.enqueue(1..=SIZE as u64 + 2).await;
    assert_eq!(ann.pending().await, [3, 4, 5, 6, 7]);
    assert_eq!(ann.backlog().await, Backlog { evicted: 2, ..after(2) });
    ann.enqueue([1, 2]).await;
    assert_eq!(ann.backlog().await, Backlog { evicted: 2, ..after(2) });
    assert_eq!(figures(queue).await, [SIZE as u64, 0, 2, 0]);
}

/// A message that comes after younger ones were evicted is evicted too, and counted once.
pub async fn what_is_late_for_eviction_is_evicted<K>((queue, _): &Fixture<K>) {
    let ann = User::new(queue, "ann");
    ann.enqueue(2..=SIZE as u64 + 2).await;
    for _ in 0..2 {
        ann.enqueue([1]).await;
        assert_eq!(ann.pending().await, [3, 4, 5, 6, 7]);
        assert_eq!(ann.backlog().await, Backlog { evicted: 2, ..after(2) });
    }
    ann.acknowledge(7).await;
    ann.enqueue([8]).await;
    assert_eq!(figures(queue).await, [1, 5, 2, 0]);
}

/// At its time and not before, whatever the order.
pub async fn what_is_due_expires<K>((queue, _): &Fixture<K>) {
    let (ann, bob) = (User::new(queue, "ann"), User::new(queue, "bob"));
    for (offset, expires) in [(1, 3000), (2, 1000), (3, 2000)] {
        ann.enqueue_until(offset, Timestamp(expires)).await;
        bob.enqueue_until(offset, Timestamp(expires + 1)).await;
    }
    assert_eq!(sweep(queue, 999).await, 0);
    assert_eq!(sweep(queue, 2000).await, 3);
    assert_eq!((ann.pending().await, bob.pending().await), (vec![1], vec![1, 3]));
    assert_eq!(figures(queue).await, [3, 0, 0, 3]);
    assert_eq!(sweep(queue, u64::MAX).await, 3);
    assert_eq!(figures(queue).await, [0, 0, 0, 6]);
}

/// An older message that the queue hears of only later may live longer.
pub async fn an_expired_message_makes_room_for_none_before_it<K>((queue, _): &Fixture<K>) {
    let ann = User::new(queue, "ann");
    ann.enqueue_until(3, Timestamp(1000)).await;
    assert_eq!(sweep(queue, 1000).await, 1);
    assert_eq!(ann.backlog().await.after, None);
    ann.enqueue([2]).await;
    assert_eq!(ann.pending().await, [2]);
}

/// Evicted and expired ones; a repeated acknowledgement is not the next.
pub async fn what_was_lost_is_said_until_the_next_acknowledgement<K>((queue, _): &Fixture<K>) {
    let ann = User::new(queue, "ann");
    ann.acknowledge(1).await;
    ann.enqueue_until(2, Timestamp(1000)).await;
    sweep(queue, 1000).await;
    ann.enqueue(3..=SIZE as u64 + 3).await;
    ann.acknowledge(1).await;
    assert_eq!(ann.backlog().await, Backlog { evicted: 1, expired: 1, ..after(3) });
    ann.acknowledge(4).await;
    assert_eq!(ann.backlog().await, after(4));
}

/// All that is pending, and nothing else.
pub async fn a_purge_evicts_all<K>((queue, _): &Fixture<K>) {
    let (ann, bob) = (User::new(queue, "ann"), User::new(queue, "bob"));
    ann.enqueue([1, 2, 3]).await;
    bob.enqueue([4]).await;
    assert_eq!((ann.purge().await, ann.purge().await), (3, 0));
    assert_eq!(User::new(queue, "nobody").purge().await, 0);
    ann.enqueue([3, 5]).await;
    assert_eq!((ann.pending().await, bob.pending().await), (vec![5], vec![4]));
    assert_eq!(ann.backlog().await, Backlog { evicted: 3, ..after(3) });
    assert_eq!(figures(queue).await, [2, 0, 3, 0]);
}

/// What was pending in a log that is lost is evicted, and offsets start anew.
pub async fn another_epoch_begins_anew<K>((queue, _): &Fixture<K>) {
    let ann = User::new(queue, "ann");
    let new = |offset| vec![ann.message(NEXT_EPOCH, offset, LATER)];
    ann.enqueue([11, 12, 13]).await;
    ann.acknowledge(11).await;
    queue.enqueue(new(1)).await.expect("enqueues");
    assert_eq!(queue.pending(ann.id.clone(), 9).await, Ok(vec![(NEXT_EPOCH, Offset(1))]));
    assert_eq!(ann.backlog().await, Backlog { evicted: 2, ..Backlog::default() });
    assert_eq!(figures(queue).await, [1, 1, 2, 0]);
    ann.acknowledge_in(NEXT_EPOCH, 1).await;
    queue.enqueue(new(1)).await.expect("enqueues");
    let floor = Some((NEXT_EPOCH, Offset(1)));
    assert_eq!(ann.backlog().await, Backlog { after: floor, ..Backlog::default() });
    assert_eq!(figures(queue).await, [0, 2, 2, 0]);
}

/// It says nothing about messages that the user cannot have meant; with none, it is believed.
pub async fn an_old_acknowledgement_leaves_a_new_epoch_alone<K>((queue, _): &Fixture<K>) {
    let ann = User::new(queue, "ann");
    ann.enqueue([1]).await;
    ann.acknowledge_in(NEXT_EPOCH, 9).await;
    assert_eq!((ann.pending().await, ann.backlog().await), (vec![1], Backlog::default()));
    ann.acknowledge(1).await;
    ann.acknowledge_in(NEXT_EPOCH, 9).await;
    assert_eq!(ann.backlog().await.after, Some((NEXT_EPOCH, Offset(9))));
}

/// What is known of a user goes, once the log cannot have any of the messages.
pub async fn what_nobody_needs_is_forgotten<K>((queue, _): &Fixture<K>) {
    let (ann, bob) = (User::new(queue, "ann"), User::new(queue, "bob"));
    ann.enqueue([1]).await;
    bob.enqueue([1, 2]).await;
    ann.acknowledge(1).await;
    bob.acknowledge(1).await;
    assert_eq!(sweep(queue, LATER.0 - 1).await, 0);
    assert_eq!((ann.backlog().await, bob.backlog().await), (Backlog::default(), after(1)));
    assert_eq!(figures(queue).await, [1, 2, 0, 0]);
}

/// Ids are any text.
pub async fn any_user_has_a_queue<K>((queue, _): &Fixture<K>) {
    for id in ["a:b{c}", "é ☃", "{}", "*", "0", "\u{1f600}\"\\"] {
        let user = User::new(queue, id);
        user.enqueue([1, 2]).await;
        user.acknowledge(1).await;
        assert_eq!((user.pending().await, user.backlog().await), (vec![2], after(1)), "{id}");
    }
}

/// A batch is as good as single messages.
pub async fn many_users_share_a_batch<K>((queue, _): &Fixture<K>) {
    let users: Vec<User<'_>> = (0..300).map(|n| User::new(queue, &format!("user-{n}"))).collect();
    let messages =
        (1..=7).flat_map(|offset| users.iter().map(move |user| user.message(EPOCH, offset, LATER)));
    queue.enqueue(messages.collect()).await.expect("enqueues");
    assert_eq!(figures(queue).await, [1500, 0, 600, 0]);
    let acknowledged = users.iter().map(|user| (user.id.clone(), EPOCH, Offset(4))).collect();
    queue.acknowledge(acknowledged).await.expect("acknowledges");
    assert_eq!(figures(queue).await, [900, 600, 600, 0]);
    assert_eq!(users[299].pending().await, [5, 6, 7]);
    assert_eq!(sweep(queue, u64::MAX).await, 900);
}

/// Gateways feed the queue together, some of it twice, while users acknowledge.
pub async fn many_writers_count_each_message_once<K>((queue, _): &Fixture<K>) {
    let writers = (0..4_u64).map(|writer| {
        let queue = Arc::clone(queue);
        tokio::spawn(async move {
            let ann = User::new(&queue, "ann");
            for round in 0..10 {
                let from = (round * 7 + writer * 3) % 10 * 10 + 1;
                ann.enqueue(from..from + 10).await;
                ann.acknowledge(from + 4).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("no writer panics");
    }
    let [pending, delivered, evicted, expired] = figures(queue).await;
    assert_eq!((pending + delivered + evicted, expired), (100, 0));
    let ann = User::new(queue, "ann");
    assert_eq!(ann.pending().await, [96, 97, 98, 99, 100]);
    assert_eq!(ann.backlog().await.after, after(95).after);
}

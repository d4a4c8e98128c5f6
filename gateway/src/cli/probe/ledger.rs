//! Which messages one client should get, and what became of each. Nothing here waits or reads a
//! clock.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Messages that are remembered at least.
const WINDOW: usize = 4096;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It came, once, in order and in time.
    Ok,
    /// It came, but not in time; perhaps after it was given up for lost.
    Late,
    /// It was accepted and did not come.
    Lost,
    /// It came again.
    Duplicate,
    /// It came after one that was published after it.
    Reordered,
    /// It was not accepted.
    Refused,
}

impl Outcome {
    pub(super) const ALL: [Self; 6] =
        [Self::Ok, Self::Late, Self::Lost, Self::Duplicate, Self::Reordered, Self::Refused];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Late => "late",
            Self::Lost => "lost",
            Self::Duplicate => "duplicate",
            Self::Reordered => "reordered",
            Self::Refused => "refused",
        }
    }
}

/// How long a message may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// Until it is late.
    pub(super) late: Duration,
    /// Until it is lost.
    pub(super) lost: Duration,
}

impl Patience {
    /// How long a fresh connection gets to bring what the one before it did not; and after which
    /// a connection that brings nothing is taken for broken.
    pub(super) fn of_connection(self) -> Duration {
        self.lost / 3
    }
}

/// The messages of one run, as one client gets them.
#[derive(Debug)]
pub(super) struct Ledger {
    patience: Patience,
    /// How many of the messages are remembered.
    window: usize,
    /// The number of the message that is published next.
    next: u64,
    /// Of the messages that the client is owed, by number. The others would push those out that
    /// it may still get when it comes back.
    states: VecDeque<(u64, State)>,
    /// The highest number that came.
    newest: Option<u64>,
    client: Client,
    /// Whether the store makes good what a client misses while it is away.
    has_history: bool,
    /// Whether the last thing that was heard of a message was that it came.
    comes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Published then.
    Awaited(Instant),
    /// It may come or not: it was refused.
    Free,
    Came,
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Never,
    Subscribed(Instant),
    Away(Instant),
}

impl Ledger {
    /// For messages that are published this often at most.
    pub(super) fn new(patience: Patience, interval: Duration) -> Self {
        // Until they are lost, while the client is away, and until it had its time to recover.
        let awaited = 4 * patience.lost.as_nanos() / interval.as_nanos().max(1);
        Self {
            patience,
            window: usize::try_from(awaited).unwrap_or(usize::MAX).max(WINDOW),
            next: 0,
            states: VecDeque::new(),
            newest: None,
            client: Client::Never,
            has_history: false,
            comes: false,
        }
    }

    pub(super) fn subscribed(&mut self, now: Instant, has_history: bool) {
        self.client = Client::Subscribed(now);
        self.has_history = has_history;
    }

    pub(super) fn disconnected(&mut self, now: Instant) {
        if let Client::Subscribed(_) = self.client {
            self.client = Client::Away(now);
        }
        self.comes = false;
    }

    /// Whether a message that is published now must come. A client that is away is promised what
    /// the store keeps; how much that is, nobody knows here, so not for long.
    pub(super) fn is_owed(&self, now: Instant) -> bool {
        match self.client {
            Client::Never => false,
            Client::Subscribed(_) => true,
            Client::Away(since) => self.has_history && now - since < self.patience.lost,
        }
    }

    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    pub(super) fn has_history(&self) -> bool {
        self.has_history
    }

    /// Notes that the next message is published. True if an old one was lost by that: it is too
    /// long ago.
    pub(super) fn publish(&mut self, now: Instant) -> bool {
        let number = self.next;
        self.next += 1;
        if !self.is_owed(now) {
            return false;
        }
        self.states.push_back((number, State::Awaited(now)));
        self.states.len() > self.window
            && matches!(self.states.pop_front(), Some((_, State::Awaited(_))))
    }

    /// Notes that the last message was refused; it may come all the same.
    pub(super) fn refuse(&mut self) {
        self.comes = false;
        if let Some((number, last @ State::Awaited(_))) = self.states.back_mut()
            && *number + 1 == self.next
        {
            *last = State::Free;
        }
    }

    /// Notes that a message came: what that says of it, and how long it took. Of one that was not
    /// owed, or is no longer remembered, it says nothing.
    pub(super) fn arrive(
        &mut self,
        number: u64,
        now: Instant,
    ) -> Option<(Outcome, Option<Duration>)> {
        if number >= self.next {
            return None;
        }
        let is_overtaken = self.newest.is_some_and(|newest| newest > number);
        self.newest = self.newest.max(Some(number));
        self.comes = true;
        let index = self.states.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        match std::mem::replace(&mut self.states[index].1, State::Came) {
            State::Free => None,
            State::Came => Some((Outcome::Duplicate, None)),
            State::Lost => Some((Outcome::Late, None)),
            State::Awaited(published) => {
                let took = now - published;
                let outcome = match () {
                    () if is_overtaken => Outcome::Reordered,
                    () if took > self.patience.late => Outcome::Late,
                    () => Outcome::Ok,
                };
                Some((outcome, Some(took)))
            }
        }
    }

    /// Gives up what is lost by now, and says how many those are. While the client is away, and a
    /// moment after, what is missing may still come.
    pub(super) fn give_up(&mut self, now: Instant) -> u64 {
        match self.client {
            Client::Subscribed(since) if now - since >= self.patience.of_connection() => {
                self.give_up_older(now, self.patience.lost)
            }
            _ => 0,
        }
    }

    /// Gives up all that has not come, and says how many those are.
    pub(super) fn give_up_all(&mut self, now: Instant) -> u64 {
        self.give_up_older(now, Duration::ZERO)
    }

    fn give_up_older(&mut self, now: Instant, age: Duration) -> u64 {
        let mut lost = 0;
        for (_, state) in &mut self.states {
            if matches!(state, State::Awaited(published) if now - *published >= age) {
                *state = State::Lost;
                lost += 1;
            }
        }
        self.comes &= lost == 0;
        lost
    }

    /// How long the message that was published first, of those that have not come, is under way.
    pub(super) fn longest_wait(&self, now: Instant) -> Option<Duration> {
        self.states.iter().find_map(|(_, state)| match state {
            State::Awaited(published) => Some(now - *published),
            _ => None,
        })
    }

    /// Whether messages come.
    pub(super) fn is_up(&self, now: Instant) -> bool {
        let waits = self.longest_wait(now).unwrap_or_default();
        let is_subscribed = matches!(self.client, Client::Subscribed(_));
        self.comes && is_subscribed && waits < self.patience.of_connection()
    }
}

#[cfg(test)]
mod tests;

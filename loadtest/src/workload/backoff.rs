//! When clients that lost their connection dial again.

use crate::{bench::random, clock::SECOND};

/// What `docs/protocol.md` asks of clients: a random part of this, doubled by each attempt…
const FIRST_DELAY: u64 = SECOND / 2;

/// …up to this.
const LONGEST_DELAY: u64 = 20 * SECOND;

/// What socket.io-client waits by default, doubled by each attempt…
const FIRST_DELAY_OF_SOCKETIO: u64 = SECOND;

/// …up to this, and half as much more or less.
const LONGEST_DELAY_OF_SOCKETIO: u64 = 5 * SECOND;

/// Random waits; spans are nanoseconds.
#[derive(Debug)]
pub(super) struct Backoff(u64);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(random() | 1)
    }

    /// Of a native client that has tried so often.
    pub(super) fn native(&mut self, attempts: u32) -> u64 {
        let longest = FIRST_DELAY.saturating_mul(1 << attempts.min(20)).min(LONGEST_DELAY);
        self.random() % longest
    }

    /// Of a client of Socket.IO that has tried so often.
    pub(super) fn socketio(&mut self, attempts: u32) -> u64 {
        let delay = FIRST_DELAY_OF_SOCKETIO.saturating_mul(1 << attempts.min(20));
        let spread = delay / 2 + self.random() % delay;
        spread.min(LONGEST_DELAY_OF_SOCKETIO)
    }

    /// Marsaglia's xorshift: enough to spread who comes back.
    const fn random(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_as_the_protocols_say() {
        let mut backoff = Backoff::new();
        for (attempts, longest) in [(0, SECOND / 2), (3, 4 * SECOND), (99, 20 * SECOND)] {
            assert!((0..100).all(|_| backoff.native(attempts) < longest));
        }
        for (attempts, least, most) in
            [(0, SECOND / 2, 3 * SECOND / 2), (1, SECOND, 3 * SECOND), (99, 5 * SECOND, 5 * SECOND)]
        {
            assert!((0..100).all(|_| (least..=most).contains(&backoff.socketio(attempts))));
        }
    }
}

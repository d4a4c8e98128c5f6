//! A wake-up that is exact to microseconds; epoll's own timeout counts milliseconds.

use std::{io, os::fd::AsRawFd as _, os::fd::OwnedFd};

use mio::{Interest, Registry, Token, unix::SourceFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::clock::{Clock, SECOND};

#[derive(Debug)]
pub(super) struct Timer {
    fd: OwnedFd,
    clock: Clock,
    armed: u64,
}

impl Timer {
    pub(super) fn new(registry: &Registry, token: Token, clock: Clock) -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { fd, clock, armed: 0 })
    }

    /// Wakes the poll at this time of the clock. False if that is now or past.
    pub(super) fn arm(&mut self, at: u64) -> io::Result<bool> {
        let now = self.clock.now();
        if at <= now {
            return Ok(false);
        }
        if at != self.armed {
            let left = at - now;
            let value = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec {
                    tv_sec: (left / SECOND) as i64,
                    tv_nsec: (left % SECOND) as i64,
                },
            };
            timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &value)?;
            self.armed = at;
        }
        Ok(true)
    }
}

//! Signs of life, and the end of a token.

use std::time::{Duration, Instant};

use super::{Effect, Failure, Limits, Now, Outgoing, Session, State};
use crate::{
    code::{CloseCode, ErrorCode},
    message::Timestamp,
};

#[derive(Debug)]
pub(super) struct Timers {
    /// When to ping; once pinged, when to give the client up. `None`: the transport sees to it.
    alive: Option<Instant>,
    pinged: bool,
    /// When the token expires.
    expires: Option<Instant>,
    warned: bool,
}

impl Timers {
    pub(super) fn new(now: Now, limits: &Limits) -> Self {
        let alive = now.instant.checked_add(limits.ping_interval);
        Self { alive, pinged: false, expires: None, warned: false }
    }

    pub(super) fn heard(&mut self, now: Now, limits: &Limits) {
        self.alive = now.instant.checked_add(limits.ping_interval);
        self.pinged = false;
    }

    pub(super) fn set_expiry(&mut self, now: Now, expires: Option<Timestamp>) {
        self.expires =
            expires.map(|at| now.instant + Duration::from_millis(at.0.saturating_sub(now.wall.0)));
        self.warned = false;
    }

    /// When the client is to be warned, or cut off.
    fn expiry(&self, limits: &Limits) -> Option<Instant> {
        let expires = self.expires?;
        let warning = expires.checked_sub(limits.expiry_warning).unwrap_or(expires);
        Some(if self.warned { expires } else { warning })
    }
}

impl Session {
    /// When [`Session::handle_timeout`] is to be called next; `None` if never.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let alive = self.timers.alive;
        match &self.state {
            State::Closed => None,
            State::Opening { until, .. } => earlier(alive, Some(*until)),
            State::Connecting(connecting) => earlier(alive, Some(connecting.until)),
            State::Open => earlier(alive, self.timers.expiry(&self.rules.limits)),
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        match &self.state {
            State::Opening { until, .. } if *until <= now.instant => {
                return self.close(CloseCode::ConnectTimeout);
            }
            State::Connecting(connecting) if connecting.until <= now.instant => {
                let failure = Failure::new(ErrorCode::Unavailable, "`connect` took too long");
                return self.fail_connect(failure, CloseCode::TryAgainLater);
            }
            State::Open => self.check_expiry(now),
            State::Opening { .. } | State::Connecting(_) | State::Closed => {}
        }
        self.check_alive(now);
    }

    fn check_expiry(&mut self, now: Now) {
        let Some(expires) = self.timers.expires else { return };
        if expires <= now.instant {
            self.fail(None, Failure::new(ErrorCode::TokenExpired, "the token has expired"));
            self.close(CloseCode::TokenExpired);
        } else if !self.timers.warned && expires <= now.instant + self.rules.limits.expiry_warning {
            self.timers.warned = true;
            let left = expires.saturating_duration_since(now.instant);
            self.reply(None, Outgoing::Expiring { left });
        }
    }

    fn check_alive(&mut self, now: Now) {
        if matches!(self.state, State::Closed)
            || self.timers.alive.is_none_or(|alive| alive > now.instant)
        {
            return;
        }
        if self.timers.pinged {
            return self.close(CloseCode::Stale);
        }
        self.timers.pinged = true;
        self.timers.alive = now.instant.checked_add(self.rules.limits.pong_timeout);
        self.effects.push_back(Effect::Ping);
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
